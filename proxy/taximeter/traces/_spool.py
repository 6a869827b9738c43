"""What waits for a collector, on disk, so that no death of the recorder loses a trace.

    recorder's thread -> append, publish -> segments -> read, acknowledge -> exporter's thread

A call is written down while the transaction that books it is open, and may be read once that is
committed. So whenever the recorder is killed, a booked call's trace has been exported, or stands
here; after the start what was not acknowledged is read again. That makes it *at least once*: ids
follow from the call, and a collector that gets a call twice gets the same spans.

Nothing is forced to the disk's platters. What has been written outlives the process at once, and
a loss of power by what the operating system had got round to; the ledger has every call either way.

On disk, in a folder that only its owner may enter:

    0000000000000001.spool      frames of the journal's format, numbers 1, 2, 3, ...
    00000000000012c4.spool      named by its first frame's number
    acknowledged                the number of the first call that no collector has taken

Numbers tell all that is counted here without reading: how many calls wait, how many went with a
segment that was deleted to make room, how many a damaged stretch held. After a torn tail a number
is left out, so that it is counted like any other damage: as one call, though that call's commit
cannot have come about, and it is written again.

The oldest segments go where all together pass the bound. A disk that takes nothing costs the traces
it did not take, counted; the next call is tried anew.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from taximeter.journal import Disk, Frame, PayloadTooLarge, RealDisk, encode_frame, scan
from taximeter.traces._spool_files import (
    CHUNK_BYTES,
    is_segment,
    number_behind,
    read_at,
    read_mark,
    segment_name,
    write_mark,
)
from taximeter.traces._stats import TraceStats

SEGMENTS = 16
"""Into so many parts the bound is divided: what is dropped at once to make room."""
SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX = 64 * 1024, 4 * 1024 * 1024
ACKNOWLEDGED = "acknowledged"


@dataclass
class _Segment:
    path: Path
    first: int
    """The number of its first frame."""
    size: int = 0
    """Bytes that are whole frames, or damage that was found."""
    gone: bool = False
    """Somebody has deleted it."""


class _Look(NamedTuple):
    """A segment as it stands while it is read."""

    segment: _Segment
    size: int
    end: int
    """The number behind its last frame, as far as frames may be read."""


class Spool:
    """Calls on their way to a collector. One thread appends, one other reads."""

    def __init__(
        self,
        directory: Path,
        bytes_max: int,
        stats: TraceStats,
        *,
        complain: Callable[[str], None] = lambda words: None,
        disk: Disk | None = None,
    ) -> None:
        """Take up what is there. Never raises: a folder that cannot be used is tried again."""
        self._directory = directory
        self._stats = stats
        self._complain = complain
        self._disk: Disk = disk or RealDisk()
        self._lock = threading.Lock()
        self._segments: deque[_Segment] = deque()
        self._handle: int | None = None
        """Of the last segment, if that is still written to."""
        self._next = 1
        self._published = 1
        """The first number that may not be read yet."""
        self._read = 1
        """The first number that has not been read."""
        self._in_flight = 0
        self._reading: _Segment | None = None
        self._offset = 0
        self._ahead: deque[Frame] = deque()
        try:
            self._recover()
        except OSError as error:
            complain(f"the spool cannot be read: {error.strerror}")
        self.bound(bytes_max)

    def bound(self, bytes_max: int) -> None:
        """Set how many bytes all segments may have."""
        self._bytes_max = bytes_max
        self._segment_bytes = min(max(bytes_max // SEGMENTS, SEGMENT_BYTES_MIN), SEGMENT_BYTES_MAX)
        self._stats.spool_bytes_max = bytes_max
        self._make_room()

    # == the thread that appends ==================================================================

    def append(self, payloads: Sequence[bytes]) -> None:
        """Write calls down; they may be read once they are published."""
        frames: list[bytes] = []
        size = self._active_size()
        for payload in payloads:
            if size >= self._segment_bytes:
                self._write(frames)
                self._end_segment()
                frames, size = [], 0
            try:
                frames.append(encode_frame(self._next + len(frames), payload))
            except PayloadTooLarge:
                self._stats.drop(1, "too_large")
                continue
            size += len(frames[-1])
        self._write(frames)
        self._make_room()

    def publish(self) -> None:
        """Let everything that was appended be read."""
        with self._lock:
            self._published = self._next

    def _active_size(self) -> int:
        """Give the size of the segment that is written to; a new one is begun where it is gone."""
        if self._handle is not None and self._segments[-1].gone:
            self._end_segment()
        return self._segments[-1].size if self._handle is not None else 0

    def _write(self, frames: list[bytes]) -> None:
        if not frames:
            return
        try:
            if self._handle is None:
                self._begin_segment()
            self._write_whole(b"".join(frames))
        except OSError as error:
            self._complain(f"the spool cannot be written: {error.strerror}")
            if self._take_back():
                self._stats.drop(len(frames), "unwritable")
            else:
                # Some of them may stand there. Their numbers are not used again, and whoever reads
                # finds them missing.
                with self._lock:
                    self._next += len(frames)
            return
        with self._lock:
            self._next += len(frames)
            self._tell()

    def _begin_segment(self) -> None:
        self._disk.make_directory(self._directory)
        path = self._directory / segment_name(self._next)
        try:
            self._handle = self._disk.create(path)
        except FileExistsError:
            self._next += 1  # not ours: it is not written over, and not met again
            raise
        with self._lock:
            self._segments.append(_Segment(path, self._next))

    def _write_whole(self, data: bytes) -> None:
        segment, handle = self._segments[-1], self._handle
        assert handle is not None
        left = memoryview(data)
        while left:
            left = left[self._disk.write(handle, bytes(left)) :]
        with self._lock:
            segment.size += len(data)

    def _take_back(self) -> bool:
        """Undo what a write left behind; tell whether that went well."""
        if self._handle is None:
            return True
        try:
            self._disk.truncate(self._handle, self._segments[-1].size)
        except OSError:
            self._end_segment()
            return False
        return True

    def _end_segment(self) -> None:
        if self._handle is not None:
            with contextlib.suppress(OSError):  # nothing was to be forced to the disk
                self._disk.close(self._handle)
            self._handle = None

    def _make_room(self) -> None:
        """Drop the oldest segments where all together are too large, but for the last one."""
        gone = []
        with self._lock:
            size = sum(segment.size for segment in self._segments)
            while size > self._bytes_max and len(self._segments) > 1:
                oldest = self._segments.popleft()
                size -= oldest.size
                behind = self._segments[0].first
                self._skip(behind, "spool_full")
                gone.append(oldest.path)
            self._tell()
        self._delete(gone)

    # == the thread that reads ====================================================================

    def waiting(self) -> int:
        """Tell how many calls may be read."""
        with self._lock:
            return max(0, self._published - self._read)

    def read(self, calls_max: int) -> list[bytes]:
        """Give the oldest calls that have not been read; none if there are none."""
        found: list[bytes] = []
        while len(found) < calls_max:
            look = self._look()
            if look is None:
                break
            if not self._ahead and self._offset < look.size:
                self._fetch(look)
            with self._lock:
                before = len(found)
                self._take(look, found, calls_max)
                self._in_flight += len(found) - before
                self._tell()
        return found

    def acknowledge(self) -> None:
        """Hear that all that was read is done with."""
        gone = []
        with self._lock:
            self._in_flight = 0
            done = self._read
            while len(self._segments) > 1 and self._segments[1].first <= done:
                gone.append(self._segments.popleft().path)
            self._tell()
        try:
            write_mark(self._directory / ACKNOWLEDGED, done)
        except OSError as error:  # what was exported is exported again after a restart
            self._complain(f"the spool cannot be written: {error.strerror}")
        self._delete(gone)

    def close(self) -> None:
        """Let go of it; when everything has been acknowledged, no call is left on the disk."""
        self._end_segment()
        with self._lock:
            empty = self._read == self._next and not self._in_flight
            gone = [segment.path for segment in self._segments] if empty else []
        self._delete(gone)

    def _look(self) -> _Look | None:
        """Find the segment to read in; None while there is nothing to be read."""
        with self._lock:
            if not self._segments:
                self._read = self._published
            if self._read >= self._published:
                return None
            at = 0
            while at + 1 < len(self._segments) and self._segments[at + 1].first <= self._read:
                at += 1
            segment = self._segments[at]
            last = at + 1 == len(self._segments)
            end = self._published if last else self._segments[at + 1].first
            if segment is not self._reading:
                self._reading, self._offset = segment, 0
                self._ahead.clear()
            return _Look(segment, segment.size, min(end, self._published))

    def _fetch(self, look: _Look) -> None:
        """Read some further frames of a segment; what cannot be read is passed over."""
        try:
            buffer = read_at(look.segment.path, self._offset, look.size)
        except OSError as error:
            look.segment.gone = isinstance(error, FileNotFoundError)
            self._complain(f"a part of the spool cannot be read: {error.strerror}")
            buffer = b""
        # What has a size here was written whole: at its end, no frame's rest is still to come.
        more = len(buffer) == CHUNK_BYTES and self._offset + CHUNK_BYTES < look.size
        found, used = scan(buffer, 0, final=not more)
        self._ahead.extend(each for each in found if isinstance(each, Frame))
        self._offset = self._offset + used if more else look.size

    def _take(self, look: _Look, found: list[bytes], calls_max: int) -> None:
        while self._ahead and len(found) < calls_max:
            number = self._ahead[0].sequence
            if number >= look.end:  # not to be read yet
                self._skip(look.end, "damaged")
                return
            frame = self._ahead.popleft()
            if number >= self._read:  # else it was done with, or has gone to make room
                self._skip(number, "damaged")
                self._read = number + 1
                found.append(frame.payload)
        if not self._ahead and self._offset >= look.size:
            self._skip(look.end, "damaged")

    # =============================================================================================

    def _skip(self, number: int, reason: str) -> None:
        """Go on at a number; what lies before it and has not been read is lost."""
        lost = number - self._read
        if lost > 0:
            self._read = number
            self._stats.drop(lost, reason)

    def _tell(self) -> None:
        self._stats.queued = self._next - self._read + self._in_flight
        self._stats.spool_bytes = sum(segment.size for segment in self._segments)

    def _delete(self, paths: Sequence[Path]) -> None:
        for path in paths:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:  # the next start tries again
                self._complain(f"a part of the spool cannot be deleted: {error.strerror}")

    def _behind_last(self) -> int:
        if not self._segments:
            return 1
        last = self._segments[-1]
        try:
            return number_behind(last.path, last.first)
        except OSError as error:
            self._complain(f"a part of the spool cannot be read: {error.strerror}")
            return last.first + 1  # a number that no segment is named by

    def _recover(self) -> None:
        """Take up what an earlier recorder left."""
        if not self._directory.exists():
            return
        done = read_mark(self._directory / ACKNOWLEDGED)
        gone = []
        for path in sorted(self._directory.iterdir()):
            if not is_segment(path):
                continue
            if size := path.stat().st_size:
                self._segments.append(_Segment(path, int(path.stem, 16), size))
            else:
                gone.append(path)
        self._next = max(done, self._behind_last())
        while self._segments:
            behind = self._segments[1].first if len(self._segments) > 1 else self._next
            if behind > done:
                break
            gone.append(self._segments.popleft().path)
        self._published = self._next
        # What is missing at the beginning was dropped, and counted, by who was before us.
        self._read = max(done, self._segments[0].first) if self._segments else self._next
        self._delete(gone)
