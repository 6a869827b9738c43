"""The way in: who goes at once, who waits, and who is let go when something opens.

A call is tried against what may stand in its way in a fixed order: the breaker (open: refused),
its route's gate and door, the store's limits. What refuses it is a `Short`, and the call's lane is
parked on that one's key until it opens.

A store that is not in this process answers later (`PENDING`). The call then stands in line like
any other, its lane parked on a key of the lane's own, until `answered`: nobody else waits for it,
and its own user's calls keep their order.
"""

from __future__ import annotations

from collections.abc import Iterable

from taximeter.admission._budget import NOTHING, Over
from taximeter.admission._fair import GONE, Gone
from taximeter.admission._lanes import Waiter
from taximeter.admission._need import Short
from taximeter.admission._pressure import Level, Pressure
from taximeter.admission._routes import Pool, Route, Routes
from taximeter.admission._store import PENDING, Admitted, Store
from taximeter.admission._ticket import Step, Ticket
from taximeter.admission._words import (
    SECOND_NS,
    Counters,
    Effect,
    Go,
    Reason,
    Refuse,
    Spent,
    Verdict,
    Wait,
)

_CAUTION = 1.1
"""A call is let wait only if its estimated wait is within its deadline by this factor."""
_ASKING_NS = SECOND_NS // 10
"""What a call gets for being asked about, however short its wait: twice a usual deadline."""
_NEVER_SENT = Spent(sent=False)


class Entrance:
    """Lets calls in, by turns where there must be turns."""

    __slots__ = ("_counters", "_pressure", "_routes", "_store", "freed")

    def __init__(
        self, routes: Routes, store: Store, counters: Counters, pressure: Pressure
    ) -> None:
        self._routes = routes
        self._store = store
        self._counters = counters
        self._pressure = pressure
        self.freed: set[str] = set()
        """Keys of what was given back by calls that had their limits' leave (from a store
        elsewhere) and were refused while they waited for their route: opened by the next `pump`."""

    def line_up(
        self, ticket: Ticket, wait_ns_max: int | None, short: Short | None, now_ns: int
    ) -> Verdict:
        """Let a call wait that cannot go at once, unless that would be in vain."""
        plan, pool = ticket.plan, ticket.route.pool
        if short is not None and short.never:
            return self.drop(ticket, Reason.NEVER_FITS, now_ns, by=short.name)
        longest_ns = int(pool.config.queue.wait_seconds_max * SECOND_NS)
        if wait_ns_max is not None:
            longest_ns = min(longest_ns, wait_ns_max)
        if not ticket.asking and (nowhere := self._nowhere_to_wait(ticket, short, now_ns)):
            return nowhere
        # Being asked about elsewhere is no waiting in line: where nobody waits, it has its moment.
        lasts_ns = longest_ns if not ticket.asking else max(longest_ns, _ASKING_NS)
        ticket.deadline_ns = now_ns + lasts_ns
        ticket.queued = True
        effects: list[Effect] = []
        out = pool.queue.put(
            ticket,
            plan.user,
            plan.tier.weight,
            plan.key,
            ticket.keys,
            plan.own_keys,
            lambda waiter: self._attempt(waiter, now_ns, effects),
            now_ns,
        )
        if out:
            return effects[0]
        if ticket.asking:
            return Wait(ticket, None, ticket.deadline_ns)
        wait_ns, by_own = self._estimate(ticket, short)
        # What its own limits make of it is certain; the pace of others is an estimate.
        if wait_ns is not None and wait_ns * (1.0 if by_own else _CAUTION) > longest_ns:
            pool.queue.remove(ticket)
            reason = Reason.LIMIT_EXCEEDED if by_own else Reason.DEADLINE_UNREACHABLE
            by = "" if short is None else short.name
            return self.drop(ticket, reason, now_ns, wait_ns=wait_ns, by=by)
        pushed_out: Refuse | None = None
        victim = pool.queue.victim()
        if victim is not None:
            assert isinstance(victim, Ticket)
            pool.queue.remove(victim)
            pushed_out = self.drop(victim, Reason.QUEUE_FULL, now_ns, wait_ns=wait_ns)
            if victim is ticket:
                return pushed_out
        self._counters.queued += 1
        return Wait(ticket, wait_ns, ticket.deadline_ns, pushed_out)

    def _nowhere_to_wait(self, ticket: Ticket, short: Short | None, now_ns: int) -> Refuse | None:
        """Refuse a call where nobody may wait: there is no queue, or no room to keep it in."""
        if ticket.route.pool.queue.size and self._pressure.level is Level.NORMAL:
            return None
        reason = Reason.LIMIT_EXCEEDED if short is not None and short.own else Reason.QUEUE_FULL
        wait_ns, by = (SECOND_NS, "") if short is None else (short.wait_ns, short.name)
        return self.drop(ticket, reason, now_ns, wait_ns=wait_ns, by=by)

    def _estimate(self, ticket: Ticket, short: Short | None) -> tuple[int | None, bool]:
        """Estimate the wait of a call just put in line, and whether its own limits make it."""
        plan, pool, lane = ticket.plan, ticket.route.pool, ticket.lane
        assert lane is not None
        if lane.parked_on in plan.own_keys:
            # Somebody of its own waits for a bucket that is empty: each call ahead takes its time.
            ahead = lane.flow.waiting - 1
            waits = [
                (lane.flow.cost_waiting - ticket.fair_cost if rate.of_tokens else ahead)
                * rate.period_ns
                // rate.limit
                for rate in plan.rates
                if rate.own
            ]
            least = short.wait_ns or 0 if short is not None and short.own else 0
            return max([least, *waits]), True
        service = pool.queue.service_ahead(lane.flow, ticket)
        wait_ns = pool.pace.wait_ns(service)
        if short is not None and short.wait_ns is not None:
            wait_ns = max(short.wait_ns, wait_ns or 0)
        return wait_ns, False

    def _attempt(self, waiter: Waiter, now_ns: int, effects: list[Effect]) -> Short | Gone | None:
        """Try to let a call go that waits; whatever comes of it is put into `effects`."""
        assert isinstance(waiter, Ticket)
        ticket, route = waiter, waiter.route
        if ticket.deadline_ns <= now_ns:
            effects.append(self.drop(ticket, Reason.WAITED_IN_VAIN, now_ns))
            return GONE
        if ticket.asking:
            return Short(ticket.plan.ask_key, "", True, None)
        period: int | None = 0
        if route.breaker is not None:
            period = route.breaker.try_pass(now_ns)
            if period is None:
                wait_ns = route.breaker.wait_ns(now_ns)
                effects.append(self.drop(ticket, Reason.BREAKER_OPEN, now_ns, wait_ns=wait_ns))
                return GONE
        short = route.door.short(ticket.tokens, now_ns)
        if short is None and not ticket.taken:
            short, ticket.told_short = ticket.told_short, None
            if short is None:
                found = self._store.take(ticket.plan, ticket, now_ns)
                if found is PENDING:
                    ticket.asking = True
                    short = Short(ticket.plan.ask_key, "", True, None)
                else:
                    assert found is None or isinstance(found, Short)
                    short = found
        if short is None:
            ticket.taken = True
            since_ns = route.pool.queue.contended_since_ns
            if since_ns is not None:
                route.pool.pace.went(ticket.fair_cost, since_ns, now_ns)
            effects.append(self.let_go(ticket, period, now_ns))
            return None
        hand_back(route, period)
        if short.never:
            effects.append(self.drop(ticket, Reason.NEVER_FITS, now_ns, by=short.name))
            return GONE
        if not ticket.asking and (nowhere := self._nowhere_to_wait(ticket, short, now_ns)):
            effects.append(nowhere)
            return GONE
        return short

    def answered(
        self, ticket: Ticket, found: Admitted | Over | Short | None, now_ns: int
    ) -> list[Effect]:
        """Take in what a store elsewhere says of a call: to `admit`, or to `take`."""
        effects: list[Effect] = []
        ticket.asking = False
        if isinstance(found, Admitted):
            ticket.hold, ticket.taken, ticket.told_short = found.hold, found.taken, found.short
        elif isinstance(found, Short):
            ticket.told_short = found
        elif found is None:
            ticket.taken = True
        if ticket.step is not Step.WAITING:
            # It is gone. Whatever came for it goes back, and to whoever waits for that.
            self._give_back(ticket, now_ns)
            return self.pump((), now_ns)
        if isinstance(found, Over):
            ticket.route.pool.queue.remove(ticket)
            effects.append(self.over(ticket, found, now_ns))
        return effects + self.pump((ticket.plan.ask_key,), now_ns)

    def pump(self, keys: Iterable[str], now_ns: int) -> list[Effect]:
        """Let go who may, now that these keys may have opened."""
        effects: list[Effect] = []
        opened = set(keys)
        while opened or self.freed:
            opened |= self.freed
            self.freed.clear()
            for pool in tuple(self._routes.pools.values()):
                if pool.queue.waiting:
                    self.pump_pool(pool, opened, now_ns, effects)
            opened.clear()
        return effects

    def pump_pool(
        self, pool: Pool, keys: Iterable[str], now_ns: int, effects: list[Effect]
    ) -> None:
        """Let go who may of one pool; whatever comes of it is put into `effects`."""
        pool.queue.pump(keys, lambda waiter: self._attempt(waiter, now_ns, effects), now_ns)

    def let_go(self, ticket: Ticket, period: int | None, now_ns: int) -> Go:
        """Let a call go that has all it needs."""
        ticket.step = Step.GOING
        ticket.period = period
        ticket.attempt_ns = now_ns
        door = ticket.route.door
        door.enter(ticket.tokens, now_ns)
        ticket.load = door.gate.in_flight - door.gate.away
        self._counters.admitted += 1
        return Go(
            ticket,
            now_ns - ticket.since_ns,
            ticket.output_tokens_max,
            ticket.hold.soft_over,
            ticket.unpriced,
        )

    def over(self, ticket: Ticket, found: Over, now_ns: int) -> Refuse:
        """Refuse a call that a budget has no room for."""
        reason = Reason.PRICE_UNKNOWN if found.unpriced else Reason.BUDGET_EXCEEDED
        return self.drop(ticket, reason, now_ns, wait_ns=found.resets_ns, by=found.purse.name)

    def drop(
        self,
        ticket: Ticket,
        reason: Reason,
        now_ns: int,
        *,
        wait_ns: int | None = None,
        by: str = "",
    ) -> Refuse:
        """Refuse a call, and give back what it holds."""
        ticket.step = Step.ENDED
        self._give_back(ticket, now_ns)
        self._counters.refused[reason] += 1
        return Refuse(reason, ticket, wait_ns, by, now_ns - ticket.since_ns)

    def turn_back(self, ticket: Ticket, now_ns: int) -> Refuse:
        """Send a call away that would have to wait here, and is to wait nowhere but where it was.

        It takes nobody's place in the queue, and is not counted: its client is not refused.
        """
        ticket.step = Step.ENDED
        self._give_back(ticket, now_ns)
        return Refuse(Reason.QUEUE_FULL, ticket)

    def leave(self, ticket: Ticket, now_ns: int) -> list[Effect]:
        """Take a call out of its line, and let go who waited behind it."""
        lane = ticket.lane
        keys: tuple[str, ...] = ()
        if lane is not None and lane.parked_on is not None:
            # Those behind it may fit where it did not.
            keys = (lane.parked_on,)
        ticket.route.pool.queue.remove(ticket)
        ticket.step = Step.ENDED
        self._give_back(ticket, now_ns)
        return self.pump(keys, now_ns)

    def _give_back(self, ticket: Ticket, now_ns: int) -> None:
        """Give back what a call holds that has not been let go."""
        hold, ticket.hold = ticket.hold, NOTHING
        taken, ticket.taken = ticket.taken, False
        if taken:
            self.freed.update(ticket.keys)
        if taken or hold.parts:
            self._store.settle(ticket.plan, ticket, hold, _NEVER_SENT, taken, now_ns)


def hand_back(route: Route, period: int | None) -> None:
    """Hand back a breaker's pass that led to nothing."""
    if route.breaker is not None and period is not None:
        route.breaker.cancelled(period)
