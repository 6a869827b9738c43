"""What this process gives up first when it is short of memory, descriptors, time or disk.

Readings are shares of what there is: 0 is idle, 1 is full. The worst one decides. Levels are
entered at once and left late: only when the worst reading has stayed below the level's `leave`
for `CALM_NS`, and then one level at a time. So a reading that sways about an edge changes
nothing to and fro.

    normal       nothing
    lean         close idle connections; nobody new waits in a queue (go at once or be refused)
    closed       refuse new calls

Calls under way are kept on every level.
"""

from __future__ import annotations

from collections.abc import Mapping

from taximeter.admission._words import SECOND_NS
from taximeter.call import Word

CALM_NS = 5 * SECOND_NS


class Level(Word):
    """How short this process is."""

    NORMAL = "normal"
    LEAN = "lean"
    CLOSED = "closed"


ORDER = (Level.NORMAL, Level.LEAN, Level.CLOSED)
ENTER = {Level.LEAN: 0.80, Level.CLOSED: 0.95}
LEAVE = {Level.LEAN: 0.70, Level.CLOSED: 0.85}


class Pressure:
    """The level, as readings come in."""

    __slots__ = ("_calm_since_ns", "level", "worst")

    def __init__(self) -> None:
        self.level = Level.NORMAL
        self.worst = ""
        """The reading that decided last."""
        self._calm_since_ns: int | None = None

    def read(self, readings: Mapping[str, float], now_ns: int) -> Level:
        """Take in readings by name; give the level."""
        self.worst, most = max(readings.items(), key=lambda item: item[1], default=("", 0.0))
        rank = ORDER.index(self.level)
        entered = max(i for i, each in enumerate(ORDER) if most >= ENTER.get(each, -1.0))
        if entered > rank:
            self.level = ORDER[entered]
            self._calm_since_ns = None
        elif rank and most < LEAVE[self.level]:
            if self._calm_since_ns is None:
                self._calm_since_ns = now_ns
            elif now_ns - self._calm_since_ns >= CALM_NS:
                self.level = ORDER[rank - 1]
                self._calm_since_ns = now_ns
        else:
            self._calm_since_ns = None
        return self.level
