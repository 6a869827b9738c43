"""The client's half of a call: its head, its body, what it asks for and who asks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from taximeter.call import Opened
from taximeter.dialects import Dialect, Operation, RequestFacts, dialect_for
from taximeter.relay._aiohttp import Incoming, StreamReader, UpstreamSide
from taximeter.relay._delivery import Delivery
from taximeter.relay._errors import Refused
from taximeter.relay._heads import RequestHead, chunk, last_chunk
from taximeter.relay._identity import Identity, clean, credential_of, identify
from taximeter.relay._routing import Route
from taximeter.relay._trace import parse_traceparent, trace_id_of
from taximeter.relay._upstream import Upstream

if TYPE_CHECKING:
    from taximeter.relay._exchange import Exchange
    from taximeter.relay._worker import RelayWorker

PEEK_BYTES = 64 * 1024
"""How much is read of a body that is going to be streamed: fields stand at its beginning."""
PATH_CHARACTERS_MAX = 256

_STREAMED_TYPES = ("multipart/", "application/octet-stream", "audio/", "image/", "video/")


class ClientLeft(Exception):
    """The client went away while its request was being read."""


class Upload:
    """The rest of a long body, still on its way from the client."""

    def __init__(self, body: StreamReader, length: int | None) -> None:
        self._body = body
        self.length = length
        """The whole body's, as the client stated it; None for a chunked one."""
        self.bytes = 0

    async def pump(self, side: UpstreamSide, exchange: Exchange) -> None:
        """Pass it on as it comes, no faster than the upstream takes it."""
        while data := await self._body.readany():
            if side.transport is None:
                raise ConnectionResetError("the upstream closed the connection")
            self.bytes += len(data)
            side.transport.write(chunk(data) if self.length is None else data)
            exchange.bytes_sent(len(data))
            await side.wait_writable()
        if self.length is None and side.transport is not None:
            side.transport.write(last_chunk([]))


class Request:
    """One request: read step by step, then asked."""

    def __init__(self, worker: RelayWorker, incoming: Incoming, call_id: str) -> None:
        self._worker = worker
        self._snapshot = worker.snapshot
        self._incoming = incoming
        self._message = incoming.message
        self.call_id = call_id
        self.started_at_ns = time.time_ns()
        self.method = incoming.message.method
        self.last_byte_ns = time.monotonic_ns()
        self.routed = False
        self.received = False
        """The body has been read as far as it is going to be before the call goes on."""
        self.head: RequestHead
        self.upstream: Upstream
        self.dialect: Dialect
        self.operation: Operation
        self.provider: str | None = None
        self.facts = RequestFacts()
        self.upgrade: bytes | None = None
        self._route: Route[Upstream] | None = None
        self._identity = Identity(None, None, None, None, {}, None)
        self._body = b""
        self._whole = True
        self._taken = 0
        self._upload: Upload | None = None
        self._opened: Opened | None = None

    # -- reading ----------------------------------------------------------------------------

    def read_head(self) -> None:
        """Check the head, and find out where the request goes.

        Raises:
            Refused: with the code that says what is wrong with it.
        """
        message = self._message
        if message.version not in ((1, 1), (1, 0)):
            raise Refused("version_refused")
        if self.method in ("CONNECT", "TRACE"):
            raise Refused("method_refused")
        self._route = route = self._snapshot.routes.find(message.path)
        self.upstream = upstream = route.upstream
        self.dialect = dialect_for(upstream.settings.dialect, route.path)
        self.operation = self.dialect.operation(self.method, route.path)
        self.provider = upstream.provider
        self.routed = True
        self.head = head = RequestHead(
            message.raw_headers, upstream.field_plan
        )
        if message.upgrade or b"upgrade" in head.noted:
            upgrade = head.noted.get(b"upgrade", b"").strip()
            if upgrade.lower() == b"websocket" and self.method == "GET":
                self.upgrade = upgrade
        expect = head.noted.get(b"expect")
        if expect is not None and expect.strip().lower() != b"100-continue":
            raise Refused("expectation_refused")

    async def receive(self, delivery: Delivery) -> None:
        """Read the body, whole if it is short enough, else its beginning.

        Raises:
            ClientLeft: if the client went away.
            Refused: `malformed_request` or `body_timeout`.
        """
        body = self._incoming.body
        if body.is_eof():
            self._body = body.read_nowait()
            self._taken = len(self._body)
            self._snapshot.body_budget.take(self._taken)
            self.received = True
            return
        if self.head.noted.get(b"expect") is not None:
            delivery.go_on()
        limit = self._buffer_bytes_max()
        pieces: list[bytes] = []
        size = 0
        try:
            while size < limit:
                piece = await body.readany()
                self.last_byte_ns = time.monotonic_ns()
                if not piece:
                    break
                pieces.append(piece)
                size += len(piece)
                if not self._snapshot.body_budget.try_take(len(piece)):
                    # No room to wait for the whole of it: let it go on as it comes.
                    self._snapshot.body_budget.take(len(piece))
                    limit = 0
                self._taken += len(piece)
                if body.is_eof() and not body.total_raw_bytes:
                    break
        except Refused:
            raise
        except Exception as error:
            if isinstance(error, ConnectionError):
                raise ClientLeft from error
            raise Refused("malformed_request", "its body is broken") from error
        self._body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._whole = body.at_eof()
        if not self._whole:
            self._upload = Upload(body, self._stated_length())
        self.received = self._whole

    def _buffer_bytes_max(self) -> int:
        content_type = self.head.noted.get(b"content-type", b"").lower().decode("latin-1")
        most = self._snapshot.settings.relay.body_buffer_bytes_max
        length = self._stated_length()
        if content_type.startswith(_STREAMED_TYPES) or (length is not None and length > most):
            return min(PEEK_BYTES, most)
        return most

    def _stated_length(self) -> int | None:
        value = self.head.noted.get(b"content-length")
        return int(value) if value is not None and value.isdigit() else None

    def read_body(self) -> None:
        """Find out what is asked for, and who asks. Never raises: a body may say anything."""
        route = self._route
        if route is None:
            return
        head = self.head
        if b"content-encoding" not in head.noted:
            self.facts = self.dialect.read_request(
                self.operation,
                route.path,
                route.query,
                head.text(b"content-type"),
                self._body,
                self._whole,
            )
        self._identity = identify(
            head,
            route.query,
            self.facts.user,
            self._snapshot.identity_headers,
            self._worker.hash_key,
        )

    def give_up(self, code: str) -> None:
        """End the wait for the body: whoever reads it gets `Refused`."""
        self._incoming.body.set_exception(Refused(code))

    # -- going on ---------------------------------------------------------------------------

    @property
    def can_ask_usage(self) -> bool:
        """Whether usage is to be asked for on the client's behalf."""
        return (
            self.facts.can_ask_usage
            and self._whole
            and self.upstream.may_ask_usage(self.operation.api)
        )

    def outgoing(self, *, ask_usage: bool) -> tuple[bytes, Upload | None]:
        """Give the body as it goes upstream, and the rest of it that is still to come."""
        body = self._body
        if ask_usage:
            body = self.dialect.ask_usage(body) or body
        upload = self._upload
        if upload is not None and upload.length is None:
            body = chunk(body) if body else b""
        return body, upload

    def length_of(self, body: bytes, upload: Upload | None) -> int | None:
        """Give the length to state upstream; None to state none."""
        if upload is not None:
            return upload.length
        noted = self.head.noted
        if body or b"content-length" in noted or b"transfer-encoding" in noted:
            return len(body)
        return 0 if self.method in ("POST", "PUT", "PATCH") else None

    @property
    def streams_upload(self) -> bool:
        """Whether part of the body was still to come when the call went on."""
        return self._upload is not None

    @property
    def target(self) -> bytes:
        """The request target as the upstream gets it: byte for byte what came, behind its base."""
        target = self._route.target if self._route is not None else "/"
        return (self.upstream.base_path + target).encode("utf-8", "surrogateescape")

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
    def body_bytes(self) -> int:
        """Body bytes received so far."""
        return len(self._body) + (self._upload.bytes if self._upload is not None else 0)

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
                call_id=self.call_id, started_at_ns=self.started_at_ns, method=self.method[:16]
            )
        noted = self.head.noted
        trace = parse_traceparent(noted.get(b"traceparent"))
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
            client_request_id=clean(self.head.text(b"x-client-request-id")),
            client_retry=int(retry) if retry.isdigit() and len(retry) < 5 else None,
        )

    def release(self) -> None:
        """Give back the memory the body took."""
        self._snapshot.body_budget.give_back(self._taken)
        self._taken = 0
        self._body = b""
