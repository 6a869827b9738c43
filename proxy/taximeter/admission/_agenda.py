"""A heap whose entries can be moved and taken out: who is due next?

Each key stands in it once. Moving or taking one out leaves its old entry in the heap, where it
is passed over when it comes up; when such entries outnumber the live ones the heap is built
anew. So every operation is O(log n) amortised, and memory is at most twice what is live (and
a few entries more).
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_SPARE = 64
"""Dead entries that are not worth building the heap anew."""


class Agenda(Generic[K]):
    """Keys in the order of a number; the one entered first goes first among equals."""

    __slots__ = ("_count", "_heap", "_live")

    def __init__(self) -> None:
        self._live: dict[K, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, key: K) -> bool:
        return key in self._live

    def set(self, key: K, at: float) -> None:
        """Put `key` at `at`, wherever it was before."""
        self._count += 1
        self._live[key] = (at, self._count)
        heapq.heappush(self._heap, (at, self._count, key))
        if len(self._heap) > 2 * len(self._live) + _SPARE:
            self._heap = [(at, count, key) for key, (at, count) in self._live.items()]
            heapq.heapify(self._heap)

    def sooner(self, key: K, at: float) -> None:
        """Put `key` at `at`, unless it is due before that already."""
        known = self._live.get(key)
        if known is None or at < known[0]:
            self.set(key, at)

    def discard(self, key: K) -> None:
        """Take `key` out, if it is in."""
        self._live.pop(key, None)
        if not self._live:
            self._heap.clear()

    def first(self) -> tuple[float, K] | None:
        """Give the first entry and leave it in; None when empty."""
        while self._heap:
            at, count, key = self._heap[0]
            known = self._live.get(key)
            if known is not None and known[1] == count:
                return at, key
            heapq.heappop(self._heap)
        return None

    def due(self, now: float) -> list[K]:
        """Take out what is due at `now`, in order."""
        found: list[K] = []
        while (entry := self.first()) is not None and entry[0] <= now:
            heapq.heappop(self._heap)
            del self._live[entry[1]]
            found.append(entry[1])
        return found

    def clear(self) -> None:
        """Take all out."""
        self._live.clear()
        self._heap.clear()
