"""Which sequence numbers have been read, so that a frame written twice is taken once.

The highest number alone would not do. A `fdatasync` that fails may have let the first pages of
what it was given go, and kept the last: then 10 is read from the old segment, and 5 to 9 only
from the new one, behind it. So what is kept is the set, as ranges. A journal without damage is
one range.
"""

from __future__ import annotations

from bisect import bisect_right

RANGES_MAX = 1024
"""Beyond it the lowest gap is given up: its numbers, should they still come, would be skipped."""


class Numbers:
    """A set of numbers that mostly come in order. The first one met is where counting begins."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []  # inclusive
        self._given_up = 0

    def add(self, number: int) -> bool:
        """Add a number; False if it was there already."""
        starts, ends = self._starts, self._ends
        if ends and number == ends[-1] + 1:
            ends[-1] = number
            return True
        at = bisect_right(starts, number) - 1
        if at >= 0 and number <= ends[at]:
            return False
        after_left = at >= 0 and ends[at] + 1 == number
        before_right = at + 1 < len(starts) and starts[at + 1] == number + 1
        if after_left and before_right:
            ends[at] = ends.pop(at + 1)
            del starts[at + 1]
        elif after_left:
            ends[at] = number
        elif before_right:
            starts[at + 1] = number
        else:
            starts.insert(at + 1, number)
            ends.insert(at + 1, number)
            if len(starts) > RANGES_MAX:
                self._given_up += starts[1] - ends[0] - 1
                ends[0] = ends.pop(1)
                del starts[1]
        return True

    @property
    def missing(self) -> int:
        """Numbers between the first and the last that have not come."""
        gaps = zip(self._starts[1:], self._ends[:-1], strict=True)
        return self._given_up + sum(start - end - 1 for start, end in gaps)
