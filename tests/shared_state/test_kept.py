"""What is kept while no answer comes: bookings that count once, and what is held or in doubt."""

from __future__ import annotations

import pytest

from taximeter.shared_state import _bookings, _holdings
from taximeter.shared_state._bookings import Bookings
from taximeter.shared_state._holdings import DOUBTED_BEATS, Holdings
from taximeter.shared_state._steps import SLOTS, Beat, Settle


def spent(*windows: tuple[str, int]) -> Settle:
    """Make the end of a call that booked so much in each window."""
    return Settle([(key, 5, amount) for key, amount in windows], [], [])


def booked(bookings: Bookings) -> list[tuple[int, list[tuple[str, int, int]]]]:
    """Give what is to be sent: number, and what is booked and given back."""
    return [(step.booking, step.windows) for step in bookings.steps() if isinstance(step, Settle)]


def test_what_was_sent_keeps_its_number_and_gives_nothing_back_twice() -> None:
    """D10: a booking that may have been made goes again as the same one, without its release."""
    bookings = Bookings()
    first, second = spent(("a", 7)), spent(("a", 2))
    bookings.number(first)
    bookings.number(second)
    assert (first.booking, second.booking) == (1, 2)
    assert bookings.keep(first) == 0
    assert booked(bookings) == [(1, [("a", 0, 7)])]
    assert len(bookings) == 0


def test_what_was_never_sent_is_added_up_under_one_new_number() -> None:
    """An outage costs memory by the window, not by the call; what spent nothing costs none."""
    bookings = Bookings()
    for _ in range(1000):
        bookings.keep(spent(("a", 7), ("b", 0)))
    assert booked(bookings) == [(1, [("a", 0, 7000)])]


def test_what_has_no_room_is_counted_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds hold, and each booking beyond them is told of."""
    monkeypatch.setattr(_bookings, "OWED_WINDOWS_MAX", 2)
    monkeypatch.setattr(_bookings, "AGAIN_MAX", 1)
    bookings = Bookings()
    assert bookings.keep(spent(("a", 1), ("b", 1), ("c", 1), ("d", 0))) == 1
    assert bookings.keep(spent(("a", 1))) == 0
    lost = 0
    for _ in range(3):
        step = spent(("e", 1))
        bookings.number(step)
        lost += bookings.keep(step)
    assert lost == 2
    assert booked(bookings) == [(3, [("e", 0, 1)]), (4, [("a", 0, 2)]), (5, [("b", 0, 1)])]


def test_a_key_in_doubt_is_stated_for_a_while_and_then_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a step nobody knows the end of, Redis is told that nothing is held, a bounded number."""
    monkeypatch.setattr(_holdings, "DOUBTED_KEYS_MAX", 2)
    holdings = Holdings()
    holdings.doubt(Settle([("w", 5, 1)], [SLOTS + "s", SLOTS + "t"], []))
    for _ in range(DOUBTED_BEATS):
        assert holdings.beats() == [Beat({SLOTS + "s": 0, SLOTS + "t": 0}, {})]
    assert holdings.beats() == []
