"""The console's listener: its routes, and who may use which.

`ROUTES` is the whole of it. A route says who may use it; what is no route is an operator's to
hear of, so that a stranger off this machine learns nothing but yes and no.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from aiohttp import web

from taximeter.console._access import Access, Role
from taximeter.console._connections import HEADERS, Connections
from taximeter.console._metrics import Exposition, Make

State = Callable[[], Mapping[str, Any]]
_ROLE = web.RequestKey("role", Role)


class Route(NamedTuple):
    """One thing that may be asked, by GET."""

    path: str
    role: Role
    """Who may ask."""
    answer: Callable[[Console, web.Request], Awaitable[web.StreamResponse]]


class Console:
    """Answers what people, collectors and orchestrators ask Taximeter itself."""

    def __init__(self, state: State, metrics: Make, *, token: str | None = None) -> None:
        """Make it.

        Args:
            state: tells how things stand: `ready` (bool) and whatever else is worth it.
            metrics: makes the text for collectors, in OpenMetrics or not.
            token: what an operator must show; None for a listener on loopback.
        """
        self._state = state
        self._access = Access(token)
        self._exposition = Exposition(metrics)
        self.application = web.Application(middlewares=[self._admit])
        for route in ROUTES:
            self.application.router.add_get(route.path, self._handler(route))
        self.application.on_response_prepare.append(_put_headers)
        self._runner = web.AppRunner(self.application)
        self._connections: Connections | None = None
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Begin to answer on a listening socket."""
        await self._runner.setup()
        if self._runner.server is None:  # pragma: no cover - `setup` has made it
            raise RuntimeError("aiohttp has made no server")
        self._connections = Connections(self._runner.server)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connections.accept, sock=listener)

    async def stop(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    def _handler(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await route.answer(self, request)

        return handle

    @web.middleware
    async def _admit(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        if self._connections is not None:
            self._connections.heard(request.protocol)
        role = self._access.role_of(
            authorization=request.headers.get("Authorization"), host=request.headers.get("Host")
        )
        resource = request.match_info.route.resource
        wanted = _ROLES.get(resource.canonical if resource is not None else "", Role.OPERATOR)
        if role is not Role.OPERATOR and wanted is not Role.ANYONE:
            return self._access.refusal()
        request[_ROLE] = role
        return await handler(request)

    # -- answers ------------------------------------------------------------------------------

    async def alive(self, request: web.Request) -> web.StreamResponse:
        """Tell that this process runs."""
        return web.json_response({"alive": True})

    async def ready(self, request: web.Request) -> web.StreamResponse:
        """Tell whether calls are relayed; to an operator, how each process stands too."""
        state = dict(self._state())
        ready = bool(state.get("ready"))
        said = state if request[_ROLE] is Role.OPERATOR else {"ready": ready}
        return web.json_response(said, status=200 if ready else 503)

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Give everything there is for a collector."""
        return await self._exposition.answer(request)


async def _put_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


ROUTES = (
    Route("/healthz", Role.ANYONE, Console.alive),
    Route("/readyz", Role.ANYONE, Console.ready),
    Route("/metrics", Role.OPERATOR, Console.metrics),
)
_ROLES = {route.path: route.role for route in ROUTES}
