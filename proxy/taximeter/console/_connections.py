"""The console's connections, bounded: how many there are, and how long one may stay silent.

aiohttp has a deadline between two requests of a connection, and none for the first. Off loopback
anyone may connect, and what they hold is file handles of the process that starts all others.
Nor does aiohttp show its own errors to who else looks after answers: those get their headers here.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

CONNECTIONS_MAX = 256
FIRST_REQUEST_SECONDS_MAX = 10.0
KEEPALIVE_SECONDS = 75.0
HEADERS = {"Server": "taximeter", "X-Content-Type-Options": "nosniff"}
"""Of every answer. A stranger learns no version of what this is made of."""


class _Refusal(asyncio.Protocol):
    """A connection beyond the bound: closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class _Connection(web.RequestHandler):
    """A connection, whose errors have the console's headers."""

    __slots__ = ()

    def handle_error(self, *args: Any, **kwargs: Any) -> web.StreamResponse:
        """Answer what aiohttp has refused before there was a request, or what has failed."""
        response = super().handle_error(*args, **kwargs)
        response.headers.update(HEADERS)
        return response


class Connections:
    """Makes the protocol of each new connection."""

    def __init__(self, server: web.Server) -> None:
        self._server = server
        self._silent: set[asyncio.Protocol] = set()
        self.refused = 0
        """Connections closed at once, because there were too many."""

    def accept(self) -> asyncio.Protocol:
        """Give a protocol for a connection that has just come."""
        if len(self._server.connections) >= CONNECTIONS_MAX:
            self.refused += 1
            return _Refusal()
        loop = asyncio.get_running_loop()
        made = _Connection(
            self._server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # None is none
            keepalive_timeout=KEEPALIVE_SECONDS,
        )
        self._silent.add(made)
        loop.call_later(FIRST_REQUEST_SECONDS_MAX, self._end_if_silent, made)
        return made

    def heard(self, connection: asyncio.Protocol) -> None:
        """Take note of a connection's request."""
        self._silent.discard(connection)

    def _end_if_silent(self, connection: web.RequestHandler) -> None:
        if connection in self._silent:
            self._silent.discard(connection)
            if connection.transport is not None:
                connection.transport.close()
