"""The budgets that are most used, for whoever watches: found a part at a time.

There may be a budget for each of a hundred thousand users, and whoever looks has an event loop to
get back to. So each look takes the budgets that were shown before and the next part of the rest,
and keeps those with the largest share used. With fewer budgets than one part, that is all of them.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from taximeter.admission._budget import Book
from taximeter.admission._plan import Purse

SHOWN_MAX = 100
"""Budgets shown: a screen or two, and a bound on what strangers' names can take up."""
PART = 300
"""Budgets looked at beside those, each time: with them, some 1 ms."""


@dataclass(frozen=True, slots=True)
class Used:
    """What is used of one budget in the window that runs, in pico-dollars or tokens."""

    purse: Purse
    spent: int
    reserved: int
    ends_ns: int
    """Time until the window is over."""
    refused: int
    """Calls that it had no room for, since it was first met."""

    @property
    def share(self) -> float:
        """Share used, with what is reserved. A budget of 0 is all used."""
        return (self.spent + self.reserved) / self.purse.limit if self.purse.limit else 1.0


class PurseWatch:
    """Looks at budgets."""

    def __init__(self, shown_max: int = SHOWN_MAX, part: int = PART) -> None:
        self._shown_max = shown_max
        self._part = part
        self._shown: list[str] = []
        self._ahead: list[str] = []
        """Keys that this round has not come to."""

    def look(self, book: Book, now_ns: int, wall_ns: int) -> list[Used]:
        """Give the budgets with the largest share used, of those looked at so far."""
        if not self._ahead:
            self._ahead = book.keys()
        part, self._ahead = self._ahead[: self._part], self._ahead[self._part :]
        found: list[Used] = []
        for key in dict.fromkeys((*self._shown, *part)):
            account = book.account(key)
            purse = None if account is None else account.purse
            if account is not None and purse is not None:
                standing = book.standing(purse, now_ns, wall_ns)
                ends_ns = book.ends_ns(purse.per, now_ns, wall_ns)
                used = Used(purse, standing.spent, standing.reserved, ends_ns, account.refused)
                found.append(used)
        most = heapq.nlargest(self._shown_max, found, key=lambda used: used.share)
        self._shown = [used.purse.key for used in most]
        return most
