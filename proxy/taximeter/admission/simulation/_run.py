"""The run: an event loop of virtual time around `Admission`, as a relay would drive it."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from taximeter.admission._admission import Admission
from taximeter.admission._attempts import Answer
from taximeter.admission._breaker import State
from taximeter.admission._retry import Again
from taximeter.admission._ticket import Ticket
from taximeter.admission._words import SECOND_NS, Effect, Go, Refuse, Request, Spent, Wait
from taximeter.admission.simulation._report import Report, UserReport
from taximeter.admission.simulation._scenario import Load, Scenario
from taximeter.admission.simulation._server import Job, ModelServer

WALL_NS = 1_800_000_000 * SECOND_NS
"""Wall time at the start of every run: a day in January 2027, eight in the morning, UTC."""


class _Call:
    """One call of a simulated user."""

    __slots__ = ("load", "output_tokens", "report")

    def __init__(self, load: Load, output_tokens: int, report: UserReport) -> None:
        self.load = load
        self.output_tokens = output_tokens
        self.report = report


class _Simulation:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.now_ns = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        # Streams of their own: a change of policy leaves arrivals and outputs as they were.
        seeds = random.Random(scenario.seed)
        self._arrivals = [random.Random(seeds.random()) for _ in scenario.loads]
        self.admission = Admission(scenario.policy, random.Random(seeds.random()).random)
        self.server = ModelServer(
            scenario.server, random.Random(seeds.random()), lambda: self.now_ns, self.later
        )
        self.report = Report(
            scenario.seconds - scenario.settle_seconds,
            scenario.seed,
            {load.user: UserReport() for load in scenario.loads},
        )
        self._calls: dict[Ticket, _Call] = {}
        self._ticks_at: int | None = None
        self._arrived = 0

    # The loop -----------------------------------------------------------------------------

    def later(self, wait_ns: int, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now_ns + wait_ns, self._count, what))

    def run(self) -> Report:
        scenario = self.scenario
        for load, chance in zip(scenario.loads, self._arrivals, strict=True):
            self._next_arrival(load, chance, load.from_second)
        for second in range(int(scenario.seconds)):
            self.later(second * SECOND_NS, self._observe)
        end_ns = int(scenario.seconds * SECOND_NS)
        while self._events and self._events[0][0] < end_ns:
            self.now_ns, _, what = heapq.heappop(self._events)
            what()
            self._set_tick()
        self.report.breaker_opened = sum(
            breaker.moves[State.OPEN] for breaker in self.admission.breakers().values()
        )
        self.report.server_refusals = self.server.refusals
        return self.report

    @property
    def wall_ns(self) -> int:
        return WALL_NS + self.now_ns

    @property
    def _counts(self) -> bool:
        return self.now_ns >= self.scenario.settle_seconds * SECOND_NS

    def _set_tick(self) -> None:
        wake_ns = self.admission.wake_ns()
        if wake_ns is None or (self._ticks_at is not None and self._ticks_at <= wake_ns):
            return
        self._ticks_at = max(wake_ns, self.now_ns)
        self.later(self._ticks_at - self.now_ns, self._tick)

    def _tick(self) -> None:
        if self._ticks_at is not None and self._ticks_at <= self.now_ns:
            self._ticks_at = None
        self._carry_out(self.admission.tick(self.now_ns, self.wall_ns))

    def _observe(self) -> None:
        second = self.now_ns / SECOND_NS
        report = self.report
        gates = list(self.admission.gates().values())
        report.in_flight.append((second, sum(gate.in_flight for gate in gates)))
        report.waiting.append((second, sum(self.admission.waiting().values())))
        found = [gate.adaptive.limit for gate in gates if gate.adaptive is not None]
        if found:
            report.limits.append((second, sum(found)))

    # Calls --------------------------------------------------------------------------------

    def _next_arrival(self, load: Load, chance: random.Random, after_second: float = 0.0) -> None:
        gap = 1 / load.calls_per_second
        if not load.evenly:
            gap = chance.expovariate(load.calls_per_second)
        at_ns = self.now_ns + int((after_second + gap) * SECOND_NS)
        if at_ns < load.until_second * SECOND_NS and self._arrived < self.scenario.calls_max:
            self._arrived += 1
            self.later(at_ns - self.now_ns, lambda: self._arrive(load, chance))

    def _arrive(self, load: Load, chance: random.Random) -> None:
        scenario = self.scenario
        output = max(1, int(chance.gauss(1.0, load.output_spread) * load.output_tokens))
        if load.output_tokens_max is not None:
            output = min(output, load.output_tokens_max)
        self._next_arrival(load, chance)
        call = _Call(load, output, self.report.users[load.user])
        call.report.calls += self._counts
        patience = load.patience_seconds
        verdict = self.admission.arrive(
            Request(
                upstream=scenario.upstream,
                model=load.model,
                user=load.user,
                team=load.team,
                credential=load.credential,
                input_tokens=load.input_tokens,
                output_tokens_max=load.output_tokens_max,
                input_pico=scenario.input_pico,
                output_pico=scenario.output_pico,
                wait_ns_max=None if patience is None else int(patience * SECOND_NS),
            ),
            self.now_ns,
            self.wall_ns,
        )
        if isinstance(verdict, Refuse):
            self._refused(call, verdict)
            return
        self._calls[verdict.ticket] = call
        if isinstance(verdict, Go):
            self._go(verdict)
        elif isinstance(verdict, Wait) and verdict.pushed_out is not None:
            self._carry_out([verdict.pushed_out])

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Go):
                self._go(effect)
            else:
                assert effect.ticket is not None
                self._refused(self._calls.pop(effect.ticket), effect)

    def _refused(self, call: _Call, refuse: Refuse) -> None:
        if self._counts:
            call.report.refused[refuse.reason] += 1
            call.report.refusal_seconds.append(refuse.waited_ns / SECOND_NS)

    def _go(self, go: Go) -> None:
        call = self._calls[go.ticket]
        if go.output_tokens_max is not None:
            call.output_tokens = min(call.output_tokens, go.output_tokens_max)
        if self._counts:
            call.report.wait_seconds.append(go.waited_ns / SECOND_NS)
        self._attempt(go.ticket, call)

    def _attempt(self, ticket: Ticket, call: _Call) -> None:
        self.report.attempts += 1
        self.report.arrivals_by_second[self.now_ns // SECOND_NS] += 1
        job = Job(
            call.output_tokens,
            lambda status, headers: self._head(ticket, call, status, headers),
            lambda: self._ended(ticket, call),
        )
        self.server.submit(job)

    def _head(
        self, ticket: Ticket, call: _Call, status: int | None, headers: dict[str, str]
    ) -> None:
        answer = Answer(status=status, headers=headers, sent=status is not None)
        heard = self.admission.heard(ticket, answer, self.now_ns, self.wall_ns)
        self._carry_out(heard.effects)
        if status == 200:
            return
        if heard.again is not None:
            self.later(heard.again.wait_ns, lambda: self._again(ticket, call))
        else:
            self._fail(ticket, call)

    def _again(self, ticket: Ticket, call: _Call) -> None:
        resumed = self.admission.resume(ticket, self.now_ns)
        if isinstance(resumed, Again):
            self.later(resumed.wait_ns, lambda: self._again(ticket, call))
        elif resumed:
            self.report.retries += 1
            self._attempt(ticket, call)
        else:
            self._fail(ticket, call)

    def _fail(self, ticket: Ticket, call: _Call) -> None:
        call.report.failed += self._counts
        self._settle(ticket, Spent(tokens=0, output_tokens=None, pico=0))

    def _ended(self, ticket: Ticket, call: _Call) -> None:
        scenario, load = self.scenario, call.load
        tokens = load.input_tokens + call.output_tokens
        pico = None
        if scenario.input_pico is not None and scenario.output_pico is not None:
            pico = (
                load.input_tokens * scenario.input_pico + call.output_tokens * scenario.output_pico
            )
        if self._counts:
            call.report.completed += 1
            call.report.tokens += tokens
            call.report.spent_pico += pico or 0
        self._settle(ticket, Spent(tokens=tokens, output_tokens=call.output_tokens, pico=pico))

    def _settle(self, ticket: Ticket, spent: Spent) -> None:
        del self._calls[ticket]
        self._carry_out(self.admission.settle(ticket, spent, self.now_ns))


def simulate(scenario: Scenario) -> Report:
    """Run a scenario. The same scenario gives the same report."""
    return _Simulation(scenario).run()
