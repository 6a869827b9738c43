"""One load on one way, and what it cost: CPU and memory of all the way's processes."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

from bench import _load, _measure, _processes
from bench._targets import Target

SETTLE_SECONDS = 0.3
"""After a load, for what a way does when its answer is sent."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a load cost."""

    relaying: float
    """CPU seconds of the processes that relay; where they are not told apart, of all."""
    whole: float
    """CPU seconds of all processes, with what was left to do when the load had ended."""
    seen: dict[str, Any]
    """What the load saw."""


def job_for(target: Target, **words: Any) -> _load.Job:
    """Describe a load on a target, said as that target needs it."""
    return _load.Job(port=target.port, headers=target.headers, exact=target.exact, **words)


def cost(target: Target, job: _load.Job) -> Cost | None:
    """Apply a load. None if it failed: an answer was wrong, or did not come."""
    try:
        with _measure.load(job) as running:
            pids = target.whole()
            before, relaying = _processes.cpu_of_each(pids), 0.0
            if target.recording:
                relaying = -_processes.cpu_seconds(target.relaying)
            seen = running.go()
            if target.recording:
                relaying += _processes.cpu_seconds(target.relaying)
        _settle(target)
        after = _processes.cpu_of_each(target.whole())
    except RuntimeError as error:
        print(f"{target.name}: {error}", file=sys.stderr)
        return None
    whole = sum(spent - before.get(pid, 0.0) for pid, spent in after.items())
    return Cost(relaying if target.recording else whole, whole, seen)


def memory_a_stream(target: Target, streams: int) -> float | None:
    """Give the KiB that an idle stream takes in all processes; None if it failed."""
    job = job_for(target, kind="idle", connections=streams, warm_up_calls=64)
    try:
        with _measure.load(job) as running:
            before = _processes.memory_bytes(target.whole())
            running.go()
            time.sleep(_measure.SETTLE_SECONDS)
            after = _processes.memory_bytes(target.whole())
    except RuntimeError as error:
        print(f"{target.name}: {error}", file=sys.stderr)
        return None
    return (after - before) / 1024 / streams


def _settle(target: Target) -> None:
    if target.recording:
        _measure.wait_quiet(target)
    else:
        time.sleep(SETTLE_SECONDS)
