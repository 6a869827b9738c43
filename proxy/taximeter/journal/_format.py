"""The bytes of the journal: segments, frames, and how to find one's way after damage.

The journal is the truth about what happened. The relay appends two small records to it for
every call; everything a person looks at is made from them later, by another process, which
may be down, slow, or on its third restart. So the format answers four needs, in this order:

1.  *An append is one `write` of one frame.* The relay is on the path of every answer; it
    cannot seek, patch or index. Once `write` has returned the frame survives the death of
    the process; once `fdatasync` has returned, that of the machine.

2.  *A frame proves itself.* Each carries its length, its sequence number and a CRC over
    all of these and its payload. A torn tail, a page of zeros, a stretch of another file:
    none passes for a record. CRC-32 guards against accident, not malice; whoever can write
    here (mode 0600, directory 0700) can also write the ledger.

3.  *Damage is local.* A frame begins with a marker, so that a reader which has lost its way
    can look for the next one and carry on behind the damage. What it skipped is counted in
    bytes, and a copy is put aside. A marker may turn up inside a payload: a candidate counts
    only if its whole frame checks out.

4.  *Every look makes progress.* At the end of a segment that is still being written, an
    unfinished frame means "not yet". In a segment that will not grow, the same bytes are
    damage; and so they are if a whole frame stands behind them, for frames are written one
    after the other. A reader never waits on bytes that cannot come, and never reads the
    same garbage twice.

On disk:

    segment  =  header (64 bytes)  frame*
    header   =  magic "TXMJRNL\\n" · version u16 · 0 u16 · segment u32 · first sequence u64
                · created at u64 (ns) · journal id (16 bytes) · 0 (12 bytes) · crc u32
    frame    =  marker (4 bytes) · length u32 · sequence u64 · crc u32 · payload

Integers are little-endian. `length` counts the payload: 1 to 65,536 bytes; a frame of
length zero does not exist, so a page of zeros never parses. Sequence numbers rise by one
within a journal, across its segments. After a failed `fdatasync` the frames that may have
been lost are written again, under their old numbers, into a new segment. The old file may
hold all of them, none, or some in its middle: a reader skips a number it has had, and takes
one it has not, whatever came before it (see `_numbers`). A number that never comes is a lost
frame and is counted as such.

The marker's first byte occurs in no UTF-8 text, and the records have no other bytes in them
that a caller could choose: nobody can have a frame of theirs written inside one of ours.

The version is of the segment, not of the record: records are MessagePack maps whose unknown
fields readers ignore, and arrays of which they ignore what stands behind the fields they know. A
reader that meets a higher version stops with `UnknownVersion` rather than guess.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from zlib import crc32

MAGIC = b"TXMJRNL\n"
VERSION = 1
MARKER = b"\xf7TxM"
PAYLOAD_BYTES_MAX = 65_536

_HEADER = struct.Struct("<8sHHIQQ16s12x")
_CRC = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CRC.size
_FRAME = struct.Struct("<4sIQ")
FRAME_OVERHEAD_BYTES = _FRAME.size + _CRC.size


class JournalError(Exception):
    """Something about a journal that a person must know. `hint` says what to do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UnknownVersion(JournalError):
    """A segment was written by a newer Taximeter than this one."""


class PayloadTooLarge(JournalError):
    """A record outgrew a frame: a bug of ours, for every field of a record is bounded."""


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says about itself in its first 64 bytes."""

    segment: int
    first_sequence: int
    created_at_ns: int
    journal_id: bytes
    version: int = VERSION

    def encode(self) -> bytes:
        """Give the header's 64 bytes."""
        body = _HEADER.pack(
            MAGIC,
            self.version,
            0,
            self.segment,
            self.first_sequence,
            self.created_at_ns,
            self.journal_id,
        )
        return body + _CRC.pack(crc32(body))

    @classmethod
    def decode(cls, data: bytes) -> SegmentHeader | None:
        """Read a header back; None if it is damaged.

        Raises:
            UnknownVersion: if it is whole, and of a version not known here.
        """
        if len(data) < HEADER_BYTES:
            return None
        body = data[: _HEADER.size]
        magic, version, _, segment, first_sequence, created_at_ns, journal_id = _HEADER.unpack(body)
        if magic != MAGIC or _CRC.unpack_from(data, _HEADER.size)[0] != crc32(body):
            return None
        if version > VERSION:
            raise UnknownVersion(
                f"journal segment {segment} has format version {version}; "
                f"this program reads up to {VERSION}",
                hint="run the newer Taximeter that wrote it until its journal is drained",
            )
        return cls(segment, first_sequence, created_at_ns, journal_id, version)


def encode_frame(sequence: int, payload: bytes) -> bytes:
    """Give the frame of one record.

    Raises:
        PayloadTooLarge: if `payload` is empty or longer than `PAYLOAD_BYTES_MAX`.
    """
    length = len(payload)
    if not 0 < length <= PAYLOAD_BYTES_MAX:
        raise PayloadTooLarge(f"a record of {length} bytes does not fit a frame")
    head = _FRAME.pack(MARKER, length, sequence)
    return head + _CRC.pack(crc32(payload, crc32(head))) + payload


@dataclass(frozen=True, slots=True)
class Frame:
    """One record found: its number, its payload, and where its frame ends in the buffer."""

    sequence: int
    payload: bytes
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Damage:
    """A stretch of the buffer that holds no frame."""

    start: int
    end: int


def scan(buffer: bytes, offset: int, *, final: bool) -> tuple[list[Frame | Damage], int]:
    """Find the frames in `buffer` from `offset` on.

    `final` says that no byte will ever follow these. Gives what was found, in order, and the
    offset at which to go on once more bytes have come; with `final` that is always the end.
    Takes time in proportion to the bytes passed over, plus one CRC for each marker met that a
    believable length follows.
    """
    found: list[Frame | Damage] = []
    end = len(buffer)
    lost_from: int | None = None
    while offset < end:
        frame = _frame_at(buffer, offset, end)
        if isinstance(frame, Frame):
            if lost_from is not None:
                found.append(Damage(lost_from, offset))
                lost_from = None
            found.append(frame)
            offset = frame.end
        elif frame is _UNFINISHED and not final:
            behind = _next_frame(buffer, offset + 1, end)
            if behind is None:
                break
            if lost_from is None:
                lost_from = offset
            offset = behind
        else:
            if lost_from is None:
                lost_from = offset
            offset = _next_candidate(buffer, offset + 1, end)
    if lost_from is not None:
        found.append(Damage(lost_from, offset))
    return found, offset


_UNFINISHED = object()
_BROKEN = object()


def _frame_at(buffer: bytes, offset: int, end: int) -> Frame | object:
    if end - offset < _FRAME.size:
        return _UNFINISHED if MARKER.startswith(buffer[offset : offset + 4]) else _BROKEN
    marker, length, sequence = _FRAME.unpack_from(buffer, offset)
    if marker != MARKER or not 0 < length <= PAYLOAD_BYTES_MAX:
        return _BROKEN
    start = offset + FRAME_OVERHEAD_BYTES
    stop = start + length
    if stop > end:
        return _UNFINISHED
    payload = buffer[start:stop]
    expected = crc32(payload, crc32(buffer[offset : offset + _FRAME.size]))
    if _CRC.unpack_from(buffer, offset + _FRAME.size)[0] != expected:
        return _BROKEN
    return Frame(sequence, payload, offset, stop)


def _next_frame(buffer: bytes, offset: int, end: int) -> int | None:
    """Find where the next whole frame begins; None if there is none yet."""
    while (offset := buffer.find(MARKER, offset)) >= 0:
        if isinstance(_frame_at(buffer, offset, end), Frame):
            return offset
        offset += 1
    return None


def _next_candidate(buffer: bytes, offset: int, end: int) -> int:
    """Find where the next frame may begin: a marker, or a tail that may become one."""
    at = buffer.find(MARKER, offset)
    if at >= 0:
        return at
    for kept in (3, 2, 1):
        if end - kept >= offset and MARKER.startswith(buffer[end - kept : end]):
            return end - kept
    return end
