"""What the kernel says of processes: their CPU time, their memory, their children."""

from __future__ import annotations

import os
import time
from pathlib import Path

PROC = Path("/proc")


def cpu_seconds(pids: list[int]) -> float:
    """Give the CPU time, user and system, of processes with all their threads.

    Read from the process's CPU clock, which counts nanoseconds; the fields of
    `/proc/PID/stat` count the same time in steps of 10 ms.
    """
    # clock_getcpuclockid(3): the complement of the id, shifted, and CPUCLOCK_SCHED.
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def cpu_of_each(pids: list[int]) -> dict[int, float]:
    """Give the CPU time of each process; one that has ended meanwhile is left out."""
    found = {}
    for pid in pids:
        try:
            found[pid] = cpu_seconds([pid])
        except OSError:  # it has ended
            continue
    return found


def machine_busy_seconds() -> float:
    """Give the CPU time that all cores have spent on anything, since the machine started."""
    words = (PROC / "stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(word) for word in words[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def memory_bytes(pids: list[int]) -> int:
    """Give the processes' proportional set size: shared pages count once over all sharers."""
    total = 0
    for pid in pids:
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def tree(root: int) -> list[int]:
    """Give a process and all below it."""
    parents: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:  # it has ended in the meantime
            continue
        parent = int(stat.rpartition(")")[2].split()[1])
        parents.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(parents.get(pid, []))
    return found


def command(pid: int) -> str:
    """Give a process's command line, its words separated by spaces."""
    raw = (PROC / str(pid) / "cmdline").read_bytes()
    return raw.replace(b"\0", b" ").decode("utf-8", "replace").strip()


def listeners(port: int) -> set[int]:
    """Give the ids of the processes that hold a socket listening on a port of IPv4."""
    wanted = f":{port:04X}"
    inodes = set()
    for line in (PROC / "net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(wanted) and fields[3] == "0A":  # TCP_LISTEN
            inodes.add(f"socket:[{fields[9]}]")
    found = set()
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            links = {str(link.readlink()) for link in (entry / "fd").iterdir()}
        except OSError:  # it has ended, or is another user's
            continue
        if links & inodes:
            found.add(int(entry.name))
    return found
