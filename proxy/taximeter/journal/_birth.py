"""How a journal comes to be: a folder of its own that takes its name only when it is locked.

A journal that nobody has locked is finished, to a reader. So the folder is made under a hidden
name, its lock is taken there, and only then is it renamed. On a full disk this is tried again and
again: a try that fails, at whichever step, leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from taximeter.journal._disk import Disk
from taximeter.journal._layout import LOST_NAME, Lock, lock_writer, new_name, scope_of
from taximeter.journal._lost import LostCount


class Born(NamedTuple):
    """A journal without a segment."""

    directory: Path
    lock: Lock
    lost: LostCount


@contextlib.contextmanager
def birth(root: Path, worker: int, disk: Disk, *, power_safe: bool) -> Iterator[Born]:
    """Make a journal below `root` for a worker; what follows may fail, and then it is gone again.

    Args:
        root: the folder of all journals.
        worker: the worker's number.
        disk: where it is made.
        power_safe: have its folder survive a power cut.

    Raises:
        OSError, JournalError: if there is no place for it.
    """
    disk.make_directory(root)
    name = new_name(scope_of(root), worker)
    hidden = root / f".{name}"
    disk.make_directory(hidden)
    with contextlib.ExitStack() as undo:
        for folder in (hidden, root / name):
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
        lock = lock_writer(hidden)
        undo.callback(lock.release)
        lost = LostCount.create(hidden / LOST_NAME)
        undo.callback(lost.close)
        directory = hidden.rename(root / name)
        if power_safe:
            # Or the whole journal may be gone after a power cut.
            disk.synchronise_directory(root)
        yield Born(directory, lock, lost)
        undo.pop_all()
