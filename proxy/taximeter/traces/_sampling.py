"""Which calls are traced. Pure.

The rules, in this order:

1. always, if our own settings ask for it: it failed, it was slow, it was dear;
2. as the client decided, if it sent a `traceparent`: its trace stays whole, or stays away;
3. else by the trace id, as OpenTelemetry's probability sampling does: the id's last 56 bits are
   a number, and the calls whose number is at least (1 - ratio) * 2^56 are taken. Whoever samples by
   the same rule, at the same ratio or a greater one, has taken the same traces.

The 56 bits matter. The ids of our own traces are the calls' own, UUIDs whose last 64 bits begin
with two fixed ones: a sampler that compares all 64 takes none of them, or all.
"""

from __future__ import annotations

from taximeter.call import PICO_PER_USD, Outcome
from taximeter.ledger import Entry
from taximeter.settings import Otlp
from taximeter.trace_ids import is_taken, threshold_of
from taximeter.traces._span import SAMPLED, trace_of


class Sampler:
    """Decides on calls under one configuration."""

    def __init__(self, otlp: Otlp) -> None:
        self._threshold = threshold_of(1.0 if otlp.sample_ratio is None else otlp.sample_ratio)
        self._errors = otlp.sample_errors
        slow, cost = otlp.sample_slow_seconds, otlp.sample_cost_usd
        self._slow_ns = None if slow is None else int(slow * 1e9)
        self._cost_pico = None if cost is None else int(cost * PICO_PER_USD)

    def takes(self, entry: Entry) -> bool:
        """Tell whether a call is traced."""
        closed = entry.closed
        opened = closed.opened
        if self._errors and closed.outcome is not Outcome.COMPLETED:
            return True
        if self._slow_ns is not None and sum(closed.stages.values()) >= self._slow_ns:
            return True
        cost = entry.cost_pico
        if self._cost_pico is not None and cost is not None and cost >= self._cost_pico:
            return True
        if opened.parent_span_id is not None:
            return bool(opened.trace_flags & SAMPLED)
        try:
            return is_taken(trace_of(opened), self._threshold)
        except ValueError:
            return True  # its id is none: it is dropped, and counted, where that shows
