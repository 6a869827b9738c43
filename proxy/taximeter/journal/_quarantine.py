"""Where damage is put aside, so that a person can look at it: bounded in bytes and in files."""

from __future__ import annotations

import os
from pathlib import Path

from taximeter.journal._layout import QUARANTINE_NAME

QUARANTINE_BYTES_MAX = 64 * 1024 * 1024
"""All copies of damaged stretches together; beyond it damage is counted only."""
QUARANTINE_FILES_MAX = 1000


class Quarantine:
    """The folder of copies beside the journals."""

    def __init__(self, root: Path) -> None:
        self.folder = root / QUARANTINE_NAME
        self._files: int | None = None
        self._bytes = 0

    def _open(self) -> None:
        """Make the folder, and look once at what it holds: looking each time would add up."""
        if self._files is None:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            with os.scandir(self.folder) as entries:
                sizes = [entry.stat(follow_symlinks=False).st_size for entry in entries]
            self._files, self._bytes = len(sizes), sum(sizes)

    def keep(self, name: str, data: bytes) -> int:
        """Keep a copy of damaged bytes; give how many were kept, 0 if there is no more room.

        Raises:
            OSError: if the disk does not take it.
        """
        self._open()
        files = (self._files or 0) + 1
        if files > QUARANTINE_FILES_MAX or self._bytes + len(data) > QUARANTINE_BYTES_MAX:
            return 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(self.folder / name, flags, 0o600)
        try:
            written = os.write(handle, data)
        finally:
            os.close(handle)
        self._files, self._bytes = files, self._bytes + written
        return written

    def take_in(self, path: Path, name: str) -> None:
        """Move a file here as it is. Takes no space.

        Raises:
            OSError: if it cannot be moved.
        """
        self._open()
        path.rename(self.folder / name)
