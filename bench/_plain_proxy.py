"""A plain aiohttp reverse proxy: what one writes first, and what the relay is measured against.

    python -m bench._plain_proxy UPSTREAM_PORT

prints its port and serves until its standard input ends. It meters nothing.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import uvloop
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

HOP_BY_HOP = frozenset(
    {"connection", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
SESSION = web.AppKey("session", ClientSession)
BASE = web.AppKey("base", str)


async def relay(request: web.Request) -> web.StreamResponse:
    """Pass a request on and its answer back."""
    headers = [
        (name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP
    ]
    async with request.app[SESSION].request(
        request.method,
        request.app[BASE] + request.raw_path,
        headers=headers,
        data=await request.read(),
        allow_redirects=False,
    ) as upstream:
        answer = web.StreamResponse(status=upstream.status, reason=upstream.reason)
        for name, value in upstream.headers.items():
            if name.lower() not in HOP_BY_HOP:
                answer.headers.add(name, value)
        await answer.prepare(request)
        async for data in upstream.content.iter_any():
            await answer.write(data)
        await answer.write_eof()
        return answer


async def main() -> None:
    """Serve until standard input ends."""
    app = web.Application()
    app[BASE] = f"http://127.0.0.1:{int(sys.argv[1])}"

    async def session(app: web.Application) -> AsyncIterator[None]:
        connector = TCPConnector(limit=0)
        timeout = ClientTimeout(total=None)
        async with ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False
        ) as made:
            app[SESSION] = made
            yield

    app.cleanup_ctx.append(session)
    app.router.add_route("*", "/{path:.*}", relay)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(main())
