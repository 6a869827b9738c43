"""What became of calls on their way to a collector. Imports nothing that costs."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

DROPPED = (
    "spool_full",
    "unwritable",
    "damaged",
    "refused",
    "not_taken",
    "too_large",
    "not_encodable",
)
"""Reasons for which a call's trace is dropped.

The first three are told of the spool: it passed its bound, the disk would not take the call, or
what the disk gave back is not what was written. `refused` is told of an answer of the collector's
that would be the same the next time, and `not_taken` of a call that it fails at on and on while it
takes others. A collector that does not answer, or asks to be left alone,
drops nothing: calls wait for it in the spool.
"""


@dataclass
class TraceStats:
    """Counts since the recorder's start; in calls, where not said otherwise."""

    exported: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DROPPED, 0))
    """By reason: every word of `DROPPED` is there from the start."""
    failed: int = 0
    """Tries to export, each of several calls, that did not succeed."""
    queued: int = 0
    """Waiting now, or being exported; those that an earlier recorder left, too."""
    unsampled: int = 0
    """Booked, and not to be traced."""
    exported_spans: int = 0
    rejected_spans: int = 0
    """Spans of exported calls that the collector said it did not keep."""
    spool_bytes: int = 0
    spool_bytes_max: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def drop(self, calls: int, reason: str) -> None:
        """Count calls that no collector will get. Safe from any thread."""
        with self._lock:
            self.dropped[reason] += calls
