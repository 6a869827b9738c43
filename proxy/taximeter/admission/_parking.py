"""Lanes parked on the keys that refused them, and when those keys open again.

A heap for each key, its lanes by tag. An entry is not looked for when what it says has changed:
it is *dead* if its lane has another entry now, and it *ages* when its lane's tag or first call has
moved on. Both are put right when the entry comes up, and when there are more dead ones than
`DEAD_MIN` and the calls that wait, the heaps are swept. So every operation is O(log n) amortised
and memory follows what waits.
"""

from __future__ import annotations

import heapq
from typing import Final

from taximeter.admission._agenda import Agenda
from taximeter.admission._lanes import Entry, Lane

DEAD_MIN: Final = 64
"""Dead entries that are not worth a sweep, beside as many as there are calls."""


class Parking:
    """Where the lanes of one queue are parked."""

    __slots__ = ("_count", "dead", "heaps", "opens")

    def __init__(self) -> None:
        self.heaps: dict[str, list[Entry]] = {}
        """By key; a key with no entry is not in it."""
        self.opens: Agenda[str] = Agenda()
        """When keys open of which that is known."""
        self.dead = 0
        """Entries that are dead, or whose lane is empty: the queue tells of these."""
        self._count = 0

    def enter(self, lane: Lane, key: str) -> None:
        """Park a lane by its tag; an entry that it has already is dead from now on."""
        if lane.entry is not None:
            self.dead += 1
        self._count += 1
        lane.entry = (lane.flow.tag, next(iter(lane.line)), self._count, lane)
        heapq.heappush(self.heaps.setdefault(key, []), lane.entry)

    def head(self, key: str) -> Entry | None:
        """Give the first lane parked on a key, with entries that have aged put right."""
        heap = self.heaps.get(key)
        while heap:
            entry = heap[0]
            tag, sequence, count, lane = entry
            if entry is not lane.entry:
                self.pop(key)
                self.dead -= 1
            elif not lane.line:
                self.pop(key)
                self._bury(lane)
            else:
                first = next(iter(lane.line))
                if tag >= lane.flow.tag and sequence == first:
                    return entry
                lane.entry = (max(tag, lane.flow.tag), first, count, lane)
                heapq.heapreplace(heap, lane.entry)
        return None

    def pop(self, key: str) -> None:
        """Take out the first entry of a key."""
        heap = self.heaps[key]
        heapq.heappop(heap)
        if not heap:
            del self.heaps[key]
            self.opens.discard(key)

    def sweep(self) -> None:
        """Clear the heaps of what is dead."""
        for key in list(self.heaps):
            alive = []
            for entry in self.heaps[key]:
                lane = entry[3]
                if entry is not lane.entry:
                    self.dead -= 1
                elif lane.line:
                    alive.append(entry)
                else:
                    self._bury(lane)
            if alive:
                heapq.heapify(alive)
                self.heaps[key] = alive
            else:
                del self.heaps[key]
                self.opens.discard(key)

    def _bury(self, lane: Lane) -> None:
        self.dead -= 1
        lane.parked_on = lane.entry = None
        lane.flow.lanes.pop(lane.key, None)

    def clear(self) -> None:
        """Begin anew: nothing waits."""
        self.heaps.clear()
        self.opens.clear()
        self.dead = 0
