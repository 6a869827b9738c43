"""A call's request: where it goes, what it asks for, who asks, and its bytes on the way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from taximeter.call import Opened
from taximeter.dialects import Dialect, Operation, RequestFacts
from taximeter.relay._errors import Refused
from taximeter.relay._heads import RequestHead, chunk
from taximeter.relay._identity import Identity, clean, credential_of, identify
from taximeter.relay._routing import Route
from taximeter.relay._trace import parse_traceparent, parse_tracestate
from taximeter.relay._upstream import Upstream
from taximeter.trace_ids import trace_id_of

if TYPE_CHECKING:
    from taximeter.relay._client import Message
    from taximeter.relay._worker import RelayWorker, Snapshot

PEEK_BYTES = 64 * 1024
"""How much is read of a body that is going to be streamed: fields stand at its beginning."""
PATH_CHARACTERS_MAX = 256

_STREAMED_TYPES = (b"multipart/", b"application/octet-stream", b"audio/", b"image/", b"video/")
_NOBODY = Identity(None, None, None, None, {}, None)
_NOTHING = RequestFacts()


class Request:
    """One request: read step by step, then asked."""

    __slots__ = (
        "_body",
        "_identity",
        "_opened",
        "_pieces",
        "_route",
        "_snapshot",
        "_taken",
        "_whole",
        "_worker",
        "body_bytes",
        "buffered_bytes_max",
        "call_id",
        "dialect",
        "facts",
        "head",
        "message",
        "method",
        "operation",
        "provider",
        "routed",
        "started_at_ns",
        "upgrade",
        "upstream",
    )

    head: RequestHead
    upstream: Upstream
    dialect: Dialect
    operation: Operation

    def __init__(self, worker: RelayWorker, message: Message, call_id: str) -> None:
        self._worker = worker
        self._snapshot = worker.snapshot
        self.message = message
        self.call_id = call_id
        self.started_at_ns = time.time_ns()
        self.method = message.method.decode("ascii")
        self.routed = False
        self.provider: str | None = None
        self.facts = _NOTHING
        self.upgrade: bytes | None = None
        self.body_bytes = 0
        """Body bytes received so far."""
        self.buffered_bytes_max = PEEK_BYTES
        """How much of the body is waited for before the call goes on without the rest."""
        self._route: Route[Upstream] | None = None
        self._identity = _NOBODY
        self._pieces: list[bytes] = []
        self._body = b""
        self._whole = True
        self._taken = 0
        self._opened: Opened | None = None

    # -- reading ----------------------------------------------------------------------------

    def read_head(self) -> None:
        """Find out where the request goes.

        Raises:
            Refused: with the code that says what is wrong with it.
        """
        message = self.message
        if message.refusal is not None:
            raise message.refusal
        target = message.target.decode("latin-1")
        self._route = route = self._snapshot.routes.find(self.method, target)
        self.upstream = upstream = route.upstream
        self.dialect = route.dialect
        self.operation = route.operation
        self.provider = upstream.provider
        self.routed = True
        self.head = head = RequestHead(message.fields, upstream.field_plan)
        noted = head.noted
        if message.upgrade and message.wants_websocket:
            self.upgrade = noted[b"upgrade"].strip()
        expect = noted.get(b"expect")
        if expect is not None and expect.lower() != b"100-continue":
            raise Refused("expectation_refused")
        self.buffered_bytes_max = self._buffer_bytes_max()

    def _buffer_bytes_max(self) -> int:
        most: int = self._snapshot.settings.relay.body_buffer_bytes_max
        content_type = self.head.noted.get(b"content-type", b"").lower()
        length = self.stated_length
        if content_type.startswith(_STREAMED_TYPES) or (length is not None and length > most):
            return min(PEEK_BYTES, most)
        return most

    @property
    def stated_length(self) -> int | None:
        """The body's length as the client states it; None for a chunked body, or none."""
        value = self.head.noted.get(b"content-length")
        return int(value) if value is not None and value.isdigit() else None

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits to be told to send its body."""
        return b"expect" in self.head.noted

    def take(self, piece: bytes) -> bool:
        """Keep a piece of the body; False if the call should go on without waiting for more."""
        size = len(piece)
        self._pieces.append(piece)
        self.body_bytes += size
        self._taken += size
        budget = self._snapshot.body_budget
        if not budget.try_take(size):
            # No room to wait for the whole of it: let it go on as it comes.
            budget.take(size)
            return False
        return self.body_bytes < self.buffered_bytes_max

    def read_body(self, *, whole: bool) -> None:
        """Find out what is asked for, and who asks. Never raises: a body may say anything."""
        pieces = self._pieces
        self._body = body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = []
        self._whole = whole
        route, head = self._route, self.head
        if route is None:
            return
        if b"content-encoding" not in head.noted:
            self.facts = self.dialect.read_request(
                self.operation,
                route.path,
                route.query,
                head.text(b"content-type"),
                body,
                whole,
            )
        self._identity = identify(
            head,
            route.query,
            self.facts.user,
            self._snapshot.identity_headers,
            self._worker.hash_key,
        )

    # -- going on ---------------------------------------------------------------------------

    @property
    def can_ask_usage(self) -> bool:
        """Whether usage is to be asked for on the client's behalf."""
        return (
            self.facts.can_ask_usage
            and self._whole
            and self.upstream.may_ask_usage(self.operation.api)
        )

    @property
    def is_whole(self) -> bool:
        """Whether all of the body was here before the call went on."""
        return self._whole

    @property
    def is_chunked(self) -> bool:
        """Whether the rest of the body goes upstream in chunks."""
        return not self._whole and self.stated_length is None

    def outgoing(self, *, ask_usage: bool) -> tuple[bytes, int | None]:
        """Give the body (or its beginning) as it goes upstream, and the length to state."""
        body = self._body
        if not self._whole:
            length = self.stated_length
            if length is None:
                return (chunk(body) if body else b""), None
            return body, length
        if ask_usage:
            body = self.dialect.ask_usage(body) or body
        noted = self.head.noted
        if body or b"content-length" in noted or b"transfer-encoding" in noted:
            return body, len(body)
        return b"", 0 if self.method in ("POST", "PUT", "PATCH") else None

    @property
    def target(self) -> bytes:
        """The request target as the upstream gets it: what came, byte for byte, below its base."""
        return self._route.raw_target if self._route is not None else b"/"

    @property
    def credential_line(self) -> bytes:
        """The upstream's own key, for a caller that brought none."""
        route = self._route
        if self.upstream.api_key is None or route is None:
            return b""
        if credential_of(self.head, route.query) is not None:
            return b""
        return self.upstream.credential_line(self.dialect.name)

    @property
    def body(self) -> bytes | None:
        """The body, if all of it was kept."""
        return self._body if self._whole else None

    @property
    def path(self) -> str:
        """Path below the upstream's base."""
        return self._route.path if self._route is not None else ""

    def opened(self) -> Opened:
        """Give the call's open record."""
        if self._opened is None:
            self._opened = self._make_opened()
        return self._opened

    def _make_opened(self) -> Opened:
        if not self.routed:
            return Opened(
                call_id=self.call_id,
                started_at_ns=self.started_at_ns,
                method=self.method[:16],
                trace_id=trace_id_of(self.call_id),
            )
        noted = self.head.noted
        trace = parse_traceparent(noted[b"traceparent"]) if b"traceparent" in noted else None
        who, facts = self._identity, self.facts
        retry = noted.get(b"x-stainless-retry-count", b"")
        return Opened(
            call_id=self.call_id,
            started_at_ns=self.started_at_ns,
            upstream=self.upstream.name,
            dialect=self.dialect.name,
            provider=self.provider,
            method=self.method[:16],
            path=clean(self.path[:PATH_CHARACTERS_MAX]) or "/",
            operation=self.operation.name,
            model=facts.model,
            service_tier=facts.service_tier,
            stream=facts.stream,
            user=who.user,
            team=who.team,
            session=who.session,
            tags=who.tags,
            user_source=who.user_source,
            key_hash=who.key_hash,
            trace_id=trace.trace_id if trace is not None else trace_id_of(self.call_id),
            parent_span_id=trace.parent_span_id if trace is not None else None,
            trace_flags=trace.flags if trace is not None else 0,
            trace_state=None if trace is None else parse_tracestate(noted.get(b"tracestate")),
            client_request_id=(
                clean(self.head.text(b"x-client-request-id"))
                if b"x-client-request-id" in noted
                else None
            ),
            client_retry=int(retry) if retry.isdigit() and len(retry) < 5 else None,
        )

    @property
    def snapshot(self) -> Snapshot:
        """The settings it began under."""
        return self._snapshot

    def release(self) -> None:
        """Give back the memory the body took."""
        self._snapshot.body_budget.give_back(self._taken)
        self._taken = 0
        self._body = b""
        self._pieces = []
        self.message.exchange = None
