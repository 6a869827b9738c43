"""From booked calls to a collector, in a thread of its own that nobody ever waits for.

    recorder's thread -> offer -> bounded queue -> [spans, bytes, send, send again] -> collector

Whatever the collector does, three things hold. The recorder only appends to the queue, and at its
bound the oldest call goes. An export has one deadline over all its tries; then its calls are
dropped. And each failure in a row doubles the wait before the next try, up to a bound, also from
one export to the next: a collector that is down sees a try every few seconds, not one a batch.
Every dropped call is counted under one reason.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from taximeter.ledger import Entry
from taximeter.traces._encode import encode_call, rejected_spans, request_of
from taximeter.traces._span import Server
from taximeter.traces._spans import spans_of
from taximeter.traces._stats import TraceStats
from taximeter.traces._transport import Reply, Transport, Verdict

log = logging.getLogger("taximeter.traces")

GATHER_SECONDS = 0.25
"""How long a batch that is not full waits for more calls."""
BACKOFF_SECONDS_FIRST = 0.1
BACKOFF_SECONDS_MAX = 5.0
ASKED_SECONDS_MAX = 60.0
"""Longest that a collector's own `Retry-After` is obeyed."""
BODY_BYTES_MAX = 4_000_000
"""Of one request. Collectors take 4 MiB over gRPC unless told otherwise, and 20 MiB over HTTP."""
CLOSE_SECONDS_MAX = 3.0
ABORT_SECONDS_MAX = 1.0
CLOSING_FAILURES_MAX = 2
"""Failures in a row after which a recorder that ends does not wait for a better moment."""
COMPLAINT_SECONDS = 60.0
"""How often a collector that takes nothing is complained of."""


class Shape(NamedTuple):
    """How calls become spans."""

    servers: Mapping[str, Server]
    stages: bool
    resource: Mapping[str, str]


class Bounds(NamedTuple):
    """Of the queue, of a batch, and of the time that an export may take."""

    queue_calls_max: int
    batch_calls_max: int
    timeout_seconds: float


class _Encoded(NamedTuple):
    """A call as it goes into a request."""

    body: bytes
    spans: int


class Exporter:
    """A queue and the thread that empties it. All methods are for one other thread."""

    def __init__(
        self, transport: Transport, shape: Shape, bounds: Bounds, stats: TraceStats
    ) -> None:
        self.shape = shape
        """May be replaced at any time, for calls that are not spans yet."""
        self._transport = transport
        self._bounds = bounds
        self._stats = stats
        self._queue: deque[Entry] = deque()
        self._changed = threading.Condition()
        self._end_at: float | None = None
        """When to be done; None while nobody has asked to end."""
        self._failures = 0
        self._not_before = 0.0
        self._complained_at = float("-inf")
        self._complained = False
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def offer(self, entries: Iterable[Entry]) -> None:
        """Take calls over. Never waits but for another thread's few instructions."""
        with self._changed:
            for entry in entries:
                if len(self._queue) >= self._bounds.queue_calls_max:
                    self._queue.popleft()
                    self._drop(1, "queue_full")
                self._queue.append(entry)
                self._stats.queued += 1
            self._changed.notify()

    def retire(self) -> None:
        """Ask it to export what it has, within `CLOSE_SECONDS_MAX`, and end. Does not wait."""
        with self._changed:
            if self._end_at is None:
                self._end_at = time.monotonic() + CLOSE_SECONDS_MAX
            self._changed.notify()

    def close(self) -> None:
        """Export what there is, and end; what is not out in time is dropped and counted."""
        self.retire()
        self._thread.join(CLOSE_SECONDS_MAX)
        if self._thread.is_alive():
            self._transport.abort()
            self._thread.join(ABORT_SECONDS_MAX)
        self._abandon()

    # == the thread ===========================================================================

    def _run(self) -> None:
        try:
            while batch := self._next_batch():
                self._send(self._encoded(batch))
        except Exception:
            log.exception("Traces have met a fault of ours, and are not exported any more.")
        self._abandon()
        self._transport.close()

    def _next_batch(self) -> Sequence[Entry]:
        """Wait until there are calls, and until they may be sent; give none at the end."""
        calls_max = self._bounds.batch_calls_max
        with self._changed:
            while not self._queue and self._end_at is None:
                self._changed.wait()
            ready_at = time.monotonic() + GATHER_SECONDS
            while self._end_at is None:
                now = time.monotonic()
                full = len(self._queue) >= calls_max
                left = self._not_before - now if full else max(ready_at, self._not_before) - now
                if left <= 0:
                    break
                self._changed.wait(left)
            if self._end_at is not None and time.monotonic() >= self._end_at:
                return []
            return [self._queue.popleft() for _ in range(min(calls_max, len(self._queue)))]

    def _encoded(self, batch: Sequence[Entry]) -> list[_Encoded]:
        shape = self.shape
        calls = []
        for entry in batch:
            try:
                spans = spans_of(entry, shape.servers, stages=shape.stages)
                calls.append(_Encoded(encode_call(spans), len(spans)))
            except Exception as error:  # of a damaged record, or of ours: no other call pays for it
                self._drop(1, "not_encodable")
                self._complain(f"a call cannot be told in spans: {type(error).__name__}")
        return calls

    def _send(self, calls: Sequence[_Encoded]) -> None:
        """Send calls in one request, or in several if they are too many bytes for one."""
        part: list[_Encoded] = []
        part_bytes = 0
        for call in calls:
            if len(call.body) > BODY_BYTES_MAX:
                self._drop(1, "too_large")
                continue
            if part_bytes + len(call.body) > BODY_BYTES_MAX:
                self._send_one(part)
                part, part_bytes = [], 0
            part.append(call)
            part_bytes += len(call.body)
        if part:
            self._send_one(part)

    def _send_one(self, calls: Sequence[_Encoded]) -> None:
        reply = self._insist(request_of([call.body for call in calls], self.shape.resource))
        if reply.verdict is not Verdict.TAKEN:
            self._drop(len(calls), reply.verdict.value)
            self._complain(f"{reply.verdict.value}: {reply.detail}")
            return
        spans = sum(call.spans for call in calls)
        rejected = min(rejected_spans(reply.body), spans)
        with self._changed:
            stats = self._stats
            stats.exported += len(calls)
            stats.exported_spans += spans - rejected
            stats.rejected_spans += rejected
            stats.queued -= len(calls)
        if rejected:
            self._complain(f"{rejected} of {spans} spans were not kept")
        elif self._complained:
            self._complained = False
            log.info("The collector takes traces again.")

    def _insist(self, body: bytes) -> Reply:
        """Send a request until it is taken or refused, or its time is over."""
        give_up_at = time.monotonic() + self._bounds.timeout_seconds
        while True:
            reply = self._transport.export(body, self._seconds_until(give_up_at))
            if reply.verdict is Verdict.TAKEN:
                self._failures = 0
                return reply
            self._stats.failed += 1
            if reply.verdict is Verdict.REFUSED:
                self._failures = 0
                return reply
            wait = self._wait_seconds(reply)
            self._failures += 1
            closing = self._end_at is not None
            if wait >= self._seconds_until(give_up_at) or (
                closing and self._failures > CLOSING_FAILURES_MAX
            ):
                self._not_before = time.monotonic() + wait
                return reply
            self._pause(wait)

    def _seconds_until(self, moment: float) -> float:
        """Say how long it is to a moment, or to the end if that is sooner; never nothing."""
        end = moment if self._end_at is None else min(moment, self._end_at)
        return max(end - time.monotonic(), 0.001)

    def _wait_seconds(self, reply: Reply) -> float:
        """Say how long to wait after a failure: longer each time, with jitter, or as asked."""
        longest = min(BACKOFF_SECONDS_FIRST * 2 ** min(self._failures, 16), BACKOFF_SECONDS_MAX)
        wait = float(longest * random.uniform(0.5, 1.0))
        return max(wait, min(reply.wait_seconds or 0.0, ASKED_SECONDS_MAX))

    def _pause(self, seconds: float) -> None:
        """Wait, but for no longer than until it is asked to end."""
        end = time.monotonic() + seconds
        with self._changed:
            asked = self._end_at
            while self._end_at is asked and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)

    def _drop(self, calls: int, reason: str) -> None:
        with self._changed:
            self._stats.dropped[reason] += calls
            self._stats.queued -= calls

    def _abandon(self) -> None:
        """Count what nobody will export any more."""
        with self._changed:
            self._drop(len(self._queue), "closing")
            self._queue.clear()

    def _complain(self, reason: str) -> None:
        now = time.monotonic()
        if now - self._complained_at < COMPLAINT_SECONDS:
            return
        self._complained_at, self._complained = now, True
        log.warning(
            "Not all traces are exported (%s). What is not is dropped and counted; the ledger has "
            "every call.",
            reason,
        )
