"""Counts shared through Redis: the store, without the line to it.

Every decision about a call is asked of Redis and comes back through `tell`; while the line is down
each is made at once by this process' share (`_local`). What is asked and not yet sent waits in
a queue, in order. The line takes it from there in batches and says what came of each step:

    next_steps  -> what to send now, in order
    done        an answer has come
    down        none will: asks are decided here, what was spent is owed
    owed_steps  -> what to send when there may be a line again; then `up`

Three things must survive a line that breaks in the middle, when nobody knows what was done:

    what is held     is stated anew (`_holdings`), and lapses by itself
    what was spent   is booked under a number, and sent again until it is answered (`_bookings`)
    rates            are not put right: a refund that is lost errs on the limit's side, and so
                     does a call that was counted there and then decided here

No step is undone in the queue.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taximeter.admission import (
    PENDING,
    Admitted,
    Book,
    CircuitBreaker,
    Held,
    Hold,
    Need,
    Over,
    Pending,
    Plan,
    Purse,
    Short,
    Spent,
    Standing,
    Ticket,
)
from taximeter.admission._budget import Window
from taximeter.shared_state._bookings import Bookings
from taximeter.shared_state._holdings import Holdings
from taximeter.shared_state._local import Local
from taximeter.shared_state._steps import (
    AMOUNT_MAX,
    Ask,
    Opened,
    Settle,
    Step,
    opened,
    raises,
    unused_us,
    window_key,
)
from taximeter.shared_state._tight import Tight

QUEUE_STEPS_MAX = 20_000
"""Steps that wait to be sent. Beyond it, calls are decided here."""
SECOND_NS = 1_000_000_000


@dataclass(slots=True)
class SharedStats:
    """How it goes with the shared counts. Counts are since the start."""

    is_local: bool = True
    """Whether calls are decided by this process' share now."""
    outages: int = 0
    """How often Redis stopped answering in time."""
    steps: int = 0
    """Steps that Redis has answered."""
    round_trips: int = 0
    decided_locally: int = 0
    """Calls that were decided by this process' share."""
    bookings_lost: int = 0
    """Bookings that Redis never got: too many were owed, or it was gone at the end."""
    tight: int = 0
    """Times that a full limit was not asked for again, being known to be full."""


class RedisStore:
    """Keeps counts in Redis, for as many workers and machines as there are."""

    def __init__(self, share: float, *, wake: Callable[[], None] = lambda: None) -> None:
        """Begin without a line. `share`: the part of each limit to go by without one."""
        self.me = secrets.token_hex(8)
        """What Redis knows this worker by."""
        self.stats = SharedStats()
        self.wake = wake
        """Called when there is something to send."""
        self.came_up: Callable[[], None] = lambda: None
        """Called when there is a line that was not there before."""
        self.tell: Callable[[Ticket, Admitted | Over | Short | None], None] = _nobody_told
        self.breakers: Callable[[], Mapping[tuple[str, str], CircuitBreaker]] = dict
        self.book = Book()
        """Budgets as Redis told of them last, for whoever watches: nothing is decided by it. While
        there is no line, its figures stand still but for calls that were let go before."""
        self._local = Local(share)
        self._queue: deque[Step] = deque()
        self._tight = Tight()
        self._taken: dict[Need, Need | None] = {}
        """Calls that have their limits' leave: what they took here, None for what they took of
        Redis."""
        self._holdings = Holdings()
        self._bookings = Bookings()

    # -- what admission asks ----------------------------------------------------------------

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

        A call that is `moving` is decided by this process' share: it has no time to be asked about.
        """
        if not (plan.purses or plan.rates or plan.slots):
            return Admitted(Hold([]), passing)
        ask = Ask(plan, need, worst_tokens, worst_pico, passing, True, now_ns, wall_ns)
        if moving is not None:
            decided = self._decide(ask, now_ns, moving.slots)
            assert isinstance(decided, Admitted | Over)
            if isinstance(decided, Admitted) and not self.stats.is_local:
                # Before what it had is given back: of either, Redis never knows too little.
                self._holdings.took_untold(plan, decided)
                self.wake()
            return decided
        if passing and not self.stats.is_local:
            ask.short = self._tight.may_ask(plan, now_ns)
            if ask.short is not None:
                self.stats.tight += 1
                ask.passing = False
        if not plan.purses and not ask.passing:
            return Admitted(Hold([]), False, ask.short)
        if self._cannot_ask:
            found = self._decide(ask, now_ns)
            assert isinstance(found, Admitted | Over)
            return found
        self._enqueue(ask)
        return PENDING

    def take(self, plan: Plan, need: Need, now_ns: int) -> Short | Pending | None:
        """Take all limits of a plan, or none and say which stood in the way."""
        if not (plan.rates or plan.slots):
            return None
        ask = Ask(plan, need, 0, None, True, False, now_ns, 0)
        if self._cannot_ask:
            found = self._decide(ask, now_ns)
            assert found is None or isinstance(found, Short)
            return found
        short = self._tight.may_ask(plan, now_ns)
        if short is not None:
            self.stats.tight += 1
            return short
        self._enqueue(ask)
        return PENDING

    def settle(
        self, plan: Plan, need: Need, hold: Hold, spent: Spent, taken: bool, now_ns: int
    ) -> None:
        """Give everything back that a call had, and book what it spent."""
        is_spent = spent.sent and taken
        windows = []
        for purse, window, reserved in hold.parts:
            true = (spent.tokens if purse.of_tokens else spent.pico) if is_spent else 0
            key = window_key(purse, window.start_ns // SECOND_NS)
            booked = reserved if true is None else true
            windows.append((key, min(reserved, AMOUNT_MAX), min(booked, AMOUNT_MAX)))
            window.settle(reserved, booked)  # whoever let it go: `book`, or this process' share
        hold.parts = []
        rates: list[tuple[str, int, int, int]] = []
        slots: list[str] = []
        if taken and need in self._taken:
            slots = [slot.key for slot in plan.slots]
            here = self._taken.pop(need)
            if here is not None:
                self._local.settle_rates(plan, here, spent, now_ns)
            else:
                tokens, requests = (spent.tokens, 1) if is_spent else (0, 0)
                for rate, mark, made in zip(
                    plan.rates, need.marks[::2], need.marks[1::2], strict=True
                ):
                    unused = unused_us(rate, need, tokens, requests)
                    if unused:
                        rates.append((rate.key, unused, mark, made))
        if windows or slots or rates:
            self._tight.freed(slots)
            self._send(Settle(windows, slots, rates))

    def charge(self, plan: Plan, now_ns: int) -> None:
        """Count one more request against the rates of a call under way."""
        if self._cannot_ask:
            self._local.charge(plan, now_ns)
            return
        owed = [
            (rate.key, -(rate.one_ns // 1000), 0, 0)
            for rate in plan.rates
            if not rate.of_tokens and rate.limit
        ]
        if owed:
            self._send(Settle([], [], owed))

    def raise_spent(self, standings: Iterable[Standing]) -> None:
        """Have Redis know of what was spent at least; without a line, nothing is done."""
        if self.stats.is_local:
            return
        sums = (
            (f"{each.key}:{each.start_ns // SECOND_NS}", each.spent)
            for each in standings
            if each.spent > 0
        )
        for step in raises(sums):
            self._enqueue(step)

    def sweep(self, now_ns: int, wall_ns: int) -> int:
        """Forget what is the same as if it had never been."""
        self._tight.sweep(now_ns)
        return self._local.sweep(now_ns, wall_ns) + self.book.sweep(now_ns, wall_ns)

    def in_use(self, key: str) -> int:
        """Give how many slots of a key calls of this worker hold."""
        return self._holdings.in_use.get(key, 0)

    @property
    def has_work(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._queue) or self._holdings.has_untold

    @property
    def asked_ns(self) -> int | None:
        """When the first of those that wait for an answer asked."""
        return next((step.asked_ns for step in self._queue if isinstance(step, Ask)), None)

    @property
    def _cannot_ask(self) -> bool:
        return self.stats.is_local or len(self._queue) >= QUEUE_STEPS_MAX

    def _enqueue(self, step: Step) -> None:
        self._queue.append(step)
        if len(self._queue) == 1:
            self.wake()

    def _send(self, step: Settle) -> None:
        if self.stats.is_local:
            self._failed(step, 0)
        else:
            self._enqueue(step)

    # -- what the line says -----------------------------------------------------------------

    def next_steps(self, most: int) -> list[Step]:
        """Give what is to be sent now: each goes to `done` or `down` before there is more."""
        steps = self._holdings.untold()
        while self._queue and len(steps) < most:
            step = self._queue.popleft()
            if isinstance(step, Settle):
                self._bookings.number(step)
            steps.append(step)
        return steps

    def owed_steps(self) -> list[Step]:
        """Give the bookings that must be sent before there is a line again. While they are on
        their way more may come: ask until there are none.
        """
        return self._bookings.steps()

    def beats(self) -> list[Step]:
        """State what is held here."""
        return self._holdings.beats()

    def opened(self, now_ns: int) -> list[Step]:
        """Tell of the breakers here."""
        return list(opened(self.breakers(), now_ns))

    def up(self) -> None:
        """Go by Redis from now on. What is held here is the first that it is told."""
        self.stats.is_local = False
        self._queue.extend(self.beats())
        self.renewed()

    def renewed(self) -> None:
        """Redis may be another than before: say again all that it should know."""
        self.came_up()

    def down(self, sent: Iterable[Step], now_ns: int) -> None:
        """Go by this process' share from now on, and decide about all who wait for an answer.

        `sent` are steps on their way that no answer has come to.
        """
        if not self.stats.is_local:
            self.stats.is_local = True
            self.stats.outages += 1
        self._tight.clear()
        self._holdings.untold()  # `up` tells all
        for step in sent:
            if isinstance(step, Ask):
                self._holdings.doubt(step)
            self._failed(step, now_ns)
        while self._queue:
            self._failed(self._queue.popleft(), now_ns)

    def done(self, step: Step, answer: Sequence[Any], now_ns: int) -> None:
        """Take in an answer."""
        self.stats.steps += 1
        if isinstance(step, Settle):
            self._holdings.gave_back(step)
        elif isinstance(step, Ask):
            self._tell(step, self._read(step, answer, now_ns))
        elif isinstance(step, Opened):
            step.take_in(answer, now_ns)

    def _failed(self, step: Step, now_ns: int) -> None:
        if isinstance(step, Settle):
            self._holdings.gave_back(step)
            self._holdings.doubt(step)
            self.stats.bookings_lost += self._bookings.keep(step)
        elif isinstance(step, Ask):
            self._tell(step, self._decide(step, now_ns))

    def lose_bookings(self) -> None:
        """Count what is owed as lost: this is the end."""
        self.stats.bookings_lost += len(self._bookings)

    def _tell(self, ask: Ask, found: Admitted | Over | Short | None) -> None:
        ticket = ask.need
        assert isinstance(ticket, Ticket)
        self.tell(ticket, found)

    def _decide(
        self, ask: Ask, now_ns: int, held: Container[str] = ()
    ) -> Admitted | Over | Short | None:
        self.stats.decided_locally += 1
        decided = self._local.decide(ask, self._holdings.in_use, now_ns, held)
        if decided.taken is not None:
            self._took(ask, decided.taken)
        if isinstance(decided.found, Admitted):
            self._holdings.reserved(decided.found.hold)
        elif isinstance(decided.found, Over):
            self.book.refused(decided.found.purse)
        return decided.found

    def _read(self, ask: Ask, answer: Sequence[Any], now_ns: int) -> Admitted | Over | Short | None:
        if answer[0]:
            over = ask.over(answer)
            if not over.unpriced:
                self._hear(over.purse, *answer[3:])
            self.book.refused(over.purse)
            return over
        _, starts, spents, soft, taken = answer
        short = ask.short_of(taken)
        if short is not None:
            self._tight.found(short, now_ns)
        elif taken:
            ask.need.marks = [int(each) for each in taken[1:]]
            self._took(ask, None)
            self._tight.passed(ask.plan)
        if not ask.is_admit:
            return short
        parts = []
        for purse, start, spent in zip(ask.plan.purses, starts, spents, strict=False):
            window, amount = self._hear(purse, start, spent), ask.amount(purse) or 0
            window.hold(amount)
            parts.append((purse, window, amount))
        hold = Hold(parts, tuple(ask.plan.purses[each - 1].name for each in soft))
        self._holdings.reserved(hold)
        return Admitted(hold, bool(taken) and short is None, short or ask.short)

    def _hear(self, purse: Purse, start: int, spent: bytes) -> Window:
        """Take in what all workers have spent of a purse: where its window begins, and the sum."""
        self._local.heard(purse, start, int(spent))
        return self.book.hear(purse, start * SECOND_NS, int(spent))

    def _took(self, ask: Ask, here: Need | None) -> None:
        self._taken[ask.need] = here
        self._holdings.took_slots(ask.plan)


def _nobody_told(ticket: Ticket, found: Admitted | Over | Short | None) -> None:
    raise RuntimeError("the store was asked before anybody was there to be told")
