"""How short this worker is of what it needs, read once a second for `admission.Pressure`.

A reading is a share: 0 is idle, 1 is full. Cheap ones only: counts that are kept anyway, one look
at the process's open files, and how late the loop comes.

    connections   of clients, of relay.connections_max
    open_files    of what the process may have open
    bodies, taps  of the room for bodies and for what usage is read from. When these are used up
                  calls go on without that room, so they never close the door (`LEAN_AT_MOST`)
    loop_lag      how late the loop has come without a break. One long stop (a machine that slept)
                  is no pressure; a loop that is late each time is

The journal's disk is not among them: what becomes of calls that cannot be recorded is a setting
(journal.when_full), and not for this to decide.
"""

from __future__ import annotations

import logging
import resource
from pathlib import Path
from typing import TYPE_CHECKING

from taximeter.admission import Level

if TYPE_CHECKING:
    from taximeter.relay._worker import RelayWorker

log = logging.getLogger("taximeter.relay")

LAG_SECONDS_FULL = 1.0
"""A loop that comes so late to everything answers nobody in time."""
LEAN_AT_MOST = 0.94
"""Below where admission closes its door (0.95)."""
_OPEN_FILES = Path("/proc/self/fd")


def readings(worker: RelayWorker) -> dict[str, float]:
    """Give what there is of each, as a share of what there may be."""
    found = {
        "connections": len(worker.clients) / max(1, worker.settings.relay.connections_max),
        "bodies": min(
            LEAN_AT_MOST,
            max(
                each.body_budget.bytes_taken / max(1, each.body_budget.bytes_max)
                for each in worker.snapshots
            ),
        ),
        "taps": min(
            LEAN_AT_MOST, worker.tap_budget.bytes_taken / max(1, worker.tap_budget.bytes_max)
        ),
        "loop_lag": worker.loop_lag.least_lately / LAG_SECONDS_FULL,
    }
    files = open_files_share()
    if files is not None:
        found["open_files"] = files
    return found


def open_files_share() -> float | None:
    """Give the open files of this process as a share of how many it may have; None if unknown."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most in (0, resource.RLIM_INFINITY):
        return None
    try:
        # Since Linux 6.2 the folder's size is their number; listing ten thousand takes long.
        count = _OPEN_FILES.stat().st_size or sum(1 for _ in _OPEN_FILES.iterdir())
    except OSError:
        return None  # a system that does not tell
    return count / most


def look_at_pressure(worker: RelayWorker) -> None:
    """Take a reading, and do what its level asks for."""
    before, driver = worker.admission.admission.pressure.level, worker.admission
    driver.read_pressure(readings(worker))
    level = driver.admission.pressure.level
    if level is not before:
        log.warning(
            "This worker's pressure is %s now, it was %s (%s).",
            level,
            before,
            driver.admission.pressure.worst,
        )
    if level is not Level.NORMAL:
        moment = worker.loop.time()
        for client in tuple(worker.clients):
            client.close_kept(moment)
