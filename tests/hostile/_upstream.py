"""A relay before an upstream that answers in the raw bytes it is given, many times in a row."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Sequence
from pathlib import Path

from taximeter.call import Closed
from tests.hostile._loop import Loop
from tests.hostile._strict import Answers, answers_of
from tests.relay.bench import Bench, Line, bench
from tests.rig.taximeter import PLAIN

ASK = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Content-Length: 17\r\n\r\n" + b'{"model": "none"}'
)
AFTER = b"GET /v1/after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
SERVED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nserved"


class Heard:
    """What a client heard of one answer, and of the one that it asked for next."""

    def __init__(self, said: bytes, after: bytes, rows: list[Closed]) -> None:
        self.said = said
        self.after = answers_of(after)
        self.rows = rows

    @functools.cached_property
    def answers(self) -> Answers:
        """Give what was heard, read as answers to a request that is none for a head."""
        return answers_of(self.said)


class Upstream(Loop):
    """A relay before an upstream that answers in the words it is given."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._pieces: Sequence[bytes] = ()
        self._ends = "fin"
        self.bench: Bench

    async def begin(self, stack: contextlib.AsyncExitStack) -> None:
        """Start the relay."""
        timeouts = {"first_byte_seconds": 2, "idle_seconds": 2}
        context = bench(self._folder, self._serve, upstream={**PLAIN, "timeouts": timeouts})
        self.bench = await stack.enter_async_context(context)

    async def _serve(self, line: Line) -> None:
        while True:
            head, _ = await line.request()
            if b"/v1/after" in head:
                await line.say(SERVED)
                continue
            pieces, ends = self._pieces, self._ends
            for piece in pieces:
                await line.say(piece)
                if len(pieces) > 1:
                    await asyncio.sleep(0)
            if ends == "rst":
                return
            if ends == "fin":
                line.writer.write_eof()

    def ask(self, pieces: Sequence[bytes], ends: str, asked: bytes = ASK) -> Heard:
        """Have a client ask; the upstream says `pieces`, then it ends by `fin`, `rst` or not."""
        self._pieces, self._ends = pieces, ends
        return self.do(self._ask(asked))

    async def _ask(self, asked: bytes) -> Heard:
        rows = len(self.bench.closed)
        client = await self.bench.client()
        await client.say(asked + AFTER)
        heard = await client.rest()
        client.leave()
        other = await self.bench.client()
        await other.say(AFTER)
        after = await other.rest()
        other.leave()
        async with asyncio.timeout(5):
            while self.bench.worker.exchanges or self.bench.worker.clients:
                await asyncio.sleep(0.0005)
        return Heard(heard, after, self.bench.closed[rows:])
