"""What the recorder's process tells of itself when `/metrics` is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from taximeter.metrics import _running as families
from taximeter.metrics._exposition import Picture


class RecorderCounts(Protocol):
    """What a recorder has done since it started: `taximeter.recorder`'s own figures."""

    booked: int
    repeated: int
    rejected: int
    commits: int
    retries: int
    lost_calls: int
    unreadable_records: int
    damaged_bytes: int
    missing_records: int
    unreadable_segments: int
    refused_journals: int


class ExporterFigures(Protocol):
    """How an exporter of calls stands."""

    @property
    def exported(self) -> int: ...
    @property
    def dropped(self) -> Mapping[str, int]: ...
    @property
    def failed(self) -> int: ...
    @property
    def queued(self) -> int: ...
    @property
    def unsampled(self) -> int: ...
    @property
    def rejected_spans(self) -> int: ...
    @property
    def spool_bytes(self) -> int: ...
    @property
    def spool_bytes_max(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class RecorderFacts:
    """The moment's facts. What is None is not known, and is not shown."""

    counts: RecorderCounts | None = None
    sink_failures: Mapping[str, int] = field(default_factory=dict)
    """Faults by sink."""
    ledger_lag_seconds: float | None = None
    """Age of the oldest record that is not in the ledger; 0 if there is none."""
    journal_bytes: int | None = None
    journal_bytes_max: int | None = None
    exporters: Mapping[str, ExporterFigures] = field(default_factory=dict)
    """By name, such as `otlp`."""


def draw(picture: Picture, facts: RecorderFacts) -> None:
    """Put the facts into a picture."""
    counts = facts.counts
    if counts is not None:
        for family, value in (
            (families.BOOKED, counts.booked),
            (families.REPEATED, counts.repeated),
            (families.REJECTED, counts.rejected),
            (families.COMMITS, counts.commits),
            (families.COMMIT_RETRIES, counts.retries),
            (families.LOST, counts.lost_calls),
            (families.MISSING, counts.missing_records),
            (families.DAMAGED_BYTES, counts.damaged_bytes),
            (families.UNREADABLE, counts.unreadable_records),
            (families.UNREADABLE_SEGMENTS, counts.unreadable_segments),
            (families.REFUSED_JOURNALS, counts.refused_journals),
        ):
            picture.set(family, value)
    for sink, failures in facts.sink_failures.items():
        picture.set(families.SINK_FAILURES, failures, sink)
    picture.set(families.LAG, facts.ledger_lag_seconds)
    picture.set(families.JOURNAL_BYTES, facts.journal_bytes)
    picture.set(families.JOURNAL_BYTES_MAX, facts.journal_bytes_max)
    for name, figures in facts.exporters.items():
        picture.set(families.EXPORTED, figures.exported, name)
        picture.set(families.EXPORT_FAILED, figures.failed, name)
        picture.set(families.EXPORT_QUEUED, figures.queued, name)
        picture.set(families.EXPORT_UNSAMPLED, figures.unsampled, name)
        picture.set(families.EXPORT_SPANS_REJECTED, figures.rejected_spans, name)
        picture.set(families.EXPORT_SPOOL_BYTES, figures.spool_bytes, name)
        picture.set(families.EXPORT_SPOOL_BYTES_MAX, figures.spool_bytes_max, name)
        for reason, dropped in figures.dropped.items():
            picture.set(families.EXPORT_DROPPED, dropped, name, reason)
