"""What Linux says of a process: when it began, what it has used, what it holds."""

from __future__ import annotations

import os
import resource
from functools import lru_cache
from pathlib import Path

from taximeter.live import ProcessState

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Places in /proc/PID/stat behind the command's closing parenthesis, see proc_pid_stat(5): the
# field called (3) there is the first.
_USER, _SYSTEM, _STARTED, _RESIDENT = 14 - 3, 15 - 3, 22 - 3, 24 - 3


def read_process(pid: int) -> ProcessState | None:
    """Tell how a process of ours stands; None if it is gone, or the system does not tell."""
    folder = Path(f"/proc/{pid}")
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        return ProcessState(
            pid=pid,
            started_at_seconds=_booted_at_seconds() + int(fields[_STARTED]) / _TICKS_PER_SECOND,
            cpu_seconds=(int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS_PER_SECOND,
            resident_bytes=int(fields[_RESIDENT]) * _PAGE_BYTES,
            open_files=_open_files(folder / "fd"),
            open_files_max=resource.prlimit(pid, resource.RLIMIT_NOFILE)[0],
        )
    except (OSError, ValueError, IndexError):
        return None


def _open_files(folder: Path) -> int:
    # Since Linux 6.2 the folder's size is their number; listing ten thousand takes milliseconds.
    return folder.stat().st_size or sum(1 for _ in folder.iterdir())


@lru_cache(maxsize=1)
def _booted_at_seconds() -> int:
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return int(line.split()[1])
    raise ValueError("the system does not say when it was started")
