"""Commits that come about: what is ready gets into the ledger, however long that takes.

A database that is down or locked is waited for, with growing pauses, and complained of now and
then; meanwhile nothing more is read, so waiting costs no memory. Only being told to stop ends it.

A commit can come about and its answer be lost. The try after it finds its calls *repeated*; those
that the try before had noted have *landed*, and count as inserted now: so the sinks hear of each
call once.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from taximeter.ledger import (
    ENTRIES_MAX,
    Batch,
    Committed,
    Entry,
    Ledger,
    LedgerError,
    LedgerSchemaError,
    LedgerUnavailable,
    Parked,
    Position,
    RecorderState,
)
from taximeter.recorder._journal import RecorderStats
from taximeter.recorder._sinks import Sinks

log = logging.getLogger("taximeter.recorder")

RETRY_SECONDS_FIRST = 0.1
RETRY_SECONDS_MAX = 5.0
COMPLAINT_SECONDS = 30.0
"""How often a ledger that stays unavailable is complained of."""

_CALL_ID = re.compile("[0-9a-f-]{36}")
_NEVER = float("-inf")

T = TypeVar("T")


class Stopped(Exception):
    """The recorder was told to stop while it waited for something."""


class Commits:
    """Puts what is ready into a ledger, and tells the sinks of it."""

    def __init__(
        self,
        ledger: Ledger,
        sinks: Sinks,
        stats: RecorderStats,
        *,
        stop: threading.Event,
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._sinks = sinks
        self._stats = stats
        self._stop = stop
        self._clock = clock
        self._scope = ""
        self._lease = 0

    def lead(self, scope: str) -> RecorderState:
        """Have the ledger take our commits for a folder of journals, and nobody's of before.

        Gives what it knows of the folder: where we left off, and the calls under way.

        Raises:
            Stopped: if told to stop while the ledger was unavailable.
        """
        owner = f"{socket.gethostname()}:{os.getpid()}"

        def lead() -> RecorderState:
            self._ledger.migrate()
            self._lease = self._ledger.take_lead(owner, scope)
            return self._ledger.load(scope)

        self._scope = scope
        state = self._insist(lead)
        self._sinks.restore(state.notes)
        return state

    def commit(
        self,
        entries: Sequence[Entry],
        *,
        forget: Iterable[str] = (),
        positions: Mapping[str, Position],
        park: Sequence[Parked] = (),
        unpark: Sequence[str] = (),
        set_aside: Sequence[bytes] = (),
    ) -> None:
        """Commit, in parts if there is much; all but entries goes with the last part only.

        Raises:
            LeaseLost: if another recorder leads now.
            Stopped: if told to stop while the ledger was unavailable.
        """
        while len(entries) > ENTRIES_MAX:
            part, entries = entries[:ENTRIES_MAX], entries[ENTRIES_MAX:]
            self._commit(Batch(lease=self._lease, scope=self._scope, entries=part))
        self._commit(
            Batch(
                lease=self._lease,
                scope=self._scope,
                entries=entries,
                forget=sorted(forget),
                positions=positions,
                park=park,
                unpark=unpark,
                set_aside=set_aside,
            )
        )

    def _commit(self, batch: Batch) -> None:
        # Of two entries of one call the ledger takes the first.
        first = {entry.call_id: entry for entry in reversed(batch.entries)}
        noted: set[str] = set()

        def new(done: Committed) -> list[Entry]:
            return [entry for call_id, entry in first.items() if call_id in done.inserted]

        def note(done: Committed) -> Mapping[str, bytes]:
            noted.update(done.inserted)
            return self._sinks.note(new(done), done)

        def write() -> None:
            noted_before = frozenset(noted)
            done = self._ledger.commit(batch, note)
            landed = done.repeated & noted_before
            if landed:
                self._sinks.restore(self._ledger.load(self._scope).notes)
                done = replace(
                    done, inserted=done.inserted | landed, repeated=done.repeated - landed
                )
            self._sinks.booked(new(done), done)
            self._count(done)

        self._insist(write)
        self._stats.unpriced += sum(1 for entry in batch.entries if entry.cost_pico is None)

    def _count(self, done: Committed) -> None:
        self._stats.commits += 1
        self._stats.booked += len(done.inserted)
        self._stats.repeated += len(done.repeated)
        self._stats.rejected += len(done.rejected)
        for call_id, reason in done.rejected.items():
            # What a damaged record gives for an id may be anything: it is not repeated.
            named = call_id if _CALL_ID.fullmatch(call_id) else "without an id"
            log.error("A call (%s) was set aside: %s.", named, reason)

    def _insist(self, action: Callable[[], T]) -> T:
        """Do something with the ledger, for as long as it takes.

        Raises:
            Stopped: if told to stop while the ledger was unavailable.
        """
        wait, complained_at = RETRY_SECONDS_FIRST, _NEVER
        while True:
            try:
                done = action()
            except (LedgerUnavailable, LedgerSchemaError) as error:
                self._stats.retries += 1
                complained_at = self._complain(error, complained_at)
            else:
                if complained_at > _NEVER:
                    log.warning("The ledger is available again.")
                return done
            if self._stop.wait(wait):
                raise Stopped
            wait = min(wait * 2, RETRY_SECONDS_MAX)

    def _complain(self, error: LedgerError, complained_at: float) -> float:
        now = self._clock()
        if now - complained_at < COMPLAINT_SECONDS:
            return complained_at
        log.error("The ledger is unavailable; the journal keeps the calls. %s", error)
        return now
