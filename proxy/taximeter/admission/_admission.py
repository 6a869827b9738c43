"""Admission: may this call go upstream now, must it wait, or is it refused?

A call's way, as whoever relays it drives it:

    arrive   -> Go, Wait or Refuse. Budgets are reserved, limits are taken or the call waits
    heard    each attempt's answer (or that there was none): go on, or try again after a wait
    resume   when that wait is over and the attempt begins
    settle   at the last byte, or wherever it ended: with what it came to
    leave    the client went away while the call waited
    tick     when `wake_ns` has come: waits that are over, deadlines that have passed

Every method decides and returns what must be done: calls that may go now and calls that must be
refused come out as effects, in order. Nothing here waits, does I/O, or knows what time it is.

What it promises. A call that was let go holds its slots until `settle`, to the last byte (O7).
Whatever a ticket holds is given back exactly once, however it ends: `settle` and `leave` of an
ended ticket do nothing. A call that cannot make its deadline, by what is known of the queue's
pace, is refused when it arrives and not when it is too late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from taximeter.admission import _retry, _signals
from taximeter.admission._breaker import CircuitBreaker
from taximeter.admission._budget import NOTHING, Hold, Over
from taximeter.admission._door import Gate
from taximeter.admission._fair import GONE, Gone, Waiter
from taximeter.admission._model import Policy
from taximeter.admission._need import Need, Short
from taximeter.admission._plan import Plan, resolve
from taximeter.admission._pressure import Level, Pressure
from taximeter.admission._retry import NO_MONEY, Again, Failure, Stop
from taximeter.admission._routes import Pool, Route, Routes
from taximeter.admission._store import MemoryStore, Store
from taximeter.admission._ticket import Step, Ticket
from taximeter.admission._words import (
    SECOND_NS,
    Counters,
    Effect,
    Go,
    Place,
    Reason,
    Refuse,
    Request,
    Spent,
    Verdict,
    Wait,
)

PLANS_MAX = 10_000
"""Plans kept made. One that is gone is made again in some 20 us."""
SWEEP_NS = 10 * SECOND_NS
_OVERLOAD = frozenset({429, 503, 529})
"""Answers that say: too many at once."""
_CAUTION = 1.1
"""A call is let wait only if its estimated wait is within its deadline by this factor."""
_NEVER_SENT = Spent(sent=False)


@dataclass(slots=True, kw_only=True)
class Answer:
    """How an attempt came out: the head of an answer, or that there was none."""

    status: int | None = None
    """None: no connection, no answer in time, a broken connection."""
    code: str | None = None
    """Error code from the body, where it was looked at."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    sent: bool = True
    """Whether the request was written."""
    passed_on: bool = False
    """Whether the client has seen anything."""
    replayable: bool = True
    """Whether the request's body is still whole."""


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
        self._uniform = uniform
        self._routes = Routes(uniform)
        self._swept_ns = 0
        self.apply(policy)

    def apply(self, policy: Policy) -> None:
        """Go by another policy. Calls let in or waiting go on under the one they came with."""
        self.policy = policy

        @lru_cache(maxsize=PLANS_MAX)
        def plan(
            upstream: str, model: str, user: str, team: str, key: str, credential: str
        ) -> Plan:
            return resolve(
                policy,
                Request(
                    upstream=upstream,
                    model=model,
                    user=user,
                    team=team,
                    key=key,
                    credential=credential,
                    input_tokens=0,
                ),
            )

        self._plan = plan
        for name, pool in self._routes.pools.items():
            if (config := policy.upstreams.get(name)) is not None:
                pool.set(config)

    # A call comes -------------------------------------------------------------------------

    def arrive(self, request: Request, now_ns: int, wall_ns: int) -> Verdict:
        """Decide about a call that has come."""
        plan = self._plan(
            request.upstream,
            request.model,
            request.user,
            request.team,
            request.key,
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

        route = self._routes.route(plan, request.model, request.credential, now_ns)
        guess = route.guess.tokens
        if output is None:
            output = guess
        tokens = request.input_tokens + output
        pico = None
        if plan.priced and request.input_pico is not None and request.output_pico is not None:
            pico = request.input_tokens * request.input_pico + output * request.output_pico
        need = Need(request.input_tokens, tokens)
        queue = route.pool.queue
        period: int | None = 0
        if route.breaker is not None:
            period = route.breaker.try_pass(now_ns)
            if period is None:
                return self._refuse(Reason.BREAKER_OPEN, wait_ns=route.breaker.wait_ns(now_ns))

        # Whoever waits goes first; else this call may go at once.
        short = None if queue.waiting else route.door.short(tokens, now_ns)
        passing = short is None and not queue.waiting
        found = self.store.admit(plan, need, tokens, pico, passing, now_ns, wall_ns)
        if isinstance(found, Over):
            self._hand_back(route, period)
            reason = Reason.PRICE_UNKNOWN if found.unpriced else Reason.BUDGET_EXCEEDED
            return self._refuse(reason, wait_ns=found.resets_ns, by=found.purse.name)
        hold, store_short = found
        fair_cost = request.input_tokens + min(output, guess)
        ticket = Ticket(plan, route, need, hold, fair_cost, now_ns)
        ticket.output_tokens_max = clamped
        ticket.unpriced = plan.priced and pico is None
        route.pool.retries.called(route.pool.ratio_micro)
        self._retries_of(plan, now_ns).called(route.pool.ratio_micro)
        if passing and store_short is None:
            return self._go(ticket, period, now_ns)
        self._hand_back(route, period)
        return self._line_up(ticket, request, short or store_short, now_ns)

    def _line_up(
        self, ticket: Ticket, request: Request, short: Short | None, now_ns: int
    ) -> Verdict:
        """Let a call wait that cannot go at once, unless that would be in vain."""
        plan, pool = ticket.plan, ticket.route.pool
        if short is not None and short.never:
            return self._drop(ticket, Reason.NEVER_FITS, now_ns, by=short.name)
        wait_ns_max = int(pool.config.queue.wait_seconds_max * SECOND_NS)
        if request.wait_ns_max is not None:
            wait_ns_max = min(wait_ns_max, request.wait_ns_max)
        if not pool.queue.size or self.pressure.level is not Level.NORMAL:
            reason = Reason.LIMIT_EXCEEDED if short is not None and short.own else Reason.QUEUE_FULL
            wait_ns = SECOND_NS if short is None else short.wait_ns
            return self._drop(ticket, reason, now_ns, wait_ns=wait_ns)
        ticket.deadline_ns = now_ns + wait_ns_max
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
        wait_ns, by_own = self._estimate(ticket, short)
        # What its own limits make of it is certain; the pace of others is an estimate.
        if wait_ns is not None and wait_ns * (1.0 if by_own else _CAUTION) > wait_ns_max:
            pool.queue.remove(ticket)
            reason = Reason.LIMIT_EXCEEDED if by_own else Reason.DEADLINE_UNREACHABLE
            by = "" if short is None else short.name
            return self._drop(ticket, reason, now_ns, wait_ns=wait_ns, by=by)
        pushed_out: Refuse | None = None
        victim = pool.queue.victim()
        if victim is not None:
            assert isinstance(victim, Ticket)
            pool.queue.remove(victim)
            pushed_out = self._drop(victim, Reason.QUEUE_FULL, now_ns, wait_ns=wait_ns)
            if victim is ticket:
                return pushed_out
        self.counters.queued += 1
        return Wait(ticket, wait_ns, ticket.deadline_ns, pushed_out)

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
            effects.append(self._drop(ticket, Reason.WAITED_IN_VAIN, now_ns))
            return GONE
        period: int | None = 0
        if route.breaker is not None:
            period = route.breaker.try_pass(now_ns)
            if period is None:
                wait_ns = route.breaker.wait_ns(now_ns)
                effects.append(self._drop(ticket, Reason.BREAKER_OPEN, now_ns, wait_ns=wait_ns))
                return GONE
        short = route.door.short(ticket.need.tokens, now_ns)
        if short is None:
            short = self.store.take(ticket.plan, ticket.need, now_ns)
        if short is None:
            since_ns = route.pool.queue.contended_since_ns
            if since_ns is not None:
                route.pool.pace.went(ticket.fair_cost, since_ns, now_ns)
            effects.append(self._go(ticket, period, now_ns))
            return None
        self._hand_back(route, period)
        if short.never:
            effects.append(self._drop(ticket, Reason.NEVER_FITS, now_ns, by=short.name))
            return GONE
        return short

    def _go(self, ticket: Ticket, period: int | None, now_ns: int) -> Go:
        ticket.step = Step.GOING
        ticket.period = period
        ticket.attempts = 1
        ticket.attempt_ns = now_ns
        ticket.route.door.enter(ticket.need.tokens, now_ns)
        self.counters.admitted += 1
        return Go(
            ticket,
            now_ns - ticket.since_ns,
            ticket.output_tokens_max,
            ticket.hold.soft_over,
            ticket.unpriced,
        )

    # Its answer ---------------------------------------------------------------------------

    def heard(self, ticket: Ticket, answer: Answer, now_ns: int, wall_ns: int) -> Heard:
        """Take in how an attempt came out. Once for each attempt, at its head or its failure."""
        if ticket.step is not Step.GOING or ticket.period is None:
            return Heard()
        route, status = ticket.route, answer.status
        period, ticket.period = ticket.period, None
        started_ns = ticket.attempt_ns
        told = _signals.told(answer.headers, wall_ns)
        if told:
            route.door.told(told, now_ns)
        if status is not None and status < 400:
            if route.breaker is not None:
                route.breaker.succeeded(period, now_ns)
            gate, more = route.door.gate, route.door.answered(started_ns, now_ns)
            if gate.adaptive is not None:
                more |= gate.adaptive.answered(started_ns, now_ns, gate.in_flight)
            if more and route.pool.queue.waiting:
                return Heard(effects=self._pump((gate.key, route.door.key), now_ns))
            return Heard()
        return self._failed(ticket, answer, period, now_ns, wall_ns)

    def _failed(
        self, ticket: Ticket, answer: Answer, period: int, now_ns: int, wall_ns: int
    ) -> Heard:
        route, status = ticket.route, answer.status
        breaker, gate = route.breaker, route.door.gate
        retry_after_ns = _signals.retry_after_ns(answer.headers, wall_ns)
        no_money = answer.code in NO_MONEY
        if status in _OVERLOAD and not no_money:
            if gate.adaptive is not None:
                gate.adaptive.refused(ticket.attempt_ns, now_ns, gate.in_flight)
            # Without a time to wait for, a limit that is found needs no hold: it has been cut.
            hold = retry_after_ns is not None or (status == 429 and gate.adaptive is None)
            if hold and route.door.refused(ticket.attempt_ns, retry_after_ns, now_ns):
                self.counters.held += 1
        if breaker is not None:
            if status is None or status >= 500:
                breaker.failed(period, now_ns)
            elif status == 429:
                breaker.cancelled(period)  # It is there, and says nothing of its health.
            else:
                breaker.succeeded(period, now_ns)
        failure = Failure(
            status=status,
            code=answer.code,
            sent=answer.sent,
            passed_on=answer.passed_on,
            replayable=answer.replayable,
            retry_after_ns=retry_after_ns,
            should_retry=_signals.should_retry(answer.headers),
        )
        decision = _retry.again(
            route.pool.config.retry,
            failure,
            ticket.attempts,
            (self._retries_of(ticket.plan, now_ns), route.pool.retries),
            now_ns,
            self._uniform,
        )
        if isinstance(decision, Again):
            self.counters.retried += 1
            return Heard(again=decision)
        if decision in (Stop.USER_BUDGET_SPENT, Stop.UPSTREAM_BUDGET_SPENT):
            self.counters.retry_refused += 1
        return Heard(stop=decision)

    def resume(self, ticket: Ticket, now_ns: int) -> bool:
        """Begin another attempt; False if the breaker has opened and there must be none."""
        if ticket.step is not Step.GOING:
            return False
        breaker = ticket.route.breaker
        period: int | None = 0 if breaker is None else breaker.try_pass(now_ns)
        if period is None:
            return False
        ticket.period = period
        ticket.attempts += 1
        ticket.attempt_ns = now_ns
        self.store.charge(ticket.plan, now_ns)
        return True

    # Its end ------------------------------------------------------------------------------

    def settle(self, ticket: Ticket, spent: Spent, now_ns: int) -> list[Effect]:
        """Take in that a call which was let go has ended, to its last byte, and how."""
        if ticket.step is not Step.GOING:
            return []
        ticket.step = Step.ENDED
        self.counters.settled += 1
        route, plan = ticket.route, ticket.plan
        if ticket.period is not None:
            self._hand_back(route, ticket.period)
            ticket.period = None
        route.door.leave()
        if spent.output_tokens is not None:
            route.guess.learn(spent.output_tokens)
        if ticket.queued and spent.tokens is not None:
            route.pool.queue.correct(plan.user, ticket.fair_cost, spent.tokens)
        self.store.settle(plan, ticket.need, ticket.hold, spent, True, now_ns)
        ticket.hold = NOTHING
        return self._pump(ticket.keys, now_ns) if self._anyone_waits() else []

    def leave(self, ticket: Ticket, now_ns: int) -> list[Effect]:
        """Take out a call that waits and need not any longer: its client is gone."""
        if ticket.step is not Step.WAITING:
            return []
        key = ticket.lane.parked_on if ticket.lane is not None else None
        ticket.route.pool.queue.remove(ticket)
        self._give_up(ticket, now_ns)
        self.counters.left += 1
        # Those behind it may fit where it did not.
        return self._pump((key,), now_ns) if key is not None else []

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
                effects.append(self._drop(waiter, Reason.WAITED_IN_VAIN, now_ns))
                keys.append(key)
            if keys:
                self._pump_pool(pool, keys, now_ns, effects)
        if now_ns - self._swept_ns >= SWEEP_NS:
            self._swept_ns = now_ns
            self.store.sweep(now_ns, wall_ns)
            self._routes.users.sweep(now_ns)
        return effects

    def wake_ns(self) -> int | None:
        """Give the time at which `tick` has something to do; None while nothing waits."""
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

    def breakers(self) -> dict[str, CircuitBreaker]:
        """Give the breakers, by key."""
        return self._routes.breakers()

    def gates(self) -> dict[str, Gate]:
        """Give the gates (calls under way, limit found), by key."""
        return self._routes.gates()

    def read_pressure(self, readings: Mapping[str, float], now_ns: int) -> Level:
        """Take in how short this process is of what it needs (`_pressure`)."""
        return self.pressure.read(readings, now_ns)

    # Helpers ------------------------------------------------------------------------------

    def _retries_of(self, plan: Plan, now_ns: int) -> _retry.RetryBudget:
        return self._routes.retries_of(plan.user, plan.upstream.retry.budget_floor, now_ns)

    def _anyone_waits(self) -> bool:
        return any(pool.queue.waiting for pool in self._routes.pools.values())

    def _pump(self, keys: Iterable[str], now_ns: int) -> list[Effect]:
        effects: list[Effect] = []
        keys = tuple(keys)
        for pool in tuple(self._routes.pools.values()):
            if pool.queue.waiting:
                self._pump_pool(pool, keys, now_ns, effects)
        return effects

    def _pump_pool(
        self, pool: Pool, keys: Iterable[str], now_ns: int, effects: list[Effect]
    ) -> None:
        pool.queue.pump(keys, lambda waiter: self._attempt(waiter, now_ns, effects), now_ns)

    def _hand_back(self, route: Route, period: int | None) -> None:
        if route.breaker is not None and period is not None:
            route.breaker.cancelled(period)

    def _give_up(self, ticket: Ticket, now_ns: int) -> None:
        """Give back what a call holds that has not been let go."""
        ticket.step = Step.ENDED
        if ticket.hold.parts:
            self.store.settle(ticket.plan, ticket.need, ticket.hold, _NEVER_SENT, False, now_ns)
            ticket.hold = Hold([])

    def _drop(
        self,
        ticket: Ticket,
        reason: Reason,
        now_ns: int,
        *,
        wait_ns: int | None = None,
        by: str = "",
    ) -> Refuse:
        """Refuse a call that has a ticket already."""
        self._give_up(ticket, now_ns)
        self.counters.refused[reason] += 1
        return Refuse(reason, ticket, wait_ns, by, now_ns - ticket.since_ns)

    def _refuse(self, reason: Reason, *, wait_ns: int | None = None, by: str = "") -> Refuse:
        self.counters.refused[reason] += 1
        return Refuse(reason, None, wait_ns, by)
