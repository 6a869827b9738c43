"""Our encoding of spans says what the SDK's says: message by message, for the same spans."""

from __future__ import annotations

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from taximeter import __version__
from taximeter.call import Outcome
from taximeter.ledger import Entry
from taximeter.traces import Span, spans_of
from taximeter.traces._encode import encode_call, rejected_spans, request_of
from tests.traces.make import MS, PARENT, TRACE, attempt, rejected, streamed

RESOURCE = {"service.name": "taximeter", "deployment.environment": "ä" * 200}
CALLS = {
    "streamed": streamed(),
    "in a client's trace": streamed(
        begun={
            "trace_id": TRACE,
            "parent_span_id": PARENT,
            "trace_flags": 1,
            "trace_state": "a=b",
            "tags": {"tägs": "wörds"},
        }
    ),
    "retried and truncated": streamed(
        attempts=[attempt(status=503, ended_ns=110 * MS), attempt(2, 120 * MS)],
        outcome=Outcome.TRUNCATED,
    ),
    "rejected": rejected(),
}


def as_the_sdk_has_it(span: Span) -> ReadableSpan:
    """Give one of our spans as the SDK would have made it."""
    trace_id = int(span.trace_id, 16)
    flags, state = TraceFlags(span.flags), TraceState.from_header([span.trace_state])
    parent = None
    if span.parent_id is not None:
        parent = SpanContext(trace_id, int(span.parent_id, 16), span.parent_is_remote, flags, state)
    return ReadableSpan(
        name=span.name,
        context=SpanContext(trace_id, int(span.span_id, 16), False, flags, state),
        parent=parent,
        resource=Resource(RESOURCE),
        attributes=span.attributes,
        events=[Event(event.name, event.attributes, event.at_ns) for event in span.events],
        kind=SpanKind(span.kind - 1),
        status=Status(StatusCode.ERROR) if span.failed else Status(),
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=InstrumentationScope("taximeter", __version__),
    )


def read(*entries: Entry) -> ExportTraceServiceRequest:
    """Encode calls and read them back."""
    calls = [encode_call(spans_of(entry)) for entry in entries]
    message: ExportTraceServiceRequest
    message = ExportTraceServiceRequest.FromString(request_of(calls, RESOURCE))
    return message


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_encoded_as_the_sdk_encodes_it(name: str) -> None:
    """Every field of every span is the same."""
    theirs = encode_spans([as_the_sdk_has_it(span) for span in spans_of(CALLS[name])])
    ours = read(CALLS[name])
    for message in (ours, theirs):
        for span in message.resource_spans[0].scope_spans[0].spans:
            span.attributes.sort(key=lambda each: each.key)
            span.status.SetInParent()  # the SDK sends an empty one, which says nothing
            span.flags &= ~0xFF  # of the flags it sends none that are W3C's
    assert ours == theirs


def test_calls_behind_each_other_are_one_request() -> None:
    """A request holds one resource, one scope, and the spans of all its calls in their order."""
    entries = [streamed(number) for number in range(1, 40)]
    request = read(*entries)
    (group,) = request.resource_spans
    (scoped,) = group.scope_spans
    assert (scoped.scope.name, scoped.scope.version) == ("taximeter", __version__)
    assert [span.span_id.hex() for span in scoped.spans] == [
        span.span_id for entry in entries for span in spans_of(entry)
    ]


@pytest.mark.parametrize("count", [0, 1, 2, 127, 128, 16_383, 16_384, 3_000_000])
def test_lengths_of_any_size_are_read_back(count: int) -> None:
    """What stands around the calls is right for one byte of length, for two, and for more."""
    entry = streamed(begun={"operation": "other", "model": None})
    whole = encode_call(spans_of(entry))
    padded = whole + bytes((15 << 3 | 2,)) + _varint(count) + bytes(count)  # an unknown field
    request = ExportTraceServiceRequest.FromString(request_of([padded], {}))
    assert len(request.resource_spans[0].scope_spans[0].spans) == len(spans_of(entry))


def _varint(value: int) -> bytes:
    digits = []
    while value > 127:
        digits.append(value % 128 + 128)
        value //= 128
    return bytes([*digits, value])


def test_an_answer_says_what_was_not_kept() -> None:
    """Of an answer that is none, or says less than nothing, nothing is taken."""
    said = ExportTraceServiceResponse()
    assert rejected_spans(said.SerializeToString()) == 0
    said.partial_success.rejected_spans = 3
    assert rejected_spans(said.SerializeToString()) == 3
    said.partial_success.rejected_spans = -3
    assert rejected_spans(said.SerializeToString()) == 0
    assert rejected_spans(b"<html>") == 0
