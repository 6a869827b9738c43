"""The one place that leans on aiohttp's inside.

aiohttp makes the connections to upstreams: DNS and its cache, happy eyeballs, TLS, limits. On
such a connection nothing of it is used: the relay's own protocol takes the upstream's bytes from
`data_received` and hands them to the exchange that owns it. For that, two things of aiohttp are
used that it does not promise:

* `BaseConnector._factory` makes the protocol of a connection; we put ours there.
* `ResponseHandler`, which ours is derived from, works without ever having parsed a response.

The contract tests in `tests/relay/test_aiohttp_contract.py` fail loudly on an aiohttp where one
of these has moved.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from fcntl import ioctl
from termios import FIONREAD
from typing import Protocol

from aiohttp import ClientTimeout, TCPConnector
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from yarl import URL

from taximeter.relay._resolver import UpstreamResolver

_NOTHING = bytes(4)
"""What `FIONREAD` says where no byte is to be read."""


class AnswerOwner(Protocol):
    """Who is told of what an upstream's connection brings, as long as it owns it."""

    def upstream_bytes(self, data: bytes) -> None:
        """Bytes have come."""

    def upstream_lost(self, clean: bool) -> None:
        """The connection has ended: `clean` if by an orderly end of bytes."""

    def upstream_paused(self) -> None:
        """The upstream takes no more for now."""

    def upstream_resumed(self) -> None:
        """The upstream takes more again."""


class UpstreamSide(ResponseHandler):
    """A connection to an upstream: idle, or owned by one exchange.

    Idle it expects silence. Whatever comes while nobody owns it (bytes, an end of bytes) makes
    it unusable: nothing is ever carried from one exchange to the next. What has come and is still
    to be read is looked for when it is taken for a call (`is_silent`).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.owner: AnswerOwner | None = None
        self.take: Callable[[bytes], None] | None = None
        """Where bytes go, if not to the owner's `upstream_bytes`."""
        self._saw_eof = False
        self._handle = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        socket = transport.get_extra_info("socket")
        self._handle = -1 if socket is None else socket.fileno()

    def is_silent(self) -> bool:
        """Tell whether it is open, and nothing has come on it that is still to be read."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return False
        return self._handle < 0 or ioctl(self._handle, FIONREAD, _NOTHING) == _NOTHING

    def data_received(self, data: bytes) -> None:
        take = self.take
        if take is not None:
            take(data)
            return
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
        owner, self.owner, self.take = self.owner, None, None
        super().connection_lost(exc)
        # Nobody awaits aiohttp's own queue; an exception kept there would be reported as lost.
        self._exception = None
        if owner is not None:
            owner.upstream_lost(self._saw_eof and exc is None)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.owner is not None:
            self.owner.upstream_paused()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.owner is not None:
            self.owner.upstream_resumed()


class UpstreamConnector:
    """Makes the connections of one upstream."""

    def __init__(
        self,
        url: str,
        *,
        connections_max: int,
        connect_seconds: float,
        tls: ssl.SSLContext | None = None,
        names: AbstractResolver | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        context = tls if tls is not None else True
        self._resolver = UpstreamResolver(names)
        self._connector = TCPConnector(
            limit=connections_max, ttl_dns_cache=30, ssl=context, resolver=self._resolver
        )
        factory: Callable[[], UpstreamSide] = lambda: UpstreamSide(loop)  # noqa: E731
        self._connector._factory = factory  # type: ignore[assignment]
        # The connector wants a request only to learn where to: one serves all calls.
        self._where = ClientRequest("GET", URL(url), loop=loop, ssl=context)
        self._timeout = ClientTimeout(
            total=None, connect=connect_seconds, sock_connect=connect_seconds
        )

    async def connect(self) -> tuple[Connection, UpstreamSide]:
        """Make a connection.

        Raises:
            aiohttp.ClientError, OSError, TimeoutError: as aiohttp's connector does.
        """
        connection = await self._connector.connect(self._where, [], self._timeout)
        side = connection.protocol
        if not isinstance(side, UpstreamSide):
            connection.close()
            raise TypeError("aiohttp's connector has not used our protocol")
        return connection, side

    @property
    def in_use(self) -> int:
        """Connections that there are, idle ones and those being made included."""
        return len(self._connector._acquired)

    async def close(self) -> None:
        """Close every connection."""
        await self._connector.close()
        await self._resolver.close()
