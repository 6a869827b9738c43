"""A plain aiohttp reverse proxy: what one writes first, and what the relay is measured against.

    python -m bench._plain_proxy UPSTREAM_PORT [WORKERS]

prints its port and serves until its standard input ends. It meters nothing.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator

import uvloop
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

HOP_BY_HOP = frozenset(
    {"connection", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
BODY_BYTES_MAX = 64 * 1024 * 1024
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


async def main(listening: socket.socket) -> None:
    """Serve until standard input ends."""
    app = web.Application(client_max_size=BODY_BYTES_MAX)
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
    await web.SockSite(runner, listening, backlog=4096).start()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as bound:
        print(bound.getsockname()[1], flush=True)
        for _ in range(int(sys.argv[2]) - 1 if len(sys.argv) > 2 else 0):
            if not os.fork():
                break  # a worker begins no others
        uvloop.run(main(bound))
