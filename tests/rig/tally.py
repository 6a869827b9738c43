"""What a run has counted: kills, seeds, cases, inputs. Shown at its end, below the results.

A suite that is green because it tried nothing looks like one that tried much. These are the
numbers that tell them apart.
"""

from __future__ import annotations

import re
from collections import Counter

_STATISTICS = re.compile(r"(\d+) passing")


class Tally:
    """Counts by a word in the plural: `tally.add("kills", 12)`."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, what: str, count: int = 1) -> None:
        """Count something that was done."""
        self._counts[what] += count

    def take_statistics(self, text: str) -> None:
        """Count a property's inputs, as Hypothesis describes them."""
        self.add("inputs found by Hypothesis", sum(map(int, _STATISTICS.findall(text))))

    def line(self) -> str:
        """Give all counts in a line; empty if there are none."""
        done = sorted(+self._counts)
        return ", ".join(f"{self._counts[what]:,} {what}" for what in done)
