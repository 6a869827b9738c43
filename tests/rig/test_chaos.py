"""The bad line is bad in the ways it is told to be: what is tested through it stands on this."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.rig.chaos import Chaos, chaos

SAID = b"0123456789" * 100


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each line with 1,000 bytes; end when the client does."""
    try:
        while await reader.readline():
            writer.write(SAID)
            await writer.drain()
    except ConnectionError:
        pass  # which is what the line is told to do
    finally:
        writer.close()


@asynccontextmanager
async def _line() -> AsyncIterator[Chaos]:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    async with server, chaos(server.sockets[0].getsockname()[1]) as line:
        yield line
        line.cut()
        await asyncio.sleep(0.02)  # both ends learn of it


async def _ask(line: Chaos) -> tuple[bytes, float, bool]:
    """Ask once; give what came, how long it took, and whether it ended by a reset."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
    writer.write(b"?\n")
    writer.write_eof()
    heard, reset = b"", False
    try:
        while data := await reader.read(65536):
            heard += data
    except ConnectionError:
        reset = True
    finally:
        writer.transport.abort()
    return heard, time.monotonic() - began, reset


async def test_a_good_line_passes_everything() -> None:
    """With nothing set, bytes and the ends of both sides go through."""
    async with _line() as line:
        assert (await _ask(line))[::2] == (SAID, False)


@pytest.mark.parametrize(
    ("fault", "value", "seconds_min"),
    [
        ("latency_seconds", 0.2, 0.2),
        ("bandwidth_bytes_per_second", 4000, 0.2),
        ("slow_close_seconds", 0.2, 0.2),
    ],
)
async def test_a_slow_line_passes_everything_late(
    fault: str, value: float, seconds_min: float
) -> None:
    """latency, bandwidth and slow_close take time and no byte."""
    async with _line() as line:
        setattr(line.down, fault, value)
        heard, seconds, reset = await _ask(line)
        assert (heard, reset) == (SAID, False)
        assert seconds >= seconds_min


async def test_a_slicer_cuts_bytes_into_pieces() -> None:
    """No read brings more than a piece."""
    async with _line() as line:
        line.down.slicer_bytes, line.down.slicer_seconds = 100, 0.005
        reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
        writer.write(b"?\n")
        pieces: list[bytes] = []
        while sum(map(len, pieces)) < len(SAID):
            pieces.append(await reader.read(65536))
        writer.close()
        assert b"".join(pieces) == SAID
        assert len(pieces) >= 5


@pytest.mark.parametrize("limit", [0, 1, 999])
async def test_a_limit_ends_the_connection_at_a_byte(limit: int) -> None:
    """limit_data passes so many bytes, and an orderly end."""
    async with _line() as line:
        line.down.limit_data_bytes = limit
        assert (await _ask(line))[::2] == (SAID[:limit], False)


async def test_a_reset_is_a_reset() -> None:
    """reset_peer is not to be taken for an end."""
    async with _line() as line:
        line.down.reset_peer_seconds = 0.0
        assert (await _ask(line))[::2] == (b"", True)


async def test_a_timeout_says_nothing_and_ends() -> None:
    """timeout passes nothing; 0 is for ever, until the line is mended."""
    async with _line() as line:
        line.down.timeout_seconds = 0.2
        heard, seconds, _ = await _ask(line)
        assert heard == b""
        assert seconds >= 0.2
        line.down.timeout_seconds = 0.0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await _ask(line)
        line.mend()
        assert (await _ask(line))[0] == SAID


async def test_a_cut_line_takes_nobody() -> None:
    """Connections break at once, new ones come to nothing, until it is mended."""
    async with _line() as line:
        line.cut()
        heard, _, _ = await _ask(line)
        assert heard == b""
        line.mend()
        assert (await _ask(line))[0] == SAID
        assert line.connections == 2
