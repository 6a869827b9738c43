"""Where counts are kept: the interface, and the one that keeps them in this process.

A store holds three kinds of counts, all named by the keys of a `Plan`: rates (`_rate`), slots
(calls under way) and purses (`_budget`). It is asked in whole steps, each of which does all of it
or nothing, so that each can be one script and one round trip elsewhere:

    admit    at a call's arrival: reserve its budgets and, if `passing`, take its limits too
    take     for a call that waits: take its limits
    settle   at its end: give slots and reservations back, correct rates, book what was spent
    charge   for a further attempt: one more request, as a debt

A store that is not in this process says `PENDING` to `admit` and `take`, asks in one batch for all
that were asked of it meanwhile, and hands each answer to `Admission.answered`: the need that it was
asked with is the ticket. It answers within a deadline whatever happens: when it hears nothing it
takes the answer from a `MemoryStore` with this process' share of the limits. It keeps what memory
need not: a slot is a lease that ends by itself when its holder has died; a `Short` for want of a
slot states a wait after which to ask again, for other processes' calls end unseen; `need.marks` are
filled in as the script gives them.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from taximeter.admission._budget import NOTHING, Book, Hold, Over
from taximeter.admission._need import Need, Short
from taximeter.admission._plan import Plan
from taximeter.admission._rate import Rates
from taximeter.admission._words import Spent


@dataclass(frozen=True, slots=True)
class Held:
    """What a call holds that goes from one upstream to another, and gives back when it is there."""

    slots: frozenset[str] = frozenset()
    """Their keys."""
    hold: Hold = NOTHING


@dataclass(slots=True)
class Admitted:
    """A call whose budgets are reserved."""

    hold: Hold
    taken: bool
    """Whether it has its limits' leave, too."""
    short: Short | None = None
    """What stood in the way, if it was tried and has not."""


class Pending(Enum):
    """The answer comes later."""

    PENDING = "pending"


PENDING: Final = Pending.PENDING


class Store(Protocol):
    """Keeps counts. See the top of this module."""

    def admit(
        self,
        plan: Plan,
        need: Need,
        worst_tokens: int,
        worst_pico: int | None,
        passing: bool,
        now_ns: int,
        wall_ns: int,
        moving: Held | None = None,
    ) -> Admitted | Over | Pending:
        """Reserve budgets; then, if `passing`, take limits.

        `moving`: see `Request.moving`. Such a call cannot wait for an answer: never `PENDING`.
        """
        ...

    def take(self, plan: Plan, need: Need, now_ns: int) -> Short | Pending | None:
        """Take all limits of a plan, or none and say which stood in the way."""
        ...

    def settle(
        self, plan: Plan, need: Need, hold: Hold, spent: Spent, taken: bool, now_ns: int
    ) -> None:
        """Give everything back that a call had, and book what it spent."""
        ...

    def charge(self, plan: Plan, now_ns: int) -> None:
        """Count one more request against the rates of a call under way."""
        ...

    def sweep(self, now_ns: int, wall_ns: int) -> int:
        """Forget what is the same as if it had never been; give how many that were."""
        ...


class MemoryStore:
    """Counts in this process. Nothing here fails or waits."""

    def __init__(self, book: Book | None = None) -> None:
        self.book = Book() if book is None else book
        self.rates = Rates()
        self._in_use: dict[str, int] = {}

    def __len__(self) -> int:
        """Give the number of rates and slots in use."""
        return len(self.rates) + len(self._in_use)

    def admit(
        self,
        plan: Plan,
        need: Need,
        worst_tokens: int,
        worst_pico: int | None,
        passing: bool,
        now_ns: int,
        wall_ns: int,
        moving: Held | None = None,
    ) -> Admitted | Over:
        """Reserve budgets; then, if `passing`, take limits."""
        hold = NOTHING
        if plan.purses:
            if moving is not None:
                self.book.put_by(moving.hold)
            found = self.book.reserve(plan.purses, worst_tokens, worst_pico, now_ns, wall_ns)
            if moving is not None:
                self.book.put_back(moving.hold)
            if isinstance(found, Over):
                return found
            hold = found
        if not passing:
            return Admitted(hold, False)
        short = self.take(plan, need, now_ns, () if moving is None else moving.slots)
        return Admitted(hold, short is None, short)

    def take(self, plan: Plan, need: Need, now_ns: int, held: Container[str] = ()) -> Short | None:
        """Take all limits of a plan, or none and say which stood in the way.

        `held` are keys of slots that the call gives back as soon as it has these.
        """
        in_use = self._in_use
        for slot in plan.slots:
            count = in_use.get(slot.key, 0)
            if count >= slot.limit and (count > slot.limit or slot.key not in held):
                return Short(slot.key, slot.name, slot.own, None, never=not slot.limit)
        short = self.rates.take(plan.rates, need, now_ns)
        if short is None:
            for slot in plan.slots:
                in_use[slot.key] = in_use.get(slot.key, 0) + 1
        return short

    def settle(
        self, plan: Plan, need: Need, hold: Hold, spent: Spent, taken: bool, now_ns: int
    ) -> None:
        """Give everything back that a call had, and book what it spent."""
        sent = spent.sent and taken
        tokens = spent.tokens if sent else 0
        if hold.parts:
            self.book.settle(hold, tokens, spent.pico if sent else 0)
        if taken:
            self.give_back(plan, need, tokens, 1 if sent else 0, now_ns)

    def give_back(
        self, plan: Plan, need: Need, tokens: int | None, requests: int, now_ns: int
    ) -> None:
        """Give back what `take` took: slots, and of rates what was not used (see `Rates`)."""
        self.rates.settle(plan.rates, need, tokens, requests, now_ns)
        in_use = self._in_use
        for slot in plan.slots:
            count = in_use[slot.key] - 1
            if count:
                in_use[slot.key] = count
            else:
                del in_use[slot.key]

    def charge(self, plan: Plan, now_ns: int) -> None:
        """Count one more request against the rates of a call under way."""
        self.rates.charge(plan.rates, now_ns)

    def in_use(self, key: str) -> int:
        """Give how many slots of a key are taken."""
        return self._in_use.get(key, 0)

    def sweep(self, now_ns: int, wall_ns: int) -> int:
        """Forget rates that are full again and budgets whose windows are over."""
        return self.rates.sweep(now_ns) + self.book.sweep(now_ns, wall_ns)
