"""A line to Redis that can be made slow, deaf, or cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Chaos:
    """Stands between a client and Redis."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.port = 0
        self.delay_seconds = 0.0
        """How long each answer is kept back."""
        self.deaf = False
        """Whether answers never come back; what was asked is done all the same."""
        self.is_cut = False
        """Whether nobody can connect."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def url(self, database: int) -> str:
        """Give the URL by which a client comes through here."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def cut(self) -> None:
        """Break every connection, and take no new one."""
        self.is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        """Be a good line again; what hung is broken off."""
        for writer in self._writers:
            writer.transport.abort()
        self.is_cut = self.deaf = False
        self.delay_seconds = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.is_cut:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, back}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, back, is_answer=False))
                group.create_task(self._carry(there, writer, is_answer=True))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers -= {writer, back}
            for each in (writer, back):
                each.transport.abort()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        while data := await reader.read(65536):
            if is_answer and self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            if not (is_answer and self.deaf):
                writer.write(data)
                await writer.drain()
        raise ConnectionResetError

    def stop(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def chaos(port: int) -> AsyncIterator[Chaos]:
    """Give a line to the Redis on a port of this machine."""
    made = Chaos(port)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await server.wait_closed()
