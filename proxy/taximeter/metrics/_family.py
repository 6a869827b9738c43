"""What a metric is: its kind, who knows its figures, what its series are told apart by."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SECOND: Final = 1_000_000_000
USD: Final = 1_000_000_000_000


class Kind(StrEnum):
    """What Prometheus calls its type."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


class Source(StrEnum):
    """Who knows the figures."""

    LEDGER = "ledger"
    """The sums of a commit: kept with it, and equal to the ledger's."""
    CALLS = "calls"
    """The calls of a commit, as they were when they were booked: kept with it."""
    RECORDER = "recorder"
    """The recorder's process, since its start."""
    RELAY = "relays"
    """What each relay tells once a second, since its start."""
    SUPERVISOR = "supervisor"
    """The process that starts the others."""


@dataclass(frozen=True, eq=False, slots=True)
class Family:
    """One metric: a name, and what its series are told apart by."""

    name: str
    """Without the ending (`_total`, `_info`) that its kind adds."""
    kind: Kind
    source: Source
    help: str
    labels: tuple[str, ...] = ()
    edges: tuple[int, ...] = ()
    """Upper edges of a histogram's buckets, inclusive, in inner units."""
    scale: int = 1
    """Inner units in one exposed unit."""

    @property
    def exposed(self) -> str:
        """The name that is asked for in a query."""
        ending = {Kind.COUNTER: "_total", Kind.INFO: "_info"}.get(self.kind, "")
        return self.name + ending
