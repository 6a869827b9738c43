"""Where journals stand, and who may write or read one.

    <data_dir>/journal/                     0700
        .scope                              names this folder: see `scope_of`
        <journal>/                          one a relay worker's life; its name sorts by time
            writer.lock                     flock held by the worker for as long as it lives
            lost                            calls that could not be journalled (see `_lost`)
            00000001.journal, 00000002...   segments
        quarantine/                         copies of damaged stretches

A journal belongs to one life of one worker: a worker that is started again begins another.
So a journal has one writer ever, and once its lock is free it will not grow.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from pathlib import Path

from taximeter.journal._format import JournalError

SUFFIX = ".journal"
LOCK_NAME = "writer.lock"
LOST_NAME = "lost"
QUARANTINE_NAME = "quarantine"
SCOPE_NAME = ".scope"


def root_of(data_dir: Path) -> Path:
    """Give the folder of all journals."""
    return data_dir / "journal"


def scope_of(root: Path) -> str:
    """Give the name of this folder of journals: made once, 12 hexadecimal digits.

    Recorders of several machines may share one ledger; what each has read is told apart by it.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = root / SCOPE_NAME
    if not path.exists():
        draft = root / f"{SCOPE_NAME}-{secrets.token_hex(4)}"
        draft.write_text(secrets.token_hex(6), encoding="ascii")
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # fails, unlike a rename, if another has been quicker
        draft.unlink()
    return path.read_text(encoding="ascii")


def new_name(scope: str, worker: int) -> str:
    """Make the name of a new journal for worker number `worker`."""
    return f"{scope}-{time.time_ns() // 1_000_000:013d}-{worker:02d}-{secrets.token_hex(4)}"


def segment_name(segment: int) -> str:
    """Give the file name of a segment."""
    return f"{segment:08d}{SUFFIX}"


def segment_number(name: str) -> int | None:
    """Give the number of a segment from its file name; None for any other file."""
    stem = name.removesuffix(SUFFIX)
    if stem == name or len(stem) != 8 or not stem.isascii() or not stem.isdigit():
        return None
    return int(stem)


class WriterLock:
    """The lock that tells a living journal from a finished one."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    @classmethod
    def take(cls, directory: Path) -> WriterLock:
        """Take the lock of a journal that is to be written.

        Raises:
            JournalError: if another process holds it.
        """
        path = directory / LOCK_NAME
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            raise JournalError(
                f"another process writes the journal in {directory}",
                hint="stop it, or give this one a data_dir of its own",
            ) from error
        return cls(handle)

    def release(self) -> None:
        """Let go; the journal is finished."""
        os.close(self._handle)


def has_writer(directory: Path) -> bool:
    """Tell whether a living process holds a journal's lock."""
    try:
        handle = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def journals(root: Path) -> list[str]:
    """Give the names of all journals, oldest first. A link is no journal."""
    try:
        with os.scandir(root) as entries:
            return sorted(
                entry.name
                for entry in entries
                if entry.name != QUARANTINE_NAME
                and not entry.name.startswith(".")
                and entry.is_dir(follow_symlinks=False)
            )
    except FileNotFoundError:
        return []
