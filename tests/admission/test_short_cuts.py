"""Formulas that were shortened for the straight way come to what the longer ones come to."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from taximeter.admission import (
    Adaptive,
    Breaker,
)
from taximeter.admission._adaptive import SAMPLES_MAX, SAMPLES_MIN, AdaptiveLimit
from taximeter.admission._breaker import PARTS, CircuitBreaker, State
from tests.admission.graph import fields_of
from tests.admission.rig import SECOND_NS
from tests.rig.length import pick


def kept_in(one: AdaptiveLimit) -> list[object]:
    """Give all that a limit keeps."""
    return [getattr(one, name) for name in fields_of(type(one))]


class OldLimit(AdaptiveLimit):
    """The limit as it is written down, without the short cuts."""

    __slots__ = ()

    def answered(self, started_ns: int, now_ns: int, in_flight: int, load: int = 0) -> bool:
        """Take in an answer."""
        self._most_in_flight = max(self._most_in_flight, in_flight)
        if load and load >= self._proved:
            self._prove(started_ns, load)
        before = self.limit
        if started_ns >= self._cut_at:
            self._cuts_in_a_row = 0
            if self._recovers_to:
                self._recover()
        if started_ns < self._since_ns:
            return self.limit > before
        self._samples.append(now_ns - started_ns)
        if len(self._samples) >= min(max(SAMPLES_MIN, 2 * self.limit), SAMPLES_MAX):
            self._end_window(now_ns)
        return self.limit > before


class OldBreaker(CircuitBreaker):
    """The breaker as it is written down: with each result, and the time it came at."""

    __slots__ = ("results",)

    def __init__(self, config: Breaker, uniform: Callable[[], float]) -> None:
        self.results: list[tuple[int, bool]] = []
        super().__init__(config, uniform)

    def succeeded(self, period: int, now_ns: int) -> None:
        """Take in a good result."""
        if period == self.period and self.state is State.CLOSED:
            self.results.append((now_ns // self._part_ns, False))
        super().succeeded(period, now_ns)

    def failed(self, period: int, now_ns: int) -> None:
        """Take in a bad one."""
        if period == self.period and self.state is State.CLOSED:
            self.results.append((now_ns // self._part_ns, True))
        super().failed(period, now_ns)

    def _begin_part(self, now_ns: int) -> None:
        pass

    def _forget_results(self, part: int) -> None:
        super()._forget_results(part)
        self.results.clear()

    def _in_window(self) -> tuple[int, int]:
        last = self.results[-1][0] if self.results else 0
        found = [failed for part, failed in self.results if part > last - PARTS]
        return len(found), sum(found)


@settings(max_examples=pick(40, 3000), deadline=None)
@given(
    initial=st.sampled_from([1, 5, 14, 16, 40, 99, 101, 300]),
    seed=st.integers(0, 2**32),
    refusals=st.sampled_from([0.0, 0.02, 0.3]),
)
def test_the_limit_is_found_as_before(initial: int, seed: int, refusals: float) -> None:
    """The limit comes to the same after every answer and refusal as by the longer formulas."""
    chance, now_ns = random.Random(seed), 0
    bounds = Adaptive(initial=initial, most=400)
    short, long = AdaptiveLimit(bounds, 0), OldLimit(bounds, 0)
    for _ in range(500):
        now_ns += chance.randrange(5_000_000)
        started_ns = max(0, now_ns - chance.choice((20_000_000, 40_000_000, 90_000_000)))
        limit, proved = short.limit, short._proved
        load = chance.choice((0, 1, limit - 1, limit, limit + 1, proved))
        about = started_ns, now_ns, chance.randrange(2 * limit), load
        if chance.random() < refusals:
            short.refused(*about)
            long.refused(*about)
        else:
            assert short.answered(*about) == long.answered(*about)
        assert kept_in(short) == kept_in(long)


@settings(max_examples=pick(50, 3000), deadline=None)
@given(
    window=st.sampled_from([1e-8, 0.5, 30.0]),
    calls_min=st.integers(1, 20),
    seed=st.integers(0, 2**32),
)
def test_the_breaker_counts_as_before(window: float, calls_min: int, seed: int) -> None:
    """The breaker comes to the same after every result as by all results that it was told of."""
    config = Breaker(window_seconds=window, calls_min=calls_min, open_seconds=1)
    chance, now_ns = random.Random(seed), 0
    halves = itertools.repeat(0.5).__next__
    short, long = CircuitBreaker(config, halves), OldBreaker(config, halves)
    for _ in range(200):
        now_ns += int(chance.choice((0, 0, 0.01, 0.05, 0.3, 3, 40)) * SECOND_NS)
        period = short.try_pass(now_ns)
        assert period == long.try_pass(now_ns)
        failed = chance.random() < 0.3
        for each in (short, long):
            if period is not None:
                (each.failed if failed else each.succeeded)(period, now_ns)
        assert (short.state, short.period, short.moves) == (long.state, long.period, long.moves)
        assert short.wait_ns(now_ns) == long.wait_ns(now_ns)
        if period is not None:
            assert short._in_window() == long._in_window()
