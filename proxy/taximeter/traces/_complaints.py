"""What is said in the log when traces do not get through: a line a minute at most."""

from __future__ import annotations

import logging
import time

log = logging.getLogger("taximeter.traces")

COMPLAINT_SECONDS = 60.0


class Complaints:
    """Says what is wrong, and that it no longer is. Any thread may."""

    def __init__(self) -> None:
        self._said_at = float("-inf")
        self._open = False

    def say(self, reason: str) -> None:
        """Say why traces wait or are dropped; `reason` quotes nothing of calls or collectors."""
        now = time.monotonic()
        if now - self._said_at < COMPLAINT_SECONDS:
            return
        self._said_at, self._open = now, True
        log.warning(
            "Not all traces get through (%s). They wait in the spool, or are dropped and counted; "
            "the ledger has every call.",
            reason,
        )

    def end(self) -> None:
        """Say that it works again, if it was said that it did not."""
        if self._open:
            self._open = False
            log.info("The collector takes traces again.")
