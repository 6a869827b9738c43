"""The writing end: one a relay worker, called from its event loop, never blocking for long.

`append` is one `write` into the page cache, a few microseconds. Making frames power-safe
(`fdatasync`, milliseconds) is split in three so that the slow part can run in a thread:
`begin_sync` here, `Sync.run` anywhere, `finish_sync` here again. Frames that are written and
not yet synchronised are kept in memory (`UNSYNCED_BYTES_MAX`): if a `fdatasync` fails, the
kernel may have dropped its dirty pages and will report success the next time, so that file
is never synchronised again; its unsynchronised frames are written once more, to a new one. The
same goes for a file whose `fdatasync` is under way when the writer must leave it: the failure,
should it come, would be told to one of two only.

A new segment counts only when its header and all unsynchronised frames are in it. Until then
the half-made file is kept, emptied, for the next try, which writes the same bytes again: a
reader may have seen some of them, and a full disk is not to be filled with empty files.
"""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from taximeter.journal._birth import birth
from taximeter.journal._disk import Disk, RealDisk
from taximeter.journal._format import JournalError, SegmentHeader, encode_frame
from taximeter.journal._layout import Lock, segment_name, segment_number
from taximeter.journal._lost import LostCount

UNSYNCED_BYTES_MAX = 8 * 1024 * 1024
"""Frames kept for a failed `fdatasync`; at the bound `append` synchronises first."""


_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors that another file would meet, too."""


class SyncPolicy(StrEnum):
    """When a frame is power-safe. All are process-safe: they survive `kill -9`."""

    NONE = "none"
    """When the operating system pleases (about 30 s on Linux)."""
    INTERVAL = "interval"
    """Within `sync_milliseconds`."""
    ALWAYS = "always"
    """Before the append is answered."""


class JournalUnwritable(JournalError):
    """The journal has no room, or the disk refuses to write. `errno` tells which."""

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        super().__init__(message, hint="free space under data_dir, or see journal.when_full")
        self.errno = errno


class Sync:
    """One `fdatasync` under way, of everything appended before it was begun."""

    def __init__(
        self, disk: Disk, handle: int, segment: int, upto: int, error: OSError | None = None
    ) -> None:
        self._disk = disk
        self._handle = handle
        self.segment = segment
        self.upto = upto
        self.error = error

    def run(self) -> None:
        """Do the slow part. Safe in a thread; keeps an error for `finish_sync`."""
        if self.error is not None:
            return
        try:
            self._disk.synchronise(self._handle)
        except OSError as error:
            self.error = error
        finally:
            self._disk.close(self._handle)


class JournalWriter:
    """Appends records to a journal of its own. Not safe between threads."""

    def __init__(
        self,
        directory: Path,
        *,
        sync: SyncPolicy = SyncPolicy.INTERVAL,
        segment_bytes: int = 16 * 1024 * 1024,
        bytes_max: int = 1024 * 1024 * 1024,
        disk: Disk | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        lock: Lock | None = None,
        lost: LostCount | None = None,
    ) -> None:
        self.directory = directory
        self.sync_policy = sync
        self._keeps_unsynced = sync is not SyncPolicy.NONE
        self._segment_bytes = segment_bytes
        self._bytes_max = bytes_max
        self._disk = disk or RealDisk()
        self._clock_ns = clock_ns
        self._lock = lock
        self.lost = lost
        self._id = os.urandom(16)
        self._handle: int | None = None
        self._half_made: int | None = None
        """Handle of the file of the next segment, if a try to make it has failed."""
        self._syncing = 0
        """The segment whose `fdatasync` is under way, 0 if there is none."""
        self._segment = 0
        self._size = 0
        self._dirty_tail = False
        self.sequence = 0
        """Number of the last frame appended; 0 before the first."""
        self.synced = 0
        """Number of the last frame that is power-safe."""
        self._unsynced: deque[bytes] = deque()
        """Frames that are written and not synchronised: those with the last numbers, in order."""
        self._unsynced_bytes = 0
        self.sync_failures = 0
        self.write_failures = 0

    @classmethod
    def begin(
        cls,
        root: Path,
        worker: int,
        *,
        sync: SyncPolicy = SyncPolicy.INTERVAL,
        segment_bytes: int = 16 * 1024 * 1024,
        bytes_max: int = 1024 * 1024 * 1024,
        disk: Disk | None = None,
    ) -> JournalWriter:
        """Begin the journal of one worker's life below `root`, locked and ready to append.

        Args:
            root: the folder of all journals.
            worker: the worker's number.
            sync: when frames are made power-safe.
            segment_bytes: size at which a segment is followed by the next one.
            bytes_max: size of all journals in `root` together from which no further segment is
                made; but every journal may have one.
            disk: what stands in for the operating system's, in tests.

        Raises:
            OSError, JournalError: if there is no place for it.
        """
        disk = disk or RealDisk()
        with birth(root, worker, disk, power_safe=sync is not SyncPolicy.NONE) as born:
            writer = cls(
                born.directory,
                sync=sync,
                segment_bytes=segment_bytes,
                bytes_max=bytes_max,
                disk=disk,
                lock=born.lock,
                lost=born.lost,
            )
            try:
                writer._next_segment()
            except BaseException:
                writer._close_files()
                raise
        return writer

    @property
    def name(self) -> str:
        """The journal's name: that of its folder."""
        return self.directory.name

    def append(self, payload: bytes) -> int:
        """Append one record; give its sequence number.

        Raises:
            JournalUnwritable: if it could not be written; nothing of it is left behind that a
                reader would take for a record.
            PayloadTooLarge: if it does not fit a frame.
        """
        sequence = self.sequence + 1
        frame = encode_frame(sequence, payload)
        if self._unsynced_bytes >= UNSYNCED_BYTES_MAX:
            self.sync_now()
        handle = self._handle
        if handle is None or self._dirty_tail or self._size >= self._segment_bytes:
            handle = self._next_segment()
        size = len(frame)
        try:
            written = self._disk.write(handle, frame)
        except OSError as error:
            raise self._refused(handle, error) from error
        if written != size:
            self.write_failures += 1
            self._cut_back(handle)
            raise JournalUnwritable("the disk took only part of a record: it is full")
        self._size += size
        self.sequence = sequence
        if self._keeps_unsynced:
            self._unsynced.append(frame)
            self._unsynced_bytes += size
        return sequence

    def _refused(self, handle: int, error: OSError) -> JournalUnwritable:
        """Take note that the disk refused a write; give what it is to be told as."""
        self.write_failures += 1
        self._cut_back(handle)  # some of it may have been written all the same
        if error.errno not in _NO_ROOM:
            self._dirty_tail = True  # it may be this file that is at fault: try another
        return JournalUnwritable(
            f"the journal cannot be written: {error.strerror}", errno=error.errno
        )

    def _cut_back(self, handle: int) -> None:
        """Take half a frame off the end again; failing that, leave the segment for good."""
        try:
            self._disk.truncate(handle, self._size)
        except OSError:
            self._dirty_tail = True

    def _next_segment(self) -> int:
        """Go on in a new segment, if the journals' share of the disk allows one."""
        try:
            self._check_share()
            return self._open_segment()
        except JournalUnwritable:
            self.write_failures += 1
            raise
        except OSError as error:
            self.write_failures += 1
            raise JournalUnwritable(
                f"no new journal segment can be made: {error.strerror}", errno=error.errno
            ) from error

    def _check_share(self) -> None:
        if self._half_made is not None:
            return  # it was allowed
        used, own = 0, 0
        for name, size in self._disk.sizes(self.directory.parent).items():
            folder, _, file = name.rpartition("/")
            if segment_number(file) is not None:
                used += size
                own += folder == self.name
        if own and used + self._segment_bytes > self._bytes_max:
            raise JournalUnwritable(
                f"the journals hold {used} bytes that the recorder has not taken over yet; "
                f"their share is {self._bytes_max}"
            )

    def _open_segment(self) -> int:
        if self._handle is not None:
            self._leave_segment(self._handle)
        segment = self._segment + 1
        handle = self._half_made
        if handle is None:
            handle = self._disk.create(self.directory / segment_name(segment))
        self._half_made = handle
        first = self.sequence + 1 - len(self._unsynced)
        header = SegmentHeader(segment, first, self._clock_ns(), self._id).encode()
        size = 0
        try:
            # Frames whose `fdatasync` failed are written again, under their old numbers.
            for part in (header, *self._unsynced):
                if self._disk.write(handle, part) != len(part):
                    raise JournalUnwritable("the disk took only part of a segment: it is full")
                size += len(part)
            if self.sync_policy is not SyncPolicy.NONE:
                self._disk.synchronise_directory(self.directory)
        except (OSError, JournalUnwritable):
            self._empty(handle, segment)
            raise
        self._half_made = None
        self._segment = segment
        self._handle, self._size, self._dirty_tail = handle, size, False
        return handle

    def _leave_segment(self, handle: int) -> None:
        """Close the current file; what is not power-safe in it will be written to the next."""
        if self._unsynced and not self._dirty_tail and self._syncing != self._segment:
            try:
                self._disk.synchronise(handle)
            except OSError:
                self.sync_failures += 1
            else:
                self._mark_synced(self.sequence)
        self._handle = None
        self._disk.close(handle)

    def _empty(self, handle: int, segment: int) -> None:
        """Make a half-made file ready for another try; failing that, leave it for good."""
        try:
            self._disk.truncate(handle, 0)
        except OSError:
            self._half_made = None
            self._segment = segment
            self._disk.close(handle)

    # -- power safety ---------------------------------------------------------------------

    @property
    def needs_sync(self) -> bool:
        """Whether frames wait for a `fdatasync`."""
        return bool(self._unsynced)

    def begin_sync(self) -> Sync | None:
        """Begin making everything appended so far power-safe; None if it is.

        Of two that are under way at once the second gives no promise: begin one at a time.
        """
        if not self._unsynced:
            return None
        if self._handle is None:
            # No file holds them for certain; `finish_sync` will look for another.
            return Sync(self._disk, -1, self._segment, 0, OSError(errno.EIO, "no segment is open"))
        handle = self._disk.duplicate(self._handle)
        self._syncing = self._segment
        return Sync(self._disk, handle, self._segment, self.sequence)

    def finish_sync(self, sync: Sync) -> bool:
        """Take note of a finished `Sync`; False if its frames had to be written again.

        Raises:
            JournalUnwritable: if that failed too.
        """
        if sync.segment == self._syncing:
            self._syncing = 0
        if sync.error is None:
            if self._half_made is None:  # else its next try must write the same frames again
                self._mark_synced(sync.upto)
            return True
        self.sync_failures += 1
        if sync.segment == self._segment and self._handle is not None:
            # Leave the file without another fdatasync on it: it would tell a lie.
            handle, self._handle = self._handle, None
            self._disk.close(handle)
        if self._handle is None:
            self._next_segment()
        return False

    def sync_now(self) -> None:
        """Make everything appended so far power-safe before returning.

        Raises:
            JournalUnwritable: if it cannot be.
        """
        if self._syncing == self._segment and self._handle is not None and self._unsynced:
            self._next_segment()
        for _ in range(2):
            sync = self.begin_sync()
            if sync is None:
                return
            sync.run()
            if self.finish_sync(sync):
                return
        raise JournalUnwritable("fdatasync failed twice on different files")

    def _mark_synced(self, upto: int) -> None:
        self.synced = max(self.synced, upto)
        while len(self._unsynced) > self.sequence - upto:
            self._unsynced_bytes -= len(self._unsynced.popleft())

    def close(self) -> None:
        """Make the journal power-safe and finished.

        Raises:
            JournalUnwritable: if its last frames may not be power-safe; it is finished all the
                same.
        """
        try:
            if self.sync_policy is not SyncPolicy.NONE:
                self.sync_now()
        finally:
            self._close_files()
            if self.lost is not None:
                self.lost.close()
            if self._lock is not None:
                self._lock.release()

    def _close_files(self) -> None:
        for handle in (self._handle, self._half_made):
            if handle is not None:
                self._disk.close(handle)
        self._handle = self._half_made = None
