"""What a process holds, as Linux tells it: memory, open files, threads, processor time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Vitals(NamedTuple):
    """One look at a process."""

    resident_bytes: int
    files: int
    threads: int
    processor_seconds: float


def vitals(pid: int) -> Vitals:
    """Look at a process.

    Raises:
        FileNotFoundError, ProcessLookupError: if it is gone.
    """
    folder = Path(f"/proc/{pid}")
    status = dict(
        line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line
    )
    # proc_pid_stat(5): user and system time are fields 14 and 15, behind the command in brackets.
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return Vitals(
        resident_bytes=int(status["VmRSS"].split()[0]) * 1024,
        files=sum(1 for _ in (folder / "fd").iterdir()),
        threads=int(status["Threads"]),
        processor_seconds=(int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND,
    )
