"""A client's connection: bytes in, requests out.

llhttp (`httptools`) parses, strictly, and `_message` checks what it leaves open; a head that has
been seen before is told by its bytes (`_known`), and a body of stated length that follows such
a head by its length. What goes upstream is framed anew by us, so nothing of one request can
become part of the next.

Why not aiohttp's server: by itself it takes as much CPU for a call as nginx takes to proxy it
twice. Its protocol makes two tasks, a stream reader, a stream writer and a request object a
call, none of which a relay needs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httptools

from taximeter.relay._errors import Refused
from taximeter.relay._exchange import Exchange
from taximeter.relay._known import Cut, Usual, cut, usual_of
from taximeter.relay._message import Message
from taximeter.relay._plain_call import PlainCall, looks_streamed
from taximeter.relay._turns import Ahead, Turns

if TYPE_CHECKING:
    from taximeter.relay._worker import RelayWorker

WAITING_MAX = 64
"""Requests parsed ahead: as many as fit into one read; a client that sends more is refused."""
FRAMING_BYTES_MAX = 4096
"""What a head may have beside its target, names and values: line ends, padding."""
HEADLESS_BYTES_MAX = 64 * 1024
"""Bytes of a request's body that may come in a row without being body: chunk extensions,
trailers. llhttp puts no bound on them."""


class ClientSide(Turns):
    """Parses one client's requests."""

    __slots__ = (
        "_body_left",
        "_fields",
        "_first_seen",
        "_generation",
        "_head_bytes",
        "_is_between",
        "_parser",
        "_resumed",
        "_target",
        "_unmoved_bytes",
        "_usual",
    )

    def __init__(self, worker: RelayWorker) -> None:
        super().__init__(worker)
        self._parser = httptools.HttpRequestParser(self)
        self._fields: list[tuple[bytes, bytes]] = []
        self._target = b""
        self._head_bytes = 0
        self._body_left = 0
        """Bytes to come of a body that is told by its length, not parsed."""
        self._first_seen: Cut | None = None
        """The head being parsed, if it may be known the next time."""
        self._resumed: Message | None = None
        """A request whose body a parser of its own is to find."""
        self._unmoved_bytes = 0
        """Bytes read since the last that were a body, or a head's or a message's end."""
        self._is_between = True
        """Whether the parser has been given no byte of a next request: only then may bytes be
        taken past it."""
        self._usual: Usual | None = None
        """The last head that was known, while its generation lasts."""
        self._generation: object = None

    # == the transport's calls ================================================================

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.head_since = self._worker.loop.time()
        self._worker.accepted(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.transport = None
        self._stopped = True
        self._waiting.clear()
        self._worker.closed(self)
        if self._exchange is not None:
            self._exchange.client_lost()

    def data_received(self, data: bytes) -> None:
        if self._body_left and not self._stopped:
            data = self._take_sized(data)
        elif (
            self._exchange is None
            and self._message is None
            and self._is_between
            and not self._stopped
            and not self._waiting
            and self._resumed is None
        ):
            data = self._take_known(data)
        if data:
            self._parse(data)

    def _take_known(self, data: bytes) -> bytes:
        """Begin the call whose head is known; give the bytes that are still to be parsed."""
        heads, usual = self._worker.snapshot.heads, self._usual
        if (
            usual is not None
            and self._generation is heads.young
            and (head := usual.cut(data)) is not None
        ):
            intake = usual.intake
        else:
            head = cut(data)
            if head is None:
                return data
            found = heads.get(head.key)
            if found is None:
                self._first_seen = head
                return data
            intake = found
            self._usual = usual_of(data, head, intake)
            self._generation = heads.young
        body_start, length = head.body_start, head.length
        here = len(data) - body_start
        if (
            intake.is_plain
            and self._full_since is None
            and (here == length or not here)
            and not looks_streamed(data)
        ):
            call = self._exchange = PlainCall(self._worker, self, intake, head)
            self.head_since = self.idle_since = None
            if not here:
                self._receiver, self._message, self._body_left = call, intake.message, length
                call.await_body()
                return b""
            if call.begin(data[body_start:]):
                return b""
            self._exchange = None
        self._body_left = length
        self._message = intake.message
        self.head_since = self.idle_since = None
        self._begin(intake.message, intake, head)
        return self._take_sized(data[body_start:])

    def _take_sized(self, data: bytes) -> bytes:
        """Take bytes of a body that is told by its length; give what follows it."""
        left = self._body_left - len(data)
        behind = b""
        if left < 0:
            data, behind = data[:left], data[left:]
            left = 0
        self._body_left = left
        receiver = self._receiver
        if receiver is not None and data:
            receiver.body_received(data)
        if not left:
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
        # A read may bring a request's end and the next one's beginning. Of a line's end that
        # stands between the two the parser tells nothing, and may have seen half of it.
        self._is_between = not (self._head_begun or self._unmoved_bytes or data[-1:] == b"\r")
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

    # == what is no usual request =============================================================

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
        if isinstance(exchange, Exchange) and exchange.wants_tunnel:
            exchange.ahead = tail
            self._stopped = self._body_paused = True
            self._pace_reading()
            return b""
        if self._waiting and self._waiting[-1].message.wants_websocket:
            # What follows is HTTP only if it is refused, and that is not known before its turn.
            self._waiting[-1].tail = tail
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
