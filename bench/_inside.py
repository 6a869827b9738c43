"""The relay's own work, without sockets: one worker fed by hand, in one process.

    python -m bench._inside

prints, for a call, a delta and a short stream, how many steps of the interpreter it takes, how
many functions are called, and the least time seen. The steps are the same on every run and every
machine of one Python version, so they show whether a change is one; the time is that of a
process that does nothing else, and a third below what the same work takes between wake-ups.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import uvloop

from bench._load import Job, request
from bench._upstream import DELTA, DONE, FIRST, LAST, PLAIN, STREAM_HEAD, USAGE_LAST
from taximeter.relay._aiohttp import UpstreamSide
from taximeter.relay._client import ClientSide
from taximeter.relay._usual_head import MISSED_FIRST
from taximeter.relay._worker import RelayWorker
from taximeter.settings import Settings

BATCH = 50
BATCHES = 200


class Wire(asyncio.Transport):
    """Takes what is written to it, and forgets it."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def is_closing(self) -> bool:
        return False


class Link:
    """Stands in for a connection of aiohttp's."""

    def close(self) -> None:
        """Do nothing."""


def counted(work: Callable[[], None]) -> tuple[int, int]:
    """Give how many steps of the interpreter a piece of work takes, and how many calls."""
    steps = calls = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal steps, calls
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            calls += 1
        elif event == "opcode":
            steps += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return steps, calls


def least_microseconds(work: Callable[[], None]) -> float:
    """Give the time a piece of work takes when nothing is in its way."""
    least = float("inf")
    for _ in range(BATCHES):
        begin = time.perf_counter()
        for _ in range(BATCH):
            work()
        least = min(least, time.perf_counter() - begin)
    return least / BATCH * 1e6


class Inside:
    """A worker with one client and one upstream, both fed by hand. Made within a running loop."""

    def __init__(self, folder: Path) -> None:
        settings = Settings.model_validate(
            {
                "data_dir": str(folder),
                "upstreams": {"openai": {"url": "http://127.0.0.1:9", "dialect": "openai"}},
                "journal": {"sync": "none"},
            }
        )
        self.worker = RelayWorker(settings, worker=0, hash_key=lambda: bytes(32))
        self._side = UpstreamSide(asyncio.get_running_loop())
        self._side.transport = Wire()
        upstream = self.worker.snapshot.upstreams["openai"]
        upstream.keep(Link(), self._side)  # type: ignore[arg-type]
        self._client = ClientSide(self.worker)
        self._client.connection_made(Wire())
        self._plain = request(Job(port=8400, kind="calls", connections=1))
        self._streamed = request(Job(port=8400, kind="streams", connections=1, deltas=3))

    def call(self) -> None:
        """Make a whole call."""
        self._client.data_received(self._plain)
        self._side.data_received(PLAIN)

    def begin(self) -> None:
        """Begin a stream."""
        self._client.data_received(self._streamed)
        self._side.data_received(STREAM_HEAD + FIRST)
        self._side.data_received(DELTA)

    def delta(self) -> None:
        """Go on with it."""
        self._side.data_received(DELTA)

    def end(self) -> None:
        """End it."""
        self._side.data_received(LAST + USAGE_LAST + DONE)

    def stream(self) -> None:
        """Make a whole stream of two deltas."""
        self.begin()
        self.delta()
        self.end()


async def main(folder: Path) -> None:
    """Measure, and print."""
    inside = Inside(folder)
    for _ in range(MISSED_FIRST + 1):  # until an answer's head is told by those before
        inside.call()
        inside.stream()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)  # as in a relay process
    report = {"a call": (counted(inside.call), least_microseconds(inside.call))}
    inside.begin()
    inside.delta()
    report["a delta"] = (counted(inside.delta), least_microseconds(inside.delta))
    inside.end()
    report["a stream of two deltas"] = (counted(inside.stream), least_microseconds(inside.stream))
    for what, ((steps, calls), microseconds) in report.items():
        print(f"{what:24} {steps:6} steps {calls:4} calls {microseconds:8.1f} us")
    await inside.worker.books.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        uvloop.run(main(Path(made)))
