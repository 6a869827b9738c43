"""A relay between a client and an upstream that both deal in raw bytes, for many talks in a row.

One worker and its pool of upstream connections serve all talks of a module, one after the other.
So whatever one talk left behind (half a request, a byte too many, a connection that should have
been closed) is there for the next one to be harmed by, and `_strict` reads every upstream
connection from its first byte to its last.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taximeter.call import Closed
from tests.hostile._loop import Loop
from tests.hostile._strict import (
    Answers,
    Malformed,
    Message,
    answers_of,
    by_h11,
    request_at,
    requests_of,
)
from tests.relay.bench import Bench, Client, Line, bench
from tests.rig.taximeter import PLAIN

QUIET_SECONDS = 0.2
"""A client that has heard nothing for so long is taken to wait for ever."""

LAST = b"GET /v1/last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
"""What a client says at the end: its answer shows that the connection was still in step."""
KNOWN = (
    b"POST /v1/known HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Content-Length: 2\r\n\r\n{}"
)
"""A request whose head the relay knows by its bytes from the second time on."""

AFTER_A_KNOWN_ONE = ("behind", "known")
"""The paces at which an answer to `KNOWN` comes first."""


def echo(request: Message) -> bytes:
    """Give what the upstream answers: which request this is the answer to."""
    method, target = request.start[:2]
    return b"%b %b %b" % (method, target, hashlib.sha256(request.body).hexdigest()[:12].encode())


class Recorder:
    """The upstream: reads strictly, answers with `echo`, and keeps every byte."""

    def __init__(self) -> None:
        self.requests: list[Message] = []
        self.faults: list[str] = []
        """What it was sent that is no HTTP."""
        self.streams: list[bytearray] = []
        """All that came on each connection, oldest first."""
        self.unread: dict[int, bytes] = {}
        """What is unfinished on a connection that is still open."""
        self.broken: list[bytes] = []
        """What was unfinished on those that have ended."""

    async def serve(self, line: Line) -> None:
        """Serve one connection."""
        number = len(self.streams)
        self.streams.append(line.received)
        read = 0
        try:
            while await line.take():
                try:
                    found, left = requests_of(bytes(line.received[read:]))
                except Malformed as error:
                    self.faults.append(f"{error}: {bytes(line.received[read:])!r}")
                    return
                read = len(line.received) - len(left)
                self.unread[number] = left
                for request in found:
                    self.requests.append(request)
                    body = echo(request)
                    if request.start[0] == b"HEAD":
                        body, length = b"", len(body)
                    else:
                        length = len(body)
                    await line.say(
                        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                        b"Content-Length: %d\r\n\r\n%b" % (length, body)
                    )
        finally:
            left = self.unread.pop(number, b"")
            if left:
                self.broken.append(left)


@dataclass
class Talk:
    """What came of some bytes of a client."""

    heard: Answers
    ended: bool
    """The relay has ended the connection."""
    requests: list[Message]
    """What reached the upstream, whole."""
    broken: list[bytes]
    """Requests that the upstream was sent a part of."""
    rows: list[Closed] = field(default_factory=list)

    @property
    def statuses(self) -> list[int]:
        """The final answers' statuses."""
        return [int(answer.start[0]) for answer in self.heard.whole]

    @property
    def own(self) -> list[Message]:
        """What reached the upstream beside the requests that the rig itself sends."""
        return [each for each in self.requests if each.start[1] not in (b"/v1/last", b"/v1/known")]


class Rig(Loop):
    """The worker and its upstream."""

    def __init__(self, folder: Path, **rooms: Any) -> None:
        super().__init__()
        self._folder = folder
        self._rooms = rooms
        self._known = request_at(KNOWN)[0]
        self.recorder = Recorder()
        self.bench: Bench

    async def begin(self, stack: contextlib.AsyncExitStack) -> None:
        """Start the worker."""
        context = bench(self._folder, self.recorder.serve, upstream=PLAIN, **self._rooms)
        self.bench = await stack.enter_async_context(context)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        # Every byte of every upstream connection, once more and by h11 too.
        assert not self.recorder.faults
        for stream in self.recorder.streams:
            mine = requests_of(bytes(stream))[0]
            assert [each.body for each in by_h11(bytes(stream))] == [each.body for each in mine]

    # -- a talk -----------------------------------------------------------------------------

    def talk(self, said: bytes, pace: str = "whole", *, to_head: bool = False) -> Talk:
        """Say `said` on a connection of its own, then `LAST`; tell what came of it.

        Args:
            said: a client's bytes.
            pace: `whole`; `bytewise`; `behind`, with `KNOWN` in the same write; `known`, when
                `KNOWN` has been answered.
            to_head: the first answer to it is one to HEAD.
        """
        return self.do(self._talk(said, pace, to_head))

    async def _talk(self, said: bytes, pace: str, to_head: bool) -> Talk:
        began, broken, rows = (
            len(self.recorder.requests),
            len(self.recorder.broken),
            len(self.bench.closed),
        )
        client = await self.bench.client()
        told = said + LAST
        before = b""
        if pace == "known":
            await client.say(KNOWN)
            before = await client.until(echo(self._known))
        match pace:
            case "bytewise":
                pieces = [told[place : place + 1] for place in range(len(told))]
            case "behind":
                pieces = [KNOWN + told]
            case _:
                pieces = [told]
        for piece in pieces:
            await client.say(piece)
            if len(pieces) > 1:
                await asyncio.sleep(0)
        heard, ended = await _hear(client, before)
        client.leave()
        await self._settle()
        return Talk(
            answers_of(heard, bodiless=int(pace in AFTER_A_KNOWN_ONE) if to_head else None),
            ended,
            self.recorder.requests[began:],
            self.recorder.broken[broken:],
            self.bench.closed[rows:],
        )

    async def _settle(self) -> None:
        """Wait until nothing of a talk is under way."""
        worker, recorder = self.bench.worker, self.recorder
        async with asyncio.timeout(5):
            while worker.exchanges or worker.clients or any(recorder.unread.values()):
                await asyncio.sleep(0.0005)


async def _hear(client: Client, heard: bytes) -> tuple[bytes, bool]:
    """Read on until the connection ends, or is quiet; tell which."""
    while True:
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                data = await client.reader.read(65536)
        except TimeoutError:
            return heard, False
        except ConnectionError:
            return heard, True
        if not data:
            return heard, True
        heard += data
