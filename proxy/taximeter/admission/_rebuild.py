"""Budgets after a start: what was spent already, from the sums of the ledger.

The ledger knows what each user, team and key has spent in the present hour, day and month; which
budgets that counts against is the policy's to say. Sums are added up here for each purse (a team's
is spent by many users) and set in the book. That may be done again: a sum that has grown takes the
place of the one before, and what this process has booked itself stays as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from taximeter.admission._budget import Book
from taximeter.admission._model import Budget, Per, Policy
from taximeter.admission._plan import Purse, resolve
from taximeter.admission._words import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class SpentSoFar:
    """What calls of one user, team and key came to in the present window of a length."""

    per: Per
    user: str = ""
    team: str = ""
    key: str = ""
    tier: str = ""
    """The key's own; '' if it has none."""
    is_claimed: bool = False
    """The user is one that the key's holder names, and the key does not."""
    tokens: int
    pico: int
    """Of calls with a price; those without one have cost nobody knows what, and count for none."""


def load_spent(
    book: Book,
    policy: Policy,
    sums: Iterable[SpentSoFar],
    wall_ns: int,
    wanted: Callable[[str], bool] = lambda key: True,
) -> None:
    """Set what every purse had spent in the windows around `wall_ns`.

    Args:
        book: where.
        policy: says whose sums count for which purse.
        sums: what the ledger has.
        wall_ns: what was spent up to then.
        wanted: tells by a purse's key whether it is to be set.
    """
    totals: defaultdict[Purse, int] = defaultdict(int)
    for each in sums:
        request = Request(
            upstream="",
            user=each.user,
            team=each.team,
            key=each.key,
            tier=each.tier,
            is_claimed=each.is_claimed,
            input_tokens=0,
        )
        for purse in resolve(policy, request).purses:
            if purse.per == each.per and wanted(purse.key):
                totals[purse] += each.tokens if purse.of_tokens else each.pico
    for purse, spent in totals.items():
        book.load(purse.key, purse.name, purse.per, wall_ns, spent)


def budget_periods(policy: Policy) -> frozenset[Per]:
    """Give the lengths of the windows that some budget counts by; none without budgets."""
    found: set[Per] = set()

    def look(budgets: Iterable[Budget]) -> None:
        found.update(each.per for each in budgets)

    for tier in policy.tiers.values():
        look((*tier.budgets, *tier.budgets_shared))
    for user in policy.users.values():
        if user.terms is not None:
            look(user.terms.budgets)
    for holders in (policy.teams, policy.keys):
        for name in holders:
            look(holders.get(name, ()))
    return frozenset(found)
