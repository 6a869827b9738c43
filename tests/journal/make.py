"""Makes small journals, and reads them to their end."""

from __future__ import annotations

from pathlib import Path

from taximeter.journal import JournalReader, JournalWriter, Position, RealDisk, SyncPolicy
from taximeter.journal._format import SegmentHeader, encode_frame

NAME = "0123456789ab-1790000000000-00-89abcdef"
ID = bytes(range(16))


def header(segment: int = 1, first: int = 1, journal_id: bytes = ID) -> bytes:
    return SegmentHeader(segment, first, 1_790_000_000_000_000_000, journal_id).encode()


def segment_bytes(numbers: range, segment: int = 1, journal_id: bytes = ID) -> bytes:
    """Give a segment with one frame a number, of differing sizes."""
    frames = [encode_frame(number, payload(number)) for number in numbers]
    return header(segment, numbers.start, journal_id) + b"".join(frames)


def payload(number: int) -> bytes:
    return f"record {number} ".encode() + b"." * (number * 7 % 23)


def journal(root: Path, *segments: bytes, name: str = NAME) -> Path:
    """Make a finished journal of these segments."""
    directory = root / name
    directory.mkdir(parents=True)
    for number, data in enumerate(segments, 1):
        (directory / f"{number:08d}.journal").write_bytes(data)
    return directory


def read_all(reader: JournalReader, records_max: int = 7) -> list[bytes]:
    """Read until there is nothing for now; fails if that takes more looks than it can need."""
    found: list[bytes] = []
    for _ in range(10_000):
        before = reader.position
        reads = reader.read(records_max)
        found += [each.payload for each in reads]
        if not reads and reader.position == before:
            return found
    raise AssertionError("the reader goes on and on")


def read_directory(directory: Path) -> list[bytes]:
    return read_all(JournalReader(directory))


def writer_in(directory: Path, **options: object) -> JournalWriter:
    """Make a writer on a directory of its own, without lock and lost count."""
    disk = options.setdefault("disk", RealDisk())
    assert disk is not None
    if isinstance(disk, RealDisk):
        directory.mkdir(parents=True, exist_ok=True)
    options.setdefault("sync", SyncPolicy.INTERVAL)
    return JournalWriter(directory, **options)  # type: ignore[arg-type]


def numbers_of(payloads: list[bytes]) -> list[int]:
    return [int(each.split()[1]) for each in payloads]


__all__ = ["ID", "NAME", "Position"]
