"""The doors of a route: how many calls may be under way, and what the upstream says of its limits.

A *gate* stands before each (upstream, credential): the calls under way, and the limit that is
found where none is set (`_adaptive`). A *door* stands before each (upstream, model,
credential), for that is what providers count by. It tightens our own limits with what the
upstream says and never loosens them:

    told what is left    a ceiling, kept as a GCRA whose theoretical arrival time is the moment at
                         which the upstream says it is full again; it ends by itself then
    429 with a wait      shut until then (at most `HOLD_NS_MAX`); without one, for a time that
                         doubles with each 429 in a row
    open again           at first half as many calls as were under way, then one more with each
                         good answer, until there are as many as before: a ramp, not a stampede

A door holds calls back; it refuses none. All times are of the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable

from taximeter.admission._adaptive import AdaptiveLimit
from taximeter.admission._need import Short
from taximeter.admission._signals import Told
from taximeter.admission._words import SECOND_NS

HOLD_NS_MAX = 60 * SECOND_NS
"""Minute limits are whole again after this; a longer wait is tried for earlier."""
HOLD_NS_FIRST = SECOND_NS // 2
HOLD_DOUBLINGS_MAX = 5


class Gate:
    """Calls of one credential under way at one upstream."""

    __slots__ = ("adaptive", "away", "heard", "in_flight", "key")

    def __init__(self, key: str, adaptive: AdaptiveLimit | None) -> None:
        self.key = key
        self.adaptive = adaptive
        self.in_flight = 0
        self.heard = 0
        """Of them, those whose attempt has had its answer, or has failed."""
        self.away = 0
        """Of them, those between two attempts: not at the upstream."""

    @property
    def awaiting(self) -> int:
        """Calls under way whose attempt has had no answer yet."""
        return self.in_flight - self.heard

    @property
    def is_full(self) -> bool:
        """Whether no further call may go by the limit that is found.

        Where every call under way has begun to be answered, nobody waits at the upstream: what is
        full then is not the upstream but our idea of it, which a stream of minutes would hold
        up for minutes. So it is stretched.
        """
        adaptive = self.adaptive
        if adaptive is None or self.in_flight < adaptive.limit:
            return False
        return bool(self.awaiting) or not adaptive.stretch()

    def gives_up_dip(self, now_ns: int) -> bool:
        """Let a dip end that streams make last; give whether more may go now."""
        adaptive = self.adaptive
        if adaptive is None or self.awaiting or self.in_flight < adaptive.limit:
            return False
        return adaptive.give_up_dip(now_ns)


class _Ceiling:
    """What an upstream says is left of one limit, moved on by what we have sent since."""

    __slots__ = ("limit", "tat_ns", "token_ns", "tolerance_ns")

    def __init__(self, told: Told, now_ns: int) -> None:
        self.limit = told.limit
        self.token_ns = told.reset_ns // (told.limit - told.remaining)
        self.tolerance_ns = told.limit * self.token_ns
        self.tat_ns = now_ns + told.reset_ns

    def wait_ns(self, cost: int, now_ns: int) -> int:
        return (
            max(self.tat_ns, now_ns)
            + min(cost, self.limit) * self.token_ns
            - self.tolerance_ns
            - now_ns
        )


class Door:
    """What one credential may send of one model to one upstream, as the upstream has it."""

    __slots__ = (
        "_ceilings",
        "_hold_until_ns",
        "_holds_in_a_row",
        "_ramp",
        "_ramp_to",
        "gate",
        "in_flight",
        "key",
        "quiet",
    )

    def __init__(self, key: str, gate: Gate) -> None:
        self.key = key
        self.gate = gate
        self.in_flight = 0
        self.quiet = True
        """Nothing holds calls back but the gate: no hold, no ramp and no ceiling."""
        self._ceilings: dict[bool, _Ceiling] = {}
        self._hold_until_ns = 0
        self._holds_in_a_row = 0
        self._ramp = 0
        """Calls that may be under way after a hold; 0 when that is over."""
        self._ramp_to = 0

    def short(self, tokens: int, now_ns: int) -> Short | None:
        """Say what stands in a call's way here, if anything does."""
        gate = self.gate
        if gate.is_full:
            return Short(gate.key, "upstream.concurrency", False, None)
        if self.quiet:
            return None
        if self._hold_until_ns > now_ns:
            return Short(self.key, "upstream.hold", False, self._hold_until_ns - now_ns)
        if self._ramp and self.in_flight >= self._ramp:
            return Short(self.key, "upstream.ramp", False, None)
        for of_tokens, ceiling in tuple(self._ceilings.items()):
            if ceiling.tat_ns <= now_ns:
                del self._ceilings[of_tokens]
                continue
            wait_ns = ceiling.wait_ns(tokens if of_tokens else 1, now_ns)
            if wait_ns > 0:
                return Short(self.key, "upstream.told", False, wait_ns)
        self.quiet = not (self._ramp or self._ceilings)
        return None

    def enter(self, tokens: int, now_ns: int) -> None:
        """Let a call through."""
        self.in_flight += 1
        self.gate.in_flight += 1
        if not self.quiet:
            self.charge(tokens, now_ns)

    def charge(self, tokens: int, now_ns: int) -> None:
        """Take what a call will use from what the upstream says is left."""
        for of_tokens, ceiling in self._ceilings.items():
            cost = min(tokens, ceiling.limit) if of_tokens else 1
            ceiling.tat_ns = max(ceiling.tat_ns, now_ns) + cost * ceiling.token_ns

    def leave(self) -> None:
        """Note that a call has ended, to its last byte."""
        self.in_flight -= 1
        self.gate.in_flight -= 1

    def told(self, limits: Iterable[Told], now_ns: int) -> None:
        """Heed what the upstream says is left. It tightens; time alone loosens."""
        for told in limits:
            if not 0 <= told.remaining < told.limit or told.reset_ns <= 0:
                continue
            new = _Ceiling(told, now_ns)
            old = self._ceilings.get(told.of_tokens)
            if new.token_ns == 0:
                continue  # Full again within nanoseconds.
            if old is None or new.wait_ns(1, now_ns) >= old.wait_ns(1, now_ns):
                self._ceilings[told.of_tokens] = new
                self.quiet = False

    def answered(self, started_ns: int, now_ns: int) -> bool:
        """Take in a good answer to a call begun at `started_ns`; give whether more may come now."""
        if not self._ramp:
            return False
        if started_ns < self._hold_until_ns:
            return False
        self._holds_in_a_row = 0
        self._ramp += 1
        if self._ramp >= self._ramp_to:
            self._ramp = self._ramp_to = 0
        return True

    def refused(self, started_ns: int, wait_ns: int | None, now_ns: int) -> bool:
        """Take in a 429; give whether it shut the door (those under way then do not add up)."""
        if wait_ns is None:
            if started_ns < self._hold_until_ns:
                return False
            wait_ns = HOLD_NS_FIRST << min(self._holds_in_a_row, HOLD_DOUBLINGS_MAX)
        until_ns = now_ns + min(wait_ns, HOLD_NS_MAX)
        shut = now_ns >= self._hold_until_ns
        if shut:
            self._holds_in_a_row += 1
            self._ramp_to = max(self._ramp_to, self.in_flight)
            self._ramp = max(1, self.in_flight // 2)
        self._hold_until_ns = max(self._hold_until_ns, until_ns)
        self.quiet = False
        return shut

    def is_idle(self, now_ns: int) -> bool:
        """Tell whether this is as good as new."""
        return (
            not self.in_flight
            and now_ns >= self._hold_until_ns + HOLD_NS_MAX
            and all(ceiling.tat_ns <= now_ns for ceiling in self._ceilings.values())
        )
