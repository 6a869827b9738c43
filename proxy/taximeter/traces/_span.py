"""A span as plain values, and the ids of a call's spans."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from taximeter.call import Opened
from taximeter.trace_ids import trace_id_of

SAMPLED, RANDOM = 0x01, 0x02
"""W3C trace flags: the trace is recorded; the last 56 bits of its id are random."""

Value = str | bool | int | float | list[str]
Attributes = dict[str, Value]


class Kind(IntEnum):
    """What a span is to its trace: OTLP's numbers."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


class Server(NamedTuple):
    """Where an upstream is."""

    host: str
    port: int


class Event(NamedTuple):
    """Something that happened at one moment of a span."""

    name: str
    at_ns: int
    attributes: Attributes


class Span(NamedTuple):
    """One span, ready to be encoded. Times are nanoseconds since the epoch."""

    trace_id: str
    span_id: str
    parent_id: str | None
    parent_is_remote: bool
    flags: int
    """W3C trace flags; the sampled bit is set in all of them."""
    trace_state: str
    name: str
    kind: Kind
    start_ns: int
    end_ns: int
    attributes: Attributes
    events: list[Event]
    failed: bool


def trace_of(opened: Opened) -> str:
    """Give the id of the trace that a call is in. Without a client's, it is the call's own."""
    return opened.trace_id or trace_id_of(opened.call_id)
