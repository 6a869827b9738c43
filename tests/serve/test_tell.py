"""What children tell their supervisor, over a pipe that nobody may be reading."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os

import pytest

from taximeter.live import (
    Headroom,
    Lag,
    ProcessState,
    RelayState,
    decode_relay_state,
)
from taximeter.serve import _tell
from taximeter.serve._channel import (
    MESSAGE_BYTES_MAX,
    FromChild,
    ToChild,
    frame,
    receive,
    receive_async,
)
from taximeter.serve._process import read_process

F_SETPIPE_SZ = 1031  # fcntl.F_SETPIPE_SZ, on Linux


def state(process: ProcessState) -> RelayState:
    """Give a state that is larger than a pipe of one page."""
    told = Headroom(
        upstream="openai", model="m" * 100, resource="tokens", limit=1, remaining=1, at_seconds=0.0
    )
    return RelayState(
        worker=0,
        process=process,
        loop_lag=Lag.empty(),
        in_flight={},
        connections=0,
        outcomes={},
        unparsed=0,
        refused_connections=0,
        faults=0,
        records=0,
        records_refused=0,
        counts_refused=0,
        counts_late=0,
        counts_failed=0,
        body_bytes=0,
        tap_bytes=0,
        pools={},
        headroom=[told] * 64,
    )


async def stream_of(handle: int) -> asyncio.StreamReader:
    """Read a pipe as the supervisor does."""
    stream = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(handle, "rb", 0)
    )
    return stream


async def test_what_is_not_taken_is_dropped_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """While nobody reads, states are dropped and counted; what comes after is whole messages."""
    monkeypatch.setattr(_tell, "STATE_SECONDS", 0.01)
    reader, writer = os.pipe()
    fcntl.fcntl(writer, F_SETPIPE_SZ, 4096)
    telling = asyncio.create_task(_tell.tell(writer, state))
    await asyncio.sleep(0.3)
    stream = await stream_of(reader)
    kinds, dropped = [], 0
    while dropped == 0:
        found = await asyncio.wait_for(receive_async(stream), 5)
        assert found is not None
        kinds.append(found.kind)
        if found.kind == FromChild.STATE:
            dropped = decode_relay_state(found.body).states_dropped
    assert kinds[:2] == [FromChild.STATE, FromChild.READY]
    assert dropped >= 5
    telling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await telling
    while await asyncio.wait_for(receive_async(stream), 5) is not None:
        pass


async def test_a_state_that_cannot_be_told_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """L5: a fault in telling is logged; the relay is ready all the same."""

    def fail(process: ProcessState) -> RelayState:
        raise RuntimeError("a fault")

    reader, writer = os.pipe()
    telling = asyncio.create_task(_tell.tell(writer, fail))
    found = await asyncio.wait_for(receive_async(await stream_of(reader)), 5)
    assert found is not None
    assert found.kind == FromChild.READY
    assert "could not be told" in caplog.text
    telling.cancel()
    await asyncio.wait([telling])


def test_a_message_that_is_none_ends_the_conversation() -> None:
    """A cut message, or one too long to be meant, is no message."""
    for data, kinds in (
        (frame(ToChild.METRICS, b"\1") + b"\5\0", [ToChild.METRICS]),
        (frame(ToChild.METRICS, b"\1")[:-1], []),
        ((MESSAGE_BYTES_MAX + 1).to_bytes(4, "little") + b"\1", []),
    ):
        reader, writer = os.pipe()
        os.write(writer, data)
        os.close(writer)
        with open(reader, "rb", buffering=0) as pipe:  # noqa: PTH123 - a descriptor has no path
            heard = []
            while (found := receive(pipe)) is not None:
                heard.append(found.kind)
        assert heard == kinds


def test_what_the_system_says_of_this_process() -> None:
    """The figures are this process's own, and one that is gone has none."""
    found = read_process(os.getpid())
    assert found is not None
    assert found.pid == os.getpid()
    assert found.resident_bytes > 1_000_000
    assert 3 <= found.open_files <= found.open_files_max
    assert found.cpu_seconds > 0
    assert read_process(2**22 + 1) is None
