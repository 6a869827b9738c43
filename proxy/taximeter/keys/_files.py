"""Small private files: read with care, replaced whole, changed by one process at a time.

A file here is readable by its owner alone when it is made. What is open to everybody is refused
when it is read. Bits of the group are left alone: platforms that hand a volume to a service
through a group set them on every file, at every start.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taximeter.keys._errors import KeysError

LOCK_TRIES_MAX = 500
"""Tries, 10 ms apart, to be the one who changes a file: to change it takes another one less."""


def read_private(path: Path, bytes_max: int) -> tuple[bytes, os.stat_result]:
    """Read a whole file, and what the system says of it.

    Raises:
        OSError: if it cannot be read; FileNotFoundError if it is not there.
        KeysError: if it is no plain file, open to everybody, or larger than `bytes_max`.
    """
    # A pipe that nobody writes to would hold up the open() for ever.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as opened:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise KeysError(f"{path} is not a plain file", "move it away")
        if facts.st_mode & stat.S_IRWXO:
            raise KeysError(f"{path} is open to every user of this machine", f"chmod 600 {path}")
        if facts.st_size <= bytes_max:
            data = opened.read(bytes_max + 1)
            if len(data) <= bytes_max:
                return data, facts
    raise KeysError(f"{path} is larger than {bytes_max} bytes", "restore it from a copy")


def write_private(path: Path, data: bytes) -> None:
    """Replace a file whole, so that a reader finds the old or the new one, after any crash.

    Call it under `locked`: the draft has one name. On return the new file is on stable storage.

    Raises:
        OSError: if it cannot be written; the old file is then as it was.
    """
    draft = path.with_name(f".{path.name}-draft")
    draft.unlink(missing_ok=True)  # left by a process that was killed
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    handle = os.open(draft, flags, 0o600)
    try:
        give_to_owner_of(path.parent, handle)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)
    draft.replace(path)
    synchronise_directory(path.parent)


def give_to_owner_of(directory: Path, handle: int) -> None:
    """Let a file that the superuser makes belong to whom its folder belongs to.

    Otherwise a key made with `sudo` would leave a file that the service cannot read.
    """
    if os.geteuid() == 0:
        facts = directory.stat()
        os.fchown(handle, facts.st_uid, facts.st_gid)


def synchronise_directory(path: Path) -> None:
    """Return only when a folder's entries are on stable storage."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only process that changes a file, for as long as the block lasts.

    The lock is held on a file beside it, and goes when its process goes.

    Raises:
        OSError: if there is no place for the lock.
        KeysError: if another process holds it for too long.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}-lock")
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    handle = os.open(beside, flags, 0o600)
    try:
        give_to_owner_of(path.parent, handle)
        for wait in (*[0.01] * LOCK_TRIES_MAX, None):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if wait is None:
                    raise KeysError(
                        f"{beside} stays locked", "look for a process that has stopped there"
                    ) from None
                time.sleep(wait)
        yield
    finally:
        os.close(handle)
