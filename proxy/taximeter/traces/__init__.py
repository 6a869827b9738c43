"""Traces: every booked call as spans, in its client's own trace, over OTLP.

`Tracer` is the recorder's sink; `spans_of` is what it makes of a call, and pure. What stands on
which span is in docs/traces.md, and how calls are chosen in `taximeter.traces._sampling`.
"""

from taximeter.traces._span import Event, Kind, Server, Span
from taximeter.traces._spans import spans_of
from taximeter.traces._stats import DROPPED, TraceStats
from taximeter.traces._tracer import Tracer

__all__ = [
    "DROPPED",
    "Event",
    "Kind",
    "Server",
    "Span",
    "TraceStats",
    "Tracer",
    "spans_of",
]
