"""The few things the journal asks of a disk, so that tests can stand a hostile one under it."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Protocol


class Disk(Protocol):
    """File operations as the journal uses them. Every one may raise OSError."""

    def make_directory(self, path: Path) -> None:
        """Make a directory (and its parents) that only its owner can enter."""

    def create(self, path: Path) -> int:
        """Make a new file for appending, readable by its owner alone; fails if it exists."""

    def write(self, handle: int, data: bytes) -> int:
        """Append; gives the number of bytes written, which may be fewer than asked."""

    def truncate(self, handle: int, size: int) -> None:
        """Cut the file to `size` bytes."""

    def synchronise(self, handle: int) -> None:
        """Return only when the file's data is on stable storage."""

    def synchronise_directory(self, path: Path) -> None:
        """Return only when the directory's entries are on stable storage."""

    def duplicate(self, handle: int) -> int:
        """Give a second handle of the same file, for a thread of its own."""

    def close(self, handle: int) -> None:
        """Close a handle."""

    def sizes(self, path: Path) -> dict[str, int]:
        """Give the size of each regular file in the folders of a directory, by folder/name."""


class RealDisk:
    """The operating system's."""

    def make_directory(self, path: Path) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)

    def create(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(path, flags, 0o600)

    write = staticmethod(os.write)  # no call of ours around it: it is made twice a call

    def truncate(self, handle: int, size: int) -> None:
        os.ftruncate(handle, size)

    def synchronise(self, handle: int) -> None:
        # macOS has no fdatasync; its fsync is the nearest thing.
        getattr(os, "fdatasync", os.fsync)(handle)

    def synchronise_directory(self, path: Path) -> None:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system that knows no such thing
                raise
        finally:
            os.close(handle)

    def duplicate(self, handle: int) -> int:
        return os.dup(handle)

    def close(self, handle: int) -> None:
        os.close(handle)

    def sizes(self, path: Path) -> dict[str, int]:
        found: dict[str, int] = {}
        with os.scandir(path) as folders:
            names = [each.name for each in folders if each.is_dir(follow_symlinks=False)]
        for name in names:
            # A folder or a segment that the recorder has just deleted is no error.
            with contextlib.suppress(FileNotFoundError), os.scandir(path / name) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        if entry.is_file(follow_symlinks=False):
                            size = entry.stat(follow_symlinks=False).st_size
                            found[f"{name}/{entry.name}"] = size
        return found
