"""Old calls can be forgotten and prices put right, in chunks, while the recorder goes on."""

from __future__ import annotations

import threading
from decimal import Decimal

import pytest

from taximeter.call import Fact, Usage, UsageSource
from taximeter.ledger import CallFilter, CallView, Ledger, Repriced
from tests.ledger.make import (
    HOUR,
    T0,
    assert_sums_agree,
    commit,
    deferred,
    entry,
    everything,
    fetch,
    rows,
)


def _per_token(call: CallView) -> Repriced:
    """Price a call at 1,000 pico-dollars a token; models named `odd` have no price."""
    if call.model == "odd" or call.usage is None:
        return Repriced(None, "unpriced: no such model", None)
    tokens = (call.usage.input_tokens or 0) + (call.usage.output_tokens or 0)
    return Repriced(1000 * tokens, "new", '{"any":1000}')


def test_pruning_forgets_calls_and_keeps_sums(ledger: Ledger) -> None:
    """Calls before the time go with their attempts; the rest stay, and so does every sum."""
    entries = [entry(at_ns=T0 + number * HOUR // 400) for number in range(1300)]
    commit(ledger, *entries)
    before = rows(ledger, "hourly")
    report = ledger.report(["user", "hour"])
    told: list[int] = []
    assert ledger.prune(T0 + 3 * HOUR, told.append) == 1200
    assert told[-1] == 1200
    assert len(told) > 1
    left = {call.id for call in ledger.calls()}
    assert left == {each.call_id for each in entries[1200:]}
    assert {row["call_id"] for row in rows(ledger, "attempts")} == left
    assert rows(ledger, "hourly") == before
    assert ledger.report(["user", "hour"]) == report
    assert ledger.prune(T0 + 3 * HOUR) == 0


def test_pruning_forgets_what_was_set_aside(ledger: Ledger) -> None:
    """Rejects are kept as long as calls are."""
    commit(ledger, entry(id="bad"))
    ledger.prune(T0 - 1)
    assert len(rows(ledger, "rejects")) == 1
    ledger.prune(2**62)
    assert rows(ledger, "rejects") == []


def test_pricing_again_corrects_rows_and_sums(ledger: Ledger) -> None:
    """Every call has its new price, the sums agree, and the summary says what changed."""
    entries = [
        entry(
            at_ns=T0 + number * HOUR // 100,
            user=f"u{number % 3}",
            model="odd" if number % 7 == 0 else "m",
            cost_pico=None if number % 5 == 0 else number,
        )
        for number in range(1100)
    ]
    commit(ledger, *entries)
    before = sum(row.cost_pico for row in ledger.report())
    told: list[int] = []
    summary = ledger.reprice(_per_token, progress=told.append)
    assert_sums_agree(ledger)
    assert (summary.examined, told[-1], len(told)) == (1100, 1100, 2)
    (after,) = ledger.report()
    odd = sum(number % 7 == 0 for number in range(1100))
    assert after.unpriced == odd
    assert after.cost_pico == (1100 - odd) * 15_000
    assert summary.delta_pico == after.cost_pico - before
    assert summary.priced == sum(n % 5 == 0 and n % 7 != 0 for n in range(1100))
    assert summary.unpriced == sum(n % 5 != 0 and n % 7 == 0 for n in range(1100))
    call = ledger.call(entries[1].call_id)
    assert call is not None
    assert (call.price, call.price_rates) == ("new", '{"any":1000}')
    assert call.cost_usd == Decimal("0.000000015")


def test_pricing_again_twice_changes_nothing_more(ledger: Ledger) -> None:
    """It can be run again, and so be resumed."""
    commit(ledger, *(entry() for _ in range(10)))
    assert ledger.reprice(_per_token).changed == 10
    before = everything(ledger)
    again = ledger.reprice(_per_token)
    assert (again.examined, again.changed, again.delta_pico) == (10, 0, 0)
    assert everything(ledger) == before


def test_pricing_that_breaks_off_leaves_rows_and_sums_in_agreement(ledger: Ledger) -> None:
    """Stopped in the middle, some calls have the new price, and running it again does the rest."""
    commit(ledger, *(entry(at_ns=T0 + number) for number in range(1200)))
    calls = 0

    def dies(call: CallView) -> Repriced:
        nonlocal calls
        calls += 1
        if calls > 1100:
            raise KeyboardInterrupt
        return _per_token(call)

    with pytest.raises(KeyboardInterrupt):
        ledger.reprice(dies)
    assert_sums_agree(ledger)
    assert ledger.reprice(_per_token).changed == 200
    assert_sums_agree(ledger)


def test_only_what_is_asked_for_is_priced_again(ledger: Ledger) -> None:
    """A filter bounds it: in time, by user, or to calls without a price."""
    commit(
        ledger,
        entry(at_ns=T0, cost_pico=None),
        entry(at_ns=T0 + 1, user="bob"),
        entry(at_ns=T0 + 2),
    )
    assert ledger.reprice(_per_token, CallFilter(unpriced=True)).changed == 1
    assert ledger.reprice(_per_token, CallFilter(user="bob")).changed == 1
    assert ledger.reprice(_per_token, CallFilter(since_ns=T0 + 2)).changed == 1
    assert_sums_agree(ledger)


def test_calls_that_bear_no_cost_keep_it_so(ledger: Ledger) -> None:
    """Pricing again gives no cost to fetches and repeats, nor to answers not yet finished."""
    used = Usage(input_tokens=3, output_tokens=4)
    commit(
        ledger,
        deferred("resp_1"),
        deferred("resp_2"),
        fetch("resp_2", usage=used),
        fetch("resp_2", usage=used),
        fetch(None, source=UsageSource.ABSENT),
        fetch("resp_3", usage=used),
    )
    summary = ledger.reprice(_per_token)
    assert summary.examined == 2
    (total,) = ledger.report()
    assert (total.cost_pico, total.unpriced) == (2 * 7000, 1)
    assert_sums_agree(ledger)


def test_a_price_sees_what_the_call_was_priced_by(ledger: Ledger) -> None:
    """The pricer gets usage, models, tier, variant, facts and the start's time."""
    booked = entry(
        usage=Usage(input_tokens=1, web_searches=2, cost_pico=9),
        service_tier="flex",
        price_variant={"speed": "fast"},
        facts=[Fact.BATCH],
    )
    commit(ledger, booked)
    seen: list[CallView] = []

    def look(call: CallView) -> Repriced:
        seen.append(call)
        return Repriced(1, "x", None)

    ledger.reprice(look)
    assert seen[0].usage == Usage(input_tokens=1, web_searches=2, cost_pico=9)
    assert (seen[0].service_tier, seen[0].price_variant) == ("flex", {"speed": "fast"})
    assert (seen[0].facts, seen[0].started_at_ns) == (("batch",), T0)


def test_an_impossible_price_is_refused(ledger: Ledger) -> None:
    """A negative cost, or one beyond 63 bits, changes nothing."""
    commit(ledger, entry())
    before = everything(ledger)
    for cost in (-1, 2**63):
        with pytest.raises(ValueError, match="out of range"):
            ledger.reprice(lambda _, cost=cost: Repriced(cost, "x", None))  # type: ignore[misc]
    assert everything(ledger) == before


def test_the_recorder_goes_on_during_upkeep(ledger: Ledger) -> None:
    """Commits get their turn between the chunks, and nothing is lost or counted twice."""
    commit(ledger, *(entry(at_ns=T0 + number) for number in range(2000)))
    lease = ledger.take_lead("test")
    done = threading.Event()
    commits = 0

    def record() -> None:
        nonlocal commits
        while not done.is_set():
            commit(ledger, *(entry(at_ns=T0 + HOUR) for _ in range(3)), lease=lease)
            commits += 1

    recorder = threading.Thread(target=record)
    recorder.start()
    try:
        ledger.reprice(_per_token)
        ledger.prune(T0 + 500)
    finally:
        done.set()
        recorder.join()
    assert commits >= 2
    assert len(rows(ledger, "calls")) == 1500 + 3 * commits
    (total,) = ledger.report()
    assert total.calls == 2000 + 3 * commits


def test_pruning_gives_room_back(url: str, engine: str) -> None:
    """An SQLite ledger's file shrinks when its calls are pruned."""
    if engine != "sqlite":
        return  # PostgreSQL's own vacuum does this
    ledger = Ledger.open(url)
    commit(ledger, *(entry(session="x" * 250 + str(number)) for number in range(3000)))

    def pages() -> int:
        with ledger._store.reading() as connection:
            return int(connection.exec_driver_sql("PRAGMA page_count").scalar_one())

    full = pages()
    ledger.prune(2**62)
    assert pages() < full / 4
    ledger.close()
