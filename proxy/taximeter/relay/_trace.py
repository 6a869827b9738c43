"""W3C trace context, as far as a call's row needs it. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from taximeter.call import Opened
from taximeter.trace_ids import attempt_part, is_taken, span_id_of, threshold_of, trace_id_of

TRACE_STATE_BYTES_MAX = 512
"""What W3C asks everybody to pass on at least; longer ones are dropped whole."""
_TRACEPARENT = re.compile(
    rb"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    rb"(?P<rest>-.*)?"
)


class TraceContext(NamedTuple):
    """The client's trace, and its span that our call is a child of."""

    trace_id: str
    parent_span_id: str
    flags: int


def parse_traceparent(value: bytes | None) -> TraceContext | None:
    """Read a `traceparent`; None if there is none, or none that is valid."""
    match = _TRACEPARENT.fullmatch(value.strip()) if value else None
    if match is None:
        return None
    version, trace, span = match["version"], match["trace"], match["span"]
    if version == b"ff" or (version == b"00" and match["rest"]):
        return None
    if not trace.strip(b"0") or not span.strip(b"0"):
        return None
    return TraceContext(trace.decode(), span.decode(), int(match["flags"], 16))


def parse_tracestate(value: bytes | None) -> str | None:
    """Read a `tracestate` that can be passed on as it is; None if there is none.

    Its members are vendors' own words: only what it may be made of is looked at.
    """
    if not value or len(value) > TRACE_STATE_BYTES_MAX or not value.isascii():
        return None
    text = value.decode("ascii").strip()
    return text if text and text.isprintable() else None


class Spans:
    """What an upstream that is told of traces is told: that its span is our attempt's child.

    A client's own decision whether its trace is sampled is passed on. For a call that is in no
    trace of its client's it is the exporter's rule, which goes by the trace id alone.
    """

    def __init__(self, sample_ratio: float) -> None:
        self._threshold = threshold_of(sample_ratio)

    def traceparent(self, opened: Opened, attempt: int) -> bytes:
        """Give the header line for one attempt of a call."""
        trace_id = opened.trace_id or trace_id_of(opened.call_id)
        flags = opened.trace_flags
        if opened.parent_span_id is None:
            flags = int(is_taken(trace_id, self._threshold))
        span_id = span_id_of(opened.call_id, attempt_part(attempt))
        return f"traceparent: 00-{trace_id}-{span_id}-{flags & 0xFF:02x}\r\n".encode()
