"""The reading end: follows one journal from a position, across segments and past damage.

A reader tells five things apart: a record, a record it has had (`fdatasync` had failed, the
frame was written again), a stretch of damage, a segment that cannot be read at all, and
"nothing more for now". Damage is counted in bytes, and a copy put aside; a segment that cannot
be read is put aside itself. Records are never changed.

When does a segment end? A writer goes from segment k to k + 1 and never back, so while it lives,
k is done when k + 1 is there. A later segment without one in between is believed only if its
header names the same journal: someone may have deleted the one between, or put a foreign file
here. Once the writer is gone nothing grows any more, and whatever lies here is read, in order.
"""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from taximeter.journal._format import (
    HEADER_BYTES,
    Damage,
    Frame,
    SegmentHeader,
    UnknownVersion,
    scan,
)
from taximeter.journal._layout import has_writer, segment_name, segment_number
from taximeter.journal._numbers import Numbers
from taximeter.journal._quarantine import Quarantine

READ_BYTES_MAX = 1024 * 1024
"""Bytes of a segment looked at in one `read`; larger than any frame."""
SECTOR_BYTES = 4096
"""What is given up around a place that the disk cannot read."""
PROBLEMS_MAX = 16

_UNREADABLE = frozenset(
    {
        errno.ELOOP,  # a link: no journal of ours has one
        errno.EACCES,
        errno.EPERM,
        errno.EISDIR,
        errno.ENXIO,
        errno.ESPIPE,  # a pipe
        errno.ENODEV,
    }
)
"""Errors that are in the file's nature, and will be there at the next look. With any other (no
memory, no free descriptor) the segment waits for that next look."""


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
    """Numbers that have been skipped and have not come since: frames lost for good."""
    damaged_bytes: int = 0
    damaged_stretches: int = 0
    quarantined_bytes: int = 0
    unreadable_segments: int = 0
    problems_met: int = 0
    problems: list[str] = field(default_factory=list)
    """The last of them in words, at most `PROBLEMS_MAX`."""

    @property
    def lossy(self) -> bool:
        """Whether a record may have been lost on the way."""
        return bool(self.missing or self.damaged_bytes or self.unreadable_segments)


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
        self._quarantine = Quarantine(directory.parent)
        self._entered = -1
        self._journal_id: bytes | None = None
        # Frames of a foreign segment have numbers of their own.
        self._numbers: defaultdict[bytes | None, Numbers] = defaultdict(Numbers)
        self._trouble: str | None = None

    @property
    def name(self) -> str:
        """The journal's name."""
        return self.directory.name

    def read(self, records_max: int) -> list[Read]:
        """Give up to about `records_max` further records; an empty list is 'none for now'.

        Raises:
            UnknownVersion: if a newer program wrote this; the position stays before it.
        """
        # Asked before looking: a journal whose writer was gone by then cannot have grown since.
        ended = not has_writer(self.directory)
        found: list[Read] = []
        while len(found) < records_max:
            before = self.position
            try:
                moved = self._read_some(found, ended)
            except UnknownVersion:
                if found:
                    break  # what was read before it counts; the next look meets it again
                raise
            if not moved or self.position == before:
                break
        return found

    def _read_some(self, found: list[Read], ended: bool) -> bool:
        """Read one stretch of the current segment, or step to the next; False: none for now."""
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            names = []
        except OSError as error:
            self._wait_for(f"{self.name}: the folder cannot be read: {error.strerror}")
            return False
        segments = sorted(number for name in names if (number := segment_number(name)) is not None)
        following = self._following(segments, ended)
        if self.position.segment not in segments:
            return self._step(following, ended)
        try:
            stretch = self._stretch()
        except OSError as error:
            if error.errno not in _UNREADABLE:
                self._wait_for(
                    f"{self.name}: segment {self.position.segment} cannot be read for now: "
                    f"{error.strerror}"
                )
                return False
            if following is None and not ended:
                return False
            self._put_aside()
            return self._step(following, ended)
        self._trouble = None
        # A segment that others follow will not grow, and neither will that of a dead writer.
        final = (ended or following is not None) and len(stretch) < READ_BYTES_MAX
        if self.position.offset == 0 and len(stretch) < HEADER_BYTES and not final:
            return False
        skip = self._enter(stretch)
        items, after = scan(stretch, skip, final=final)
        self._take(found, items, stretch)
        if after > 0:
            self.position = Position(self.position.segment, self.position.offset + after)
            return True
        return self._step(following, ended) if final else False

    def _following(self, segments: list[int], ended: bool) -> int | None:
        """Give the segment to go on with after the current one, if there is one."""
        current = self.position.segment
        later = [number for number in segments if number > current]
        if not later:
            return None
        if ended or later[0] == current + 1 or current not in segments:
            return later[0]
        try:
            for number in later:
                header = self._header(number)
                if header is not None and header.journal_id == self._journal_id:
                    return number
        except UnknownVersion:
            return None  # met again, and told, once there is nothing before it any more
        return None

    def _step(self, following: int | None, ended: bool) -> bool:
        """Go on to the segment that follows; without one, that is all there is for now."""
        if following is None:
            self.finished = ended
            return False
        if 0 < self.position.segment < following - 1:
            self._problem(f"{self.name}: segments before {following} are missing")
        self.position = Position(following, 0)
        return True

    def _enter(self, stretch: bytes) -> int:
        """Learn whose segment this is; give the bytes of its header in `stretch`.

        A segment without a good header may still hold good frames; it is taken for one of the
        journal that the one before it belongs to, or else the one behind it.
        """
        segment, offset = self.position.segment, self.position.offset
        if offset > 0 and segment == self._entered:
            return 0
        header = SegmentHeader.decode(stretch) if offset == 0 else self._header(segment)
        self._entered = segment
        if header is None:
            return 0
        if self._journal_id is None and None in self._numbers:
            self._numbers[header.journal_id] = self._numbers.pop(None)
        self._journal_id = header.journal_id
        return HEADER_BYTES if offset == 0 else 0

    def _header(self, segment: int) -> SegmentHeader | None:
        try:
            return SegmentHeader.decode(self._bytes_of(segment, HEADER_BYTES, 0))
        except OSError:
            return None

    def _stretch(self) -> bytes:
        segment, offset = self.position.segment, self.position.offset
        try:
            return self._bytes_of(segment, READ_BYTES_MAX, offset)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        # The disk cannot read some of it: go by sectors. Zeros in their place are damage.
        self._problem(f"{self.name}: the disk fails to read segment {segment}")
        parts: list[bytes] = []
        size = (self.directory / segment_name(segment)).lstat().st_size
        for start in range(offset, min(size, offset + READ_BYTES_MAX), SECTOR_BYTES):
            try:
                parts.append(self._bytes_of(segment, SECTOR_BYTES, start))
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                parts.append(bytes(min(SECTOR_BYTES, size - start)))
        return b"".join(parts)[:READ_BYTES_MAX]

    def _bytes_of(self, segment: int, size: int, offset: int) -> bytes:
        # Without blocking: opening a pipe that nobody writes to would wait for ever.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        handle = os.open(self.directory / segment_name(segment), flags)
        try:
            return os.pread(handle, size, offset)
        finally:
            os.close(handle)

    def _take(self, found: list[Read], items: list[Frame | Damage], stretch: bytes) -> None:
        segment, base = self.position.segment, self.position.offset
        numbers = self._numbers[self._journal_id]
        for item in items:
            if isinstance(item, Damage):
                self._damage(segment, base + item.start, stretch[item.start : item.end])
            elif numbers.add(item.sequence):
                self.stats.records += 1
                start, after = (
                    Position(segment, base + item.start),
                    Position(segment, base + item.end),
                )
                found.append(Read(item.payload, item.sequence, start, after))
            else:
                self.stats.repeated += 1
        missing = sum(each.missing for each in self._numbers.values())
        if missing > self.stats.missing:
            self._problem(f"{self.name}: {missing} records are missing")
        self.stats.missing = missing

    def _damage(self, segment: int, offset: int, data: bytes) -> None:
        self.stats.damaged_bytes += len(data)
        self.stats.damaged_stretches += 1
        self._problem(f"{self.name}: {len(data)} damaged bytes in segment {segment} at {offset}")
        try:
            kept = self._quarantine.keep(f"{self.name}-{segment:08d}-{offset}.bytes", data)
        except OSError as error:
            self._problem(f"no copy of the damaged bytes could be kept: {error.strerror}")
        else:
            self.stats.quarantined_bytes += kept

    def _put_aside(self) -> None:
        """Move a segment that cannot be read out of the way: others must not delete it unread."""
        segment = self.position.segment
        self.stats.unreadable_segments += 1
        self._problem(f"{self.name}: segment {segment} cannot be read")
        try:
            path = self.directory / segment_name(segment)
            self._quarantine.take_in(path, f"{self.name}-{segment:08d}.unreadable")
        except OSError as error:
            self._problem(f"{self.name}: nor can it be put aside: {error.strerror}")

    def _wait_for(self, words: str) -> None:
        """Note what is waited for, once."""
        if words != self._trouble:
            self._trouble = words
            self._problem(words)

    def _problem(self, words: str) -> None:
        self.stats.problems_met += 1
        self.stats.problems.append(words)
        del self.stats.problems[:-PROBLEMS_MAX]
