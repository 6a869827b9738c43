"""One measurement: a load applied to a target, and what that cost the target's processes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from bench import _load, _processes
from bench._targets import Target, started

SETTLE_SECONDS = 1.0
"""Between opening streams and reading the memory they take."""
QUIET_LOOK_SECONDS = 0.5
QUIET_SHARE_MAX = 0.02
"""Of one core: a recorder that uses less than this has booked all there is."""
QUIET_SECONDS_MAX = 120.0


@dataclass(slots=True)
class Load:
    """A load process that has warmed its target up and waits for the word."""

    process: subprocess.Popen[bytes]

    def go(self) -> dict[str, Any]:
        """Apply the load; give what it saw."""
        self._say()
        return dict(json.loads(self._line()))

    def _say(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def _line(self) -> bytes:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load failed: {self.process.args!r}")
        return line


@contextlib.contextmanager
def load(job: _load.Job) -> Iterator[Load]:
    """Start a load process and wait until its target is warm."""
    described = msgspec.json.encode(job).decode()
    command = [sys.executable, "-m", "bench._load", described]
    with started(command, out=subprocess.PIPE) as process:
        made = Load(process)
        if made._line() != b"ready\n":
            raise RuntimeError("the load did not get ready")
        yield made


def cpu_a_call(
    target: Target, calls: int, *, calls_per_second: int | None, apart: bool = False
) -> tuple[float, dict[str, Any]]:
    """Give microseconds of CPU a call, and the load's view of it.

    At a given pace, or with None as fast as the target answers. The fuller a process is, the
    more work it does for one wake-up, so that the two are different questions. `apart` has both
    sides write heads and bodies one by one.
    """
    job = _load.Job(
        port=target.port,
        kind="calls",
        connections=32,
        calls=calls,
        calls_per_second=calls_per_second,
        apart=apart,
    )
    with load(job) as running:
        before = _processes.cpu_seconds(target.relaying)
        seen = running.go()
        spent = _processes.cpu_seconds(target.relaying) - before
    wait_quiet(target)
    return spent * 1e6 / calls, seen


def cpu_a_delta(target: Target, deltas: int, *, asks_usage: bool) -> float:
    """Give microseconds of CPU a streamed delta, 64 streams at once, heads and ends included."""
    job = _load.Job(
        port=target.port,
        kind="streams",
        connections=64,
        deltas=deltas,
        every_ms=10,
        asks_usage=asks_usage,
    )
    with load(job) as running:
        before = _processes.cpu_seconds(target.relaying)
        seen = running.go()
        spent = _processes.cpu_seconds(target.relaying) - before
    wait_quiet(target)
    return spent * 1e6 / int(seen["deltas"])


def memory_a_stream(target: Target, streams: int) -> float:
    """Give KiB of memory an idle stream takes, once it has said its first word."""
    job = _load.Job(port=target.port, kind="idle", connections=streams)
    with load(job) as running:
        before = _processes.memory_bytes(target.relaying)
        running.go()
        time.sleep(SETTLE_SECONDS)
        after = _processes.memory_bytes(target.relaying)
    return (after - before) / 1024 / streams


def recorder_cpu_a_call(target: Target, calls: int, calls_per_second: int) -> float:
    """Give microseconds of the recorder's CPU a call, at a steady pace."""
    job = _load.Job(
        port=target.port,
        kind="calls",
        connections=32,
        calls=calls,
        calls_per_second=calls_per_second,
    )
    with load(job) as running:
        wait_quiet(target)
        before = _processes.cpu_seconds(target.recording)
        running.go()
        wait_quiet(target)
        spent = _processes.cpu_seconds(target.recording) - before
    return spent * 1e6 / calls


def wait_quiet(target: Target) -> None:
    """Wait until the target's recorder has booked what earlier loads left it.

    Its work would else be counted to the next load, and weigh on the next target.

    Raises:
        RuntimeError: if it has not within `QUIET_SECONDS_MAX`.
    """
    deadline = time.monotonic() + QUIET_SECONDS_MAX
    quiet_looks = 0 if target.recording else 2
    while quiet_looks < 2:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the recorder of {target.name} does not come to rest")
        before = _processes.cpu_seconds(target.recording)
        time.sleep(QUIET_LOOK_SECONDS)
        spent = _processes.cpu_seconds(target.recording) - before
        quiet_looks = quiet_looks + 1 if spent < QUIET_SHARE_MAX * QUIET_LOOK_SECONDS else 0
