"""The files of a spool, one at a time: how they are named, read, and marked as done with."""

from __future__ import annotations

import os
import re
import struct
import zlib
from pathlib import Path

from taximeter.journal import Frame, scan

CHUNK_BYTES = 256 * 1024
"""Read at once; more than the longest frame."""

_SEGMENT = re.compile(r"0[0-9a-f]{15}\.spool")
_NUMBER_MAX = 1 << 60
_MARK = struct.Struct("<QI")


def segment_name(first: int) -> str:
    """Give the name of the segment whose first frame has a number."""
    return f"{first:016x}.spool"


def is_segment(path: Path) -> bool:
    """Tell whether a file is a segment, by its name and its kind."""
    return bool(_SEGMENT.fullmatch(path.name)) and path.is_file() and not path.is_symlink()


def read_at(path: Path, offset: int, size: int) -> bytes:
    """Give a segment's bytes from an offset on, up to `size`, at most `CHUNK_BYTES`.

    Raises:
        OSError: if it cannot be read.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return os.pread(handle, min(CHUNK_BYTES, size - offset), offset)
    finally:
        os.close(handle)


def number_behind(path: Path, first: int) -> int:
    """Give the number that follows a segment's last frame, and a torn one behind it.

    Raises:
        OSError: if it cannot be read.
    """
    found, _ = scan(path.read_bytes(), 0, final=True)
    numbers = [each.sequence for each in found if isinstance(each, Frame)]
    torn = bool(found) and not isinstance(found[-1], Frame)
    return (numbers[-1] + 1 if numbers else first) + torn


def write_mark(path: Path, number: int) -> None:
    """Keep the number of the first call that is not done with.

    Raises:
        OSError: if the disk does not take it; then the one before stands.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    handle = os.open(path, flags, 0o600)
    try:
        os.pwrite(handle, _MARK.pack(number, _checksum(number)), 0)
    finally:
        os.close(handle)


def read_mark(path: Path) -> int:
    """Give the number that was kept; 1, the first, where that cannot be told."""
    try:
        number, checksum = _MARK.unpack(path.read_bytes())
    except (OSError, struct.error):
        return 1
    return max(1, number) if checksum == _checksum(number) and number < _NUMBER_MAX else 1


def _checksum(number: int) -> int:
    return zlib.crc32(number.to_bytes(8, "little"))
