"""A call's request: where it goes, what it asks for, who asks, and its bytes on the way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from taximeter.call import Opened
from taximeter.counting import tokens_from_bytes
from taximeter.dialects import Dialect, Operation, RequestFacts
from taximeter.relay._heads import chunk, request_end
from taximeter.relay._intake import PEEK_BYTES, Intake
from taximeter.relay._trace import parse_traceparent
from taximeter.relay._upstream import Upstream
from taximeter.trace_ids import trace_id_of

if TYPE_CHECKING:
    from taximeter.relay._message import Message
    from taximeter.relay._snapshot import Snapshot

CODED_EXPANSION = 10
"""How many times its size a coded body of text is taken for; prose comes to a third of that."""

_NOTHING = RequestFacts()


class Request:
    """One request: read step by step, then asked."""

    __slots__ = (
        "_body",
        "_opened",
        "_pieces",
        "_taken",
        "_traceparent",
        "_user",
        "body_bytes",
        "buffered_bytes_max",
        "call_id",
        "dialect",
        "facts",
        "intake",
        "is_uncoded",
        "is_whole",
        "message",
        "operation",
        "retry_of",
        "routed",
        "snapshot",
        "started_at_ns",
        "stated_length",
        "upstream",
    )

    upstream: Upstream
    dialect: Dialect
    operation: Operation
    intake: Intake

    def __init__(self, snapshot: Snapshot, message: Message, call_id: str) -> None:
        self.snapshot = snapshot
        """The settings it began under."""
        self.message = message
        self.call_id = call_id
        self.routed = False
        """Whether it is known where it goes."""
        self.started_at_ns = time.time_ns()
        self.facts = _NOTHING
        self.body_bytes = 0
        """Body bytes received so far."""
        self.buffered_bytes_max = PEEK_BYTES
        """How much of the body is waited for before the call goes on without the rest."""
        self.stated_length: int | None = None
        """The body's length as the client states it; None for a chunked body, or none."""
        self.is_uncoded = False
        """Whether its answer must not be compressed, whatever its usage asks for."""
        self.is_whole = True
        """Whether all of the body was here before the call went on."""
        self.retry_of: str | None = None
        """The call that the client makes again with this one, where that is known."""
        self._user: str | None = None
        self._traceparent: bytes | None = None
        self._pieces: list[bytes] = []
        self._body = b""
        self._taken = 0
        self._opened: Opened | None = None

    # -- reading ----------------------------------------------------------------------------

    def take_head(self, intake: Intake, length: int | None, traceparent: bytes | None) -> None:
        """Take note of what its head decides, and of what no other call's head says."""
        self.intake = intake
        self.routed = True
        self.upstream = intake.upstream
        self.dialect = intake.route.dialect
        self.operation = intake.route.operation
        self.stated_length = length
        self._traceparent = traceparent
        self.buffered_bytes_max = intake.buffer_bytes_max(
            length, self.snapshot.settings.relay.body_buffer_bytes_max
        )

    def take(self, piece: bytes) -> bool:
        """Keep a piece of the body; False if the call should go on without waiting for more."""
        size = len(piece)
        self._pieces.append(piece)
        self.body_bytes += size
        self._taken += size
        budget = self.snapshot.body_budget
        if not budget.try_take(size):
            # No room to wait for the whole of it: let it go on as it comes.
            budget.take(size)
            return False
        return self.body_bytes < self.buffered_bytes_max

    def read_body(self, *, whole: bool) -> None:
        """Find out what is asked for, and who asks. Never raises: a body may say anything."""
        pieces, intake = self._pieces, self.intake
        self._body = body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = []
        self.is_whole = whole
        if not intake.is_coded:
            route = intake.route
            self.facts = self.dialect.read_request(
                self.operation, route.path, route.query, intake.content_type, body, whole
            )
        if self.facts.stream:
            self.is_uncoded = intake.wants_summary  # a comment can be put in
        self._user = intake.speaker.user_of_body(self.facts.user)

    # -- what admission asks ------------------------------------------------------------------

    @property
    def user(self) -> str | None:
        """Whom the call is booked on."""
        return self._user or self.intake.opened.user

    @property
    def input_tokens_estimate(self) -> int:
        """Input tokens by the length of a body of text; 0 for a body that is none."""
        if not self.intake.is_text:
            return 0
        size = self.stated_length or self.body_bytes
        return tokens_from_bytes(size * CODED_EXPANSION if self.intake.is_coded else size)

    def input_tokens_of_text(self) -> int | None:
        """Input tokens by the length of the texts in the body alone; None if it is not whole."""
        if not self.is_whole:
            return None
        found = self.dialect.countable(self.operation, self._body, "", None)
        size = sum(len(part.encode()) for part in found.input_parts)
        return tokens_from_bytes(size) + found.input_overhead_tokens

    def limit_output(self, tokens_max: int) -> bool | None:
        """Hold the body to a most output; tell whether that changed it, None if it cannot be."""
        if not self.is_whole:
            return None
        body = self.dialect.limit_output(self.operation, self._body, tokens_max)
        if body is None:
            return None
        changed = body is not self._body
        self._body = body
        return changed

    def go_elsewhere(self, intake: Intake) -> None:
        """Take another upstream for it."""
        self.intake = intake
        self.upstream = intake.upstream
        if self._opened is not None:
            self._opened = replace(
                self._opened,
                upstream=intake.opened.upstream,
                provider=intake.opened.provider,
                meant_for=intake.opened.meant_for,
            )

    @property
    def is_replayable(self) -> bool:
        """Whether its body can be sent once more."""
        return self.is_whole and len(self._body) <= self.upstream.settings.retry.body_bytes_max

    # -- going on ---------------------------------------------------------------------------

    @property
    def can_ask_usage(self) -> bool:
        """Whether usage is to be asked for on the client's behalf."""
        return (
            self.facts.can_ask_usage
            and self.is_whole
            and self.upstream.may_ask_usage(self.operation.api)
        )

    @property
    def is_chunked(self) -> bool:
        """Whether the rest of the body goes upstream in chunks."""
        return not self.is_whole and self.stated_length is None

    def outgoing(self, *, ask_usage: bool, attempt: int) -> tuple[bytes, bytes]:
        """Give the head as it goes upstream with an attempt, and the body, or its beginning."""
        intake, body = self.intake, self._body
        length = self.stated_length
        if not self.is_whole:
            if length is None and body:
                body = chunk(body)
        else:
            if ask_usage:
                body = self.dialect.ask_usage(body) or body
            length = len(body) if body or intake.has_length or intake.is_chunked else None
            if length is None and intake.method in ("POST", "PUT", "PATCH"):
                length = 0
        end = request_end(length, chunked=self.is_chunked, upgrade=intake.upgrade)
        spans = self.upstream.spans
        if spans is not None:
            end = spans.traceparent(self.opened(), attempt) + end
        return intake.start(uncoded=ask_usage or self.is_uncoded) + end, body

    @property
    def body(self) -> bytes | None:
        """The body, if all of it was kept."""
        return self._body if self.is_whole else None

    def opened(self) -> Opened:
        """Give the call's open record."""
        if self._opened is None:
            self._opened = self._make_opened()
        return self._opened

    def take_opened(self, opened: Opened) -> Opened:
        """Go on with an open record that is written already; give it."""
        self._opened = opened
        return opened

    def _make_opened(self) -> Opened:
        if not self.routed:
            return Opened(
                call_id=self.call_id,
                started_at_ns=self.started_at_ns,
                method=self.message.method[:16].decode("ascii"),
                trace_id=trace_id_of(self.call_id),
            )
        return opened_of(
            self.intake,
            self.facts,
            self.call_id,
            self.started_at_ns,
            self._user,
            self._traceparent,
            self.retry_of,
        )

    def release(self) -> None:
        """Give back the memory the body took."""
        self.snapshot.body_budget.give_back(self._taken)
        self._taken = 0
        self._body = b""
        self._pieces = []


def opened_of(
    intake: Intake,
    facts: RequestFacts,
    call_id: str,
    started_at_ns: int,
    user: str | None,
    traceparent: bytes | None,
    retry_of: str | None = None,
) -> Opened:
    """Make a call's open record: what its head decides, and what the call itself says.

    `user` is whom its body names, `traceparent` the field as it came.
    """
    head = intake.opened
    opened = replace(
        head,
        call_id=call_id,
        started_at_ns=started_at_ns,
        model=facts.model,
        service_tier=facts.service_tier,
        stream=facts.stream,
        user=user or head.user,
        user_source="body" if user else head.user_source,
        trace_id=trace_id_of(call_id),
        retry_of=retry_of,
    )
    trace = None if traceparent is None else parse_traceparent(traceparent)
    if trace is None:
        return opened
    return replace(
        opened,
        trace_id=trace.trace_id,
        parent_span_id=trace.parent_span_id,
        trace_flags=trace.flags,
        trace_state=intake.trace_state,
    )
