"""A client's turns: one call after the other on its connection, and when the connection ends.

One call is under way on a connection at a time. Requests that a client sends ahead (pipelining)
wait, parsed, and while one waits no further byte is read. Bytes are read all the time otherwise:
that is how a client's leaving is noticed.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from typing import TYPE_CHECKING

from taximeter.relay._delivery import end_by_reset
from taximeter.relay._errors import Refused
from taximeter.relay._exchange import Exchange

if TYPE_CHECKING:
    from taximeter.relay._course import Course
    from taximeter.relay._intake import Intake
    from taximeter.relay._known import Cut
    from taximeter.relay._message import Message
    from taximeter.relay._plain_call import PlainCall
    from taximeter.relay._plain_standing import PlainStanding
    from taximeter.relay._worker import RelayWorker

LINGER_SECONDS = 2.0
LINGER_BYTES_MAX = 4 * 1024 * 1024
"""After an answer that came before the request's end: how much more of that is read and thrown
away, so that the answer is not lost to a reset."""

_GONE = getattr(select, "POLLRDHUP", 0)
"""Where the system does not tell of it, of a reset alone."""


class Ahead:
    """A request that a client has sent ahead: it waits for its turn, and keeps what comes."""

    __slots__ = ("_broken", "_complete", "_pieces", "message", "tail")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.tail = b""
        """What came in the same read behind a request for an upgrade."""
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
        exchange.ahead = self.tail
        for piece in self._pieces:
            exchange.body_received(piece)
        if self._broken is not None:
            exchange.body_broken(self._broken)
        elif self._complete:
            exchange.body_complete()


class Turns(asyncio.Protocol):
    """Sees that each request of a connection gets its exchange, in turn."""

    __slots__ = (
        "_body_paused",
        "_closing_since",
        "_discarded_bytes",
        "_exchange",
        "_full_since",
        "_head_begun",
        "_lingering_since",
        "_message",
        "_reading_paused",
        "_receiver",
        "_stopped",
        "_waiting",
        "_worker",
        "head_since",
        "idle_since",
        "transport",
        "tunnel",
    )

    def __init__(self, worker: RelayWorker) -> None:
        self._worker = worker
        self._head_begun = False
        """Some of a head is here, not all of it."""
        self._message: Message | None = None
        """The request whose body is being read."""
        self._receiver: Exchange | PlainCall | Ahead | None = None
        """Who gets the body that is coming; None if nobody wants it any more."""
        self._exchange: Exchange | PlainCall | None = None
        self._waiting: deque[Ahead] = deque()
        self._body_paused = False
        """The call under way wants no more of its body for now."""
        self._reading_paused = False
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

    def _begin(self, message: Message, intake: Intake | None, head: Cut | None) -> None:
        """Begin a call: on a head that is known, or on one that may be from now on."""
        exchange = self._exchange = self._receiver = Exchange(self._worker, self, message)
        if self._full_since is not None:
            exchange.client_paused()  # the answer before has not been taken yet
        exchange.begin(intake, head)

    def follow(self, call: PlainStanding, exchange: Exchange) -> None:
        """Take note that the call under way is an exchange from here on."""
        self._exchange = exchange
        if self._receiver is call:
            self._receiver = exchange
        if self._full_since is not None:
            exchange.client_paused()

    def exchange_ended(self, exchange: Course | PlainCall, keep_alive: bool) -> None:
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
        receiver = self._receiver
        self._begin(ahead.message, None, None)
        exchange = self._exchange
        if receiver is not ahead:
            self._receiver = receiver  # the body that is coming is that of one behind it, if any
        if isinstance(exchange, Exchange):
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

    # == the transport's calls ================================================================

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._full_since = self._worker.loop.time()
        if self._exchange is not None:
            self._exchange.client_paused()

    def resume_writing(self) -> None:
        self._full_since = None
        if self._exchange is not None:
            self._exchange.client_resumed()

    # == for exchanges ========================================================================

    def drop_if_gone(self) -> bool:
        """Let go of a client that has left while nothing was read of it; give whether it had.

        Its leaving is told by the end of its bytes, and while a body waits for room nobody reads so
        far: the system knows, as soon as there is room in it for all that came before.
        """
        transport = self.transport
        socket = transport.get_extra_info("socket") if self._reading_paused and transport else None
        if socket is None or transport is None:
            return False
        look = select.poll()
        look.register(socket.fileno(), _GONE)
        if not look.poll(0):
            return False
        transport.abort()
        return True

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
        if untaken and now - untaken > write_idle_seconds_max:
            end_by_reset(transport)
            transport.abort()
        elif lingered or (self.head_since is not None and now - self.head_since > head_seconds_max):
            transport.abort()
        elif (
            self.idle_since is not None
            and self._closing_since is None
            and now - self.idle_since > keepalive_seconds
        ):
            self._closing_since = now
            transport.close()

    def close_kept(self, now: float) -> None:
        """We are short of room: end the connection if it only waits for a next request."""
        is_kept = self.idle_since is not None and self.head_since is None
        if is_kept and self._closing_since is None and self.transport is not None:
            self._closing_since = now
            self.transport.close()

    def close_idle(self) -> None:
        """We are going down: end the connection, at once or with the call under way."""
        if self._exchange is None and not self._waiting and self.transport is not None:
            self.transport.close()
