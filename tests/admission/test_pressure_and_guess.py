"""O6: levels of pressure; and the running p90 of outputs."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.admission import Level, Pressure
from taximeter.admission._guess import OutputGuess
from taximeter.admission._pressure import CALM_NS

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
