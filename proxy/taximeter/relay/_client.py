"""A client's connection: requests in, one exchange after the other.

llhttp (`httptools`) parses, strictly: a length beside chunks, two lengths, bare line feeds,
folded or spaced fields, control characters and unknown methods are refused by it. What it
leaves open is decided in `_checked`: the version, the `Host`, the transfer coding, the size.
What goes upstream is framed anew by us, so nothing of one request can become part of the next.

One call is under way on a connection at a time. Requests that a client sends ahead (pipelining)
wait, parsed, and while one waits no further byte is read. Bytes are read all the time otherwise:
that is how a client's leaving is noticed.

Why not aiohttp's server: by itself it takes as much CPU for a call as nginx takes to proxy it
twice. Its protocol makes two tasks, a stream reader, a stream writer and a request object a
call, none of which a relay needs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import httptools

from taximeter.relay._errors import Refused
from taximeter.relay._exchange import Exchange

if TYPE_CHECKING:
    from taximeter.relay._worker import RelayWorker

FIELDS_MAX = 256
"""Header fields of a request."""
WAITING_MAX = 64
"""Requests parsed ahead: as many as fit into one read; a client that sends more is refused."""
LINGER_SECONDS = 2.0
LINGER_BYTES_MAX = 4 * 1024 * 1024
"""After an answer that came before the request's end: how much more of that is read and thrown
away, so that the answer is not lost to a reset."""


class Message:
    """One request as it is parsed."""

    __slots__ = (
        "complete",
        "exchange",
        "fields",
        "http10",
        "keep_alive",
        "method",
        "pieces",
        "refusal",
        "target",
        "upgrade",
    )

    def __init__(self, method: bytes, target: bytes, fields: list[tuple[bytes, bytes]]) -> None:
        self.method = method
        self.target = target
        self.fields = fields
        self.http10 = False
        self.keep_alive = True
        self.upgrade = False
        self.refusal: Refused | None = None
        """What is wrong with its head."""
        self.pieces: list[bytes] = []
        """Body bytes that came before its exchange began."""
        self.complete = False
        self.exchange: Exchange | None = None


class ClientSide(asyncio.Protocol):
    """Parses one client's requests and sees that each gets its exchange."""

    __slots__ = (
        "_discarded_bytes",
        "_exchange",
        "_fields",
        "_head_bytes",
        "_lingering_since",
        "_message",
        "_parser",
        "_reading_paused",
        "_stopped",
        "_target",
        "_waiting",
        "_worker",
        "head_since",
        "idle_since",
        "transport",
        "tunnel",
    )

    def __init__(self, worker: RelayWorker) -> None:
        self._worker = worker
        self._parser = httptools.HttpRequestParser(self)
        self._fields: list[tuple[bytes, bytes]] = []
        self._target = b""
        self._head_bytes = 0
        self._message: Message | None = None
        """The request whose body is being parsed."""
        self._exchange: Exchange | None = None
        self._waiting: deque[Message] = deque()
        self._reading_paused = False
        self._stopped = False
        """Nothing more is parsed: the connection ends with the call under way."""
        self._lingering_since: float | None = None
        self._discarded_bytes = 0
        self.transport: asyncio.Transport | None = None
        self.tunnel: object | None = None
        self.head_since: float | None = None
        """Since when a request's head has been awaited, or is half here."""
        self.idle_since: float | None = None
        """Since when the connection has been kept for a next request."""

    # == the transport's calls ================================================================

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.head_since = self._worker.loop.time()
        self._worker.accepted(self)

    def data_received(self, data: bytes) -> None:
        if self._stopped or self.tunnel is not None:
            self._take_unparsed(data)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._after_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            self._malformed(error)
            return
        if self._message is None and self.head_since is None and self._fields:
            self.head_since = self._worker.loop.time()
        if self._head_bytes > self._worker.head_bytes_max:
            self._refuse_unparsed(Refused("head_too_large", str(self._worker.head_bytes_max)))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        self.transport = None
        self._stopped = True
        self._waiting.clear()
        self._worker.closed(self)
        if self._exchange is not None:
            self._exchange.client_lost()

    def pause_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.client_paused()

    def resume_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.client_resumed()

    # == llhttp's calls. None may raise. ======================================================

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._message is not None:
            return  # a trailer of the request: not passed on
        self._fields.append((name, value))
        self._head_bytes += len(name) + len(value) + 4

    def on_headers_complete(self) -> None:
        message = Message(self._parser.get_method(), self._target, self._fields)
        message.keep_alive = self._parser.should_keep_alive()
        message.upgrade = self._parser.should_upgrade()
        version = self._parser.get_http_version()
        message.http10 = version == "1.0"
        message.refusal = _checked(message, version, self._head_bytes, self._worker.head_bytes_max)
        self._target, self._fields, self._head_bytes = b"", [], 0
        self._message = message
        self.head_since = self.idle_since = None
        if self._exchange is None:
            self._begin(message)
        elif len(self._waiting) < WAITING_MAX:
            self._waiting.append(message)
            self._pause_reading()
        else:
            self._stopped = True

    def on_body(self, body: bytes) -> None:
        message = self._message
        if message is None:
            return
        if message.exchange is not None:
            message.exchange.body_received(body)
        else:
            message.pieces.append(body)

    def on_message_complete(self) -> None:
        message, self._message = self._message, None
        if message is None:
            return
        message.complete = True
        if message.exchange is not None:
            message.exchange.body_complete()

    # == one exchange after the other =========================================================

    def _begin(self, message: Message) -> None:
        exchange = self._exchange = message.exchange = Exchange(self._worker, self, message)
        exchange.begin()

    def exchange_ended(self, exchange: Exchange, keep_alive: bool) -> None:
        """The call under way is over; go on with the next, or end the connection."""
        if exchange is not self._exchange:
            return
        self._exchange = None
        if self._message is not None:
            self._message.exchange = None
        transport = self.transport
        if transport is None:
            return
        if not keep_alive or (self._stopped and not self._waiting):
            self._end(transport)
        elif self._waiting:
            self._worker.loop.call_soon(self._next)
        else:
            self.idle_since = self._worker.loop.time()
            self._resume_reading()

    def _next(self) -> None:
        if self.transport is None or self._exchange is not None or not self._waiting:
            return
        message = self._waiting.popleft()
        self._begin(message)
        for piece in message.pieces:
            if message.exchange is not None:
                message.exchange.body_received(piece)
        message.pieces = []
        if message.complete and message.exchange is not None:
            message.exchange.body_complete()
        if not self._waiting:
            self._resume_reading()

    def _end(self, transport: asyncio.Transport) -> None:
        """End the connection. A request still coming is read on a little, and thrown away."""
        self._waiting.clear()
        if self._message is None or not transport.can_write_eof():
            self._stopped = True
            transport.close()
            return
        self._stopped = True
        self._lingering_since = self._worker.loop.time()
        transport.write_eof()
        self._resume_reading()

    def _take_unparsed(self, data: bytes) -> None:
        if self.tunnel is not None and self._exchange is not None:
            self._exchange.tunnel_bytes(data)
        elif self._lingering_since is not None:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > LINGER_BYTES_MAX and self.transport is not None:
                self.transport.abort()

    def _after_upgrade(self, tail: bytes) -> None:
        """Go on behind a request that asks for an upgrade: there llhttp has stopped."""
        exchange = self._exchange
        if exchange is not None and exchange.wants_tunnel:
            self._pause_reading()
            exchange.ahead = tail
            self._stopped = True
            return
        # An upgrade that we do not take part in: the bytes that follow are the next request.
        self._parser = httptools.HttpRequestParser(self)
        if tail:
            self.data_received(tail)

    def _malformed(self, error: Exception) -> None:
        # What exactly was wrong may quote what the client sent: the kind must do.
        if isinstance(error, httptools.HttpParserCallbackError):
            refused = Refused("internal_error")
        else:
            refused = Refused("malformed_request", type(error).__name__)
        self._refuse_unparsed(refused)

    def _refuse_unparsed(self, refused: Refused) -> None:
        """What came is no request. A call under way is not harmed unless it was its own body."""
        self._stopped = True
        self.head_since = None
        message, self._message = self._message, None
        if message is not None and message.exchange is not None:
            message.exchange.body_broken(refused)
        elif self._exchange is None:
            transport = self.transport
            if transport is not None:
                self._worker.answer_unparsed(self, refused)
                self._message = message
                transport.close()

    # == for exchanges ========================================================================

    def pause_body(self) -> None:
        """Read no more of a body that the upstream does not take."""
        self._pause_reading()

    def resume_body(self) -> None:
        """Read on."""
        if not self._waiting:
            self._resume_reading()

    def open_tunnel(self, tunnel: object) -> None:
        """From now on the client's bytes are not HTTP."""
        self.tunnel = tunnel
        self._resume_reading()

    def _pause_reading(self) -> None:
        if not self._reading_paused and self.transport is not None:
            self._reading_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and self.transport is not None:
            self._reading_paused = False
            self.transport.resume_reading()

    # == for the worker =======================================================================

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way."""
        return self._exchange is None

    def tick(self, now: float, head_seconds_max: float, keepalive_seconds: float) -> None:
        """Look after the connection's own deadlines."""
        transport = self.transport
        if transport is None:
            return
        lingered = self._lingering_since is not None and (
            now - self._lingering_since > LINGER_SECONDS
        )
        if lingered or (self.head_since is not None and now - self.head_since > head_seconds_max):
            transport.abort()
        elif self.idle_since is not None and now - self.idle_since > keepalive_seconds:
            transport.close()

    def close_idle(self) -> None:
        """We are going down: end the connection, at once or with the call under way."""
        if self._exchange is None and self.transport is not None:
            self.transport.close()


def _checked(
    message: Message, version: str, head_bytes: int, head_bytes_max: int
) -> Refused | None:
    """Tell what is wrong with a head that llhttp took for HTTP."""
    if version not in ("1.1", "1.0"):
        return Refused("version_refused")
    if head_bytes > head_bytes_max or len(message.fields) > FIELDS_MAX:
        return Refused("head_too_large", str(head_bytes_max))
    hosts = 0
    for name, value in message.fields:
        size = len(name)
        if size == 4 and name.lower() == b"host":
            hosts += 1
        elif (
            size == 17
            and name.lower() == b"transfer-encoding"
            and (value.lower() != b"chunked" or message.http10)
        ):
            return Refused("malformed_request", "the transfer coding is not chunked")
    if hosts > 1 or (hosts == 0 and not message.http10):
        return Refused("malformed_request", "there must be one Host")
    return None
