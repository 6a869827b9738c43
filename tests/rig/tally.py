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
        self._told: list[str] = []

    def add(self, what: str, count: int = 1) -> None:
        """Count something that was done."""
        self._counts[what] += count

    def tell(self, line: str) -> None:
        """Keep what a long test has to say of itself, in a line."""
        self._told.append(line)

    def take_statistics(self, text: str) -> None:
        """Count a property's inputs, as Hypothesis describes them."""
        self.add("inputs found by Hypothesis", sum(map(int, _STATISTICS.findall(text))))

    def hand_over(self) -> tuple[dict[str, int], list[str]]:
        """Give all that was counted and told, for `take_over` in another process."""
        return dict(self._counts), self._told

    def take_over(self, counts: dict[str, int], told: list[str]) -> None:
        """Add what was counted and told in another process."""
        self._counts.update(counts)
        self._told += told

    def lines(self) -> list[str]:
        """Give what was told, and all counts in a line; nothing if there is nothing."""
        done = sorted(+self._counts)
        counts = ", ".join(f"{self._counts[what]:,} {what}" for what in done)
        return [*self._told, f"counted: {counts}"] if counts else self._told
