"""From a booked call to its spans. Pure, and always the same spans for the same call.

    chat gpt-5.4-mini           SERVER    the call, in its client's own trace
      receive, queue, settle    INTERNAL
      POST openai               CLIENT    one attempt
        connect, first_byte, first_token, stream

What the call used and cost stands on the call's span and on no other: backends sum such attributes
over spans. Ids follow from the call's id, so a call exported again is the same spans again. There
is no prompt, answer or credential in an `Entry`, and so none here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from taximeter.call import Closed, Opened, Outcome
from taximeter.ledger import Entry
from taximeter.trace_ids import attempt_part, span_id_of
from taximeter.traces import _names as names
from taximeter.traces._attributes import (
    TEXT_CHARACTERS_MAX,
    attempt_attributes,
    attempt_error,
    call_attributes,
    error_type,
    given,
)
from taximeter.traces._span import (
    RANDOM,
    SAMPLED,
    Attributes,
    Event,
    Kind,
    Server,
    Span,
    Value,
    trace_of,
)
from taximeter.traces._timeline import Part, Timeline, timeline

CALL = ""
"""`span_id_of`'s name for the call's own span."""


def spans_of(
    entry: Entry, servers: Mapping[str, Server] | None = None, *, stages: bool = True
) -> list[Span]:
    """Give a call's spans, its own first, each behind the one it is a part of.

    Args:
        entry: the call, as it was booked.
        servers: where upstreams are, by name; one that is not there is told without its address.
        stages: give each stage a span of its own.
    """
    return _Maker(entry, servers or {}).make(stages=stages)


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
            attributes = attempt_attributes(each.attempt, closed, self._servers, self._method)
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


_BREAKER_OPEN = "breaker_open"
"""The code under which a call is refused because its upstream is left alone."""


def _events(closed: Closed, times: Timeline) -> Iterable[tuple[str, int, Attributes]]:
    """Give the call's events with their offsets, in the order of time."""
    where, before = closed.opened.meant_for, None
    for each in times.tries:
        attempt = each.attempt
        about: dict[str, Value | None] = {names.ATTEMPT: attempt.number}
        if before is not None:
            about[names.ERROR_TYPE] = attempt_error(before)
        if where is not None and attempt.upstream != where:
            about |= {names.MEANT_FOR: where, names.UPSTREAM: attempt.upstream}
            yield names.FALLBACK, each.begin_ns, given(about)
        elif before is not None:
            yield names.RETRY, each.begin_ns, given(about)
        where, before = attempt.upstream, attempt
    if closed.error == _BREAKER_OPEN and closed.outcome is Outcome.REJECTED:
        yield names.BREAKER_OPEN, times.answer_end_ns, {}
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
