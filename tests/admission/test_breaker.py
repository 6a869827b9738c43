"""O4: the breaker walks its table, and agrees with a plain model on random traces."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.admission._breaker import PARTS, TRANSITIONS, CircuitBreaker, Event, State
from taximeter.admission._model import Breaker

SECOND_NS = 10**9
CONFIG = Breaker(
    failure_ratio=0.5,
    window_seconds=30,
    calls_min=10,
    open_seconds=10,
    open_seconds_max=60,
    probes=2,
)


def make(jitter: float = 0.0) -> CircuitBreaker:
    """Give a closed breaker."""
    return CircuitBreaker(CONFIG, lambda: jitter)


def trip(breaker: CircuitBreaker, now_ns: int) -> None:
    """Open a closed breaker."""
    for _ in range(CONFIG.calls_min):
        period = breaker.try_pass(now_ns)
        assert period is not None
        breaker.failed(period, now_ns)


@pytest.mark.parametrize(("state", "event"), [(state, event) for state in State for event in Event])
def test_o4_the_table_is_what_the_breaker_does(state: State, event: Event) -> None:
    """O4: each state answers the events of the table as it says, and there are no others."""
    breaker = make()
    now_ns = 0
    if state is not State.CLOSED:
        trip(breaker, now_ns)
    if state is State.HALF_OPEN:
        now_ns = 10 * SECOND_NS
        assert breaker.try_pass(now_ns) is not None
    assert breaker.state is state
    period = breaker.period
    if event is Event.TRIPPED and state is State.CLOSED:
        trip(breaker, now_ns)
    elif event is Event.COOLED and state is State.OPEN:
        breaker.try_pass(now_ns + 10 * SECOND_NS)
    elif event is Event.PROVED and state is State.HALF_OPEN:
        breaker.succeeded(period, now_ns)
        assert breaker.try_pass(now_ns) == period
        breaker.succeeded(period, now_ns)
    elif event is Event.FAILED and state is State.HALF_OPEN:
        breaker.failed(period, now_ns)
    else:
        assert event not in TRANSITIONS[state]
        return
    assert breaker.state is TRANSITIONS[state][event]


class Model:
    """A breaker with a list of all results: the window is looked up, not kept."""

    def __init__(self) -> None:
        self.results: deque[tuple[int, bool]] = deque()
        self.open_until: int | None = None
        self.open_ns = 10 * SECOND_NS
        self.proved = 0
        self.half = False

    def passes(self, now_ns: int) -> bool:
        if self.open_until is not None and now_ns < self.open_until:
            return False
        if self.open_until is not None:
            self.open_until, self.half, self.proved = None, True, 0
        return True

    def result(self, good: bool, now_ns: int) -> None:
        if self.half:
            if good:
                self.proved += 1
                if self.proved == 2:
                    self.half, self.open_ns = False, 10 * SECOND_NS
                    self.results.clear()
            else:
                self.half = False
                self.open_ns = min(self.open_ns * 2, 60 * SECOND_NS)
                self.open_until = now_ns + self.open_ns
            return
        self.results.append((now_ns, good))
        part_ns = 30 * SECOND_NS // PARTS
        recent = [g for at, g in self.results if now_ns // part_ns - at // part_ns < PARTS]
        if not good and len(recent) >= 10 and recent.count(False) * 2 >= len(recent):
            self.open_until = now_ns + self.open_ns
            self.results.clear()


@given(
    st.lists(st.tuples(st.integers(0, 4 * SECOND_NS), st.booleans() | st.just(False)), max_size=300)
)
def test_o4_it_agrees_with_a_model_on_random_traces(trace: list[tuple[int, bool]]) -> None:
    """O4: same calls pass, for any run of good and bad results."""
    breaker, model, now_ns = make(), Model(), 0
    for gap_ns, good in trace:
        now_ns += gap_ns
        period = breaker.try_pass(now_ns)
        assert (period is not None) == model.passes(now_ns)
        if period is not None:
            (breaker.succeeded if good else breaker.failed)(period, now_ns)
            model.result(good, now_ns)


def test_o4_probes_go_one_at_a_time() -> None:
    """O4: while a probe is under way nobody else passes; handed back, the next may."""
    breaker = make()
    trip(breaker, 0)
    now_ns = 10 * SECOND_NS
    period = breaker.try_pass(now_ns)
    assert period is not None
    assert [breaker.try_pass(now_ns) for _ in range(100)] == [None] * 100
    breaker.cancelled(period)
    assert breaker.try_pass(now_ns) == period


def test_results_of_an_earlier_period_count_for_nothing() -> None:
    """Calls under way when it opened neither close it nor open it again."""
    breaker = make()
    old = breaker.try_pass(0)
    assert old is not None
    trip(breaker, 0)
    breaker.succeeded(old, SECOND_NS)
    breaker.failed(old, SECOND_NS)
    assert breaker.state is State.OPEN
    probe = breaker.try_pass(10 * SECOND_NS)
    assert probe is not None
    breaker.failed(old, 10 * SECOND_NS)
    breaker.cancelled(old)
    assert [breaker.state] == [State.HALF_OPEN]
    assert breaker.try_pass(10 * SECOND_NS) is None


def test_the_open_time_is_jittered_upward_and_doubles_to_its_bound() -> None:
    """Never sooner than stated; a flapping upstream is left alone for longer."""
    breaker = make(jitter=0.5)
    trip(breaker, 0)
    waits = []
    now_ns = 0
    for _ in range(5):
        wait_ns = breaker.wait_ns(now_ns)
        waits.append(wait_ns / SECOND_NS)
        assert breaker.try_pass(now_ns + wait_ns - 1) is None
        now_ns += wait_ns
        probe = breaker.try_pass(now_ns)
        assert probe is not None
        breaker.failed(probe, now_ns)
    assert waits == [12.5, 25.0, 50.0, 75.0, 75.0]


def test_few_results_open_nothing() -> None:
    """Nine failures of nine are too few to tell."""
    breaker = make()
    for _ in range(9):
        breaker.failed(0, 0)
    assert breaker.state is State.CLOSED
