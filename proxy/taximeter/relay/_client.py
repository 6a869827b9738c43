"""A client's connection: requests in, one exchange after the other.

llhttp (`httptools`) parses, strictly, and `_message` checks what it leaves open; a head that has
been seen before is told by its bytes (`_known`), and a body of stated length that follows such
a head by its length. What goes upstream is framed anew by us, so nothing of one request can
become part of the next.

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
from taximeter.relay._known import Cut, cut
from taximeter.relay._message import Message

if TYPE_CHECKING:
    from taximeter.relay._course import Course
    from taximeter.relay._intake import Intake
    from taximeter.relay._worker import RelayWorker

WAITING_MAX = 64
"""Requests parsed ahead: as many as fit into one read; a client that sends more is refused."""
FRAMING_BYTES_MAX = 4096
"""What a head may have beside its target, names and values: line ends, padding."""
HEADLESS_BYTES_MAX = 64 * 1024
"""Bytes of a request's body that may come in a row without being body: chunk extensions,
trailers. llhttp puts no bound on them."""
LINGER_SECONDS = 2.0
LINGER_BYTES_MAX = 4 * 1024 * 1024
"""After an answer that came before the request's end: how much more of that is read and thrown
away, so that the answer is not lost to a reset."""


class Ahead:
    """A request that a client has sent ahead: it waits for its turn, and keeps what comes."""

    __slots__ = ("_broken", "_complete", "_pieces", "message")

    def __init__(self, message: Message) -> None:
        self.message = message
        self._pieces: list[bytes] = []
        self._complete = False
        self._broken: Refused | None = None

    def body_received(self, data: bytes) -> None:
        """Keep a piece of its body."""
        self._pieces.append(data)

    def body_complete(self) -> None:
        """Take note that its body has come to its end."""
        self._complete = True

    def body_broken(self, refused: Refused) -> None:
        """Take note that what came is no body."""
        self._broken = refused

    def tell(self, exchange: Exchange) -> None:
        """Tell its exchange, which has begun, what has come so far."""
        for piece in self._pieces:
            exchange.body_received(piece)
        if self._broken is not None:
            exchange.body_broken(self._broken)
        elif self._complete:
            exchange.body_complete()


class ClientSide(asyncio.Protocol):
    """Parses one client's requests and sees that each gets its exchange."""

    __slots__ = (
        "_body_left",
        "_body_paused",
        "_closing_since",
        "_discarded_bytes",
        "_exchange",
        "_fields",
        "_first_seen",
        "_full_since",
        "_head_begun",
        "_head_bytes",
        "_lingering_since",
        "_message",
        "_parser",
        "_reading_paused",
        "_receiver",
        "_resumed",
        "_stopped",
        "_target",
        "_unmoved_bytes",
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
        self._head_begun = False
        """Some of a head is here, not all of it."""
        self._message: Message | None = None
        """The request whose body is being parsed."""
        self._body_left = 0
        """Bytes to come of a body that is told by its length, not parsed."""
        self._receiver: Exchange | Ahead | None = None
        """Who gets the body that is coming; None if nobody wants it any more."""
        self._first_seen: Cut | None = None
        """The head being parsed, if it may be known the next time."""
        self._resumed: Message | None = None
        """A request whose body a parser of its own is to find."""
        self._exchange: Exchange | None = None
        self._waiting: deque[Ahead] = deque()
        self._body_paused = False
        """The call under way wants no more of its body for now."""
        self._reading_paused = False
        self._unmoved_bytes = 0
        """Bytes read since the last that were a body, or a head's or a message's end."""
        self._stopped = False
        """Nothing more is parsed: the connection ends with the call under way."""
        self._full_since: float | None = None
        """Since when the client has not taken what is written to it."""
        self._closing_since: float | None = None
        """Since when all that is left is to be rid of the last bytes."""
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
        if self._body_left and not self._stopped:
            data = self._take_sized(data)
        elif (
            self._exchange is None
            and self._message is None
            and not self._unmoved_bytes
            and not self._stopped
            and not self._waiting
            and self._resumed is None
        ):
            data = self._take_known(data)
        if data:
            self._parse(data)

    def _take_known(self, data: bytes) -> bytes:
        """Begin the call whose head is known; give the bytes that are still to be parsed."""
        head = cut(data)
        if head is None:
            return data
        intake = self._worker.snapshot.heads.get(head.key)
        if intake is None:
            self._first_seen = head
            return data
        self._body_left = head.length
        self._message = intake.message
        self.head_since = self.idle_since = None
        self._begin(intake.message, intake, head)
        return self._take_sized(data[head.body_start :])

    def _take_sized(self, data: bytes) -> bytes:
        """Take bytes of a body that is told by its length; give what follows it."""
        left = self._body_left - len(data)
        behind = b""
        if left < 0:
            data, behind = data[:left], data[left:]
        self._body_left = max(0, left)
        receiver = self._receiver
        if receiver is not None and data:
            receiver.body_received(data)
        if left <= 0:
            self._message = None
            receiver, self._receiver = self._receiver, None
            if receiver is not None:
                receiver.body_complete()
        return behind

    def _parse(self, data: bytes) -> None:
        if self._stopped or self.tunnel is not None:
            self._take_unparsed(data)
            return
        self._unmoved_bytes += len(data)
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._after_upgrade(data[upgrade.args[0] :])
            except httptools.HttpParserError as error:
                self._malformed(error)
                return
            else:
                break
        if self._message is not None:
            if self._unmoved_bytes > HEADLESS_BYTES_MAX:
                self._refuse_unparsed(Refused("malformed_request", "the body does not go on"))
            return
        if not self._head_begun or self._stopped:
            return
        if self.head_since is None and self._exchange is None:
            self.head_since = self._worker.loop.time()
        # llhttp tells of a field when it is over: one without an end shows in the bytes only.
        most = self._worker.head_bytes_max
        if self._head_bytes > most or self._unmoved_bytes > most + FRAMING_BYTES_MAX:
            self._refuse_unparsed(Refused("head_too_large", str(most)))

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
        self._full_since = self._worker.loop.time()
        if self._exchange is not None:
            self._exchange.client_paused()

    def resume_writing(self) -> None:
        self._full_since = None
        if self._exchange is not None:
            self._exchange.client_resumed()

    # == llhttp's calls. None may raise. ======================================================

    def on_message_begin(self) -> None:
        self._head_begun = True

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._message is not None:
            return  # a trailer of the request: not passed on
        self._fields.append((name, value))
        self._head_bytes += len(name) + len(value) + 4

    def on_headers_complete(self) -> None:
        self._unmoved_bytes = 0
        self._head_begun = False
        if self._stopped:
            return  # the answer before this request has ended the connection
        if self._resumed is not None:
            self._message, self._resumed = self._resumed, None
            self._target, self._fields, self._head_bytes = b"", [], 0
            return
        parser = self._parser
        message = Message(
            parser.get_method(),
            self._target,
            self._fields,
            version=parser.get_http_version(),
            keep_alive=parser.should_keep_alive(),
            upgrade=parser.should_upgrade(),
            head_bytes=self._head_bytes,
            head_bytes_max=self._worker.head_bytes_max,
        )
        self._target, self._fields, self._head_bytes = b"", [], 0
        self._message = message
        self.head_since = self.idle_since = None
        if self._exchange is None:
            first_seen, self._first_seen = self._first_seen, None
            self._begin(message, None, first_seen)
        elif len(self._waiting) < WAITING_MAX:
            ahead = self._receiver = Ahead(message)
            self._waiting.append(ahead)
            self._pace_reading()
        else:
            self._stopped = True

    def on_body(self, body: bytes) -> None:
        self._unmoved_bytes = 0
        receiver = self._receiver
        if self._message is not None and receiver is not None:
            receiver.body_received(body)

    def on_message_complete(self) -> None:
        self._unmoved_bytes = 0
        message, self._message = self._message, None
        if message is None:
            return
        if message.framing and message.refusal is None:
            self._resumed = message
            return
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.body_complete()

    # == one exchange after the other =========================================================

    def _begin(self, message: Message, intake: Intake | None, head: Cut | None) -> None:
        """Begin a call: on a head that is known, or on one that may be from now on."""
        exchange = self._exchange = self._receiver = Exchange(self._worker, self, message)
        if self._full_since is not None:
            exchange.client_paused()  # the answer before has not been taken yet
        exchange.begin(intake, head)

    def exchange_ended(self, exchange: Course, keep_alive: bool) -> None:
        """The call under way is over; go on with the next, or end the connection."""
        if exchange is not self._exchange:
            return
        self._exchange = None
        self._body_paused = False
        if self._receiver is exchange:
            self._receiver = None
        transport = self.transport
        if transport is None:
            return
        if not keep_alive or ((self._stopped or self._worker.draining) and not self._waiting):
            self._end(transport)
        elif self._waiting:
            self._worker.loop.call_soon(self._next)
        else:
            now = self._worker.loop.time()
            self.idle_since = now
            if self._head_begun:
                self.head_since = now
            if self._reading_paused:
                self._pace_reading()

    def _next(self) -> None:
        if self.transport is None or self._exchange is not None or not self._waiting:
            return
        ahead = self._waiting.popleft()
        # What a client says behind such a request waits for the upstream's word.
        self._body_paused = ahead.message.wants_websocket
        is_coming = self._receiver is ahead
        self._begin(ahead.message, None, None)
        exchange = self._exchange
        if not is_coming:
            self._receiver = None
        if exchange is not None:
            ahead.tell(exchange)
        self._pace_reading()

    def _end(self, transport: asyncio.Transport) -> None:
        """End the connection. What still comes is read on a little, and thrown away: a close
        before it has been read would be a reset, and might take the answer with it.
        """
        self._waiting.clear()
        self._stopped = True
        self._closing_since = self._worker.loop.time()
        if transport.is_closing() or not transport.can_write_eof():
            transport.close()
            return
        self._lingering_since = self._closing_since
        transport.write_eof()
        self._pace_reading()

    def _take_unparsed(self, data: bytes) -> None:
        if self.tunnel is not None and self._exchange is not None:
            self._exchange.tunnel_bytes(data)
        elif self._lingering_since is not None:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > LINGER_BYTES_MAX and self.transport is not None:
                self.transport.abort()

    def _after_upgrade(self, tail: bytes) -> bytes:
        """Go on behind a request that asks for an upgrade: there llhttp has stopped.

        Give the bytes to go on with: the beginning of the next request, or of this one's body.
        llhttp takes a request for an upgrade to have none, but there are clients (Java's is one)
        that ask for h2c with every first request.
        """
        resumed = self._resumed
        if resumed is not None:
            ending = b"" if resumed.keep_alive else b"Connection: close\r\n"
            head = b"POST / HTTP/1.1\r\n%b\r\n%b\r\n" % (resumed.framing, ending)
            resumed.framing = b""
            self._parser = httptools.HttpRequestParser(self)
            return head + tail
        exchange = self._exchange
        if exchange is not None and exchange.wants_tunnel:
            exchange.ahead = tail
            self._stopped = self._body_paused = True
            self._pace_reading()
            return b""
        if self._waiting and self._waiting[-1].message.wants_websocket:
            # What follows is HTTP only if it is refused, and that is not known before its turn.
            self._stopped = True
        if self._stopped:
            return b""
        # An upgrade that we do not take part in: the bytes that follow are the next request.
        self._parser = httptools.HttpRequestParser(self)
        self._unmoved_bytes = len(tail)
        return tail

    def _malformed(self, error: Exception) -> None:
        # What exactly was wrong may quote what the client sent: the kind must do.
        if isinstance(error, httptools.HttpParserCallbackError):
            refused = Refused("internal_error")
        else:
            refused = Refused("malformed_request", type(error).__name__)
        self._refuse_unparsed(refused)

    def _refuse_unparsed(self, refused: Refused) -> None:
        """What came is no request. A call under way is not harmed unless it was its own body."""
        if self._stopped:
            return
        self._stopped = True
        self.head_since = None
        message, self._message = self._message, None
        receiver, self._receiver = self._receiver, None
        if message is not None:
            if receiver is not None:
                receiver.body_broken(refused)
        elif self._exchange is None and self.transport is not None:
            self._worker.answer_unparsed(self, refused)
            self._end(self.transport)

    # == for exchanges ========================================================================

    def pause_body(self) -> None:
        """Read no more of a body that the upstream does not take."""
        self._body_paused = True
        self._pace_reading()

    def resume_body(self) -> None:
        """Read on."""
        self._body_paused = False
        self._pace_reading()

    def open_tunnel(self, tunnel: object) -> None:
        """From now on the client's bytes are not HTTP."""
        self.tunnel = tunnel
        self.resume_body()

    def _pace_reading(self) -> None:
        """Read, or read no more: while a request waits for its turn, or a body for room."""
        transport, pause = self.transport, self._body_paused or bool(self._waiting)
        if pause == self._reading_paused or transport is None or transport.is_closing():
            return
        self._reading_paused = pause
        if pause:
            transport.pause_reading()
        else:
            transport.resume_reading()

    # == for the worker =======================================================================

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way."""
        return self._exchange is None

    def tick(
        self,
        now: float,
        head_seconds_max: float,
        keepalive_seconds: float,
        write_idle_seconds_max: float,
    ) -> None:
        """Look after the connection's own deadlines."""
        transport = self.transport
        if transport is None:
            return
        lingered = self._lingering_since is not None and (
            now - self._lingering_since > LINGER_SECONDS
        )
        # A call under way has deadlines of its own. What is left of the last one has this.
        untaken = self._exchange is None and (self._closing_since or self._full_since)
        if (
            lingered
            or (self.head_since is not None and now - self.head_since > head_seconds_max)
            or (untaken and now - untaken > write_idle_seconds_max)
        ):
            transport.abort()
        elif (
            self.idle_since is not None
            and self._closing_since is None
            and now - self.idle_since > keepalive_seconds
        ):
            self._closing_since = now
            transport.close()

    def close_idle(self) -> None:
        """We are going down: end the connection, at once or with the call under way."""
        if self._exchange is None and not self._waiting and self.transport is not None:
            self.transport.close()
