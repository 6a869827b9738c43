"""What became of calls on their way to a collector. Imports nothing that costs."""

from __future__ import annotations

from dataclasses import dataclass, field

DROPPED = ("queue_full", "unreachable", "busy", "refused", "too_large", "not_encodable", "closing")
"""Reasons for which a call's trace is dropped.

`unreachable` and `busy` are told of the last try before an export's time was over, `refused` of an
answer that would be the same the next time, and `closing` of what was left when the recorder ended.
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
    """Waiting now, or being exported."""
    unsampled: int = 0
    """Booked, and not to be traced."""
    exported_spans: int = 0
    rejected_spans: int = 0
    """Spans of exported calls that the collector said it did not keep."""
