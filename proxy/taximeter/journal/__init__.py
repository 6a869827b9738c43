"""The journal: append-only, checksummed, one a relay worker's life. The truth about what happened.

`JournalWriter` is the relay's end, `JournalReader` the recorder's. The format and its
reasons stand in `taximeter.journal._format`; `encode_frame` and `scan` are for other files of
such frames.
"""

from taximeter.journal._disk import Disk, RealDisk
from taximeter.journal._format import (
    PAYLOAD_BYTES_MAX,
    Frame,
    JournalError,
    PayloadTooLarge,
    UnknownVersion,
    encode_frame,
    scan,
)
from taximeter.journal._layout import (
    LOST_NAME,
    Lock,
    has_writer,
    journals,
    journals_bytes,
    lock_recorder,
    root_of,
    scope_of,
)
from taximeter.journal._lost import read_lost
from taximeter.journal._reader import START, JournalReader, Position, Read, ReaderStats
from taximeter.journal._reclaim import discard_drafts, discard_journal, discard_segments
from taximeter.journal._writer import JournalUnwritable, JournalWriter, Sync, SyncPolicy

__all__ = [
    "LOST_NAME",
    "PAYLOAD_BYTES_MAX",
    "START",
    "Disk",
    "Frame",
    "JournalError",
    "JournalReader",
    "JournalUnwritable",
    "JournalWriter",
    "Lock",
    "PayloadTooLarge",
    "Position",
    "Read",
    "ReaderStats",
    "RealDisk",
    "Sync",
    "SyncPolicy",
    "UnknownVersion",
    "discard_drafts",
    "discard_journal",
    "discard_segments",
    "encode_frame",
    "has_writer",
    "journals",
    "journals_bytes",
    "lock_recorder",
    "read_lost",
    "root_of",
    "scan",
    "scope_of",
]
