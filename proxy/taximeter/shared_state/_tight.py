"""What is known to be full, so that not everyone who waits asks again at once.

A thousand calls that wait for one slot learn together that it may be free. Would they all ask,
one would get it, and 999 would have asked in vain. So a key that was found short is asked for by
as many as there is a reason for: one when its wait is over, one more for each slot that a call of
this worker gave back, two more for each that got through. The others are told without asking.
"""

from __future__ import annotations

from collections.abc import Iterable

from taximeter.admission import Plan, Rate, Short, Slots
from taximeter.shared_state._steps import POLL_NS

_FORGET_NS = 1_000_000_000
"""A key that nobody found short for so long is not short."""


class Tight:
    """The keys that were found short."""

    __slots__ = ("_asks", "_found_ns", "_until_ns")

    def __init__(self) -> None:
        self._asks: dict[str, int] = {}
        self._until_ns: dict[str, int] = {}
        self._found_ns: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._asks)

    def may_ask(self, plan: Plan, now_ns: int) -> Short | None:
        """Say what is known to stand in the way; None for one who may ask, who then has asked."""
        if not self._asks:
            return None
        tight = []
        limits: Iterable[Slots | Rate] = (*plan.slots, *plan.rates)
        for limit in limits:
            key = limit.key
            asks = self._asks.get(key)
            if asks is None:
                continue
            if now_ns - self._found_ns[key] > _FORGET_NS and now_ns >= self._until_ns[key]:
                self._forget(key)
                continue
            if now_ns >= self._until_ns[key]:
                self._asks[key] = asks = max(1, asks)
                self._until_ns[key] = now_ns + POLL_NS
            if asks < 1:
                return Short(key, limit.name, limit.own, self._until_ns[key] - now_ns)
            tight.append(key)
        for key in tight:
            self._asks[key] -= 1
        return None

    def found(self, short: Short, now_ns: int) -> None:
        """Take in that a key was found short."""
        if short.never or short.wait_ns is None:
            return
        self._asks[short.key] = 0
        self._until_ns[short.key] = now_ns + short.wait_ns
        self._found_ns[short.key] = now_ns

    def passed(self, plan: Plan) -> None:
        """Take in that a call got through: there may be room for more."""
        if self._asks:
            self.freed(plan.keys, 2)

    def freed(self, keys: Iterable[str], asks: int = 1) -> None:
        """Take in that so many may ask again."""
        for key in keys:
            if key in self._asks:
                self._asks[key] += asks

    def clear(self) -> None:
        """Know nothing."""
        self._asks.clear()
        self._until_ns.clear()
        self._found_ns.clear()

    def sweep(self, now_ns: int) -> None:
        """Forget what nobody has asked about."""
        for key, until_ns in tuple(self._until_ns.items()):
            if now_ns - until_ns > _FORGET_NS:
                self._forget(key)

    def _forget(self, key: str) -> None:
        del self._asks[key], self._until_ns[key], self._found_ns[key]
