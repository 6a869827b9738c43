"""Tests in several processes at a time: `pytest -n 2 --dist loadfile`, as in `make test`.

Most of what takes long here waits: for processes to start, for deadlines, for an outage to be over.
So two at a time take little more than half as long, on no more than two cores. pytest-xdist deals
the files out; what it leaves to us is here:

- Long files come first, so that none is still under way when all others are done.
- What is counted in each process is shown as one (`Tally`).
- A test that measures what others would spoil says so, `@pytest.mark.alone`, and has the machine
  to itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

LONG = (
    "alerts/test_live.py",
    "dashboards/test_live.py",
    "alerts/test_rules.py",
    "durability/test_outage.py",
    "durability/test_points.py",
    "durability/test_kill.py",
    "signals/test_processes.py",
    "alerts/test_admission.py",
    "traces/test_through.py",
    "promises/test_mutations.py",
    "signals/test_canary.py",
    "traces/test_faults.py",
    "relay/test_process.py",
    "ledger/test_reading.py",
    "relay/test_many.py",
    "ledger/test_faults.py",
    "serve/test_supervisor.py",
    "serve/test_life.py",
    "recorder/test_recorder.py",
    "signals/test_admission.py",
    "durability/test_soak.py",
    "ledger/test_schema.py",
    "hostile/test_slow_clients.py",
)
"""Files that take ten seconds or more, the longest first."""


def longest_first(path: Path) -> int:
    """Give where a file stands among those that are dealt out; sort by it."""
    name = f"{path.parent.name}/{path.name}"
    return LONG.index(name) if name in LONG else len(LONG)


class Machine:
    """Whose the machine is: any number of tests', or one test's that is alone.

    Locks of the system, in a folder that all processes know: they end with who holds them.
    """

    def __init__(self, folder: Path) -> None:
        self._door, self._room = (
            os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600) for name in ("door", "room")
        )

    @contextlib.contextmanager
    def taken(self, *, alone: bool) -> Iterator[None]:
        """Wait until the machine is to be had, and have it."""
        # Whoever waits to be alone holds the door: nobody else comes in before.
        fcntl.flock(self._door, fcntl.LOCK_EX)
        fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._door)
        os.close(self._room)
