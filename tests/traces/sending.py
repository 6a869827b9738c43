"""What tests of sending ask: tell of calls by number, wait, and see what became of them."""

from __future__ import annotations

import time
from collections.abc import Callable

from taximeter.traces import Tracer, TraceStats
from tests.traces.collector import HttpCollector
from tests.traces.make import streamed, tell, tracer


def wait_until(true: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)


def book(sink: Tracer, first: int, last: int) -> None:
    """Tell a tracer of calls by their numbers."""
    for number in range(first, last + 1):
        tell(sink, [streamed(number)])


def settled(stats: TraceStats) -> tuple[int, dict[str, int]]:
    """Give what was exported and what was dropped; nothing may be left over."""
    assert stats.queued == 0
    return stats.exported, {reason: count for reason, count in stats.dropped.items() if count}


def left_over(sink: Tracer) -> int:
    """Close a tracer whose collector takes nothing; tell how many calls the next one finds."""
    sink.close()
    assert (sink.stats.exported, sum(sink.stats.dropped.values())) == (0, 0)
    with HttpCollector() as collector:
        heir = tracer(collector.url)
        assert heir.stats.queued == sink.stats.queued
        collector.wait_for(heir.stats.queued)
        heir.close()
        assert settled(heir.stats) == (sink.stats.queued, {})
    return sink.stats.queued
