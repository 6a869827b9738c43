"""Spans to the bytes of an OTLP export request, a call at a time.

The messages of `opentelemetry-proto` are filled in directly. The SDK's way (a `ReadableSpan` each,
then its exporter's encoder) gives the same spans and takes six times as long: 384 us for a call of
eight spans, against 64 us, measured with Python 3.11; booking the call takes 110 us.

This module is imported only where traces are on: protobuf costs memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableSequence

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Status

from taximeter import __version__
from taximeter.traces._span import Span, Value

SCOPE_NAME = "taximeter"
TRACE_ID_BYTES, SPAN_ID_BYTES = 16, 8
FLAG_HAS_IS_REMOTE = 0x100
FLAG_IS_REMOTE = 0x200
"""Bits of a span's flags above W3C's eight: its parent's place is known, and is elsewhere."""


def encode_call(spans: Iterable[Span]) -> bytes:
    """Give a call's spans as bytes that `request_of` puts into a request.

    Raises:
        ValueError: if a span has an id, a time or a text that no message can hold.
        TypeError: if it has a value of another kind.
    """
    scoped = ScopeSpans()
    messages = scoped.spans
    for span in spans:
        remote = FLAG_IS_REMOTE if span.parent_is_remote and span.parent_id is not None else 0
        message = messages.add(
            trace_id=_id(span.trace_id, TRACE_ID_BYTES),
            span_id=_id(span.span_id, SPAN_ID_BYTES),
            name=span.name,
            kind=span.kind,
            start_time_unix_nano=span.start_ns,
            end_time_unix_nano=span.end_ns,
            flags=span.flags & 0xFF | FLAG_HAS_IS_REMOTE | remote,
        )
        if span.parent_id is not None:
            message.parent_span_id = _id(span.parent_id, SPAN_ID_BYTES)
        if span.trace_state:
            message.trace_state = span.trace_state
        if span.failed:
            message.status.code = Status.STATUS_CODE_ERROR
        _put(message.attributes, span.attributes)
        for event in span.events:
            noted = message.events.add(name=event.name, time_unix_nano=event.at_ns)
            _put(noted.attributes, event.attributes)
    return bytes(scoped.SerializeToString())


def request_of(calls: Iterable[bytes], resource: Mapping[str, str]) -> bytes:
    """Give the export request that carries calls of `encode_call`, all of one resource.

    Messages of protobuf are merged by putting their bytes behind each other, so the calls need
    not be taken apart: only the lengths around them are made here.
    """
    scope = ScopeSpans()
    scope.scope.name = SCOPE_NAME
    scope.scope.version = __version__
    group = ResourceSpans()
    _put(group.resource.attributes, dict(resource))
    scoped = b"".join([scope.SerializeToString(), *calls])
    inner = group.SerializeToString() + _field(ResourceSpans.SCOPE_SPANS_FIELD_NUMBER, scoped)
    return _field(ExportTraceServiceRequest.RESOURCE_SPANS_FIELD_NUMBER, inner)


def _id(digits: str, size: int) -> bytes:
    # A collector refuses a whole request for the sake of one id that is too short.
    found = bytes.fromhex(digits)
    if len(found) != size or not any(found):
        raise ValueError(f"an id has {size} bytes, and not all of them 0")
    return found


def _field(number: int, body: bytes) -> bytes:
    """Give a field that has a length: its number with wire type 2, the length, the bytes."""
    length = bytearray()
    rest = len(body)
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    return bytes((number << 3 | 2, *length)) + body


def rejected_spans(answer: bytes) -> int:
    """Read from a collector's answer how many spans it did not take.

    An answer that is none says nothing of any: the collector has said by its status that it took
    them.
    """
    response = ExportTraceServiceResponse()
    try:
        response.ParseFromString(answer)
    except Exception:  # protobuf's DecodeError, whose place differs between its versions
        return 0
    return max(0, int(response.partial_success.rejected_spans))


def _put(into: MutableSequence[KeyValue], attributes: Mapping[str, Value]) -> None:
    add: Callable[[], KeyValue] = into.add  # type: ignore[attr-defined]
    for name, value in attributes.items():
        attribute = add()
        attribute.key = name
        # bool before int, which it is too.
        if isinstance(value, str):
            attribute.value.string_value = value
        elif isinstance(value, bool):
            attribute.value.bool_value = value
        elif isinstance(value, int):
            attribute.value.int_value = value
        elif isinstance(value, float):
            attribute.value.double_value = value
        else:
            attribute.value.array_value.values.extend(
                [AnyValue(string_value=text) for text in value]
            )
