"""How a relay worker stands, for whoever watches: read once a second, at no cost to a call."""

from __future__ import annotations

import asyncio
import time
from collections import Counter as Tally
from collections import deque
from typing import TYPE_CHECKING

from taximeter.live import Lag, PoolState, ProcessState, RelayState

if TYPE_CHECKING:
    from taximeter.relay._worker import RelayWorker

LAG_SECONDS = 0.1
"""Between two looks at how late the loop is."""
LAGS_LATELY = 5


class LoopLag:
    """Measures how late an event loop comes to what is due, by being due itself.

    uvloop's timers count whole milliseconds, so that up to one of them is no lateness.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.seen = Lag.empty()
        self._lately: deque[float] = deque((0.0,) * LAGS_LATELY, maxlen=LAGS_LATELY)

    def begin(self) -> None:
        """Look from now on, until `stop`."""
        self._due = time.monotonic() + LAG_SECONDS
        self._timer = self._loop.call_later(LAG_SECONDS, self._look)

    def _look(self) -> None:
        lag = max(0.0, time.monotonic() - self._due)
        self.seen.add(lag)
        self._lately.append(lag)
        self.begin()

    @property
    def least_lately(self) -> float:
        """Seconds by which it came late each time, of the last few times."""
        return min(self._lately)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def state_of(worker: RelayWorker, process: ProcessState) -> RelayState:
    """Tell how a worker stands."""
    in_flight: Tally[str] = Tally()
    oldest_seconds: dict[str, float] = {}
    tiers: list[str] = []
    for exchange in worker.exchanges:
        upstream, seconds = exchange.upstream_name, exchange.age_ns / 1e9
        in_flight[upstream] += 1
        oldest_seconds[upstream] = max(seconds, oldest_seconds.get(upstream, 0.0))
        if exchange.tier_in_use is not None:
            tiers.append(exchange.tier_in_use)
    snapshots = worker.snapshots
    books, counter = worker.books, worker.counter
    return RelayState(
        worker=worker.number,
        process=process,
        loop_lag=worker.loop_lag.seen,
        in_flight=dict(in_flight),
        oldest_seconds=oldest_seconds,
        connections=len(worker.clients),
        outcomes={str(outcome): count for outcome, count in worker.outcomes.items()},
        unparsed=worker.unparsed,
        refused_connections=worker.refused_connections,
        faults=worker.faults,
        records=books.records,
        records_refused=books.refused,
        counts_refused=counter.refused,
        counts_late=counter.late,
        counts_failed=counter.failed,
        body_bytes=sum(each.body_budget.bytes_taken for each in snapshots),
        tap_bytes=worker.tap_budget.bytes_taken,
        replay_bytes=worker.kept.bytes_taken,
        replays={event: worker.kept.events[event] for event in worker.kept.EVENTS},
        pools=_pools(worker),
        headroom=worker.headroom.known(time.monotonic_ns(), time.time_ns() / 1e9),
        has_journal=books.has_journal,
        admission=worker.admission.state(tiers),
    )


def _pools(worker: RelayWorker) -> dict[str, PoolState]:
    pools: dict[str, PoolState] = {}
    for snapshot in worker.snapshots:
        for name, upstream in snapshot.upstreams.items():
            pool = pools.setdefault(name, PoolState(in_use=0, idle=0, waiting=0))
            pool.in_use += upstream.connections_in_use
            pool.idle += upstream.connections_idle
            pool.waiting += upstream.calls_waiting
    return pools
