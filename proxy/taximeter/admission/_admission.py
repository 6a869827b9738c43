"""Admission: may this call go upstream now, must it wait, or is it refused?

A call's way, as whoever relays it drives it:

    arrive   -> Go, Wait or Refuse. Budgets are reserved, limits are taken or the call waits
    heard    each attempt's answer (or that there was none): go on, or try again after a wait
    resume   when that wait is over and the attempt begins
    settle   at the last byte, or wherever it ended: with what it came to
    straight the same for a call that nothing keeps (`_straight`)
    leave    the client went away while the call waited
    answered what a store that is not in this process has said of a call
    tick     when `wake_ns` has come: waits that are over, deadlines that have passed

Every method decides and returns what must be done: calls that may go now and calls that must be
refused come out as effects, in order. Nothing here waits, does I/O, or knows what time it is.

What it promises. A call that was let go holds its slots until `settle`, to the last byte (O7),
and also while it waits for another attempt: a busy upstream is not given a new call meanwhile.
Whatever a ticket holds is given back exactly once, however it ends: `settle` and `leave` of an
ended ticket do nothing. A call that cannot make its deadline, by what is known of the queue's
pace, is refused when it arrives and not when it is too late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from taximeter.admission._attempts import Answer, Attempts
from taximeter.admission._breaker import CircuitBreaker
from taximeter.admission._budget import NOTHING, Over
from taximeter.admission._door import Gate
from taximeter.admission._entrance import Entrance, hand_back
from taximeter.admission._model import Policy
from taximeter.admission._need import Short
from taximeter.admission._plan import Plan, resolve
from taximeter.admission._pressure import Level, Pressure
from taximeter.admission._retry import Again, Stop
from taximeter.admission._routes import Pool, Routes
from taximeter.admission._store import Admitted, MemoryStore, Store
from taximeter.admission._straight import StraightWay
from taximeter.admission._ticket import Step, Ticket
from taximeter.admission._words import (
    SECOND_NS,
    Counters,
    Effect,
    Place,
    Reason,
    Refuse,
    Request,
    Spent,
    Verdict,
)

PLANS_MAX = 10_000
"""Plans kept made. One that is gone is made again in some 20 us."""
SWEEP_NS = 10 * SECOND_NS


@dataclass(slots=True)
class Heard:
    """What an answer leads to."""

    again: Again | None = None
    """Try again after this wait (then call `resume`). None: pass the answer on."""
    stop: Stop | None = None
    """Why a failure is final."""
    effects: list[Effect] = field(default_factory=list)


class Admission:
    """The state of admission in one process."""

    def __init__(
        self,
        policy: Policy,
        uniform: Callable[[], float],
        store: Store | None = None,
    ) -> None:
        """Begin with nothing under way. `uniform` gives random numbers from [0, 1)."""
        self.store: Store = MemoryStore() if store is None else store
        self.counters = Counters()
        self.pressure = Pressure()
        self._routes = Routes(uniform)
        self._entrance = Entrance(self._routes, self.store, self.counters, self.pressure)
        self._attempts = Attempts(self._routes, self.store, self.counters, uniform)
        self.straight = StraightWay(
            self._routes, self.store, self.counters, self.pressure, self._attempts
        )
        """The way of a call that nothing keeps."""
        self._swept_ns = 0
        self.apply(policy)

    def apply(self, policy: Policy) -> None:
        """Go by another policy. Calls let in or waiting go on under the one they came with."""
        self.policy = policy

        @lru_cache(maxsize=PLANS_MAX)
        def plan(
            upstream: str,
            model: str,
            user: str,
            team: str,
            key: str,
            tier: str,
            is_claimed: bool,
            credential: str,
        ) -> Plan:
            return resolve(
                policy,
                Request(
                    upstream=upstream,
                    model=model,
                    user=user,
                    team=team,
                    key=key,
                    tier=tier,
                    is_claimed=is_claimed,
                    credential=credential,
                    input_tokens=0,
                ),
            )

        self.plan: Callable[[str, str, str, str, str, str, bool, str], Plan] = plan
        """Finds what stands over a call, by eight words of its `Request`, in that order."""
        self._routes.apply(policy.upstreams)

    # A call comes -------------------------------------------------------------------------

    def arrive(self, request: Request, now_ns: int, wall_ns: int) -> Verdict:
        """Decide about a call that has come."""
        plan = self.plan(
            request.upstream,
            request.model,
            request.user,
            request.team,
            request.key,
            request.tier,
            request.is_claimed,
            request.credential,
        )
        if self.pressure.level is Level.CLOSED:
            return self._refuse(Reason.OVERLOADED, wait_ns=SECOND_NS, by=self.pressure.worst)
        tier = plan.tier
        if tier.input_tokens_max is not None and request.input_tokens > tier.input_tokens_max:
            return self._refuse(Reason.INPUT_TOO_LONG, by="tier.input_tokens_max")
        output, top, clamped = request.output_tokens_max, tier.output_tokens_max, None
        if top is not None and (output is None or output > top):
            if output is not None and tier.output_over == "refuse":
                return self._refuse(Reason.OUTPUT_TOO_LONG, by="tier.output_tokens_max")
            output = clamped = top

        route = self._routes.routes.get(plan.route_key)
        if route is None:
            route = self._routes.make_route(plan, request.model, request.credential, now_ns)
        guess = route.guess.tokens
        if output is None:
            output = guess
        tokens = request.input_tokens + output
        pico = None
        if plan.priced and request.input_pico is not None and request.output_pico is not None:
            pico = request.input_tokens * request.input_pico + output * request.output_pico
        queue = route.pool.queue
        period: int | None = 0
        if route.breaker is not None:
            period = route.breaker.try_pass(now_ns)
            if period is None:
                return self._refuse(Reason.BREAKER_OPEN, wait_ns=route.breaker.wait_ns(now_ns))

        ticket = Ticket(
            plan,
            route,
            request.input_tokens,
            tokens,
            request.input_tokens + (output if output < guess else guess),
            now_ns,
        )
        ticket.output_tokens_max = clamped
        ticket.unpriced = plan.priced and pico is None
        # Whoever waits goes first; else this call may go at once.
        short = None if queue.waiting else route.door.short(tokens, now_ns)
        passing = short is None and not queue.waiting
        moving = request.moving
        found = self.store.admit(plan, ticket, tokens, pico, passing, now_ns, wall_ns, moving)
        if isinstance(found, Over):
            hand_back(route, period)
            return self._entrance.over(ticket, found, now_ns)
        self._attempts.arrived(ticket, now_ns)
        if isinstance(found, Admitted):
            ticket.hold = found.hold
            ticket.taken = found.taken
            if found.taken:
                return self._entrance.let_go(ticket, period, now_ns)
            short = short or found.short
        else:
            ticket.asking = True
        hand_back(route, period)
        if moving is not None:
            return self._entrance.turn_back(ticket, now_ns)
        return self._entrance.line_up(ticket, request.wait_ns_max, short, now_ns)

    def answered(
        self, ticket: Ticket, found: Admitted | Over | Short | None, now_ns: int
    ) -> list[Effect]:
        """Take in what a store that said `PENDING` has to say: once for each time it did."""
        return self._entrance.answered(ticket, found, now_ns) if ticket.asking else []

    # Its answer ---------------------------------------------------------------------------

    def heard(self, ticket: Ticket, answer: Answer, now_ns: int, wall_ns: int) -> Heard:
        """Take in how an attempt came out. Once for each attempt, at its head or its failure."""
        found = self._attempts.heard(ticket, answer, now_ns, wall_ns)
        if found is None:
            return Heard()
        if isinstance(found, Again):
            return Heard(again=found)
        if isinstance(found, Stop):
            return Heard(stop=found)
        return Heard(effects=self._entrance.pump(found, now_ns))

    def resume(self, ticket: Ticket, now_ns: int) -> bool | Again:
        """Begin another attempt; False if the breaker has opened and there must be none.

        `Again`: not yet, for as many are at the upstream as it can take; ask again after that wait.
        """
        return self._attempts.resume(ticket, now_ns)

    # Its end ------------------------------------------------------------------------------

    def settle(self, ticket: Ticket, spent: Spent, now_ns: int) -> list[Effect]:
        """Take in that a call which was let go has ended, to its last byte, and how."""
        if ticket.step is not Step.GOING:
            return []
        ticket.step = Step.ENDED
        self.counters.settled += 1
        route, plan = ticket.route, ticket.plan
        if ticket.period is not None:
            hand_back(route, ticket.period)
            ticket.period = None
        else:
            route.door.gate.heard -= 1
        self._attempts.back(ticket)
        route.door.leave()
        if spent.output_tokens is not None:
            route.guess.learn(spent.output_tokens)
        if ticket.queued and spent.tokens is not None:
            route.pool.queue.correct(plan.user, ticket.fair_cost, spent.tokens)
        hold, ticket.hold = ticket.hold, NOTHING
        ticket.taken = False
        self.store.settle(plan, ticket, hold, spent, True, now_ns)
        return self._entrance.pump(ticket.keys, now_ns) if self._routes.crowd.waiting else []

    def leave(self, ticket: Ticket, now_ns: int) -> list[Effect]:
        """Take out a call that waits and need not any longer: its client is gone."""
        if ticket.step is not Step.WAITING:
            return []
        self.counters.left += 1
        return self._entrance.leave(ticket, now_ns)

    def tick(self, now_ns: int, wall_ns: int) -> list[Effect]:
        """Do what has become due."""
        effects: list[Effect] = []
        for pool in tuple(self._routes.pools.values()):
            queue = pool.queue
            if not queue.waiting:
                continue
            keys = queue.due(now_ns)
            for waiter, key in queue.expired(now_ns):
                assert isinstance(waiter, Ticket)
                effects.append(self._entrance.drop(waiter, Reason.WAITED_IN_VAIN, now_ns))
                keys.append(key)
            if keys:
                self._entrance.pump_pool(pool, keys, now_ns, effects)
        effects += self._entrance.pump(self._routes.reopened(now_ns), now_ns)
        if now_ns - self._swept_ns >= SWEEP_NS:
            self._swept_ns = now_ns
            self.store.sweep(now_ns, wall_ns)
            self._routes.users.sweep(now_ns)
        return effects

    def wake_ns(self) -> int | None:
        """Give the time at which `tick` has something to do; None while nothing waits."""
        if self._entrance.freed:
            return 0
        times = [pool.queue.wake_ns() for pool in self._routes.pools.values()]
        return min((time for time in times if time is not None), default=None)

    # Asking -------------------------------------------------------------------------------

    def place(self, ticket: Ticket) -> Place | None:
        """Give where a waiting call stands; None when it does not wait. Looks at all: O(n)."""
        if ticket.lane is None:
            return None
        pool = ticket.route.pool
        position, tokens = pool.queue.position(ticket)
        return Place(position, pool.pace.wait_ns(tokens), ticket.deadline_ns)

    def waiting(self) -> dict[str, int]:
        """Give the calls waiting, by upstream."""
        return {name: pool.queue.waiting for name, pool in self._routes.pools.items()}

    def pools(self) -> Mapping[str, Pool]:
        """Give the upstreams' queues and retry budgets, by name; for looking at."""
        return self._routes.pools

    def breakers(self) -> dict[tuple[str, str], CircuitBreaker]:
        """Give the breakers, by upstream and model."""
        return self._routes.breakers()

    def gates(self) -> dict[tuple[str, str], Gate]:
        """Give the gates (calls under way, limit found), by upstream and credential."""
        return self._routes.gates()

    def overflowed(self) -> dict[str, int]:
        """Give how often a name had to share the entry of others, by the table that was full."""
        routes = self._routes
        return {"routes": routes.routes.overflowed, "users": routes.users.overflowed}

    def read_pressure(self, readings: Mapping[str, float], now_ns: int) -> Level:
        """Take in how short this process is of what it needs (`_pressure`)."""
        return self.pressure.read(readings, now_ns)

    # Helpers ------------------------------------------------------------------------------

    def _refuse(self, reason: Reason, *, wait_ns: int | None = None, by: str = "") -> Refuse:
        self.counters.refused[reason] += 1
        return Refuse(reason, None, wait_ns, by)
