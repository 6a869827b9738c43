"""O6: levels of pressure; and the two running estimates: of outputs, and of a queue's pace."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.admission import Level, Pressure
from taximeter.admission._guess import OutputGuess
from taximeter.admission._pressure import CALM_NS
from taximeter.admission._routes import Pace

SECOND_NS = 10**9


def test_o6_levels_are_entered_at_once_and_left_one_by_one() -> None:
    """O6: normal, lean, closed; and back only after calm."""
    pressure = Pressure()
    script = [
        (0, 0.5, Level.NORMAL),
        (1, 0.81, Level.LEAN),
        (2, 0.99, Level.CLOSED),
        (3, 0.5, Level.CLOSED),
        (7, 0.5, Level.CLOSED),
        (8, 0.5, Level.LEAN),
        (12, 0.5, Level.LEAN),
        (13, 0.5, Level.NORMAL),
    ]
    for second, reading, level in script:
        assert pressure.read({"memory": reading, "lag": 0.1}, second * SECOND_NS) is level
    assert pressure.worst == "memory"


def test_o6_straight_to_the_top() -> None:
    """O6: what is full is not let fill up by stages."""
    assert Pressure().read({"descriptors": 1.2}, 0) is Level.CLOSED
    assert Pressure().read({}, 0) is Level.NORMAL


@given(st.lists(st.floats(0.70, 0.799), min_size=1, max_size=50))
def test_o6_swaying_about_an_edge_changes_nothing(readings: list[float]) -> None:
    """O6: between leave and enter a level stays what it is, for however long."""
    for start in (0.0, 0.85):
        pressure = Pressure()
        level = pressure.read({"lag": start}, 0)
        for second, reading in enumerate(readings):
            assert pressure.read({"lag": reading}, second * CALM_NS) is level


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("mean", [20, 300, 5000])
def test_the_guess_finds_the_p90(seed: int, mean: int) -> None:
    """Of outputs that scatter widely, one in ten is larger, give or take."""
    chance, guess = random.Random(seed), OutputGuess()
    larger = []
    for number in range(4000):
        output = int(chance.expovariate(1 / mean)) + 1
        if number >= 1000:
            larger.append(output > guess.tokens)
        guess.learn(output)
    share = sum(larger) / len(larger)
    assert 0.05 <= share <= 0.15, (seed, mean)


def test_the_pace_of_a_queue_follows_what_it_does_now() -> None:
    """From a hundred tokens a second to ten: half a minute later the estimate is there."""
    pace = Pace()
    assert pace.wait_ns(100) is None
    for second in range(1, 101):
        pace.went(100, 0, second * SECOND_NS)
    assert pace.wait_ns(100) == pytest.approx(SECOND_NS, rel=0.01)
    for second in range(101, 141):
        pace.went(10, 0, second * SECOND_NS)
    assert pace.wait_ns(10) == pytest.approx(SECOND_NS, rel=0.2)


def test_time_in_which_nobody_waited_does_not_slow_the_pace() -> None:
    """An hour of calm between two busy times is not counted."""
    pace = Pace()
    pace.went(100, 0, SECOND_NS)
    later_ns = 3600 * SECOND_NS
    pace.went(100, later_ns, later_ns + SECOND_NS)
    assert pace.wait_ns(100) == pytest.approx(SECOND_NS, rel=0.01)
