"""Giving disk space back: only what the ledger has, and in an order that a crash cannot hurt.

The position is committed first, files go after. A crash in between leaves files whose
position says they are done; they go the next time. The other order would lose records.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from taximeter.journal._layout import LOCK_NAME, LOST_NAME, segment_name, segment_number
from taximeter.journal._reader import Position


def discard_segments(directory: Path, position: Position) -> int:
    """Delete the segments that lie wholly before `position`; give their number."""
    gone = 0
    for name in sorted(os.listdir(directory)):
        number = segment_number(name)
        if number is not None and number < position.segment:
            with contextlib.suppress(FileNotFoundError):
                (directory / name).unlink()
                gone += 1
    return gone


def discard_journal(directory: Path) -> None:
    """Delete a finished journal whole. Files that are not the journal's are left alone."""
    for name in os.listdir(directory):
        number = segment_number(name)
        if (number is not None and name == segment_name(number)) or name in (LOCK_NAME, LOST_NAME):
            with contextlib.suppress(FileNotFoundError):
                (directory / name).unlink()
    with contextlib.suppress(OSError):  # something foreign stands in it: not ours to delete
        directory.rmdir()
