"""The access log: a line for each call, written once the call is in the ledger.

Lines are made and written by a thread of their own. Standard error is a pipe as often as not, and
whoever reads it may stop to: then lines wait, up to a bound, and what is beyond is dropped,
oldest first, and counted; booking goes on.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from taximeter.call import Closed, Stage, usd_text
from taximeter.ledger import Committed, Entry
from taximeter.settings import Settings

log = logging.getLogger("taximeter.recorder")

WAITING_CALLS_MAX = 10_000
LINES_MAX = 200
"""Written at once."""
CLOSE_SECONDS_MAX = 2.0

Write = Callable[[Iterable[Mapping[str, object]]], None]
"""Writes a line for each call, given its fields; may wait, and raise OSError."""

_TO_FIRST_TOKEN = (
    Stage.RECEIVE,
    Stage.QUEUE,
    Stage.CONNECT,
    Stage.FIRST_BYTE,
    Stage.FIRST_TOKEN,
)


def fields_of(entry: Entry) -> dict[str, object]:
    """Give what a call's line tells, in the order in which it is read; None is unknown."""
    closed, usage = entry.closed, entry.usage
    opened = closed.opened
    return {
        "outcome": str(closed.outcome),
        "status": closed.status,
        "user": opened.user,
        "team": opened.team,
        "upstream": opened.upstream,
        "operation": opened.operation or None,
        "model": opened.model or closed.response_model,
        "stream": opened.stream,
        "duration_seconds": _seconds(sum(closed.stages.values())) if closed.stages else None,
        "first_token_seconds": _first_token_seconds(closed),
        "input_tokens": usage.input_tokens if usage is not None else None,
        "output_tokens": usage.output_tokens if usage is not None else None,
        "usage_source": str(entry.usage_source),
        "cost_usd": None if entry.cost_pico is None else usd_text(entry.cost_pico),
        "attempts": len(closed.attempts),
        "error": closed.error,
        "call_id": opened.call_id,
        "trace_id": opened.trace_id,
    }


def _first_token_seconds(closed: Closed) -> float | None:
    stages = closed.stages
    if Stage.FIRST_TOKEN not in stages:
        return None
    return _seconds(sum(stages.get(stage, 0) for stage in _TO_FIRST_TOKEN))


def _seconds(nanoseconds: int) -> float:
    return round(nanoseconds / 1e9, 6)


class AccessLog:
    """Has a line written for each booked call."""

    name = "access"

    def __init__(
        self, settings: Settings, write: Write, *, waiting_calls_max: int = WAITING_CALLS_MAX
    ) -> None:
        self.reload(settings)
        self._write = write
        self._waiting: deque[Entry] = deque()
        self._waiting_calls_max = waiting_calls_max
        self._came = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self.dropped = 0
        """Calls without a line, because too many waited."""

    def restore(self, notes: Mapping[str, bytes]) -> None:
        """See `Sink.restore`: there is nothing to take up."""

    def note(self, entries: Sequence[Entry], committed: Committed) -> Mapping[str, bytes]:
        """See `Sink.note`: there is nothing to keep."""
        return {}

    def booked(self, entries: Sequence[Entry], committed: Committed) -> None:
        """Have the calls' lines written."""
        if not self._wanted or not entries:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="access", daemon=True)
            self._thread.start()
        with self._came:
            self._waiting.extend(entries)
            while len(self._waiting) > self._waiting_calls_max:
                self._waiting.popleft()
                self.dropped += 1
            self._came.notify()

    def reload(self, settings: Settings) -> None:
        """Take a new configuration. The lines are at level info."""
        self._wanted = settings.log.access and settings.log.level in ("debug", "info")

    def close(self) -> None:
        """Write what waits, within a moment."""
        with self._came:
            self._closed = True
            self._came.notify()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS_MAX)

    def _run(self) -> None:
        told = 0
        while True:
            with self._came:
                while not self._waiting and not self._closed:
                    self._came.wait()
                if not self._waiting:
                    return
                count = min(len(self._waiting), LINES_MAX)
                entries = [self._waiting.popleft() for _ in range(count)]
                dropped = self.dropped
            try:
                self._write(map(fields_of, entries))
            except OSError:
                return  # nobody reads what we say, and there is nobody else to tell
            except Exception:
                log.exception("Calls got no line, for a fault of ours; they are in the ledger.")
            if dropped > told:
                log.warning("%d calls got no line: too many waited.", dropped - told)
                told = dropped
