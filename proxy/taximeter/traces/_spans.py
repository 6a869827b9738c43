"""From a booked call to its spans. Pure, and always the same spans for the same call.

    chat gpt-5.4-mini           SERVER    the call, in its client's own trace
      receive, queue, settle    INTERNAL
      POST openai               CLIENT    one attempt
        connect, first_byte, first_token, stream

What the call used and cost stands on the call's span and on no other: backends sum such attributes
over spans. Ids follow from the call's id, so a call exported again is the same spans again. There
is no prompt, answer or credential in an `Entry`, and so none here; texts of strangers (models,
users, tags) are cut to `TEXT_CHARACTERS_MAX`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import NamedTuple

from taximeter.call import PICO_PER_USD, Attempt, Closed, Fact, Opened, Outcome
from taximeter.ledger import Entry, usd_text
from taximeter.trace_ids import span_id_of, trace_id_of
from taximeter.traces import _names as names
from taximeter.traces._timeline import Part, Timeline, timeline

TEXT_CHARACTERS_MAX = 256
TAGS_MAX = 32
CALL = ""
"""`span_id_of`'s name for the call's own span."""

TRACE_ID_DIGITS = 32
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


def spans_of(
    entry: Entry, servers: Mapping[str, Server] | None = None, *, stages: bool = True
) -> list[Span]:
    """Give a call's spans, its own first, each behind the one it is a part of.

    Args:
        entry: the call, as it was booked.
        servers: where upstreams are, by name; one that is not there is told without its address.
        stages: give each stage a span of its own.

    Raises:
        ValueError: if the call's trace id is none.
    """
    return _Maker(entry, servers or {}).make(stages=stages)


def trace_of(opened: Opened) -> str:
    """Give the id of the trace that a call is in. Without a client's, it is the call's own."""
    return opened.trace_id or trace_id_of(opened.call_id)


def attempt_part(number: int) -> str:
    """Give `span_id_of`'s name for an attempt's span."""
    return f"attempt {number}"


class _Maker:
    """One call on its way to spans: what they all have in common."""

    def __init__(self, entry: Entry, servers: Mapping[str, Server]) -> None:
        self._entry = entry
        self._servers = servers
        opened = entry.closed.opened
        self._call_id = opened.call_id
        self._epoch_ns = opened.started_at_ns
        traced = opened.parent_span_id is not None
        self._trace_id = trace_of(opened)
        if len(self._trace_id) != TRACE_ID_DIGITS:
            raise ValueError(f"a trace id has {TRACE_ID_DIGITS} digits")
        self._parent_id = opened.parent_span_id
        self._flags = opened.trace_flags | SAMPLED if traced else SAMPLED | RANDOM
        self._trace_state = opened.trace_state or "" if traced else ""
        self._method = opened.method if opened.method in names.METHODS else names.OTHER_METHOD

    def make(self, *, stages: bool) -> list[Span]:
        closed = self._entry.closed
        times = timeline(closed)
        call_span = span_id_of(self._call_id, CALL)
        spans = [
            self._span(
                call_span,
                self._parent_id,
                _call_name(closed.opened, self._method),
                Kind.SERVER,
                (0, times.end_ns),
                call_attributes(self._entry, self._servers, self._method, times),
                events=[self._event(*each) for each in _events(closed, times)],
                failed=error_type(closed) is not None,
            )
        ]
        if stages:
            spans += [self._stage(part, call_span, "stage") for part in times.parts]
        for each in times.tries:
            part = attempt_part(each.attempt.number)
            span_id = span_id_of(self._call_id, part)
            attributes = self._attempt_attributes(each.attempt, closed)
            spans.append(
                self._span(
                    span_id,
                    call_span,
                    f"{_http_name(self._method)} {each.attempt.upstream}".rstrip(),
                    Kind.CLIENT,
                    (each.begin_ns, each.end_ns),
                    attributes,
                    failed=names.ERROR_TYPE in attributes,
                )
            )
            if stages:
                spans += [self._stage(stage, span_id, part) for stage in each.parts]
        return spans

    def _stage(self, part: Part, parent_id: str, within: str) -> Span:
        return self._span(
            span_id_of(self._call_id, f"{within} {part.stage}"),
            parent_id,
            str(part.stage),
            Kind.INTERNAL,
            (part.begin_ns, part.end_ns),
            {names.STAGE: str(part.stage)},
        )

    def _span(
        self,
        span_id: str,
        parent_id: str | None,
        name: str,
        kind: Kind,
        times: tuple[int, int],
        attributes: Attributes,
        *,
        events: list[Event] | None = None,
        failed: bool = False,
    ) -> Span:
        begin, end = times
        epoch = self._epoch_ns
        return Span(
            self._trace_id,
            span_id,
            parent_id,
            kind is Kind.SERVER,
            self._flags,
            self._trace_state,
            name,
            kind,
            epoch + begin,
            epoch + end,
            attributes,
            events if events is not None else [],
            failed,
        )

    def _event(self, name: str, offset_ns: int, attributes: Attributes) -> Event:
        return Event(name, self._epoch_ns + offset_ns, attributes)

    def _attempt_attributes(self, attempt: Attempt, closed: Closed) -> Attributes:
        server = self._servers.get(attempt.upstream)
        status, failure = attempt.status, attempt.error
        if failure is None and status is not None and status >= 400:
            failure = str(status)
        answered = attempt is closed.attempts[-1] and attempt.first_byte_ns is not None
        return _given(
            {
                names.METHOD: self._method,
                names.SERVER_ADDRESS: server.host if server is not None else None,
                names.SERVER_PORT: server.port if server is not None else None,
                names.STATUS_CODE: status,
                names.RESPONSE_SIZE: closed.response_bytes if answered else None,
                names.RESEND_COUNT: attempt.number - 1 if attempt.number > 1 else None,
                names.ERROR_TYPE: failure,
                names.UPSTREAM: attempt.upstream or None,
                names.ATTEMPT: attempt.number,
                names.CONNECTION_REUSED: attempt.reused,
            }
        )


def call_attributes(
    entry: Entry, servers: Mapping[str, Server], method: str, times: Timeline
) -> Attributes:
    """Give the attributes of the call's own span."""
    closed = entry.closed
    opened = closed.opened
    found: dict[str, Value | None] = {
        names.METHOD: method,
        names.URL_PATH: opened.path or None,
        names.STATUS_CODE: closed.status,
        names.REQUEST_SIZE: closed.request_bytes,
        names.ERROR_TYPE: error_type(closed),
        names.USER_ID: opened.user,
        names.SESSION_ID: opened.session,
        names.CALL_ID: opened.call_id,
        names.OUTCOME: str(closed.outcome),
        names.UPSTREAM: opened.upstream,
        names.TEAM: opened.team,
        names.USER_SOURCE: opened.user_source,
        names.USAGE_SOURCE: str(entry.usage_source),
        names.COUNT_RULE: entry.count_rule,
        names.PRICE: entry.price,
        names.ATTEMPTS: len(closed.attempts),
        names.FACTS: [str(fact) for fact in closed.facts] or None,
    }
    if times.first_token_ns is not None:
        found[names.TIME_TO_FIRST_TOKEN] = times.first_token_ns / 1e9
    if closed.events:
        found[names.EVENTS] = closed.events
    for name, text in list(opened.tags.items())[:TAGS_MAX]:
        found[names.TAG_PREFIX + name[:TEXT_CHARACTERS_MAX]] = text
    if opened.operation != names.NO_OPERATION:
        server = servers.get(opened.upstream or "")
        found |= _inference(closed, server.host if server is not None else "")
    if Fact.FETCHED not in closed.facts:
        # What a fetch brings was used by the call that made the answer. The conventions want no
        # usage on it, and its cost would be there twice wherever that call could be priced.
        found |= _usage(entry)
    return _given(found)


def _inference(closed: Closed, host: str) -> Mapping[str, Value | None]:
    opened = closed.opened
    finish = closed.finish_reason
    found: dict[str, Value | None] = {
        names.OPERATION_NAME: names.operation_word(opened.operation),
        names.PROVIDER_NAME: names.provider_word(opened.provider or "", host) or None,
        names.REQUEST_MODEL: opened.model,
        names.REQUEST_STREAM: opened.stream,
        names.RESPONSE_ID: closed.response_id,
        names.RESPONSE_MODEL: closed.response_model,
        names.FINISH_REASONS: [finish[:TEXT_CHARACTERS_MAX]] if finish else None,
    }
    if opened.dialect == "openai":
        found[names.OPENAI_API_TYPE] = _openai_api(opened.path)
        found[names.OPENAI_REQUEST_TIER] = opened.service_tier
        found[names.OPENAI_RESPONSE_TIER] = closed.service_tier
    return found


def _openai_api(path: str) -> str | None:
    if path.endswith("/chat/completions"):
        return "chat_completions"
    return "responses" if path.endswith("/responses") else None


def _usage(entry: Entry) -> Mapping[str, Value | None]:
    found: dict[str, Value | None] = {}
    usage, cost = entry.usage, entry.cost_pico
    if usage is not None:
        found[names.INPUT_TOKENS] = usage.input_tokens
        found[names.OUTPUT_TOKENS] = usage.output_tokens
        found[names.CACHE_READ_TOKENS] = usage.cached_tokens
        found[names.CACHE_WRITE_TOKENS] = usage.cache_write_tokens
        found[names.REASONING_TOKENS] = usage.reasoning_tokens
    if cost is not None:
        found[names.COST_AMOUNT] = cost / PICO_PER_USD
        found[names.COST_CURRENCY] = "USD"
        found[names.COST_SOURCE] = "provider" if entry.price == "provider" else "local"
        found[names.COST_USD] = usd_text(cost)
    return found


def error_type(closed: Closed) -> str | None:
    """Say in one word what a call failed by; None if it did not."""
    if closed.error is None and not names.FAILED[closed.outcome]:
        return None
    if closed.error:
        return closed.error
    if closed.status is not None and closed.status >= 400:
        return str(closed.status)
    return str(closed.outcome)


def _events(closed: Closed, times: Timeline) -> Iterable[tuple[str, int, Attributes]]:
    """Give the call's events with their offsets, in the order of time."""
    for before, after in zip(times.tries, times.tries[1:], strict=False):
        reason = before.attempt.error or (str(before.attempt.status or "") or None)
        about: dict[str, Value | None] = {
            names.ATTEMPT: after.attempt.number,
            names.ERROR_TYPE: reason,
        }
        yield names.RETRY, after.begin_ns, _given(about)
    if times.first_token_ns is not None:
        yield names.FIRST_TOKEN, min(times.first_token_ns, times.end_ns), {}
    if closed.outcome in (Outcome.CANCELLED, Outcome.ABANDONED):
        yield names.CANCELLED, times.answer_end_ns, {}
    elif closed.outcome is Outcome.TRUNCATED:
        yield names.TRUNCATED, times.answer_end_ns, {}


def _call_name(opened: Opened, method: str) -> str:
    if opened.operation == names.NO_OPERATION:
        return _http_name(method)
    operation = names.operation_word(opened.operation)
    return f"{operation} {opened.model[:TEXT_CHARACTERS_MAX]}" if opened.model else operation


def _http_name(method: str) -> str:
    return "HTTP" if method == names.OTHER_METHOD else method


def _given(values: Mapping[str, Value | None]) -> Attributes:
    """Leave out what is not known, and cut texts."""
    return {
        name: value[:TEXT_CHARACTERS_MAX] if isinstance(value, str) else value
        for name, value in values.items()
        if value is not None
    }
