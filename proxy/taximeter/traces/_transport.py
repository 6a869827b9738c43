"""What the exporter needs of a way to the collector, and what the collector may say. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import NamedTuple, Protocol

ANSWER_BYTES_MAX = 64 * 1024
"""Most that is read of a collector's answer."""


class Verdict(Enum):
    """What became of an export."""

    TAKEN = "taken"
    BUSY = "busy"
    """Not taken, and worth another try: OTLP's list of such answers."""
    UNREACHABLE = "unreachable"
    """No answer: no connection, a broken one, or none in time. Worth another try."""
    REFUSED = "refused"
    """Not taken, and it would be the same the next time."""


class Reply(NamedTuple):
    """A collector's answer to an export."""

    verdict: Verdict
    detail: str = ""
    """A status or the kind of an error, never a collector's own words: fit for a log."""
    wait_seconds: float | None = None
    """How long it asked to be left alone."""
    body: bytes = b""
    """The encoded `ExportTraceServiceResponse`, if it was taken."""


class Target(NamedTuple):
    """Where to send, and how."""

    url: str
    headers: Mapping[str, str]
    gzip: bool = False
    ca_file: Path | None = None
    """Certificates that are trusted instead of the system's."""
    certificate_file: Path | None = None
    key_file: Path | None = None
    """What we show of ourselves; both or none."""


class Transport(Protocol):
    """A way to a collector. Used by one thread, but for `abort`."""

    def export(self, body: bytes, seconds_max: float) -> Reply:
        """Send an encoded request; it takes no longer than it may. Never raises."""

    def abort(self) -> None:
        """Give up the export under way, and any later one, at once. Safe from any thread."""

    def close(self) -> None:
        """Let go of all connections."""
