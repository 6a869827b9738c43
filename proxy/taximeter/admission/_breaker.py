"""The circuit breaker of one upstream and model.

Closed, it counts results; when enough of those in the window are faults of the upstream it
opens. Open, nothing passes until a jittered time is over; then it is half-open and lets one probe
pass at a time. So many good probes in a row close it, a bad one opens it again, for twice as
long. Legal transitions are the literal table below: the code has no other way to change state.

Only faults of the upstream count as failures: no connection, no answer in time, a broken
connection, 5xx. An answer to a bad request is an answer; 429 is a limit (`_door` heeds it). A
call that ends without a result (the client left) counts as nothing, and hands its probe back.

Each pass carries the number of the period it was given in. A result from an earlier period says
nothing about this one and is not counted: calls that were under way when the breaker opened
cannot close it, nor open it again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from taximeter.admission._model import Breaker
from taximeter.admission._words import SECOND_NS
from taximeter.call import Word


class State(Word):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Event(Word):
    """What moves a breaker."""

    TRIPPED = "tripped"
    """Too many of the results in the window were failures."""
    COOLED = "cooled"
    """The open time is over."""
    PROVED = "proved"
    """Enough probes in a row have succeeded."""
    FAILED = "failed"
    """A probe failed."""


TRANSITIONS: dict[State, dict[Event, State]] = {
    State.CLOSED: {Event.TRIPPED: State.OPEN},
    State.OPEN: {Event.COOLED: State.HALF_OPEN},
    State.HALF_OPEN: {Event.PROVED: State.CLOSED, Event.FAILED: State.OPEN},
}
"""From each state: what may happen, and where it leads."""

PARTS = 10
"""Parts of the window. Results leave it a part at a time."""


class CircuitBreaker:
    """The breaker of one upstream and model."""

    __slots__ = (
        "_calls",
        "_config",
        "_failures",
        "_open_ns",
        "_open_until_ns",
        "_part_ends_ns",
        "_part_ns",
        "_probing",
        "_proved",
        "_starts",
        "_uniform",
        "free_pass",
        "moves",
        "period",
        "state",
    )

    _part_ns: int
    _part_ends_ns: int
    _calls: int
    """Results counted since the breaker was last moved or configured."""
    _failures: int
    """Of them, the failures."""
    _starts: deque[tuple[int, int]]
    """Both, as they were when each part of the window began; the present part's is the last."""

    def __init__(self, config: Breaker, uniform: Callable[[], float]) -> None:
        self._config = config
        self._uniform = uniform
        self.state = State.CLOSED
        self.moves = dict.fromkeys(State, 0)
        """How often it has come into each state."""
        self.period = 0
        """Number of this period: since it was last moved."""
        self.free_pass: int | None = 0
        """The same while it is closed, and every call may pass; else None."""
        self._open_ns = int(config.open_seconds * SECOND_NS)
        self._open_until_ns = 0
        self._probing = False
        self._proved = 0
        self.configure(config)

    def configure(self, config: Breaker) -> None:
        """Go by another configuration, in the same state and with a new window."""
        self._config = config
        self._part_ns = max(1, int(config.window_seconds * SECOND_NS / PARTS))
        self._forget_results(0)

    def try_pass(self, now_ns: int) -> int | None:
        """Give the number of this period if a call may pass, else None."""
        if self.free_pass is not None:
            return self.free_pass
        if self.state is State.OPEN:
            if now_ns < self._open_until_ns:
                return None
            self._move(Event.COOLED, now_ns)
        if self._probing:
            return None
        self._probing = True
        return self.period

    def wait_ns(self, now_ns: int) -> int:
        """Give the time until a refused call may do better."""
        if self.state is State.OPEN:
            return max(0, self._open_until_ns - now_ns)
        return SECOND_NS if self.state is State.HALF_OPEN else 0

    def succeeded(self, period: int, now_ns: int) -> None:
        """Count a good result of a call that passed in `period`."""
        if period == self.free_pass:
            if now_ns >= self._part_ends_ns:
                self._begin_part(now_ns)
            self._calls += 1
        elif period == self.period and self.state is State.HALF_OPEN:
            self._probing = False
            self._proved += 1
            if self._proved >= self._config.probes:
                self._move(Event.PROVED, now_ns)

    def failed(self, period: int, now_ns: int) -> None:
        """Count a fault of the upstream, met by a call that passed in `period`."""
        if period != self.period:
            return
        if self.state is State.HALF_OPEN:
            self._move(Event.FAILED, now_ns)
        elif self.state is State.CLOSED:
            if now_ns >= self._part_ends_ns:
                self._begin_part(now_ns)
            self._calls += 1
            self._failures += 1
            calls, failures = self._in_window()
            if calls >= self._config.calls_min and failures >= self._config.failure_ratio * calls:
                self._move(Event.TRIPPED, now_ns)

    def opened_elsewhere(self, until_ns: int, now_ns: int) -> None:
        """Open, because another process that watches the same upstream has; until then at most."""
        if self.state is State.OPEN or until_ns <= now_ns:
            return
        self._move(Event.TRIPPED if self.state is State.CLOSED else Event.FAILED, now_ns)
        self._open_until_ns = until_ns

    def cancelled(self, period: int) -> None:
        """Take a pass back that led to no result."""
        if period == self.period and self.state is State.HALF_OPEN:
            self._probing = False

    def is_idle(self, now_ns: int) -> bool:
        """Tell whether this can be forgotten: it is closed, and has little to lose."""
        del now_ns
        return self.state is State.CLOSED

    def _move(self, event: Event, now_ns: int) -> None:
        self.state = TRANSITIONS[self.state][event]
        self.period += 1
        self.free_pass = self.period if self.state is State.CLOSED else None
        self._probing = False
        self._proved = 0
        self._forget_results(now_ns // self._part_ns)
        self.moves[self.state] += 1
        if self.state is State.OPEN:
            if event is Event.FAILED:
                most = int(self._config.open_seconds_max * SECOND_NS)
                self._open_ns = min(self._open_ns * 2, most)
            # Never sooner than stated; up to half as long again, so that many do not come back
            # in the same instant.
            self._open_until_ns = now_ns + int(self._open_ns * (1 + self._uniform() / 2))
        elif self.state is State.CLOSED:
            self._open_ns = int(self._config.open_seconds * SECOND_NS)

    def _forget_results(self, part: int) -> None:
        self._calls = 0
        self._failures = 0
        self._starts = deque([(0, 0)] * PARTS, PARTS)
        self._part_ends_ns = (part + 1) * self._part_ns

    def _begin_part(self, now_ns: int) -> None:
        """Note how far the counts had come when the present part of the window began."""
        part = now_ns // self._part_ns
        gone = part + 1 - self._part_ends_ns // self._part_ns
        self._starts.extend([(self._calls, self._failures)] * min(gone, PARTS))
        self._part_ends_ns = (part + 1) * self._part_ns

    def _in_window(self) -> tuple[int, int]:
        """Give the results in the window, and how many of them are failures."""
        calls, failures = self._starts[0]
        return self._calls - calls, self._failures - failures
