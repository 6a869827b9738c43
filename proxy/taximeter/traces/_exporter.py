"""From the spool to a collector, in a thread of its own that nobody ever waits for.

    recorder's thread -> spool -> [read, spans, bytes, send, send again] -> collector

Whatever the collector does, three things hold. The recorder only appends to the spool. What the
collector has not taken stays there: a batch is acknowledged once it was taken, or refused with an
answer that would be the same the next time. And each failure in a row doubles the wait before the
next try, up to a bound: a collector that is down sees a try every few seconds.

A collector may also fail at one call for ever (a limit of its own, a fault) and take all others.
So what was not taken for some tries goes behind the rest of its batch, in halves, down to single
calls; and a call that fails on and on while others are taken is dropped. Where nothing is taken,
it is the collector that is down, and nothing is dropped.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from taximeter.traces._complaints import Complaints
from taximeter.traces._encode import encode_call, rejected_spans, request_of
from taximeter.traces._span import Server
from taximeter.traces._spans import spans_of
from taximeter.traces._spool import Spool
from taximeter.traces._stats import TraceStats
from taximeter.traces._transport import Reply, Transport, Verdict
from taximeter.traces._written import read_back

log = logging.getLogger("taximeter.traces")

GATHER_SECONDS = 0.25
"""How long a batch that is not full waits for more calls."""
BACKOFF_SECONDS_FIRST = 0.1
BACKOFF_SECONDS_MAX = 5.0
ASKED_SECONDS_MAX = 60.0
"""Longest that a collector's own `Retry-After` is obeyed."""
BODY_BYTES_MAX = 4_000_000
"""Of one request. Collectors take 4 MiB over gRPC unless told otherwise, and 20 MiB over HTTP."""
TRIES = 5
"""Failures in a row, at least three seconds, after which calls go behind others."""
ROUNDS = 3
"""So often a single call does, at most, if others are taken meanwhile."""
CLOSE_SECONDS_MAX = 3.0
ABORT_SECONDS_MAX = 1.0


class Shape(NamedTuple):
    """How calls become spans."""

    servers: Mapping[str, Server]
    stages: bool
    resource: Mapping[str, str]


class Way(NamedTuple):
    """Where calls go, and how many at once; an answer is waited for `timeout_seconds`."""

    transport: Transport
    shape: Shape
    batch_calls_max: int
    timeout_seconds: float


class _Encoded(NamedTuple):
    """A call as it goes into a request."""

    body: bytes
    spans: int


@dataclass
class _Part:
    """Calls that are sent in one request."""

    calls: Sequence[_Encoded]
    rounds: int = 0
    """How often they have gone behind others."""
    taken_before: int = 0
    """Requests that had been taken when they first did."""


class _Ended(Exception):
    """It was asked to end, and what is being sent is for the next recorder."""


class Exporter:
    """The thread that empties a spool. All methods are for one other thread."""

    def __init__(self, spool: Spool, way: Way, stats: TraceStats, complaints: Complaints) -> None:
        self._spool = spool
        self._way: Way | None = way
        self._left: list[Transport] = []
        """Those that a way led over before, to be closed."""
        self._stats = stats
        self._complaints = complaints
        self._changed = threading.Condition()
        self._end_at: float | None = None
        """When to be done; None while nobody has asked to end."""
        self._failures = 0
        self._taken = 0
        """Requests taken so far."""
        self._not_before = 0.0
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Hear that there are calls. Never waits but for another thread's few instructions."""
        with self._changed:
            self._changed.notify()

    def use(self, way: Way | None) -> None:
        """Send over another way from now on, also what waits; None is not to send anything."""
        with self._changed:
            old, self._way = self._way, way
            if old is not None and (way is None or way.transport is not old.transport):
                self._left.append(old.transport)
                old.transport.abort()
                self._not_before = 0.0
            self._changed.notify()

    def tell_servers(self, servers: Mapping[str, Server]) -> None:
        """Hear where upstreams are now, for calls that are not spans yet."""
        with self._changed:
            if self._way is not None:
                shape = self._way.shape._replace(servers=servers)
                self._way = self._way._replace(shape=shape)

    def close(self) -> None:
        """Export what there is, within a few seconds, and end. What is left stays in the spool."""
        with self._changed:
            self._end_at = time.monotonic() + CLOSE_SECONDS_MAX
            self._changed.notify()
        self._thread.join(CLOSE_SECONDS_MAX)
        if self._thread.is_alive():
            way = self._way
            if way is not None:
                way.transport.abort()
            self._thread.join(ABORT_SECONDS_MAX)

    # == the thread ===========================================================================

    def _run(self) -> None:
        try:
            while batch := self._next_batch():
                self._send(self._encoded(batch))
                self._spool.acknowledge()
        except _Ended:
            pass
        except Exception:
            log.exception("Traces have met a fault of ours, and are not exported any more.")
        with self._changed:
            left = [*self._left, *([self._way.transport] if self._way is not None else [])]
            self._way, self._left = None, []
        for transport in left:
            transport.close()

    def _next_batch(self) -> Sequence[bytes]:
        """Wait until there are calls, and until they may be sent; give none at the end."""
        spool = self._spool
        with self._changed:
            while self._end_at is None and (self._way is None or not spool.waiting()):
                self._changed.wait()
            ready_at = time.monotonic() + GATHER_SECONDS
            while self._end_at is None and self._way is not None:
                now = time.monotonic()
                full = spool.waiting() >= self._way.batch_calls_max
                left = self._not_before - now if full else max(ready_at, self._not_before) - now
                if left <= 0:
                    break
                self._changed.wait(left)
        way = self._path()
        if self._end_at is not None and time.monotonic() >= self._end_at:
            return []
        return spool.read(way.batch_calls_max)

    def _path(self) -> Way:
        """Give the way, once there is one."""
        with self._changed:
            while self._way is None and self._end_at is None:
                self._changed.wait()
            left, self._left = self._left, []
            way = self._way
        for transport in left:
            transport.close()
        if way is None:
            raise _Ended
        return way

    def _encoded(self, batch: Sequence[bytes]) -> list[_Encoded]:
        shape = self._path().shape
        calls = []
        for written in batch:
            try:
                spans = spans_of(read_back(written), shape.servers, stages=shape.stages)
                calls.append(_Encoded(encode_call(spans), len(spans)))
            except Exception as error:  # of a damaged record, or of ours: no other call pays for it
                self._stats.drop(1, "not_encodable")
                self._complaints.say(f"a call cannot be told in spans: {type(error).__name__}")
        return calls

    def _send(self, calls: Sequence[_Encoded]) -> None:
        """Send calls until each has been taken or dropped."""
        waiting = deque(self._parts(calls))
        while waiting:
            part = waiting.popleft()
            reply = self._try(request_of([call.body for call in part.calls], self._resource()))
            if reply.verdict is Verdict.TAKEN:
                self._count(part, reply)
            elif reply.verdict is Verdict.REFUSED:
                self._drop(part, "refused", reply)
            elif self._is_to_blame(part):
                self._drop(part, "not_taken", reply)
            else:
                waiting.extend(_halves(part))
                if len(waiting) == 1:
                    # Whether it is this call or the collector, the next one shows.
                    waiting.extend(self._parts(self._encoded(self._spool.read(1))))

    def _parts(self, calls: Sequence[_Encoded]) -> list[_Part]:
        """Put calls together to requests that are not too large."""
        parts: list[_Part] = []
        some: list[_Encoded] = []
        some_bytes = 0
        for call in calls:
            if len(call.body) > BODY_BYTES_MAX:
                self._stats.drop(1, "too_large")
                continue
            if some_bytes + len(call.body) > BODY_BYTES_MAX:
                parts.append(_Part(some))
                some, some_bytes = [], 0
            some.append(call)
            some_bytes += len(call.body)
        return [*parts, _Part(some)] if some else parts

    def _resource(self) -> Mapping[str, str]:
        return self._path().shape.resource

    def _count(self, part: _Part, reply: Reply) -> None:
        self._taken += 1
        stats = self._stats
        spans = sum(call.spans for call in part.calls)
        rejected = min(rejected_spans(reply.body), spans)
        stats.exported += len(part.calls)
        stats.exported_spans += spans - rejected
        stats.rejected_spans += rejected
        if rejected:
            self._complaints.say(f"{rejected} of {spans} spans were not kept")
        else:
            self._complaints.end()

    def _drop(self, part: _Part, reason: str, reply: Reply) -> None:
        self._stats.drop(len(part.calls), reason)
        self._complaints.say(f"{reason}: {reply.detail}")

    def _is_to_blame(self, part: _Part) -> bool:
        """Note that a part was not taken; tell whether it is a call that fails alone."""
        if part.rounds == 0:
            part.taken_before = self._taken
        part.rounds += 1
        alone = len(part.calls) == 1
        return alone and part.rounds >= ROUNDS and self._taken > part.taken_before

    def _try(self, body: bytes) -> Reply:
        """Send a request until it is taken, or refused, or has failed `TRIES` times.

        Raises:
            _Ended: if it was asked to end, and the collector did not take it at a last try.
        """
        tries = 0
        while True:
            way, last = self._path(), self._end_at is not None
            reply = way.transport.export(body, self._seconds(way.timeout_seconds))
            if reply.verdict is Verdict.TAKEN:
                self._failures = 0
                return reply
            if way.transport in self._left:
                continue  # it was given up for another one
            self._stats.failed += 1
            if reply.verdict is Verdict.REFUSED:
                self._failures = 0
                return reply
            if last:
                raise _Ended
            self._complaints.say(f"{reply.verdict.value}: {reply.detail}")
            wait = self._wait_seconds(reply)
            self._failures += 1
            self._pause(wait)
            tries += 1
            if tries >= TRIES:
                return reply

    def _seconds(self, timeout_seconds: float) -> float:
        """Say how long an answer may take: no longer than until the end; never nothing."""
        end_at = self._end_at
        if end_at is None:
            return timeout_seconds
        return max(min(timeout_seconds, end_at - time.monotonic()), 0.001)

    def _wait_seconds(self, reply: Reply) -> float:
        """Say how long to wait after a failure: longer each time, with jitter, or as asked."""
        longest = min(BACKOFF_SECONDS_FIRST * 2 ** min(self._failures, 16), BACKOFF_SECONDS_MAX)
        wait = float(longest * random.uniform(0.5, 1.0))
        return max(wait, min(reply.wait_seconds or 0.0, ASKED_SECONDS_MAX))

    def _pause(self, seconds: float) -> None:
        """Wait after a failure, but no longer than until it is to end, or has another way."""
        with self._changed:
            self._not_before = time.monotonic() + seconds
            while self._end_at is None and (left := self._not_before - time.monotonic()) > 0:
                self._changed.wait(left)


def _halves(part: _Part) -> list[_Part]:
    """Divide a part, if there is anything to divide."""
    middle = len(part.calls) // 2
    return [_Part(part.calls[:middle]), _Part(part.calls[middle:])] if middle else [part]
