"""A relay worker inside the test's own loop, between a raw client and a raw upstream.

Bytes go in on one side and are looked at on the other: nothing here parses HTTP for the relay.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from taximeter.call import Closed, Counted, Opened
from taximeter.counting import Counter
from taximeter.records import Answered, Record
from taximeter.relay._plain_call import PlainCall
from taximeter.relay._worker import RelayWorker
from taximeter.settings import Settings

WAIT_SECONDS_MAX = 5.0

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Line:
    """One connection of the raw upstream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.received = bytearray()

    async def take(self, count: int = 65536) -> bytes:
        """Read what there is; b'' at the end of bytes."""
        data = await self.reader.read(count)
        self.received += data
        return data

    async def head(self) -> bytes:
        """Read one request's head."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.received += head
        return head

    async def exactly(self, count: int) -> bytes:
        """Read so many bytes."""
        data = await self.reader.readexactly(count)
        self.received += data
        return data

    async def request(self) -> tuple[bytes, bytes]:
        """Read one request as strictly as the relay must frame it; give its head and body."""
        head = await self.head()
        fields = fields_of(head)
        if b"transfer-encoding" in fields:
            assert fields[b"transfer-encoding"] == [b"chunked"]
            assert b"content-length" not in fields
            body = b""
            while size := int((await self.reader.readuntil(b"\r\n"))[:-2], 16):
                body += await self.exactly(size)
                assert await self.exactly(2) == b"\r\n"
            assert await self.exactly(2) == b"\r\n"
            return head, body
        lengths = fields.get(b"content-length", [b"0"])
        assert len(lengths) == 1
        return head, await self.exactly(int(lengths[0]))

    async def say(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()


def fields_of(head: bytes) -> dict[bytes, list[bytes]]:
    """Give a head's fields: lower-case name to values."""
    found: dict[bytes, list[bytes]] = {}
    for line in head.split(b"\r\n")[1:-2]:
        name, separator, value = line.partition(b":")
        assert separator, line
        found.setdefault(name.lower(), []).append(value.strip())
    return found


async def answer_all(line: Line) -> None:
    """Answer every request with the same two bytes."""
    while True:
        await line.request()
        await line.say(OK)


Handler = Callable[[Line], Awaitable[None]]


class Client:
    """A raw client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, data: bytes) -> None:
        """Send bytes, as far as the other side takes them."""
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def answer(
        self, *, bodiless: bool = False
    ) -> tuple[int, dict[bytes, list[bytes]], bytes]:
        """Read one answer; give its status, fields and body."""
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            head = await self.reader.readuntil(b"\r\n\r\n")
            status, fields = int(head.split(b" ")[1]), fields_of(head)
            if bodiless or status < 200 or status in (204, 304):
                return status, fields, b""
            if b"content-length" in fields:
                return (
                    status,
                    fields,
                    await self.reader.readexactly(int(fields[b"content-length"][0])),
                )
            if fields.get(b"transfer-encoding") == [b"chunked"]:
                body = b""
                while size := int((await self.reader.readuntil(b"\r\n"))[:-2], 16):
                    body += (await self.reader.readexactly(size + 2))[:-2]
                await self.reader.readexactly(2)
                return status, fields, body
            return status, fields, await self.reader.read()

    async def rest(self) -> bytes:
        """Read until the connection ends, however it does."""
        found = b""
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(65536):
                    found += data
        return found

    async def until(self, mark: bytes) -> bytes:
        """Read up to and with a mark."""
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            return await self.reader.readuntil(mark)

    def leave(self) -> None:
        """Go without a word."""
        self.writer.transport.abort()


class Bench:
    """A worker, its raw upstream, and what was booked."""

    def __init__(self, worker: RelayWorker, port: int, lines: list[Line]) -> None:
        self.worker = worker
        self.port = port
        self.lines = lines
        """The upstream's connections, oldest first."""
        self.records: list[Record] = []
        self._clients: list[Client] = []

    async def client(self, *, receive_bytes_max: int | None = None) -> Client:
        """Connect a raw client."""
        connection = socket.socket()
        if receive_bytes_max is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes_max)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        limit = 2**16 if receive_bytes_max is None else receive_bytes_max
        reader, writer = await asyncio.open_connection(sock=connection, limit=limit)
        made = Client(reader, writer)
        self._clients.append(made)
        return made

    @property
    def closed(self) -> list[Closed]:
        """The close records so far."""
        return [record for record in self.records if isinstance(record, Closed)]

    @property
    def opened(self) -> list[Opened]:
        """The open records so far."""
        return [record for record in self.records if isinstance(record, Opened)]

    async def until(self, condition: Callable[[], bool], seconds: float = WAIT_SECONDS_MAX) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)

    def leave(self) -> None:
        """Have all clients go."""
        for client in self._clients:
            client.leave()

    async def at_rest(self) -> None:
        """Hold the worker to C8: after a scenario nothing of any call is left in it."""
        self.leave()
        worker = self.worker
        await self.until(lambda: not worker.exchanges and not worker.clients)
        assert worker.snapshot.body_budget.bytes_taken == 0
        assert worker.tap_budget.bytes_taken == 0
        assert worker.kept.claimed == 0, "a call that has ended holds its key"
        assert worker.faults == 0, "a call met a fault of the relay's own"
        assert worker.admission.waiting == 0
        gates = worker.admission.admission.gates().values()
        assert all(gate.in_flight == 0 for gate in gates), "a call that has ended holds its slot"
        ids = [record.opened.call_id for record in self.closed]
        assert len(ids) == len(set(ids)), "a call was closed twice"
        opened = {record.call_id for record in self.opened}
        assert opened <= set(ids), "a call was opened and never closed"
        counted = [record for record in self.records if isinstance(record, Counted)]
        assert {record.call_id for record in counted} <= set(ids)


def ended_plainly(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give a list that the ids of calls come into which go the plain way to their end."""
    ended: list[str] = []
    end = PlainCall._end

    def noted(call: PlainCall, *rest: Any) -> None:
        ended.append(call.call_id)
        end(call, *rest)

    monkeypatch.setattr(PlainCall, "_end", noted)
    return ended


def settings_for(
    folder: Path,
    url: str,
    upstream: dict[str, Any],
    others: dict[str, Any] | None = None,
    **rooms: Any,
) -> Settings:
    """Give the settings of a worker with one upstream, and `others` beside it."""
    return Settings.model_validate(
        {
            "data_dir": str(folder),
            "upstreams": {
                "openai": {"url": url, "dialect": "openai", **upstream},
                **(others or {}),
            },
            **rooms,
            "relay": {"drain_seconds_max": 1, **rooms.get("relay", {})},
        }
    )


@contextlib.asynccontextmanager
async def raw_upstream(handler: Handler) -> AsyncIterator[tuple[str, list[Line]]]:
    """Run a raw upstream; give its URL and its connections, oldest first."""
    lines: list[Line] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(reader, writer)
        lines.append(line)
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(
            ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError
        ):
            await handler(line)
        writer.transport.abort()
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", lines
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tuple(tasks), timeout=2)


@contextlib.asynccontextmanager
async def bench(
    folder: Path,
    handler: Handler = answer_all,
    *,
    upstream: dict[str, Any] | None = None,
    **rooms: Any,
) -> AsyncIterator[Bench]:
    """Run a worker before a raw upstream; at the end, hold it to C8."""
    async with raw_upstream(handler) as (url, lines):
        settings = settings_for(folder, url, upstream or {}, **rooms)
        worker = RelayWorker(settings, worker=0, hash_key=lambda: b"k" * 32)
        # By the rule of last resort, at once: a counting process for each worker takes a second.
        worker.counter = Counter(folder, jobs_max=0)
        # Taken by its number, as a relay takes it, it knows its protocol: asyncio then has what is
        # written go out at once.
        listener = socket.socket(fileno=socket.create_server(("127.0.0.1", 0)).detach())
        made = Bench(worker, listener.getsockname()[1], lines)
        write = worker.books.write

        def note(
            record: Record | Answered, written: bytes | None = None
        ) -> asyncio.Future[None] | None:
            kept = write(record, written)
            made.records.append(record.closed() if isinstance(record, Answered) else record)
            return kept

        worker.books.write = note  # type: ignore[method-assign]
        await worker.start(listener)
        try:
            yield made
            await made.at_rest()
        finally:
            made.leave()
            await worker.stop()
