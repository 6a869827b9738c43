"""The count of calls that could not be journalled, kept where a full disk cannot touch it.

When the journal cannot be written and the relay goes on all the same (`fail_open`), the one
thing left to keep is how many calls went by unrecorded. The file is made with its full size
when the journal is begun, and updated in place: two slots in turn, each with a CRC, so that
a torn update leaves the older one. Overwriting needs no new space. An update survives the
death of the process; that of the machine it survives once the system has written it back.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

_SLOT = struct.Struct("<QQ")  # generation, calls lost
_SLOT_BYTES = 64
_FILE_BYTES = 2 * _SLOT_BYTES


class LostCount:
    """The writer's side: counts, and keeps the count on disk."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._generation = 0
        self.calls = 0
        self.unwritten = 0
        """Updates of the count itself that the disk refused."""

    @classmethod
    def create(cls, path: Path) -> LostCount:
        """Make the file, all of it allocated."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(path, flags, 0o600)
        try:
            os.pwrite(handle, bytes(_FILE_BYTES), 0)
            os.fsync(handle)  # so that its blocks are had now, and not when the disk is full
        except OSError:
            os.close(handle)
            raise
        return cls(handle)

    def add(self, calls: int = 1) -> None:
        """Note `calls` more as lost. Never raises: there is nobody left to tell."""
        self.calls += calls
        self._generation += 1
        body = _SLOT.pack(self._generation, self.calls)
        slot = body + struct.pack("<I", zlib.crc32(body))
        try:
            os.pwrite(self._handle, slot, (self._generation % 2) * _SLOT_BYTES)
        except OSError:
            self.unwritten += 1

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


def read_lost(path: Path) -> int:
    """Give the number of calls lost, from the newest whole slot; 0 if there is no file."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        handle = os.open(path, flags)
    except OSError:
        return 0
    try:
        data = os.pread(handle, _FILE_BYTES, 0)
    except OSError:
        return 0
    finally:
        os.close(handle)
    newest, calls = 0, 0
    for start in (0, _SLOT_BYTES):
        body = data[start : start + _SLOT.size]
        crc = data[start + _SLOT.size : start + _SLOT.size + 4]
        if len(crc) == 4 and struct.unpack("<I", crc)[0] == zlib.crc32(body):
            generation, lost = _SLOT.unpack(body)
            if generation > newest:
                newest, calls = generation, lost
    return calls
