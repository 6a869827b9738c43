"""Health, as orchestrators ask for it: alive, and ready for calls."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web


class Console:
    """The console's listener."""

    def __init__(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Make it; `state` tells how things stand: `ready` (bool) and whatever else is worth it."""
        self._state = state
        application = web.Application()
        application.router.add_get("/healthz", self._alive)
        application.router.add_get("/readyz", self._ready)
        self._runner = web.AppRunner(application, access_log=None)

    async def start(self, listener: socket.socket) -> None:
        """Begin to answer on a listening socket."""
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        """Answer no more."""
        await self._runner.cleanup()

    async def _alive(self, request: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _ready(self, request: web.Request) -> web.Response:
        state = dict(self._state())
        return web.json_response(state, status=200 if state.get("ready") else 503)
