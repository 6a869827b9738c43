"""How long the tests may take: the quick form of every change, or the long form of a soak.

`make test` runs the quick form. `make soak MINUTES=...` runs the tests of `SOAKED` in their long
form: more kills, more seeds, more examples, longer outages. What a test does more of, it says
itself: `pick(12, 60)`. conftest ends the run when the minutes are over, after the test that is
under way; so the tests that take a share of the minutes come first.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TypeVar

Amount = TypeVar("Amount")

minutes: float | None = None
"""Of a soak; None in the quick form. Set before anything is collected."""
SOAKED = (
    "tests/durability",
    "tests/journal",
    "tests/ledger/test_faults.py",
    "tests/ledger/test_properties.py",
    "tests/dialects/test_hostile.py",
    "tests/hostile",
    "tests/hostile",
    "tests/metrics/test_agreement.py",
    "tests/recorder",
    "tests/relay",
    "tests/shared_state/test_faults.py",
)


def main() -> None:
    """Run a soak: pytest takes this process' place."""
    parser = argparse.ArgumentParser(description="The long form of the tests.")
    parser.add_argument("minutes", type=float)
    parser.add_argument(
        "words", nargs=argparse.REMAINDER, help="of pytest's; paths in place of the usual ones"
    )
    chosen = parser.parse_args()
    paths = [] if any(word.startswith("tests") for word in chosen.words) else SOAKED
    words = ["-m", "pytest", "--soak", str(chosen.minutes), *chosen.words, *paths]
    os.execv(sys.executable, [sys.executable, *words])


def pick(quick: Amount, long: Amount) -> Amount:
    """Give the amount for the form that is being run."""
    return quick if minutes is None else long


def share(quick_seconds: float, part: float) -> float:
    """Give a duration, seconds: as it is, or a part (0 to 1) of a soak's minutes."""
    return quick_seconds if minutes is None else minutes * 60 * part


if __name__ == "__main__":
    main()
