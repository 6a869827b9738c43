"""Budgets after a start: what was spent already, from the sums of the ledger.

The ledger knows what each user, team and key has spent in the present hour, day and month; which
budgets that counts against is the policy's to say. Sums are added up here for each purse (a team's
is spent by many users) and set in the book, before the first call.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from taximeter.admission._budget import Book
from taximeter.admission._model import Per, Policy
from taximeter.admission._plan import Purse, resolve
from taximeter.admission._words import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class SpentSoFar:
    """What calls of one user, team and key came to in the present window of a length."""

    per: Per
    user: str = ""
    team: str = ""
    key: str = ""
    tokens: int
    pico: int
    """Of calls with a price; those without one have cost nobody knows what, and count for none."""


def load_spent(book: Book, policy: Policy, sums: Iterable[SpentSoFar], wall_ns: int) -> None:
    """Set what every purse had spent in the windows around `wall_ns`."""
    totals: defaultdict[Purse, int] = defaultdict(int)
    for each in sums:
        request = Request(upstream="", user=each.user, team=each.team, key=each.key, input_tokens=0)
        for purse in resolve(policy, request).purses:
            if purse.per == each.per:
                totals[purse] += each.tokens if purse.of_tokens else each.pico
    for purse, spent in totals.items():
        book.load(purse.key, purse.name, purse.per, wall_ns, spent)
