"""From booked calls to what they add to the series. Pure.

What must agree with the ledger (calls, tokens, money) is taken from the commit's own sums; what
only a single call can tell (how long, how it failed) from the entries. Calls of a batch that are
alike in all that labels are made of are gathered first, so that labels are made once a kind and
not once a call.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from taximeter.call import Attempt, Closed, Fact, Outcome, Stage
from taximeter.metrics import _booked as families
from taximeter.metrics._family import SECOND, Family
from taximeter.metrics._names import OTHER, Arriving
from taximeter.metrics._series import Deltas, Exemplar, Labels, add
from taximeter.metrics._sums import count_sums
from taximeter.metrics._words import (
    ADMISSION_REFUSALS,
    FINISHES,
    GEN_AI_PROVIDERS,
    OUR_ERRORS,
    THROTTLES,
    error_of,
    result_of,
    unpriced_reason,
)

if TYPE_CHECKING:
    from taximeter.ledger import Committed, Entry

BUDGET_STAGES = ("network", "queue", "first_token", "output_token", "settle")
_NETWORK, _QUEUE, _FIRST_TOKEN, _OUTPUT_TOKEN, _SETTLE = range(len(BUDGET_STAGES))
DECISIONS = ("at_once", "queued", "refused")
_BEFORE_FIRST_TOKEN = (
    Stage.RECEIVE,
    Stage.QUEUE,
    Stage.CONNECT,
    Stage.FIRST_BYTE,
    Stage.FIRST_TOKEN,
)
_DEFERRED = "deferred"
"""What stands for the price of a call whose answer is still to be fetched."""
_TRACE_ID = re.compile("[0-9a-f]{32}")
_CALL_ID = re.compile("[0-9a-f-]{36}")

_Examples = dict[int, tuple[Closed, int]]
"""By bucket, the last call that fell into it and its figure."""


class Rules(NamedTuple):
    """What of the configuration a tally needs."""

    servers: Mapping[str, tuple[str, str]]
    """Host and port of an upstream, by its name."""
    budget_ns: tuple[int, ...]
    """In the order of `BUDGET_STAGES`."""
    is_known: Callable[[str], bool]
    """Tells whether the configuration or the price table has a model by that name."""


class _Like:
    """Calls of a batch that have all their labels in common."""

    __slots__ = (
        "calls",
        "cost_bins",
        "cost_examples",
        "cost_pico",
        "duration_bins",
        "duration_examples",
        "first_chunk_bins",
        "first_token_bins",
        "first_token_examples",
        "gen_ai",
        "input_bins",
        "inter_token_bins",
        "model",
        "output_bins",
        "output_token_bins",
        "sample",
        "upstream",
    )

    def __init__(self, sample: Closed, model: Labels, gen_ai: Labels) -> None:
        self.sample = sample
        self.upstream = model[0]
        self.model = model
        self.gen_ai = gen_ai
        self.calls = 0
        self.cost_pico = 0
        self.duration_bins: list[int] | None = None
        self.first_chunk_bins: list[int] | None = None
        self.first_token_bins: list[int] | None = None
        self.inter_token_bins: list[int] | None = None
        self.output_token_bins: list[int] | None = None
        self.input_bins: list[int] | None = None
        self.output_bins: list[int] | None = None
        self.cost_bins: list[int] | None = None
        self.duration_examples: _Examples = {}
        self.first_token_examples: _Examples = {}
        self.cost_examples: _Examples = {}


class Tally:
    """What one batch adds."""

    def __init__(self, rules: Rules, arriving: Arriving) -> None:
        self.deltas = Deltas()
        self._rules = rules
        self._arriving = arriving
        self._alike: dict[tuple[object, ...], _Like] = {}
        self._stages: dict[str, dict[Stage, list[int]]] = {}
        self._throttled: dict[tuple[str, str], int] = {}
        self._admissions = self.deltas.counter(families.ADMISSIONS)
        self._attempts = self.deltas.counter(families.ATTEMPTS)
        self._connections = self.deltas.counter(families.UPSTREAM_CONNECTIONS)
        self._body_bytes = self.deltas.counter(families.BODY_BYTES)
        self._budgeted = self.deltas.counter(families.BUDGETED)
        self._over_budget = self.deltas.counter(families.OVER_BUDGET)
        self._facts = self.deltas.counter(families.FACTS)

    def add(self, entries: Sequence[Entry], committed: Committed) -> Deltas:
        """Count a commit: its entries are those that are new in the ledger."""
        for entry in entries:
            self._count(entry)
        for alike in self._alike.values():
            self._count_alike(alike)
        count_sums(self.deltas, self._arriving, committed)
        for (team, reason), calls in self._throttled.items():
            labels = (self._arriving.teams.label(team), reason)
            add(self.deltas.counter(families.THROTTLED), labels, calls)
        self._count_overflow()
        return self.deltas

    # -- call by call -------------------------------------------------------------------------

    def _count(self, entry: Entry) -> None:
        closed = entry.closed
        opened = closed.opened
        key = (
            opened.upstream,
            opened.provider,
            opened.model,
            closed.response_model,
            opened.operation,
            closed.outcome,
            closed.status,
            closed.error,
            closed.finish_reason,
            opened.stream,
        )
        alike = self._alike.get(key)
        if alike is None:
            alike = self._alike[key] = self._like(closed)
        alike.calls += 1
        upstream = alike.upstream
        fetched = False
        for fact in closed.facts:
            add(self._facts, (str(fact),), 1)
            fetched = fetched or fact == Fact.FETCHED
        self._count_admission(closed, upstream)
        if closed.stages:
            self._count_time(entry, alike)
        if closed.attempts:
            self._count_attempts(closed.attempts, closed.facts)
        if opened.client_retry:
            add(self.deltas.counter(families.CLIENT_RETRIES), (upstream,), 1)
        if closed.request_bytes:
            add(self._body_bytes, (upstream, "request"), closed.request_bytes)
        if closed.response_bytes:
            add(self._body_bytes, (upstream, "response"), closed.response_bytes)
        if fetched:
            return  # what it used and cost is another call's
        usage = entry.usage
        if usage is not None:
            self._count_tokens(usage.input_tokens, usage.output_tokens, alike)
        cost = entry.cost_pico
        if cost:
            alike.cost_pico += cost
            bins = alike.cost_bins
            if bins is None:
                bins = alike.cost_bins = self.deltas.histogram(families.CALL_COST, alike.model)
            place = bisect_left(families.CALL_COST.edges, cost)
            bins[place] += 1
            bins[-1] += cost
            alike.cost_examples[place] = (closed, cost)
        elif cost is None and entry.price != _DEFERRED:
            unpriced = self.deltas.counter(families.UNPRICED)
            add(unpriced, (*alike.model, unpriced_reason(entry.price)), 1)

    def _count_admission(self, closed: Closed, upstream: str) -> None:
        """Count what admission made of a call, and where else it went."""
        code = closed.error
        if closed.outcome is Outcome.REJECTED:
            reason = code if code in OUR_ERRORS else OTHER
            add(self.deltas.counter(families.REFUSED), (upstream, reason), 1)
            if code in ADMISSION_REFUSALS:
                add(self._admissions, (upstream, "refused"), 1)
            if code in THROTTLES:
                team = closed.opened.team or ""
                self._throttled[team, reason] = self._throttled.get((team, reason), 0) + 1
        elif closed.attempts:
            waited = closed.stages.get(Stage.QUEUE)
            add(self._admissions, (upstream, "queued" if waited else "at_once"), 1)
        meant_for = closed.opened.meant_for
        if meant_for is not None:
            result = "answered" if closed.outcome is Outcome.COMPLETED else "failed"
            add(self.deltas.counter(families.FALLBACKS), (meant_for, upstream, result), 1)

    def _like(self, closed: Closed) -> _Like:
        opened = closed.opened
        upstream, provider = opened.upstream or "", opened.provider or ""
        models = self._arriving.models
        status = closed.attempts[-1].status if closed.attempts else None
        answered = status is not None and status < 400

        def label(model: str) -> str:
            known = answered or self._rules.is_known(model)
            return models.arrive(model) if known else models.label(model)

        model = label(opened.model or closed.response_model or "")
        server = self._rules.servers.get(upstream, ("", ""))
        return _Like(
            closed,
            (upstream, provider, model),
            (
                opened.operation,
                GEN_AI_PROVIDERS.get(provider, provider),
                model,
                label(closed.response_model or ""),
                *server,
            ),
        )

    def _count_time(self, entry: Entry, alike: _Like) -> None:
        closed = entry.closed
        stages = closed.stages
        upstream = alike.upstream
        by_stage = self._stages.get(upstream)
        if by_stage is None:
            by_stage = self._stages[upstream] = {}
        edges = families.STAGE.edges
        for stage, nanoseconds in stages.items():
            bins = by_stage.get(stage)
            if bins is None:
                bins = by_stage[stage] = self.deltas.histogram(
                    families.STAGE, (upstream, str(stage))
                )
            bins[bisect_left(edges, nanoseconds)] += 1
            bins[-1] += nanoseconds
        get = stages.get
        settle = get(Stage.SETTLE)
        if settle is not None:
            bins = self.deltas.histogram(families.OVERHEAD, (upstream,))
            overhead = settle + get(Stage.RECEIVE, 0)
            bins[bisect_left(families.OVERHEAD.edges, overhead)] += 1
            bins[-1] += overhead
            self._hold(upstream, _SETTLE, settle)
        if Stage.QUEUE in stages:
            self._hold(upstream, _QUEUE, stages[Stage.QUEUE])
        if Stage.CONNECT in stages:
            self._hold(upstream, _NETWORK, stages[Stage.CONNECT] + get(Stage.RECEIVE, 0))
        if closed.attempts:
            duration = sum(stages.values())
            bins = alike.duration_bins
            if bins is None:
                labels = (*alike.gen_ai, error_of(closed)[0])
                bins = alike.duration_bins = self.deltas.histogram(families.DURATION, labels)
            place = bisect_left(families.DURATION.edges, duration)
            bins[place] += 1
            bins[-1] += duration
            alike.duration_examples[place] = (closed, duration)
        if closed.opened.stream and Stage.FIRST_TOKEN in stages:
            self._count_stream(entry, alike)

    def _count_stream(self, entry: Entry, alike: _Like) -> None:
        """Count what a stream's tokens tell: the first, the gaps, the pace."""
        closed = entry.closed
        get = closed.stages.get
        histogram = self.deltas.histogram
        first = sum([get(stage, 0) for stage in _BEFORE_FIRST_TOKEN])
        chunk_bins, token_bins = alike.first_chunk_bins, alike.first_token_bins
        if chunk_bins is None or token_bins is None:
            chunk_bins = alike.first_chunk_bins = histogram(families.FIRST_CHUNK, alike.gen_ai)
            token_bins = alike.first_token_bins = histogram(families.FIRST_TOKEN, alike.model)
        chunk_bins[bisect_left(families.FIRST_CHUNK.edges, first)] += 1
        chunk_bins[-1] += first
        place = bisect_left(families.FIRST_TOKEN.edges, first)
        token_bins[place] += 1
        token_bins[-1] += first
        alike.first_token_examples[place] = (closed, first)
        sent_to_first = get(Stage.FIRST_BYTE, 0) + get(Stage.FIRST_TOKEN, 0)
        self._hold(alike.upstream, _FIRST_TOKEN, sent_to_first)
        gaps = closed.gaps
        if gaps is not None and len(gaps.buckets) == len(families.INTER_TOKEN.edges) + 1:
            bins = alike.inter_token_bins
            if bins is None:
                bins = alike.inter_token_bins = histogram(families.INTER_TOKEN, alike.model)
            for place, count in enumerate(gaps.buckets):
                if count:
                    bins[place] += count
            bins[-1] += gaps.sum_ns
        outputs = entry.usage.output_tokens if entry.usage is not None else None
        streaming = get(Stage.STREAM)
        if outputs is not None and outputs > 1 and streaming is not None:
            pace = streaming // (outputs - 1)
            bins = alike.output_token_bins
            if bins is None:
                bins = alike.output_token_bins = histogram(families.OUTPUT_TOKEN, alike.model)
            bins[bisect_left(families.OUTPUT_TOKEN.edges, pace)] += 1
            bins[-1] += pace
            self._hold(alike.upstream, _OUTPUT_TOKEN, pace)

    def _hold(self, upstream: str, stage: int, nanoseconds: int) -> None:
        """Hold a time against the latency budget."""
        labels = (upstream, BUDGET_STAGES[stage])
        add(self._budgeted, labels, 1)
        if nanoseconds > self._rules.budget_ns[stage]:
            add(self._over_budget, labels, 1)

    def _count_tokens(self, inputs: int | None, outputs: int | None, alike: _Like) -> None:
        edges = families.TOKEN_USAGE.edges
        if inputs is not None:
            bins = alike.input_bins
            if bins is None:
                labels = (*alike.gen_ai, "input")
                bins = alike.input_bins = self.deltas.histogram(families.TOKEN_USAGE, labels)
            bins[bisect_left(edges, inputs)] += 1
            bins[-1] += inputs
        if outputs is not None:
            bins = alike.output_bins
            if bins is None:
                labels = (*alike.gen_ai, "output")
                bins = alike.output_bins = self.deltas.histogram(families.TOKEN_USAGE, labels)
            bins[bisect_left(edges, outputs)] += 1
            bins[-1] += outputs

    def _count_attempts(self, attempts: Sequence[Attempt], facts: Sequence[Fact]) -> None:
        before, where = "", ""
        for attempt in attempts:
            if before and attempt.upstream == where:  # elsewhere it is a fallback, and no retry
                refused = Fact.USAGE_REFUSED in facts
                reason = "usage_refused" if refused else before
                add(self.deltas.counter(families.RETRIES), (attempt.upstream, reason), 1)
            before, where = result_of(attempt), attempt.upstream
            add(self._attempts, (attempt.upstream, before), 1)
            if attempt.connected_ns is not None:
                kind = "reused" if attempt.reused else "new"
                add(self._connections, (attempt.upstream, kind), 1)

    # -- kind by kind -------------------------------------------------------------------------

    def _count_alike(self, alike: _Like) -> None:
        closed, calls = alike.sample, alike.calls
        counter = self.deltas.counter
        if closed.opened.stream:
            add(counter(families.STREAMS), (*alike.model, str(closed.outcome)), calls)
        if closed.finish_reason is not None:
            reason = FINISHES.get(closed.finish_reason.lower(), OTHER)
            add(counter(families.FINISHES), (*alike.model, reason), calls)
        error, fault = error_of(closed)
        if error:
            add(counter(families.ERRORS), (*alike.model, error, fault), calls)
        name = closed.opened.model or closed.response_model or ""
        if name and self._arriving.models.is_unplaced(name):
            self._arriving.models.overflow(name, calls, alike.cost_pico)
        self._keep(families.DURATION, (*alike.gen_ai, error), alike.duration_examples)
        self._keep(families.FIRST_TOKEN, alike.model, alike.first_token_examples)
        self._keep(families.CALL_COST, alike.model, alike.cost_examples)

    def _keep(self, family: Family, labels: Labels, examples: _Examples) -> None:
        """Keep the examples whose ids are ids: a label of an exemplar is text like any other."""
        for place, (closed, value) in examples.items():
            opened = closed.opened
            trace_id = opened.trace_id or ""
            if _TRACE_ID.fullmatch(trace_id) and _CALL_ID.fullmatch(opened.call_id):
                ended = (opened.started_at_ns + sum(closed.stages.values())) / SECOND
                found = Exemplar(trace_id, opened.call_id, value, ended)
                of_family = self.deltas.exemplars.setdefault(family, {})
                of_family.setdefault(labels, {})[place] = found

    def _count_overflow(self) -> None:
        overflow = self.deltas.counter(families.OVERFLOW)
        for kind, arrivals in zip(("user", "team", "model"), self._arriving, strict=True):
            add(overflow, (kind,), arrivals.overflow_calls)
