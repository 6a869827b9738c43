"""The model server of the storm: so many places, a limit of requests, and 429 beyond either.

    python -m bench.storm._upstream

prints its port and serves until its standard input ends. A call beyond the requests of a second is
answered 429 with `retry-after-ms`; one beyond the places, 429 with no time to wait for, as engines
do, and counts against the requests, as the large APIs have it. `x-ratelimit-*` is in every answer.
`GET /served?begin=S&end=S` (monotonic seconds, which processes of one machine share) tells the
attempts there were, those refused, and how many seconds its places worked for answers that were
sent whole.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time

import uvloop
from aiohttp import web

PLACES = 20
FIRST_SECONDS = (0.1, 0.3)
"""Time to the first token: anything between."""
DELTAS = (4, 12)
DELTA_SECONDS = 0.1
MEAN_SECONDS = 1.0
"""Of a call, from both."""
REQUESTS_PER_SECOND = 25
SEED = 20


class ModelServer:
    """Serves calls in its places."""

    def __init__(self) -> None:
        self._random = random.Random(SEED)
        self._busy = 0
        self._free_at = 0.0
        self.attempts = 0
        self.refused_places = 0
        self.refused_requests = 0
        self.most_busy = 0
        self.worked: list[tuple[float, float]] = []

    async def call(self, request: web.Request) -> web.StreamResponse:
        """Serve a call, or refuse it."""
        self.attempts += 1
        await request.read()
        now = time.monotonic()
        wait, told = self._count(now)
        if wait:
            self.refused_requests += 1
            told["retry-after-ms"] = str(int(wait * 1000) + 1)
            return _refused("Rate limit reached for requests.", told)
        if self._busy >= PLACES:
            self.refused_places += 1
            return _refused("The engine is overloaded, please try again later.", told)
        self._busy += 1
        self.most_busy = max(self.most_busy, self._busy)
        try:
            answer = await self._answer(request, told)
            self.worked.append((now, time.monotonic()))
            return answer
        finally:
            self._busy -= 1

    def _count(self, now: float) -> tuple[float, dict[str, str]]:
        """Count a request; give how long it would have to wait, 0 if it may go, and what is told.

        A full second's worth may come at once (GCRA). What is refused here is not counted.
        """
        free_at = max(self._free_at, now) + 1 / REQUESTS_PER_SECOND
        wait = max(0.0, free_at - now - 1)
        if not wait:
            self._free_at = free_at
        ahead = self._free_at - now
        return wait, {
            "x-ratelimit-limit-requests": str(REQUESTS_PER_SECOND),
            "x-ratelimit-remaining-requests": str(max(0, int((1 - ahead) * REQUESTS_PER_SECOND))),
            "x-ratelimit-reset-requests": f"{ahead:.3f}s",
        }

    async def _answer(self, request: web.Request, told: dict[str, str]) -> web.StreamResponse:
        chance = self._random
        await asyncio.sleep(chance.uniform(*FIRST_SECONDS))
        deltas = chance.randint(*DELTAS)
        answer = web.StreamResponse(headers={"content-type": "text/event-stream", **told})
        await answer.prepare(request)
        for _ in range(deltas):
            await answer.write(_event({"content": "taxi "}, None))
            await asyncio.sleep(DELTA_SECONDS)
        usage = {"prompt_tokens": 20, "completion_tokens": deltas, "total_tokens": 20 + deltas}
        await answer.write(_event({}, "stop") + _chunk([], usage) + b"data: [DONE]\n\n")
        await answer.write_eof()
        return answer

    async def served(self, request: web.Request) -> web.Response:
        """Tell what was done."""
        begin, end = (float(request.query[name]) for name in ("begin", "end"))
        worked = sum(max(0.0, min(end, to) - max(begin, at)) for at, to in self.worked)
        return web.json_response(
            {
                "attempts": self.attempts,
                "refused_places": self.refused_places,
                "refused_requests": self.refused_requests,
                "most_busy": self.most_busy,
                "worked_share": worked / ((end - begin) * PLACES),
            }
        )


def _refused(message: str, headers: dict[str, str]) -> web.Response:
    error = {"message": message, "type": "requests", "param": None, "code": "rate_limit_exceeded"}
    return web.json_response({"error": error}, status=429, headers=headers)


def _event(delta: dict[str, str], finish: str | None) -> bytes:
    return _chunk([{"index": 0, "delta": delta, "finish_reason": finish}], None)


def _chunk(choices: list[dict[str, object]], usage: dict[str, int] | None) -> bytes:
    said = {
        "id": "chatcmpl-storm",
        "object": "chat.completion.chunk",
        "created": 1_800_000_000,
        "model": "storm",
        "choices": choices,
        "usage": usage,
    }
    return b"data: " + json.dumps(said).encode() + b"\n\n"


async def main() -> None:
    """Serve until standard input ends."""
    server = ModelServer()
    app = web.Application()
    app.router.add_get("/served", server.served)
    app.router.add_post("/v1/chat/completions", server.call)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(main())
