"""Calendar windows of budgets, and the wall clock they are cut by.

A window is an hour, a day or a month of UTC. Which one it is follows from the wall clock alone,
and each window has a figure of its own (`_budget`), so time that goes back finds the old
figure again: going back resets nothing, and going forward sticks nowhere.

A clock that jumps by mistake and is put right again within minutes must not open a fresh window
in between. So `SteadyWall` believes a jump only when it has lasted: it knows how the wall clock
ran against the monotonic one, and follows small changes (slewing) at once, but a step of more
than `STEP_NS` only after `BELIEF_NS`. A laptop that slept is therefore a few minutes late to the
new day, once.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from taximeter.admission._model import Per
from taximeter.admission._words import SECOND_NS

STEP_NS = 30 * SECOND_NS
"""A wall clock further off than this has been set; a time service slews what is less."""
BELIEF_NS = 300 * SECOND_NS
"""How long a step must have lasted. Longer than a time service takes to undo its own error."""


class SteadyWall:
    """The wall clock without its short-lived jumps."""

    __slots__ = ("_doubted_offset_ns", "_doubted_since_ns", "_offset_ns")

    def __init__(self) -> None:
        self._offset_ns: int | None = None
        self._doubted_offset_ns = 0
        self._doubted_since_ns = 0

    def believe(self, wall_ns: int, now_ns: int) -> int:
        """Give the wall time to go by, from what the two clocks say."""
        offset = wall_ns - now_ns
        believed = self._offset_ns
        if believed is None or abs(offset - believed) <= STEP_NS:
            self._offset_ns = offset
            self._doubted_since_ns = 0
            return wall_ns
        if not self._doubted_since_ns or abs(offset - self._doubted_offset_ns) > STEP_NS:
            self._doubted_offset_ns = offset
            self._doubted_since_ns = max(1, now_ns)
        elif now_ns - self._doubted_since_ns >= BELIEF_NS:
            self._offset_ns = offset
            self._doubted_since_ns = 0
            return wall_ns
        return now_ns + believed


def window_of(per: Per, wall_ns: int) -> tuple[int, int]:
    """Give the window around `wall_ns`: its start, and the start of the next."""
    moment = datetime.fromtimestamp(wall_ns // SECOND_NS, UTC)
    start = moment.replace(minute=0, second=0, microsecond=0)
    if per == "hour":
        end = start + timedelta(hours=1)
    elif per == "day":
        start = start.replace(hour=0)
        end = start + timedelta(days=1)
    else:
        start = start.replace(hour=0, day=1)
        end = (start + timedelta(days=31)).replace(day=1)
    return int(start.timestamp()) * SECOND_NS, int(end.timestamp()) * SECOND_NS


class Windows:
    """The windows around now, worked out once for each."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[Per, tuple[int, int]] = {}

    def around(self, per: Per, wall_ns: int) -> tuple[int, int]:
        """Give the window around `wall_ns`: its start, and the start of the next."""
        known = self._known.get(per)
        if known is None or not known[0] <= wall_ns < known[1]:
            known = self._known[per] = window_of(per, wall_ns)
        return known
