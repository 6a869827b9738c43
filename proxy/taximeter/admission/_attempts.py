"""An attempt's answer: what it says of the upstream, and whether to try again.

Each answer goes to whoever learns from it: the breaker (faults of the upstream), the gate's limit
(refusals and latency), the door (waits asked for, what is left), the retry policy. An account
without money is nobody's load and nobody's fault: it goes to none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from taximeter.admission import _retry, _signals
from taximeter.admission._retry import NO_MONEY, Again, Failure, RetryBudget, Stop
from taximeter.admission._routes import Routes
from taximeter.admission._store import Store
from taximeter.admission._ticket import Step, Ticket
from taximeter.admission._words import SECOND_NS, Counters

_OVERLOAD = frozenset({429, 503, 529})
"""Answers that say: too many at once."""

RESUME_SECONDS = 0.05
"""Wait of a further attempt for a place at the upstream, and the same again at random."""


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


class Attempts:
    """What is learned from attempts, and what is decided about the next."""

    __slots__ = ("_counters", "_routes", "_store", "_uniform")

    def __init__(
        self, routes: Routes, store: Store, counters: Counters, uniform: Callable[[], float]
    ) -> None:
        self._routes = routes
        self._store = store
        self._counters = counters
        self._uniform = uniform

    def heard(
        self, ticket: Ticket, answer: Answer, now_ns: int, wall_ns: int
    ) -> Again | Stop | tuple[str, ...] | None:
        """Take in how an attempt came out.

        Gives what to do about a failure; after a good answer, the keys that may let more pass
        now, or None.
        """
        if ticket.step is not Step.GOING or ticket.period is None:
            return None
        route, status = ticket.route, answer.status
        period, ticket.period = ticket.period, None
        route.door.gate.heard += 1
        started_ns = ticket.attempt_ns
        if answer.headers and route.pool.config.heeds:
            told = _signals.told(answer.headers, wall_ns)
            if told:
                route.door.told(told, now_ns)
        if status is None or status >= 400:
            return self._failed(ticket, answer, period, now_ns, wall_ns)
        if route.breaker is not None:
            route.breaker.succeeded(period, now_ns)
        gate, more = route.door.gate, route.door.answered(started_ns, now_ns)
        if gate.adaptive is not None:
            more |= gate.adaptive.answered(started_ns, now_ns, gate.in_flight, ticket.load)
            more |= not gate.awaiting
        return (gate.key, route.door.key) if more else None

    def _failed(
        self, ticket: Ticket, answer: Answer, period: int, now_ns: int, wall_ns: int
    ) -> Again | Stop:
        route, status = ticket.route, answer.status
        breaker, gate = route.breaker, route.door.gate
        retry_after_ns = _signals.retry_after_ns(answer.headers, wall_ns)
        no_money = answer.code in NO_MONEY
        if status in _OVERLOAD and not no_money:
            if gate.adaptive is not None:
                gate.adaptive.refused(ticket.attempt_ns, now_ns, gate.in_flight, ticket.load)
            # Without a time to wait for, a limit that is found needs no hold: it has been cut.
            hold = retry_after_ns is not None or (status == 429 and gate.adaptive is None)
            hold = hold and route.pool.config.heeds
            if hold and route.door.refused(ticket.attempt_ns, retry_after_ns, now_ns):
                self._counters.held += 1
                route.pool.held += 1
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
            (self.budget_of(ticket, now_ns), route.pool.retries),
            now_ns,
            self._uniform,
        )
        if isinstance(decision, Again):
            self._counters.retried += 1
            ticket.away = True
            gate.away += 1
        elif decision in route.pool.retries_refused:
            self._counters.retry_refused += 1
            route.pool.retries_refused[decision] += 1
        return decision

    def resume(self, ticket: Ticket, now_ns: int) -> bool | Again:
        """Begin another attempt; False if the breaker has opened and there must be none.

        `Again`: as many are at the upstream as it can take by what is known now. It kept its turn,
        and not its place; it asks again after that wait.
        """
        if ticket.step is not Step.GOING:
            return False
        route = ticket.route
        adaptive, gate = route.door.gate.adaptive, route.door.gate
        if adaptive is not None and gate.in_flight - gate.away >= adaptive.limit:
            config = route.pool.config
            if now_ns - ticket.since_ns < config.queue.wait_seconds_max * SECOND_NS:
                return Again(int(RESUME_SECONDS * SECOND_NS * (1 + self._uniform())))
        breaker = route.breaker
        period: int | None = 0 if breaker is None else breaker.try_pass(now_ns)
        if period is None:
            return False
        self.back(ticket)
        ticket.load = gate.in_flight - gate.away
        ticket.period = period
        gate.heard -= 1
        ticket.attempts += 1
        ticket.attempt_ns = now_ns
        self._store.charge(ticket.plan, now_ns)
        return True

    def back(self, ticket: Ticket) -> None:
        """Note that a call is between two attempts no longer: it tries again, or has ended."""
        if ticket.away:
            ticket.away = False
            ticket.route.door.gate.away -= 1

    def arrived(self, ticket: Ticket, now_ns: int) -> None:
        """Put what one call brings into the retry budgets over it."""
        pool = ticket.route.pool
        pool.retries.left_micro += pool.ratio_micro
        self.budget_of(ticket, now_ns).left_micro += pool.ratio_micro

    def budget_of(self, ticket: Ticket, now_ns: int) -> RetryBudget:
        """Give the retry budget of a call's user."""
        user = ticket.plan.user
        budget = self._routes.users.get(user)
        if budget is None:
            floor = ticket.route.pool.config.retry.budget_floor
            budget = self._routes.make_retries(user, floor, now_ns)
        return budget
