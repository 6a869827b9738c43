"""Giving disk space back: only what the ledger has, and in an order that a crash cannot hurt.

The position is committed first, files go after. A crash in between leaves files whose
position says they are done; they go the next time. The other order would lose records.
"""

from __future__ import annotations

import os
from pathlib import Path

from taximeter.journal._layout import (
    LOCK_NAME,
    LOST_NAME,
    has_writer,
    is_journal_name,
    segment_number,
)
from taximeter.journal._reader import Position


def discard_segments(directory: Path, position: Position) -> int:
    """Delete the segments that lie wholly before `position`; give their number.

    Raises:
        OSError: if the disk refuses; what has not gone can go the next time.
    """
    gone = 0
    for name in sorted(os.listdir(directory)):
        number = segment_number(name)
        if number is not None and number < position.segment:
            (directory / name).unlink(missing_ok=True)
            gone += 1
    return gone


def discard_journal(directory: Path) -> bool:
    """Delete a finished journal; tell whether its folder is gone.

    Files that are not the journal's are left alone, and so is then the folder.

    Raises:
        OSError: if the disk refuses; what has not gone can go the next time.
    """
    names = os.listdir(directory)
    # The segments first: while they are here, the count of lost calls stays with them.
    for name in sorted(name for name in names if segment_number(name) is not None):
        (directory / name).unlink(missing_ok=True)
    for name in (LOST_NAME, LOCK_NAME):
        (directory / name).unlink(missing_ok=True)
    if any(segment_number(n) is None and n not in (LOCK_NAME, LOST_NAME) for n in names):
        return False
    directory.rmdir()
    return True


def discard_drafts(root: Path, now_ns: int) -> None:
    """Delete the hidden folders of journals whose writers died before they had begun.

    A draft lives for milliseconds; one of an hour is nobody's any more.

    Raises:
        OSError: if the disk refuses; what has not gone can go the next time.
    """
    for name in os.listdir(root):
        if name.startswith(".") and is_journal_name(name[1:]):
            made_at_ns = int(name.split("-")[1]) * 1_000_000
            if now_ns - made_at_ns > 3600 * 10**9 and not has_writer(root / name):
                discard_journal(root / name)
