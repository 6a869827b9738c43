"""A batch goes in whole and once, whoever repeats it and whatever is wrong with a row of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from taximeter.call import (
    Attempt,
    Fact,
    Opened,
    Outcome,
    Stage,
    Usage,
    UsageSource,
)
from taximeter.ledger import (
    ENTRIES_MAX,
    Batch,
    Entry,
    Ledger,
    Parked,
    Position,
    Repriced,
)
from tests.ledger.make import (
    assert_sums_agree,
    call_id,
    commit,
    entry,
    everything,
    rows,
)


def test_a_call_comes_back_with_every_fact_it_was_booked_with(ledger: Ledger) -> None:
    """What is read is what was written: no field is lost, moved or rounded."""
    tries = [
        Attempt(number=1, upstream="a", started_ns=1, ended_ns=9, error="connect_failed"),
        Attempt(
            number=2,
            upstream="b",
            started_ns=10,
            connected_ns=11,
            sent_ns=12,
            first_byte_ns=13,
            ended_ns=14,
            reused=True,
            status=200,
        ),
    ]
    usage = Usage(**{name: place for place, name in enumerate(Usage.__struct_fields__, start=1)})
    stages = {stage: 1_000_003 * place for place, stage in enumerate(Stage, start=1)}
    booked = entry(
        user="ann",
        team="blue",
        session="s1",
        tags={"env": "prod", "a b": "ü"},
        usage=usage,
        stages=stages,
        attempts=tries,
        response_id="resp_1",
        response_model="gpt-5.4-mini-2026-03-17",
        service_tier="flex",
        price_variant={"speed": "fast"},
        finish_reason="stop",
        raw_usage='{"total_tokens":3}',
        events=7,
        request_bytes=8,
        response_bytes=9,
        error="none",
        facts=[Fact.USAGE_ASKED, Fact.DRAINED],
    )
    opened = msgspec.structs.replace(
        booked.closed.opened,
        user_source="header",
        key_hash="k",
        stream=True,
        trace_id="t" * 32,
        parent_span_id="p" * 16,
        client_request_id="r",
        client_retry=2,
    )
    booked = msgspec.structs.replace(
        booked,
        closed=msgspec.structs.replace(booked.closed, opened=opened),
        price_rates='{"input":1}',
        count_rule="o200k_base",
    )
    commit(ledger, booked)
    call = ledger.call(booked.call_id)
    assert call is not None
    for name in set(call.__struct_fields__) & set(Opened.__struct_fields__):
        wanted = getattr(opened, name)
        if name != "service_tier":
            assert getattr(call, name) == wanted, name
    assert (call.usage, call.usage_source) == (usage, UsageSource.REPORTED)
    assert call.attempts == tuple(tries)
    assert call.attempt_count == 2
    assert call.stages == stages
    assert call.duration_ns == sum(stages.values())
    assert call.time_to_first_token_ns == 1_000_003 * (1 + 2 + 3 + 4 + 5)
    assert call.gaps == {"count": 2, "sum_ns": 30, "max_ns": 20, "buckets": [2]}
    assert call.facts == ("usage_asked", "drained")
    assert (call.service_tier, call.price_variant) == ("flex", {"speed": "fast"})
    assert (call.price, call.price_rates, call.count_rule) == ("list", '{"input":1}', "o200k_base")
    assert (call.response_id, call.response_model) == ("resp_1", "gpt-5.4-mini-2026-03-17")
    assert (call.status, call.outcome, call.error) == (200, "completed", "none")
    assert (call.events, call.request_bytes, call.response_bytes) == (7, 8, 9)
    assert (call.raw_usage, call.finish_reason) == ('{"total_tokens":3}', "stop")


def test_unknown_figures_stay_unknown(ledger: Ledger) -> None:
    """Missing is NULL and never 0, and 0 is 0 and never NULL."""
    nothing = entry(source=UsageSource.ABSENT, cost_pico=None, stages={}, attempts=[])
    zero = entry(usage=Usage(input_tokens=0, output_tokens=0, cached_tokens=0), cost_pico=0)
    commit(ledger, nothing, zero)
    call = ledger.call(nothing.call_id)
    assert call is not None
    assert (call.usage, call.cost_pico, call.duration_ns) == (None, None, None)
    assert (call.time_to_first_token_ns, call.stages, call.attempts) == (None, {}, ())
    call = ledger.call(zero.call_id)
    assert call is not None
    assert call.usage == Usage(input_tokens=0, output_tokens=0, cached_tokens=0)
    assert call.cost_pico == 0


def test_a_repeated_batch_changes_nothing(ledger: Ledger) -> None:
    """D2: rows are inserted if absent, so replaying a batch is a no-op, sums included."""
    entries = [entry(user=f"u{number % 3}") for number in range(20)]
    lease = ledger.take_lead("test")
    first = commit(ledger, *entries, lease=lease, positions={"j": Position(3, 400)})
    before = everything(ledger)
    again = commit(ledger, *entries, lease=lease, positions={"j": Position(3, 200)})
    assert everything(ledger) == before
    assert (len(first.inserted), len(first.repeated)) == (20, 0)
    assert (len(again.inserted), len(again.repeated), again.sums) == (0, 20, {})


def test_what_overlaps_is_booked_once(ledger: Ledger) -> None:
    """D2: of a batch that overlaps with what is booked, only the new rows are added."""
    entries = [entry() for _ in range(6)]
    commit(ledger, *entries[:4])
    commit(ledger, *entries[2:], entries[5])
    assert len(rows(ledger, "calls")) == 6
    assert_sums_agree(ledger)


def test_the_first_of_two_rows_with_one_id_stays(ledger: Ledger) -> None:
    """A row once booked is not overwritten by a later record of the same call."""
    first = entry(cost_pico=5)
    other = entry(id=first.call_id, cost_pico=7)
    commit(ledger, first, other)
    commit(ledger, other)
    call = ledger.call(first.call_id)
    assert call is not None
    assert call.cost_pico == 5
    assert_sums_agree(ledger)


def test_a_batch_that_fails_leaves_no_trace(ledger: Ledger) -> None:
    """D1: rows, sums, positions, parked calls and notes go in together or not at all."""
    lease = ledger.take_lead("test")
    commit(ledger, entry(), lease=lease, positions={"j": Position(1, 10)})
    before = everything(ledger)
    batch = Batch(
        lease=lease,
        entries=[entry()],
        positions={"j": Position(1, 20)},
        park=[Parked(call_id(), "j", b"x")],
    )

    def die(_: object) -> dict[str, bytes]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger.commit(batch, die)
    assert everything(ledger) == before
    ledger.commit(batch)
    assert len(rows(ledger, "calls")) == 2


def test_the_commit_tells_what_the_sums_gained(ledger: Ledger) -> None:
    """D2: counters fed from what commits report equal the ledger's own sums."""
    added: dict[Any, list[int]] = {}
    lease = ledger.take_lead("test")
    entries = [entry(user=f"u{n % 2}", cost_pico=None if n % 5 else n) for n in range(30)]
    for start in range(0, 30, 7):
        committed = commit(ledger, *entries[max(0, start - 3) : start + 7], lease=lease)
        for key, sums in committed.sums.items():
            had = added.setdefault(key, [0] * len(sums))
            added[key] = [one + other for one, other in zip(had, sums, strict=True)]
    for row in rows(ledger, "hourly"):
        key = next(key for key in added if key.user == row["user_name"])
        assert added[key] == [row[name] for name in committed.sums[key]._fields]
    assert_sums_agree(ledger)


def _again(first: Entry, **more: Any) -> Entry:
    """Make the entry of a call that a client made again."""
    made = entry(**more)
    opened = msgspec.structs.replace(made.closed.opened, retry_of=first.call_id)
    closed = msgspec.structs.replace(made.closed, opened=opened)
    return msgspec.structs.replace(made, closed=closed)


def test_a_call_made_again_names_the_one_before(ledger: Ledger) -> None:
    """A retry of the client's is linked; one that was given the answer kept is booked on it."""
    first = entry(cost_pico=5)
    retried = _again(first, cost_pico=5)
    replayed = _again(
        first,
        facts=[Fact.REPLAYED],
        source=UsageSource.ABSENT,
        cost_pico=0,
        price=f"replay of {first.call_id}",
        attempts=[],
    )
    commit(ledger, first, retried, replayed)
    seen = [ledger.call(each.call_id) for each in (first, retried, replayed)]
    assert [each and each.retry_of for each in seen] == [None, first.call_id, first.call_id]
    assert [each and each.booked_on for each in seen] == [None, None, first.call_id]
    (total,) = ledger.report()
    assert (total.calls, total.cost_pico, total.unpriced) == (3, 10, 0)
    assert_sums_agree(ledger)
    summary = ledger.reprice(lambda view: Repriced(9, "list", None))
    assert (summary.examined, ledger.report()[0].cost_pico) == (2, 18)


def test_a_link_to_what_is_no_call_is_dropped(ledger: Ledger) -> None:
    """An odd id costs the link, not the row."""
    booked = _again(entry(id="no id"))
    commit(ledger, booked)
    call = ledger.call(booked.call_id)
    assert call is not None
    assert call.retry_of is None


def test_a_batch_has_a_size(ledger: Ledger) -> None:
    """A batch above its bound is refused before anything is written."""
    with pytest.raises(ValueError, match="at most"):
        ledger.commit(Batch(lease=ledger.take_lead("t"), entries=[entry()] * (ENTRIES_MAX + 1)))


def test_a_full_batch_goes_in(ledger: Ledger) -> None:
    """The bound itself is within what both engines take in one statement."""
    entries = [entry(response_id=f"r{number}") for number in range(ENTRIES_MAX)]
    assert len(commit(ledger, *entries).inserted) == ENTRIES_MAX
    assert commit(ledger, *entries).inserted == frozenset()


def test_every_outcome_and_source_is_booked(ledger: Ledger) -> None:
    """Each outcome and each usage source of the vocabulary has its row and its sums."""
    entries = [entry(outcome=o, source=s) for o in Outcome for s in UsageSource]
    assert len(commit(ledger, *entries).inserted) == len(entries)
    assert_sums_agree(ledger)
