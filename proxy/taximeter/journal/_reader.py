"""The reading end: follows one journal from a position, across segments and past damage.

A reader never writes into the journal's segments. It tells four things apart: a record, a
record seen before (`fdatasync` had failed, the frame was written again), a stretch of damage,
and "nothing more for now". What is damaged is counted in bytes and a copy put aside, once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from taximeter.journal._format import HEADER_BYTES, Damage, Frame, SegmentHeader, scan
from taximeter.journal._layout import QUARANTINE_NAME, has_writer, segment_name, segment_number

READ_BYTES_MAX = 1024 * 1024
"""Bytes of a segment looked at in one `read`; larger than any frame."""
QUARANTINE_BYTES_MAX = 64 * 1024 * 1024
"""All copies of damaged stretches together; beyond it damage is counted only."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a journal: everything before it has been read."""

    segment: int
    offset: int


START = Position(0, 0)


@dataclass(frozen=True, slots=True)
class Read:
    """One record read, where it begins, and the position behind it."""

    payload: bytes
    sequence: int
    start: Position
    after: Position


@dataclass(slots=True)
class ReaderStats:
    """What a reader has met, since it was made."""

    records: int = 0
    repeated: int = 0
    missing: int = 0
    """Frames whose numbers were skipped: lost for good."""
    damaged_bytes: int = 0
    damaged_stretches: int = 0
    quarantined_bytes: int = 0
    unreadable_segments: int = 0
    problems: list[str] = field(default_factory=list)
    """The last few problems in words, at most 16."""


class JournalReader:
    """Reads one journal in order.

    Raises nothing for damage. `UnknownVersion` passes through: reading on would be guessing.
    """

    def __init__(self, directory: Path, position: Position = START) -> None:
        self.directory = directory
        self.position = position
        self.stats = ReaderStats()
        self.finished = False
        """The writer is gone and everything has been read. No record will ever follow."""
        self._last_sequence: int | None = None

    @property
    def name(self) -> str:
        """The journal's name."""
        return self.directory.name

    def read(self, records_max: int) -> list[Read]:
        """Give up to about `records_max` further records; an empty list is 'none for now'."""
        # Asked before looking: a journal whose writer was gone by then cannot have grown since.
        ended = not has_writer(self.directory)
        found: list[Read] = []
        while len(found) < records_max:
            before = self.position
            if not self._read_some(found, ended):
                break
            if self.position == before:  # pragma: no cover - each step moves; never spin
                break
        return found

    def _segments(self) -> list[int]:
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        return sorted(number for name in names if (number := segment_number(name)) is not None)

    def _read_some(self, found: list[Read], ended: bool) -> bool:
        """Read one stretch of the current segment, or step to the next; False: none for now."""
        segments = self._segments()
        later = [number for number in segments if number > self.position.segment]
        final = ended or bool(later)
        if self.position.segment not in segments:
            if not later:
                self.finished = ended
                return False
            if self.position.segment > 0 and later[0] != self.position.segment + 1:
                self._problem(f"{self.name}: segments before {later[0]} are missing")
            self.position = Position(later[0], 0)
            return True
        stretch = self._stretch()
        if stretch is None:
            self.stats.unreadable_segments += 1
            self._problem(f"{self.name}: segment {self.position.segment} cannot be read")
            if not later:
                self.finished = ended
                return False
            self.position = Position(later[0], 0)
            return True
        whole_rest = len(stretch) < READ_BYTES_MAX
        if self.position.offset == 0:
            if len(stretch) < HEADER_BYTES and not final:
                return False
            header = SegmentHeader.decode(stretch)
            # A segment without a good header may still hold good frames: look for them.
            skip = HEADER_BYTES if header is not None else 0
        else:
            skip = 0
        items, after = scan(stretch, skip, final=final and whole_rest)
        base = self.position.offset
        segment = self.position.segment
        for item in items:
            if isinstance(item, Damage):
                self._damage(segment, base + item.start, stretch[item.start : item.end])
            else:
                self._take(found, item, segment, base)
        if after > 0:
            self.position = Position(segment, base + after)
            return True
        if final and whole_rest and not stretch:
            if later:
                self.position = Position(later[0], 0)
                return True
            self.finished = ended
        return False

    def _stretch(self) -> bytes | None:
        path = self.directory / segment_name(self.position.segment)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            return os.pread(handle, READ_BYTES_MAX, self.position.offset)
        except OSError:
            return None
        finally:
            os.close(handle)

    def _take(self, found: list[Read], frame: Frame, segment: int, base: int) -> None:
        last = self._last_sequence
        if last is not None and frame.sequence <= last:
            self.stats.repeated += 1
            return
        if last is not None and frame.sequence > last + 1:
            self.stats.missing += frame.sequence - last - 1
            self._problem(f"{self.name}: {frame.sequence - last - 1} records are missing")
        self._last_sequence = frame.sequence
        self.stats.records += 1
        found.append(
            Read(
                frame.payload,
                frame.sequence,
                Position(segment, base + frame.start),
                Position(segment, base + frame.end),
            )
        )

    def _damage(self, segment: int, offset: int, data: bytes) -> None:
        self.stats.damaged_bytes += len(data)
        self.stats.damaged_stretches += 1
        self._problem(
            f"{self.name}: {len(data)} damaged bytes in segment {segment} at {offset}"
        )
        try:
            self._quarantine(segment, offset, data)
        except OSError as error:
            self._problem(f"no copy of the damaged bytes could be kept: {error.strerror}")

    def _quarantine(self, segment: int, offset: int, data: bytes) -> None:
        folder = self.directory.parent / QUARANTINE_NAME
        folder.mkdir(mode=0o700, exist_ok=True)
        held = sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(folder))
        if held + len(data) > QUARANTINE_BYTES_MAX:
            return
        path = folder / f"{self.name}-{segment:08d}-{offset}.bytes"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(path, flags, 0o600)
        try:
            self.stats.quarantined_bytes += os.write(handle, data)
        finally:
            os.close(handle)

    def _problem(self, words: str) -> None:
        self.stats.problems.append(words)
        del self.stats.problems[:-16]
