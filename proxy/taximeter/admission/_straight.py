"""The straight way: a call that nothing keeps goes in, is answered well, and goes out.

Nearly every call meets nothing. No limit is reached, nobody waits before it, the breaker is closed,
and its one attempt has a good answer. For such a call `arrive`, `heard` and `settle` come down to
counting up and counting down again, and this does just that: the same counts, in two steps (`enter`
and `leave`), or in three where the answer takes its time (`enter`, `hear` and `end`). It decides
nothing by itself. Where anything at all is to be decided (a budget, a bound on length, a queue, a
door that is shut, a store elsewhere) `enter` gives None and has taken nothing, and the call arrives
as any other. A ticket from here is a ticket like any other, too: an attempt that came out in
another way is told to `heard`, and its call to `settle`. So is one that ends while calls wait: who
goes when its answer is there, and who when its place is, is decided there.

A test takes calls both ways and holds every count of one against the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taximeter.admission._budget import NOTHING
from taximeter.admission._pressure import Level
from taximeter.admission._store import MemoryStore
from taximeter.admission._ticket import Step, Ticket

if TYPE_CHECKING:
    from taximeter.admission._attempts import Attempts
    from taximeter.admission._plan import Plan
    from taximeter.admission._pressure import Pressure
    from taximeter.admission._routes import Routes
    from taximeter.admission._store import Store
    from taximeter.admission._words import Counters

# Taken out of their classes once: to look into an Enum is a call of its own.
_PRESSURE_CLOSED, _GOING, _ENDED = Level.CLOSED, Step.GOING, Step.ENDED


class StraightWay:
    """Takes calls in and out that nothing keeps."""

    __slots__ = ("_attempts", "_counters", "_crowd", "_pressure", "_routes", "_store", "_users")

    def __init__(
        self,
        routes: Routes,
        store: Store,
        counters: Counters,
        pressure: Pressure,
        attempts: Attempts,
    ) -> None:
        # A store elsewhere has to be asked, and asking is waiting: there no route is straight.
        self._store = store if isinstance(store, MemoryStore) else None
        self._routes = {} if self._store is None else routes.routes
        self._crowd = routes.crowd
        self._users = routes.users
        self._counters = counters
        self._pressure = pressure
        self._attempts = attempts

    def enter(
        self, plan: Plan, input_tokens: int, output_tokens_max: int | None, now_ns: int
    ) -> Ticket | None:
        """Let a call go at once; None if anything is to be decided about it.

        The arguments are those of a `Request`.
        """
        route = self._routes.get(plan.route_key)
        if route is None or not plan.straight or self._pressure.level is _PRESSURE_CLOSED:
            return None
        pool = route.pool
        if pool.queue.waiting:
            return None
        breaker, period = route.breaker, 0
        if breaker is not None:
            if breaker.free_pass is None:
                return None
            period = breaker.free_pass
        guess = route.guess.tokens
        tokens = fair_cost = input_tokens + guess
        if output_tokens_max is not None:
            tokens = input_tokens + output_tokens_max
            if output_tokens_max < guess:
                fair_cost = tokens
        door = route.door
        gate = door.gate
        adaptive, in_flight = gate.adaptive, gate.in_flight
        if adaptive is not None and in_flight >= adaptive.limit:
            return None  # Whether the limit is to be stretched (see `Gate`) is asked once a call.
        if not door.quiet and door.short(tokens, now_ns) is not None:
            return None
        ticket = Ticket(plan, route, input_tokens, tokens, fair_cost, now_ns)
        if plan.keys:
            store = self._store
            if store is None or store.take(plan, ticket, now_ns) is not None:
                return None
        retries = self._users.get(plan.user) or self._attempts.budget_of(ticket, now_ns)
        gate.in_flight = in_flight = in_flight + 1
        door.in_flight += 1
        if not door.quiet:
            door.charge(tokens, now_ns)
        ticket.taken = True
        ticket.step = _GOING
        ticket.attempt_ns = now_ns
        ticket.load = in_flight - gate.away
        ticket.period = period
        retries.left_micro += pool.ratio_micro
        pool.retries.left_micro += pool.ratio_micro
        self._counters.admitted += 1
        return ticket

    def hear(self, ticket: Ticket, now_ns: int) -> bool:
        """Take in that an attempt has a good answer, which says nothing of the upstream's limits.

        Gives False, and has done nothing, while calls wait, or if it has been told of already: tell
        `heard`.
        """
        period = ticket.period
        if period is None or self._crowd.waiting:
            return False
        ticket.period = None
        ticket.route.door.gate.heard += 1
        _take_in(ticket, period, now_ns)
        return True

    def end(
        self, ticket: Ticket, tokens: int | None, output_tokens: int | None, now_ns: int
    ) -> bool:
        """Take in that a call has ended whose good answer has been told of: by whichever way.

        Gives False, and has done nothing, while calls wait, or where more is to be done than to
        count: tell `settle`. The arguments are those of `leave`.
        """
        if (
            ticket.step is not _GOING
            or ticket.period is not None
            or ticket.away
            or ticket.queued
            or ticket.hold is not NOTHING
            or self._crowd.waiting
        ):
            return False
        store, route, plan = self._store, ticket.route, ticket.plan
        if store is None:
            return False
        door = route.door
        gate = door.gate
        ticket.step, ticket.taken = _ENDED, False
        self._counters.settled += 1
        gate.heard -= 1
        door.in_flight -= 1
        gate.in_flight -= 1
        if output_tokens is not None:
            route.guess.learn(output_tokens)
        if plan.keys:
            store.give_back(plan, ticket, tokens, 1, now_ns)
        return True

    def leave(
        self,
        ticket: Ticket,
        tokens: int | None,
        output_tokens: int | None,
        answered_ns: int,
        now_ns: int,
    ) -> bool:
        """Take in that a call that came in by `enter` had a good answer, and has ended.

        Gives False, and has done nothing, while calls wait, or if it has been told of already: tell
        `heard` and `settle`, as for any other.

        Args:
            ticket: what `enter` gave.
            tokens: input and output together; None is unknown, and what was reserved is kept.
            output_tokens: those of its output, where they are known.
            answered_ns: when its answer's head was there, monotonic.
            now_ns: monotonic.
        """
        period = ticket.period
        if period is None or self._crowd.waiting:
            return False
        _take_in(ticket, period, answered_ns)
        route, plan = ticket.route, ticket.plan
        door = route.door
        if output_tokens is not None:
            route.guess.learn(output_tokens)
        # Up to here a fault of ours leaves a ticket that `settle` still gives back.
        ticket.period, ticket.step, ticket.taken = None, _ENDED, False
        self._counters.settled += 1
        door.in_flight -= 1
        door.gate.in_flight -= 1
        if plan.keys and self._store is not None:
            self._store.give_back(plan, ticket, tokens, 1, now_ns)
        return True


def _take_in(ticket: Ticket, period: int, answered_ns: int) -> None:
    """Tell a good answer to those who learn of it: the breaker, the door, the adaptive limit."""
    route, started_ns = ticket.route, ticket.attempt_ns
    door, breaker = route.door, route.breaker
    gate = door.gate
    adaptive = gate.adaptive
    if breaker is not None:
        breaker.succeeded(period, answered_ns)
    if not door.quiet:
        door.answered(started_ns, answered_ns)
    if adaptive is not None:
        adaptive.answered(started_ns, answered_ns, gate.in_flight, ticket.load)
