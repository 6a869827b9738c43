"""One generation is billed once, however often and by whomever its answer is fetched."""

from __future__ import annotations

import pytest

from taximeter.call import Fact, Usage, UsageSource
from taximeter.ledger import CallView, Entry, Ledger
from tests.ledger.make import assert_sums_agree, commit, deferred, entry, everything, fetch

USED = Usage(input_tokens=1200, cached_tokens=1024, output_tokens=80, reasoning_tokens=64)


def _read(ledger: Ledger, booked: Entry) -> CallView:
    call = ledger.call(booked.call_id)
    assert call is not None
    return call


def _books_nothing(call: CallView) -> bool:
    return (call.cost_pico, call.usage, call.usage_source) == (0, None, UsageSource.ABSENT)


def test_a_deferred_answer_waits_for_its_figures(ledger: Ledger) -> None:
    """A background run's call is booked at once, its cost unknown rather than nought."""
    origin = deferred("resp_1")
    commit(ledger, origin)
    call = _read(ledger, origin)
    assert (call.cost_pico, call.price, call.usage) == (None, "deferred", None)
    assert_sums_agree(ledger)


@pytest.mark.parametrize("batches", ["one", "each"])
def test_the_maker_bears_what_a_fetch_brings(ledger: Ledger, batches: str) -> None:
    """A poll that sees the run's end puts tokens and cost on the call that began it."""
    origin = deferred("resp_1", user="ann")
    pending = fetch(
        "resp_1",
        user="bob",
        source=UsageSource.ABSENT,
        cost_pico=None,
        outcome="completed",
    )
    done = fetch(
        "resp_1",
        user="bob",
        usage=USED,
        cost_pico=77,
        price="list flex",
        service_tier="flex",
        response_model="gpt-5.4-2026",
        raw_usage="{}",
    )
    again = fetch("resp_1", user="cyd", usage=USED, cost_pico=77)
    entries = [origin, pending, done, again]
    if batches == "one":
        commit(ledger, *entries)
    else:
        for each in entries:
            commit(ledger, each)
            assert_sums_agree(ledger)
    maker = _read(ledger, origin)
    assert (maker.usage, maker.usage_source) == (USED, UsageSource.REPORTED)
    assert (maker.cost_pico, maker.price) == (77, "list flex")
    assert (maker.service_tier, maker.response_model, maker.raw_usage) == (
        "flex",
        "gpt-5.4-2026",
        "{}",
    )
    assert _read(ledger, pending).price == "fetch"
    assert _read(ledger, done).price == f"booked on {origin.call_id}"
    assert _read(ledger, again).price == f"repeat of {origin.call_id}"
    assert _read(ledger, again).booked_on == origin.call_id
    assert all(_books_nothing(_read(ledger, each)) for each in entries[1:])
    (total,) = ledger.report()
    assert (total.cost_pico, total.output_tokens, total.unpriced) == (77, 80, 0)
    assert [row.cost_pico for row in ledger.report(["user"])] == [77, 0, 0]
    assert_sums_agree(ledger)
    before = everything(ledger)
    commit(ledger, *entries)
    assert everything(ledger) == before


def test_a_finished_answer_fetched_again_costs_nothing(ledger: Ledger) -> None:
    """`GET /responses/{id}` of an answer that was billed when it was made is a repeat."""
    made = entry(response_id="resp_1", usage=USED, cost_pico=5)
    seen = fetch("resp_1", usage=USED, cost_pico=5)
    commit(ledger, made)
    commit(ledger, seen)
    assert _read(ledger, made).cost_pico == 5
    assert _read(ledger, seen).price == f"repeat of {made.call_id}"
    assert _books_nothing(_read(ledger, seen))
    assert_sums_agree(ledger)


@pytest.mark.parametrize("source", [UsageSource.PARTIAL, UsageSource.ESTIMATED])
def test_a_fetch_puts_a_guess_right(ledger: Ledger, source: UsageSource) -> None:
    """A stream that broke off and was resumed by a fetch ends up with the reported figures."""
    broken = entry(response_id="resp_1", source=source, cost_pico=3)
    commit(ledger, broken)
    commit(ledger, fetch("resp_1", usage=USED, cost_pico=77))
    maker = _read(ledger, broken)
    assert (maker.usage, maker.usage_source, maker.cost_pico) == (USED, UsageSource.REPORTED, 77)
    assert ledger.report()[0].cost_pico == 77
    assert_sums_agree(ledger)


def test_an_answer_whose_making_was_not_seen_is_billed_on_its_first_fetch(ledger: Ledger) -> None:
    """A fetch of an unknown answer bears its cost, and the fetches after it do not."""
    first, second = (fetch("resp_1", usage=USED, cost_pico=77) for _ in range(2))
    commit(ledger, first)
    commit(ledger, second)
    assert _read(ledger, first).cost_pico == 77
    assert _read(ledger, second).price == f"repeat of {first.call_id}"
    assert ledger.report()[0].cost_pico == 77
    assert_sums_agree(ledger)


@pytest.mark.parametrize("kind", ["deferred", "billed"])
def test_a_maker_read_after_its_fetch_still_bears_the_cost(ledger: Ledger, kind: str) -> None:
    """The order in which the journals of two workers are read makes no difference."""
    origin = (
        deferred("resp_1", user="ann")
        if kind == "deferred"
        else entry(response_id="resp_1", user="ann", usage=USED, cost_pico=77)
    )
    polls = [fetch("resp_1", user="bob", usage=USED, cost_pico=77) for _ in range(2)]
    commit(ledger, *polls)
    committed = commit(ledger, origin)
    maker = _read(ledger, origin)
    assert (maker.cost_pico, maker.usage) == (77, USED)
    assert all(_books_nothing(_read(ledger, poll)) for poll in polls)
    assert ledger.report()[0].cost_pico == 77
    assert sum(sums.cost_pico for sums in committed.sums.values()) == 0
    assert_sums_agree(ledger)


def test_calls_that_made_something_are_all_billed(ledger: Ledger) -> None:
    """An upstream that gives every answer the same id loses no one's cost."""
    makers = [entry(response_id="chatcmpl-1", cost_pico=5) for _ in range(4)]
    makers += [entry(response_id="", cost_pico=5) for _ in range(2)]
    commit(ledger, *makers[:3])
    commit(ledger, *makers[3:])
    assert ledger.report()[0].cost_pico == 30
    assert_sums_agree(ledger)


def test_upstreams_do_not_share_ids(ledger: Ledger) -> None:
    """An id is one upstream's; the same id elsewhere is another generation."""
    made = entry(response_id="resp_1", upstream="one", cost_pico=5)
    other = fetch("resp_1", upstream="two", cost_pico=7)
    commit(ledger, made, other)
    assert ledger.report()[0].cost_pico == 12
    assert_sums_agree(ledger)


def test_a_fetch_that_is_not_final_books_nothing(ledger: Ledger) -> None:
    """A poll that finds the run still going, or not found, costs nought and says so."""
    running = fetch("resp_1", usage=USED, cost_pico=9)
    running.closed.facts.append(Fact.DEFERRED)
    missing = fetch(None, source=UsageSource.ABSENT, cost_pico=None)
    guessed = fetch("resp_1", source=UsageSource.ESTIMATED, cost_pico=4)
    commit(ledger, running, missing, guessed)
    for each in (running, missing, guessed):
        assert _read(ledger, each).price == "fetch"
        assert _books_nothing(_read(ledger, each))
    assert_sums_agree(ledger)


def test_a_final_answer_without_an_id_has_no_known_cost(ledger: Ledger) -> None:
    """Nobody can tell whether it was billed: neither nought nor a second bill is a fair guess."""
    nameless = fetch(None, usage=USED, cost_pico=9)
    commit(ledger, nameless)
    call = _read(ledger, nameless)
    assert (call.cost_pico, call.usage) == (None, None)
    assert ledger.report()[0].unpriced == 1
    assert_sums_agree(ledger)


def test_a_batchs_price_goes_over_with_its_usage(ledger: Ledger) -> None:
    """What pricing again would need is on the row that bears the cost."""
    origin = deferred("batch_1")
    done = fetch("batch_1", usage=USED, cost_pico=38)
    done.closed.facts.append(Fact.BATCH)
    commit(ledger, origin, done)
    assert _read(ledger, origin).facts == ("deferred", "batch")
