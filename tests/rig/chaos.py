"""A line that can be made bad: a proxy on loopback with Toxiproxy's verbs.

    async with chaos(port_of_the_server) as line:
        ...  # connect to line.port
        line.down.latency_seconds = 30.0
        line.mend()

Each direction has faults of its own: `up` is what the client sends, `down` what the server answers.
They hold for connections that are there and for new ones, from the moment they are set. The names
are those of Shopify's Toxiproxy, with units: latency, bandwidth, slow_close, timeout, reset_peer,
slicer, limit_data; `cut` is its `down`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

READ_BYTES = 65536
STEP_SECONDS = 0.01
"""Of a line with little bandwidth: so often a part goes out."""


@dataclass(slots=True)
class Faults:
    """What is wrong with one direction. By default nothing."""

    latency_seconds: float = 0.0
    """How long each read is kept back."""
    jitter_seconds: float = 0.0
    """So much more or less, at random."""
    bandwidth_bytes_per_second: int | None = None
    slow_close_seconds: float = 0.0
    """How long the end of one side is kept from the other."""
    timeout_seconds: float | None = None
    """Nothing passes, and the connection is closed after so long; 0 for never."""
    reset_peer_seconds: float | None = None
    """The connection is reset, so long after its first bytes."""
    slicer_bytes: int | None = None
    """Bytes go on in pieces of this size at most, with `slicer_seconds` between them."""
    slicer_seconds: float = 0.0
    limit_data_bytes: int | None = None
    """The connection is closed once so many bytes have passed."""


class _Ended(Exception):
    """This connection is over, both ways."""


class Chaos:
    """Stands between a client and a server. Made by `chaos`."""

    def __init__(self, port: int, seed: int) -> None:
        self._server_port = port
        self._chance = random.Random(seed)
        self.port = 0
        self.up = Faults()
        self.down = Faults()
        self.is_cut = False
        """Whether nobody can connect."""
        self.connections = 0
        """How many there have been."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Break every connection, and take no new one."""
        self.is_cut = True
        self._break_all()

    def mend(self) -> None:
        """Be a good line again; what was under way on the bad one is broken off."""
        self._break_all()
        self.is_cut = False
        self.up, self.down = Faults(), Faults()

    def _break_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        try:
            if self.is_cut:
                raise ConnectionRefusedError
            there, back = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, back, writer, is_answer=False))
                group.create_task(self._carry(there, writer, back, is_answer=True))
        except* (OSError, _Ended):
            pass
        finally:
            self._writers -= {writer, back}
            for each in (writer, back):
                # What was let through arrives; after a reset there is nothing left to send.
                each.close()

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        other: asyncio.StreamWriter,
        *,
        is_answer: bool,
    ) -> None:
        passed = 0
        while data := await reader.read(READ_BYTES):
            faults = self.down if is_answer else self.up
            if faults.reset_peer_seconds is not None:
                await asyncio.sleep(faults.reset_peer_seconds)
                for each in (writer, other):
                    reset(each)
                raise _Ended
            if faults.timeout_seconds is not None:
                await self._say_nothing(is_answer)
            if faults.latency_seconds or faults.jitter_seconds:
                jitter = self._chance.uniform(-faults.jitter_seconds, faults.jitter_seconds)
                await asyncio.sleep(max(0.0, faults.latency_seconds + jitter))
            whole = faults.limit_data_bytes is None or passed + len(data) < faults.limit_data_bytes
            if faults.limit_data_bytes is not None:
                data = data[: max(0, faults.limit_data_bytes - passed)]
            passed += len(data)
            await self._send(writer, data, faults)
            if not whole:
                raise _Ended
        await asyncio.sleep((self.down if is_answer else self.up).slow_close_seconds)
        if not writer.can_write_eof():
            raise _Ended
        writer.write_eof()

    async def _say_nothing(self, is_answer: bool) -> None:
        """Keep what came, for as long as the fault is set."""
        loop = asyncio.get_running_loop()
        since = loop.time()
        while (seconds := (self.down if is_answer else self.up).timeout_seconds) is not None:
            if seconds and loop.time() - since >= seconds:
                raise _Ended
            await asyncio.sleep(STEP_SECONDS)

    async def _send(self, writer: asyncio.StreamWriter, data: bytes, faults: Faults) -> None:
        step = len(data)
        pause = 0.0
        if faults.slicer_bytes is not None:
            step, pause = faults.slicer_bytes, faults.slicer_seconds
        if faults.bandwidth_bytes_per_second is not None:
            step = min(step, max(1, int(faults.bandwidth_bytes_per_second * STEP_SECONDS)))
            pause += step / faults.bandwidth_bytes_per_second
        for at in range(0, len(data), max(step, 1)):
            if at and pause:
                await asyncio.sleep(pause)
            writer.write(data[at : at + step])
            await writer.drain()
            if step < len(data):
                await asyncio.sleep(0)  # or the pieces would leave as one

    async def stop(self) -> None:
        """End what is under way."""
        self.cut()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1)


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by RST."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


@asynccontextmanager
async def chaos(port: int, *, seed: int = 0) -> AsyncIterator[Chaos]:
    """Give a line to a server on a port of this machine; `seed` is for its jitter."""
    made = Chaos(port, seed)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await server.wait_closed()
