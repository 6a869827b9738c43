"""Calls and reports say what the rows say, exactly, and in a shape others build on."""

from __future__ import annotations

import json
import random
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from taximeter.call import Outcome, Stage, Usage, UsageSource, usd_text
from taximeter.ledger import CallFilter, CallView, Ledger, usd, utc_text
from tests.ledger.make import HOUR, T0, call_id, commit, entry

DAY = 24 * HOUR


def test_calls_come_newest_first_and_each_once(ledger: Ledger) -> None:
    """Paging neither shifts nor repeats a call, also among calls of the same nanosecond."""
    entries = [entry(at_ns=T0 + number // 7) for number in range(1203)]
    commit(ledger, *entries)
    wanted = sorted(
        ((each.closed.opened.started_at_ns, each.call_id) for each in entries), reverse=True
    )
    assert [(call.started_at_ns, call.id) for call in ledger.calls()] == wanted
    for limit in (0, 1, 499, 500, 501, 5000):
        assert len(list(ledger.calls(CallFilter(limit=limit)))) == min(limit, 1203)


def test_calls_that_come_in_while_one_reads_do_not_disturb(ledger: Ledger) -> None:
    """A slow reader holds no transaction, and sees each older call once."""
    commit(ledger, *(entry(at_ns=T0 + number) for number in range(600)))
    reading = ledger.calls()
    seen = [next(reading).id]
    commit(ledger, *(entry(at_ns=T0 + 10_000) for _ in range(5)))
    seen += [call.id for call in reading]
    assert len(seen) == len(set(seen)) == 600


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (CallFilter(), 6),
        (CallFilter(user="ann"), 2),
        (CallFilter(user="nobody"), 0),
        (CallFilter(team="blue"), 1),
        (CallFilter(session="s"), 1),
        (CallFilter(upstream="other"), 1),
        (CallFilter(model="m"), 1),
        (CallFilter(outcome="truncated"), 1),
        (CallFilter(operation="chat"), 6),
        (CallFilter(unpriced=True), 1),
        (CallFilter(since_ns=T0 + 3), 3),
        (CallFilter(until_ns=T0 + 3), 3),
        (CallFilter(since_ns=T0 + 1, until_ns=T0 + 2), 1),
        (CallFilter(user="ann", model="m"), 0),
    ],
)
def test_a_filter_takes_what_it_says(ledger: Ledger, wanted: CallFilter, count: int) -> None:
    """Each condition of a filter holds; `since` is included and `until` is not."""
    commit(
        ledger,
        entry(at_ns=T0, team="blue"),
        entry(at_ns=T0 + 1, session="s"),
        entry(at_ns=T0 + 2, user=None, upstream="other"),
        entry(at_ns=T0 + 3, user="bob", model="m"),
        entry(at_ns=T0 + 4, user="bob", outcome=Outcome.TRUNCATED),
        entry(at_ns=T0 + 5, user="bob", cost_pico=None),
    )
    assert len(list(ledger.calls(wanted))) == count


def test_an_unknown_call_is_none(ledger: Ledger) -> None:
    """Neither an id that is not there nor a text that is none is an error."""
    assert ledger.call(call_id()) is None
    assert ledger.call("'; --") is None


def test_a_calls_id_may_be_pasted_in_capitals(ledger: Ledger) -> None:
    """Ids are found however they were copied."""
    booked = entry()
    commit(ledger, booked)
    assert ledger.call(f" {booked.call_id.upper()}\n") is not None


def test_a_call_as_json_has_the_promised_shape(ledger: Ledger) -> None:
    """The JSON of a call holds at least the promised fields, in the promised units."""
    booked = entry(
        at_ns=1_790_000_000_123_456_789,
        session="s",
        tags={"a": "b"},
        usage=Usage(input_tokens=1, output_tokens=0),
        cost_pico=1_500_000_000_100,
        stages={Stage.RECEIVE: 1_000_000, Stage.STREAM: 1_500_000_000},
    )
    commit(ledger, booked)
    call = ledger.call(booked.call_id)
    assert call is not None
    view = json.loads(json.dumps(call.to_json()))
    promised = {
        "id": booked.call_id,
        "started_at": "2026-09-21T14:13:20.123456Z",
        "user": "ann",
        "team": None,
        "session": "s",
        "tags": {"a": "b"},
        "upstream": "openai",
        "operation": "chat",
        "model": "gpt-5.4-mini",
        "response_model": "gpt-5.4-mini",
        "stream": False,
        "status": 200,
        "outcome": "completed",
        "input_tokens": 1,
        "output_tokens": 0,
        "cached_tokens": None,
        "reasoning_tokens": None,
        "usage_source": "reported",
        "cost_usd": "1.5000000001",
        "price": "list",
        "attempts": 1,
        "stages": {"receive": 0.001, "stream": 1.5},
        "trace_id": None,
        "error": None,
    }
    assert {name: view[name] for name in promised} == promised
    assert view["attempt_details"][0]["upstream"] == "openai"
    (listed,) = ledger.calls()
    assert "attempt_details" not in listed.to_json()
    commit(ledger, unknown := entry(cost_pico=None))
    view = ledger.call(unknown.call_id)
    assert view is not None
    assert view.to_json()["cost_usd"] is None


@pytest.mark.parametrize(
    ("pico", "text"),
    [
        (0, "0"),
        (1, "0.000000000001"),
        (10**12, "1"),
        (10**13, "10"),
        (1_230_000_000_000, "1.23"),
        (2**70, "1180591620.717411303424"),
        (-5, "-0.000000000005"),
    ],
)
def test_money_is_written_in_plain_digits(pico: int, text: str) -> None:
    """Dollars are exact, without exponent and without trailing zeros."""
    assert usd_text(pico) == text
    assert usd(pico) == Decimal(text)


def test_times_are_written_in_utc() -> None:
    """A time is ISO 8601 to the microsecond, with Z."""
    assert utc_text(0) == "1970-01-01T00:00:00.000000Z"
    assert utc_text(1_790_000_000_000_000_999) == "2026-09-21T14:13:20.000000Z"


def _naive(
    calls: list[CallView], by: list[str], since: int | None, until: int | None
) -> dict[Any, Any]:
    found: dict[Any, Counter[str]] = {}
    for call in calls:
        if not (since or 0) <= call.started_at_ns < (until or 2**63):
            continue
        started_at = utc_text(call.started_at_ns)
        view = {name: getattr(call, name) for name in by if hasattr(call, name)}
        view["hour"] = started_at[:13] + ":00Z"
        view["day"] = started_at[:10]
        view.update((f"tag:{name}", value) for name, value in call.tags.items())
        usage = call.usage or Usage()
        found.setdefault(tuple(view.get(name) for name in by), Counter()).update(
            calls=1,
            errors=call.outcome not in ("completed", "cancelled", "abandoned"),
            cost_pico=call.cost_pico or 0,
            unpriced=call.cost_pico is None,
            input_tokens=usage.input_tokens or 0,
            estimated=call.usage_source == "estimated",
            absent=call.usage_source == "absent",
            partial=call.usage_source == "partial",
        )
    return {key: dict(counts) for key, counts in found.items()}


def _reported(
    ledger: Ledger, by: list[str], since: int | None, until: int | None
) -> dict[Any, Any]:
    names = (
        *("calls", "errors", "cost_pico", "unpriced"),
        *("input_tokens", "estimated", "absent", "partial"),
    )
    return {
        tuple(row.key.values()): {name: getattr(row, name) for name in names}
        for row in ledger.report(by, since_ns=since, until_ns=until)
    }


def test_a_report_equals_an_addition_by_hand_over_ten_thousand_calls(ledger: Ledger) -> None:
    """By any dimension and between any two times, hours cut in pieces included."""
    dice = random.Random(1)
    lease = ledger.take_lead("test")
    for _ in range(4):
        entries = [
            entry(
                at_ns=T0 + dice.randrange(3 * DAY),
                user=dice.choice(["ann", "bob", None]),
                team=dice.choice(["blue", None]),
                session=dice.choice(["s1", None]),
                tags=dice.choice([{}, {"env": "prod"}, {"env": "a'b"}]),
                model=dice.choice(["m1", "m2"]),
                outcome=dice.choice(list(Outcome)),
                usage=Usage(input_tokens=dice.randrange(10**6)),
                source=dice.choice(list(UsageSource)),
                cost_pico=dice.choice([None, dice.randrange(2**63)]),
            )
            for _ in range(2500)
        ]
        commit(ledger, *entries, lease=lease)
    groupings = [
        [],
        ["user"],
        ["user", "model", "outcome"],
        ["day"],
        ["hour", "team"],
        ["upstream", "provider", "operation"],
        ["session"],
        ["tag:env", "day"],
    ]
    times = [
        (None, None),
        (T0 + HOUR + 1, T0 + DAY - 7),
        (T0 + 100, T0 + HOUR - 100),
        (T0 + HOUR, T0 + 2 * HOUR),
        (None, T0 + DAY + 5),
        (T0 + 2 * DAY + 9, None),
    ]
    calls = list(ledger.calls())
    assert len(calls) == 10_000
    for place, by in enumerate(groupings):
        for since, until in times if place < 3 else times[:2]:
            assert _reported(ledger, by, since, until) == _naive(calls, by, since, until)


def test_a_report_may_be_held_to_one_value(ledger: Ledger) -> None:
    """`only` keeps the calls of one user, model, tag and so on."""
    commit(ledger, entry(tags={"env": "p"}), entry(user="bob"), entry(user="bob", model="m"))
    assert [row.calls for row in ledger.report(["model"], only={"user": "bob"})] == [1, 1]
    assert [row.calls for row in ledger.report(only={"tag:env": "p"})] == [1]
    assert ledger.report(["user"], only={"model": "none"}) == []


def test_sums_pass_sixty_three_bits(ledger: Ledger) -> None:
    """More than nine million dollars in an hour, or in a report, is added up exactly."""
    dear = 2**63 - 1
    for _ in range(3):
        commit(ledger, *(entry(cost_pico=dear, session="s") for _ in range(4)))
    for by in ([], ["user"], ["session"]):
        (row,) = ledger.report(by)
        assert row.cost_pico == 12 * dear
        assert row.cost_usd == Decimal(12 * dear).scaleb(-12)
        assert row.to_json()["cost_usd"] == "110680464.442257309684"


def test_the_dearest_group_comes_first(ledger: Ledger) -> None:
    """Rows are in the order of cost, then of calls."""
    commit(
        ledger,
        entry(user="a", cost_pico=1),
        entry(user="b", cost_pico=3),
        entry(user="c", cost_pico=0),
        entry(user="d", cost_pico=None),
        entry(user="d", cost_pico=None),
    )
    assert [row.key["user"] for row in ledger.report(["user"])] == ["b", "a", "d", "c"]


def test_means_are_over_what_is_known(ledger: Ledger) -> None:
    """A call without a first token does not count towards its mean."""
    commit(
        ledger,
        entry(stages={Stage.RECEIVE: 1_000_000_000, Stage.FIRST_TOKEN: 1_000_000_000}),
        entry(stages={Stage.RECEIVE: 4_000_000_000}),
        entry(stages={}),
    )
    (row,) = ledger.report()
    assert (row.duration_seconds_mean, row.first_token_seconds_mean) == (3.0, 2.0)


@pytest.mark.parametrize("by", ["cost", "tag:", "tag:a'b", "user; --", ""])
def test_only_known_dimensions_are_grouped_by(ledger: Ledger, by: str) -> None:
    """What is asked for by name never becomes part of a statement."""
    with pytest.raises(ValueError, match="cannot report by"):
        ledger.report([by])


def test_an_empty_ledger_reports_nothing(ledger: Ledger) -> None:
    """No calls, no rows: not a row of noughts."""
    assert ledger.report() == ledger.report(["user"]) == ledger.report(["session"]) == []
    assert list(ledger.calls()) == []
