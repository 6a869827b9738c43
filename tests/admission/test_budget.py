"""O5 and D12: budgets under every interleaving, and under a wall clock that jumps."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.admission import Budget, Policy, SpentSoFar, Tier, User, load_spent
from taximeter.admission._budget import Book, Hold, Over
from taximeter.admission._model import Per
from taximeter.admission._plan import Purse
from taximeter.admission._window import BELIEF_NS, SteadyWall, window_of

SECOND_NS = 10**9
HOUR_NS = 3600 * SECOND_NS
DAY_NS = 24 * HOUR_NS


def wall(text: str) -> int:
    """Give a moment of UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND_NS


NOON = wall("2026-11-22T12:00:00")


def purse(limit: int, key: str = "k", per: Per = "day", hard: bool = True) -> Purse:
    """Give a budget of money."""
    return Purse(key, "user.usd_per_day", per, limit, False, hard, False)


_CALLS = st.lists(
    st.tuples(
        st.integers(1, 400),  # worst case
        st.one_of(st.none(), st.integers(0, 600)),  # true cost, may be beyond it
        st.integers(0, 5),  # ends after so many further calls
        st.integers(0, 2),  # which holder
    ),
    max_size=80,
)


@given(_CALLS, st.lists(st.integers(-2, 2), min_size=80, max_size=80))
def test_o5_overspend_is_at_most_the_reservation_error(
    calls: list[tuple[int, int | None, int, int]], hours: list[int]
) -> None:
    """O5: whatever the order of starts and ends, and across the window's edge, what is spent is
    within the limit plus what calls came to beyond their own worst case; and what is reserved is
    exactly what is under way, to the end.
    """
    book = Book()
    limit = 1000
    purses = [purse(limit, f"k{holder}") for holder in range(3)]
    live: list[tuple[int, Hold, int, int | None, int]] = []
    error = [0, 0, 0]
    now_ns, wall_ns = 0, NOON
    for number, (worst, true, lasts, holder) in enumerate(calls):
        now_ns += abs(hours[number]) * HOUR_NS
        wall_ns += abs(hours[number]) * HOUR_NS
        for entry in [each for each in live if each[0] <= number]:
            live.remove(entry)
            book.settle(entry[1], None, entry[3])
            book.settle(entry[1], None, entry[3])  # A second time does nothing.
        found = book.reserve([purses[holder]], 0, worst, now_ns, wall_ns)
        if isinstance(found, Hold):
            live.append((number + lasts, found, worst, true, holder))
            error[holder] += max(0, (worst if true is None else true) - worst)
        under_way = sum(entry[2] for entry in live)
        assert sum(each.reserved for each in book.snapshot()) == under_way
    for entry in live:
        book.settle(entry[1], None, entry[3])
    for standing in book.snapshot():
        assert standing.reserved == 0
        assert standing.spent <= limit + error[int(standing.key[1:])]


def test_o5_a_call_is_booked_in_the_window_it_began_in() -> None:
    """O5: a stream over midnight belongs to yesterday, as in the ledger."""
    book = Book()
    late = wall("2026-11-22T23:59:59")
    hold = book.reserve([purse(100)], 0, 60, 0, late)
    assert isinstance(hold, Hold)
    after = 10 * SECOND_NS
    today = book.reserve([purse(100)], 0, 90, after, late + after)
    assert isinstance(today, Hold)
    book.settle(hold, None, 50)
    figures = {each.start_ns: (each.spent, each.reserved) for each in book.snapshot()}
    assert figures == {
        wall("2026-11-22T00:00:00"): (50, 0),
        wall("2026-11-23T00:00:00"): (0, 90),
    }


def test_o5_the_last_pico_dollar_may_be_spent_and_not_one_more() -> None:
    """O5: the bound is exact."""
    book = Book()
    assert isinstance(book.reserve([purse(100)], 0, 101, 0, NOON), Over)
    assert isinstance(book.reserve([purse(100)], 0, 99, 0, NOON), Hold)
    assert isinstance(book.reserve([purse(100)], 0, 2, 0, NOON), Over)
    assert isinstance(book.reserve([purse(100)], 0, 1, 0, NOON), Hold)


def test_all_purses_or_none() -> None:
    """A call that one budget refuses has reserved nothing of the others."""
    book = Book()
    refused = book.reserve([purse(1000, "wide"), purse(10, "narrow")], 0, 50, 0, NOON)
    assert isinstance(refused, Over)
    assert refused.purse.key == "narrow"
    assert refused.resets_ns == 12 * HOUR_NS
    assert all(each.reserved == 0 for each in book.snapshot())


def test_a_soft_budget_lets_it_go_and_says_so() -> None:
    """Soft: a flag, no refusal."""
    hold = Book().reserve([purse(10, hard=False)], 0, 50, 0, NOON)
    assert isinstance(hold, Hold)
    assert hold.soft_over == ("user.usd_per_day",)


def test_a_call_without_a_price_is_let_go_or_refused_as_set() -> None:
    """Missing is not 0: what cannot be priced is said to be so, or refused."""
    strict = Purse("k", "user.usd_per_day", "day", 100, False, True, True)
    found = Book().reserve([strict], 10, None, 0, NOON)
    assert isinstance(found, Over)
    assert found.unpriced
    assert isinstance(Book().reserve([purse(100)], 10, None, 0, NOON), Hold)


def test_a_spent_budget_lets_in_nothing_more_priced_or_not() -> None:
    """Nothing hides behind a price of nought."""
    book = Book()
    book.load("k", "user.usd_per_day", "day", NOON, 100)
    assert isinstance(book.reserve([purse(100)], 0, 0, 0, NOON), Over)
    assert isinstance(book.reserve([purse(100)], 0, None, 0, NOON), Over)


def test_what_the_ledger_says_was_spent_counts() -> None:
    """A restart does not reset a budget."""
    book = Book()
    book.load("k", "user.usd_per_day", "day", NOON, 95)
    assert isinstance(book.reserve([purse(100)], 0, 10, 0, NOON), Over)
    assert isinstance(book.reserve([purse(100)], 0, 5, 0, NOON), Hold)
    assert book.standing(purse(100), 0, NOON).spent == 95


@given(st.integers(-DAY_NS, DAY_NS), st.integers(0, BELIEF_NS // SECOND_NS - 2))
def test_d12_a_jump_of_the_clock_that_is_put_right_changes_nothing(
    jump_ns: int, lasts_seconds: int
) -> None:
    """D12: for as long as it is not believed, neither a new window nor an old one is opened."""
    book = Book()
    first = book.reserve([purse(100)], 0, 100, 0, NOON)
    assert isinstance(first, Hold)
    book.settle(first, None, 100)
    for second in range(1, lasts_seconds + 1, 7):
        now_ns = second * SECOND_NS
        refused = book.reserve([purse(100)], 0, 1, now_ns, NOON + now_ns + jump_ns)
        assert isinstance(refused, Over)
    assert len(book.snapshot()) == 1


@pytest.mark.parametrize("jump_ns", [DAY_NS, -DAY_NS])
def test_d12_a_jump_that_lasts_is_followed_and_the_way_back_finds_the_old_figure(
    jump_ns: int,
) -> None:
    """D12: budgets neither stick in a wrong day nor are fresh again when it is put right."""
    book = Book()
    hold = book.reserve([purse(100)], 0, 100, 0, NOON)
    assert isinstance(hold, Hold)
    book.settle(hold, None, 100)
    now_ns = 0
    results = []
    for offset_ns in (jump_ns, 0):
        for _ in range(BELIEF_NS // (10 * SECOND_NS) + 2):
            now_ns += 10 * SECOND_NS
            found = book.reserve([purse(100)], 0, 1, now_ns, NOON + now_ns + offset_ns)
        results.append(found)
    assert isinstance(results[0], Hold)
    assert isinstance(results[1], Over)


def test_d12_a_machine_that_slept_wakes_up_in_the_new_day_within_minutes() -> None:
    """D12: a monotonic clock that stood still does not hold the window back for long."""
    steady = SteadyWall()
    assert steady.believe(NOON, 0) == NOON
    later = NOON + 9 * HOUR_NS
    assert steady.believe(later, SECOND_NS) == NOON + SECOND_NS
    believed = steady.believe(later + BELIEF_NS, SECOND_NS + BELIEF_NS)
    assert believed == later + BELIEF_NS


def test_slewing_is_followed_at_once() -> None:
    """A time service that pulls the clock straight is believed step by step."""
    steady = SteadyWall()
    for minute in range(600):
        now_ns = minute * 60 * SECOND_NS
        drift_ns = minute * 20 * SECOND_NS
        assert steady.believe(NOON + now_ns + drift_ns, now_ns) == NOON + now_ns + drift_ns


@pytest.mark.parametrize(
    ("per", "at", "start", "end"),
    [
        ("hour", "2026-03-29T01:30:00", "2026-03-29T01:00:00", "2026-03-29T02:00:00"),
        ("day", "2026-10-25T00:30:00", "2026-10-25T00:00:00", "2026-10-26T00:00:00"),
        ("month", "2028-02-29T23:59:59", "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
        ("month", "2026-12-31T23:59:59", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
    ],
)
def test_windows_are_the_calendars(per: Per, at: str, start: str, end: str) -> None:
    """UTC: no hour is missing or twice where clocks are changed; leap days are days."""
    assert window_of(per, wall(at)) == (wall(start), wall(end))


def test_accounts_are_bounded_and_strangers_share_one() -> None:
    """At the bound nobody gets a fresh budget for the price of a new name."""
    book = Book(accounts_max=2)
    for key in ("a", "b"):
        assert isinstance(book.reserve([purse(100, key)], 0, 60, 0, NOON), Hold)
    assert isinstance(book.reserve([purse(100, "c")], 0, 60, 0, NOON), Hold)
    assert isinstance(book.reserve([purse(100, "d")], 0, 60, 0, NOON), Over)
    assert book.overflowed == 2
    assert len(book) == 3


def test_accounts_whose_windows_are_over_are_forgotten() -> None:
    """Memory follows who spends now."""
    book = Book()
    hold = book.reserve([purse(100)], 0, 60, 0, NOON)
    assert isinstance(hold, Hold)
    assert book.sweep(2 * DAY_NS, NOON + 2 * DAY_NS) == 0
    book.settle(hold, None, 60)
    assert book.sweep(DAY_NS // 4, NOON + DAY_NS // 4) == 0
    assert book.sweep(2 * DAY_NS, NOON + 2 * DAY_NS) == 1
    assert len(book) == 0


def test_names_of_calls_that_came_to_nothing_do_not_fill_the_table() -> None:
    """An account with nothing spent, reserved or carried is forgotten within its window."""
    book = Book(accounts_max=3)
    for key in ("a", "b"):
        hold = book.reserve([purse(100, key)], 0, 60, 0, NOON)
        assert isinstance(hold, Hold)
        book.settle(hold, None, 0)
    book.load("c", "purse", "day", NOON, 5)
    assert book.sweep(0, NOON) == 2
    assert book.keys() == ["c"]
    assert isinstance(book.reserve([purse(100, "d")], 0, 60, 0, NOON), Hold)
    assert book.overflowed == 0


def test_o5_an_account_is_kept_for_a_call_that_has_reserved_nothing() -> None:
    """O5: what a call without a price comes to is booked where the next call looks."""
    book = Book()
    hold = book.reserve([purse(100)], 0, None, 0, NOON)
    assert isinstance(hold, Hold)
    assert book.sweep(0, NOON) == 0
    book.settle(hold, None, 100)
    assert isinstance(book.reserve([purse(100)], 0, 1, 0, NOON), Over)
    assert book.sweep(0, NOON) == 0


def test_o5_a_start_finds_what_the_ledger_says_each_purse_has_spent() -> None:
    """O5: sums by user, team and key are added up for each budget that stands over them."""
    policy = Policy(
        tiers={
            "free": Tier(
                budgets=(Budget(pico=100), Budget(tokens=50, per="hour")),
                budgets_shared=(Budget(pico=1000),),
            )
        },
        users={"a": User("free"), "b": User("free")},
        teams={"t": (Budget(pico=500),)},
    )
    sums = [
        SpentSoFar(per="day", user="a", team="t", tokens=30, pico=60),
        SpentSoFar(per="day", user="a", tokens=5, pico=10),
        SpentSoFar(per="day", user="b", team="t", tokens=9, pico=20),
        SpentSoFar(per="hour", user="a", tokens=7, pico=14),
        SpentSoFar(per="day", user="stranger", tokens=1, pico=2),
    ]
    book = Book()
    load_spent(book, policy, sums, NOON)
    found = sorted((each.start_ns, each.spent) for each in book.snapshot())
    today, this_hour = wall("2026-11-22T00:00:00"), NOON
    assert found == [(today, 20), (today, 70), (today, 80), (today, 90), (this_hour, 7)]
