"""The one place that leans on aiohttp's inside.

aiohttp gives the relay its server (request parsing, keep-alive, pipelining, lingering) and its
connector (pool, DNS cache, happy eyeballs, TLS). Between the two nothing of it is used on the
path of an answer: the relay's own protocols take the upstream's bytes from `data_received`
and write them to the client's transport. For that, four things of aiohttp are used that it
does not promise:

* `web.Server.__call__` makes the protocol of a connection; we make our own, derived from
  `RequestHandler`.
* a `RequestHandler` asks its request object for `_finish`, `_cancel` and `_task`, and the
  response object for `prepare`, `write_eof` and `keep_alive`; ours are the two small classes
  below.
* `BaseConnector._factory` makes the protocol of an upstream connection; we put ours there.
* `ResponseHandler` can sit in the pool without ever having parsed a response.

The contract tests in `tests/relay/test_aiohttp_contract.py` fail loudly on an aiohttp where
one of these has moved.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from aiohttp import ClientTimeout, TCPConnector, web
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler
from yarl import URL

__all__ = [
    "ClientSide",
    "Incoming",
    "LineTooLong",
    "RelayServer",
    "StreamReader",
    "UpstreamConnector",
    "UpstreamSide",
    "Written",
]

_silent = logging.getLogger("taximeter.relay.http")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False
# aiohttp logs a client's parse errors with tracebacks that quote what the client sent. What
# a client sent has no path into our logs; the relay answers and counts such errors itself.


class Incoming:
    """A request whose head has been parsed: what `RequestHandler` needs, and nothing more."""

    __slots__ = ("_task", "body", "client", "message")

    def __init__(
        self,
        message: RawRequestMessage,
        body: StreamReader,
        client: ClientSide,
        writer: object,
        task: asyncio.Task[None],
    ) -> None:
        self.message = message
        self.body = body
        self.client = client
        self._task = task

    remote = None

    def _finish(self) -> None:
        """Called by aiohttp when the handler has returned."""

    def _cancel(self, error: BaseException) -> None:
        """Called by aiohttp when the client has gone: whoever reads the body learns of it."""
        self.body.set_exception(error)


class Written:
    """A response that has been written already: aiohttp asks only whether to go on."""

    __slots__ = ("keep_alive",)

    def __init__(self, keep_alive: bool) -> None:
        self.keep_alive = keep_alive

    async def prepare(self, request: Incoming) -> None:
        """Do nothing: the head is on its way."""

    async def write_eof(self) -> None:
        """Do nothing: so is the body."""


class ClientOwner(Protocol):
    """Who is told of what a client's connection goes through."""

    def client_lost(self) -> None:
        """The client's connection is gone."""

    def client_paused(self) -> None:
        """The client reads too slowly: its buffer is full."""

    def client_resumed(self) -> None:
        """The client's buffer has room again."""


class ClientSide(RequestHandler):
    """A client's connection."""

    __slots__ = ("head_since", "owner", "server", "tunnel")

    def __init__(self, server: RelayServer, **options: Any) -> None:
        super().__init__(server, **options)
        self.server = server
        self.owner: ClientOwner | None = None
        self.head_since: float | None = None
        """Since when a request's head has been awaited in part; None between requests."""
        self.tunnel: Callable[[bytes], None] | None = None
        """Where the client's bytes go once the connection is no longer HTTP."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.head_since = self._loop.time()
        super().connection_made(transport)
        self.server.accepted(self)

    def data_received(self, data: bytes) -> None:
        if self.tunnel is not None:
            self.tunnel(data)
            return
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self.head_since = None
        elif self.head_since is None and not self._request_in_progress:
            self.head_since = self._loop.time()

    def connection_lost(self, exc: BaseException | None) -> None:
        owner, self.owner = self.owner, None
        super().connection_lost(exc)
        if owner is not None:
            owner.client_lost()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.owner is not None:
            self.owner.client_paused()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.owner is not None:
            self.owner.client_resumed()

    def take_upgraded(self) -> bytes:
        """Give the bytes that followed an upgrade request's head."""
        tail, self._message_tail = self._message_tail, b""
        return tail

    def handle_error(  # type: ignore[override]
        self,
        request: Any,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> Written:
        """Answer what aiohttp could not parse, in our words instead of its own."""
        return self.server.answer_unparsed(self, status, exc)


class RelayServer(web.Server):
    """Makes `ClientSide`s and hands their requests to `handler`."""

    def __init__(
        self,
        handler: Callable[[Incoming], Awaitable[Written]],
        *,
        head_bytes_max: int,
        keepalive_seconds: float,
        on_accept: Callable[[ClientSide], None],
        on_unparsed: Callable[[ClientSide, int, BaseException | None], Written],
    ) -> None:
        super().__init__(
            handler,  # type: ignore[arg-type]
            request_factory=Incoming,  # type: ignore[arg-type]
            auto_decompress=False,
            access_log=None,
            logger=_silent,
            keepalive_timeout=keepalive_seconds,
            lingering_time=2.0,
            max_line_size=head_bytes_max,
            max_field_size=head_bytes_max,
            max_headers=256,
        )
        self.accepted = on_accept
        self.answer_unparsed = on_unparsed

    def __call__(self) -> ClientSide:
        return ClientSide(self, loop=self._loop, **self._kwargs)

    @property
    def clients(self) -> list[ClientSide]:
        """The connections that are open."""
        return list(self._connections)  # type: ignore[arg-type]


class AnswerOwner(Protocol):
    """Who is told of what an upstream's connection brings, from `attach` to `detach`."""

    def upstream_bytes(self, data: bytes) -> None:
        """Bytes have come."""

    def upstream_lost(self, clean: bool) -> None:
        """The connection has ended: `clean` if by an orderly end of bytes."""


class UpstreamSide(ResponseHandler):
    """A connection to an upstream: in the pool, or owned by one exchange.

    In the pool it expects silence. Whatever comes while nobody owns it (bytes, an end of
    bytes) makes it unusable: nothing is ever carried from one exchange to the next.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.owner: AnswerOwner | None = None
        self.on_writable: Callable[[], None] | None = None
        self.on_unwritable: Callable[[], None] | None = None
        self._saw_eof = False

    def data_received(self, data: bytes) -> None:
        owner = self.owner
        if owner is not None:
            owner.upstream_bytes(data)
            return
        self.force_close()
        if self.transport is not None:
            self.transport.abort()

    def eof_received(self) -> None:
        self._saw_eof = True
        self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        owner, self.owner = self.owner, None
        super().connection_lost(exc)
        # Nobody awaits aiohttp's own queue; an exception kept there would be reported as lost.
        self._exception = None
        if owner is not None:
            owner.upstream_lost(self._saw_eof and exc is None)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.on_unwritable is not None:
            self.on_unwritable()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.on_writable is not None:
            self.on_writable()

    async def wait_writable(self) -> None:
        """Wait until the upstream takes more.

        Raises:
            ConnectionError: if it is gone.
        """
        await self._drain_helper()


class UpstreamConnector:
    """The pool of one upstream's connections."""

    def __init__(
        self,
        url: str,
        *,
        connections_max: int,
        connect_seconds: float,
        tls: ssl.SSLContext | None = None,
        keepalive_seconds: float = 30.0,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._connector = TCPConnector(
            limit=connections_max,
            keepalive_timeout=keepalive_seconds,
            ttl_dns_cache=30,
            ssl=tls if tls is not None else True,
        )
        self._connector._factory = lambda: UpstreamSide(loop)  # type: ignore[assignment]
        # The connector wants a request only to learn where to: one serves all calls.
        self._where = ClientRequest("GET", URL(url), loop=loop, ssl=tls if tls is not None else True)
        self._timeout = ClientTimeout(
            total=None, connect=connect_seconds, sock_connect=connect_seconds
        )

    async def connect(self) -> Connection:
        """Give a connection, from the pool or new.

        Raises:
            aiohttp.ClientError, OSError, TimeoutError: as aiohttp's connector does.
        """
        return await self._connector.connect(self._where, [], self._timeout)

    @property
    def in_use(self) -> int:
        """Connections owned by exchanges, those being made included."""
        return len(self._connector._acquired)

    async def close(self) -> None:
        """Close every connection."""
        await self._connector.close()
