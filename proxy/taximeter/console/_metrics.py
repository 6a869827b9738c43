"""`/metrics`: what a collector asks for, in the form and the coding it asks for.

However many collectors ask at once, it is made once: who comes while it is being made gets the
same answer.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Hashable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS

GZIP_BYTES_MIN = 1024
"""Below, packing costs more than it saves."""
GZIP_LEVEL = 1
"""The text is so repetitive that the first level takes off nine tenths."""

Make = Callable[[bool], Awaitable[bytes]]
"""Makes the whole text; the argument tells whether in OpenMetrics."""


class Exposition:
    """Gives metrics to collectors."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self._under_way: dict[Hashable, asyncio.Task[bytes]] = {}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a collector."""
        in_openmetrics = wants_openmetrics(",".join(request.headers.getall("Accept", [])))
        headers = {
            "Content-Type": OPENMETRICS if in_openmetrics else CONTENT_TYPE_PLAIN_0_0_4,
            "Cache-Control": "no-store",
            "Vary": "Accept, Accept-Encoding",
        }
        body = await self._once(in_openmetrics, lambda: self._make(in_openmetrics))
        takes_gzip = wants_gzip(",".join(request.headers.getall("Accept-Encoding", [])))
        if takes_gzip and len(body) >= GZIP_BYTES_MIN:
            text = body
            # In a thread: some megabytes take tens of milliseconds.
            body = await self._once(
                (in_openmetrics, "gzip"), lambda: asyncio.to_thread(gzip.compress, text, GZIP_LEVEL)
            )
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=body, headers=headers)

    async def _once(self, key: Hashable, make: Callable[[], Awaitable[bytes]]) -> bytes:
        """Make something, or wait for it with who is having it made already."""

        async def made() -> bytes:
            try:
                return await make()
            finally:
                del self._under_way[key]

        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.get_running_loop().create_task(made())
        # Who asked first may leave; the others still wait.
        return await asyncio.shield(task)


def wants_openmetrics(accept: str) -> bool:
    """Tell from an `Accept` whether OpenMetrics is wanted."""
    try:
        return choose_encoder(accept)[1].startswith("application/openmetrics-text")
    except TypeError:
        # It compares versions as they come, and one is not made of numbers.
        return False


def wants_gzip(accept_encoding: str) -> bool:
    """Tell from an `Accept-Encoding` whether gzip is taken."""
    for part in accept_encoding.split(","):
        coding, _, weight = part.replace(" ", "").lower().partition(";")
        if coding == "gzip":
            return weight.rstrip("0.") != "q="
    return False
