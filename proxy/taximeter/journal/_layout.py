"""Where journals stand, and who may write or read one.

    <data_dir>/journal/                     0700
        .scope                              names this folder: see `scope_of`
        .recorder.lock                      flock held by the one recorder of these journals
        <journal>/                          one a relay worker's life; its name sorts by time
            writer.lock                     flock held by the worker for as long as it lives
            lost                            calls that could not be journalled (see `_lost`)
            00000001.journal, 00000002...   segments
        quarantine/                         copies of damaged stretches, unreadable segments

A journal belongs to one life of one worker: a worker that is started again begins another.
So a journal has one writer ever, and once its lock is free it will not grow.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from taximeter.journal._format import JournalError

SUFFIX = ".journal"
LOCK_NAME = "writer.lock"
LOST_NAME = "lost"
QUARANTINE_NAME = "quarantine"
SCOPE_NAME = ".scope"
RECORDER_LOCK_NAME = ".recorder.lock"
SCOPE_TRIES_MAX = 500
"""Tries, 10 ms apart, to be the one who names a folder: it takes another one milliseconds."""

_SCOPE = re.compile(r"[0-9a-f]{12}")
_JOURNAL = re.compile(r"[0-9a-f]{12}-[0-9]{13}-[0-9]{2,}-[0-9a-f]{8}")


def root_of(data_dir: Path) -> Path:
    """Give the folder of all journals."""
    return data_dir / "journal"


def scope_of(root: Path) -> str:
    """Give the name of this folder of journals: made once, 12 hexadecimal digits.

    Recorders of several machines may share one ledger; what each has read is told apart by it.
    A name that has been lost is found again in the names of the journals that are here.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = root / SCOPE_NAME
    scope = _read_scope(path)
    if scope is None:
        with _locked(root):
            # Another may have been quicker while this one waited.
            scope = _read_scope(path) or _make_scope(root, path)
    return scope


def _read_scope(path: Path) -> str | None:
    try:
        found = path.read_bytes().decode("ascii", "replace")
    except FileNotFoundError:
        return None
    return found if _SCOPE.fullmatch(found) else None


def _make_scope(root: Path, path: Path) -> str:
    names = journals(root)
    scope = names[-1].partition("-")[0] if names else secrets.token_hex(6)
    draft = root / f"{SCOPE_NAME}-draft"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    handle = os.open(draft, flags, 0o600)
    try:
        os.write(handle, scope.encode("ascii"))
        os.fsync(handle)
    finally:
        os.close(handle)
    draft.replace(path)
    return scope


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for wait in (*[0.01] * SCOPE_TRIES_MAX, None):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if wait is None:
                    raise JournalError(
                        f"{root} stays locked", hint="look for a process that has stopped there"
                    ) from None
                time.sleep(wait)
        yield
    finally:
        os.close(handle)


def new_name(scope: str, worker: int) -> str:
    """Make the name of a new journal for worker number `worker`."""
    return f"{scope}-{time.time_ns() // 1_000_000:013d}-{worker:02d}-{secrets.token_hex(4)}"


def is_journal_name(name: str) -> bool:
    """Tell a journal's folder from any other by its name."""
    return _JOURNAL.fullmatch(name) is not None


def segment_name(segment: int) -> str:
    """Give the file name of a segment."""
    return f"{segment:08d}{SUFFIX}"


def segment_number(name: str) -> int | None:
    """Give the number of a segment from its file name; None for any other file."""
    stem = name.removesuffix(SUFFIX)
    if stem == name or len(stem) != 8 or not stem.isascii() or not stem.isdigit():
        return None
    return int(stem)


class Lock:
    """A `flock` held on a file. It goes when the process goes, however it goes."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    @classmethod
    def try_take(cls, path: Path) -> Lock | None:
        """Take the lock; None if another process holds it.

        Raises:
            OSError: if the file cannot be opened.
        """
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:
            os.close(handle)
            raise
        return cls(handle)

    def release(self) -> None:
        """Let go."""
        os.close(self._handle)


def lock_recorder(root: Path) -> Lock | None:
    """Become the one recorder of these journals; None while there is another."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Lock.try_take(root / RECORDER_LOCK_NAME)


def lock_writer(directory: Path) -> Lock:
    """Take the lock that tells a living journal from a finished one.

    Raises:
        JournalError: if another process holds it.
    """
    lock = Lock.try_take(directory / LOCK_NAME)
    if lock is None:
        raise JournalError(
            f"another process writes the journal in {directory}",
            hint="stop it, or give this one a data_dir of its own",
        )
    return lock


def has_writer(directory: Path) -> bool:
    """Tell whether a living process holds a journal's lock; where nobody can tell, it may."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        handle = os.open(directory / LOCK_NAME, flags)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def journals(root: Path) -> list[str]:
    """Give the names of all journals, oldest first. Links and other folders are none."""
    try:
        with os.scandir(root) as entries:
            found = [
                entry.name
                for entry in entries
                if is_journal_name(entry.name) and entry.is_dir(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return []
    return sorted(found)


def journals_bytes(root: Path) -> int:
    """Give the size of all segments of all journals together."""
    size = 0
    for name in journals(root):
        # What the recorder has just given back is no error.
        with contextlib.suppress(FileNotFoundError), os.scandir(root / name) as entries:
            for entry in entries:
                if segment_number(entry.name) is not None:
                    with contextlib.suppress(FileNotFoundError):
                        size += entry.stat(follow_symlinks=False).st_size
    return size
