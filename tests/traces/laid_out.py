"""The spans of a call, by name, and what is read from them."""

from __future__ import annotations

from typing import Any

from taximeter.ledger import Entry
from taximeter.traces import Kind, Server, Span, spans_of
from taximeter.traces._span import Attributes
from tests.recorder.make import T0

SERVERS = {"openai": Server("api.openai.com", 443)}


def spans(entry: Entry, **more: Any) -> dict[str, Span]:
    """Give a call's spans by name; stages of attempts as `2 connect`, the call as `call`."""
    found: dict[str, Span] = {}
    made = spans_of(entry, SERVERS, **more)
    numbers = {
        span.span_id: span.attributes["taximeter.attempt"]
        for span in made
        if "taximeter.attempt" in span.attributes
    }
    for span in made:
        name = span.name
        if span.kind is Kind.SERVER:
            name = "call"
        elif span.span_id in numbers:
            name = f"attempt {numbers[span.span_id]}"
        elif span.parent_id in numbers:
            name = f"{numbers[span.parent_id]} {name}"
        assert name not in found
        found[name] = span
    return found


def call(entry: Entry) -> Span:
    """Give the call's own span."""
    return spans_of(entry, SERVERS)[0]


def times(span: Span) -> tuple[int, int]:
    """Give a span's times after the start of call 1."""
    return span.start_ns - T0 - 1, span.end_ns - T0 - 1


def moments(entry: Entry, name: str) -> list[tuple[int, Attributes]]:
    """Give the events of a name on a call's span: when, after its start, and with what."""
    call = spans(entry)["call"]
    return [(event.at_ns - call.start_ns, event.attributes) for event in call.events
            if event.name == f"taximeter.{name}"]  # fmt: skip
