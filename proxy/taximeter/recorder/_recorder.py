"""The recorder: reads every journal, books what is ready, gives disk space back.

One pass is: read some records, make entries, commit them together with the positions, delete
what the positions have passed. Nothing is read further while a commit has not gone through, so
a database that is down costs no memory and no relay ever waits for it. What a crash leaves
behind, at whichever of these steps, the next start finds and finishes.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from taximeter.call import Opened, decode_record
from taximeter.journal import (
    LOST_NAME,
    JournalReader,
    UnknownVersion,
    discard_journal,
    discard_segments,
    journals,
    read_lost,
    root_of,
)
from taximeter.journal import Position as JournalPosition
from taximeter.ledger import (
    ENTRIES_MAX,
    Batch,
    Entry,
    Ledger,
    LedgerError,
    LedgerSchemaError,
    LedgerUnavailable,
    Parked,
    Position,
)
from taximeter.recorder._book import Bookkeeping
from taximeter.recorder._follow import Follower, Ready, interrupted
from taximeter.settings import Settings

log = logging.getLogger("taximeter.recorder")

RETRY_SECONDS_FIRST = 0.1
RETRY_SECONDS_MAX = 5.0
COMPLAINT_SECONDS = 30.0
"""How often a ledger that stays unavailable is complained of."""


@dataclass(slots=True)
class RecorderStats:
    """What a recorder has done since it started."""

    booked: int = 0
    repeated: int = 0
    rejected: int = 0
    commits: int = 0
    retries: int = 0
    unpriced: int = 0
    lost_calls: int = 0
    """Calls that relays could not journal: read from finished journals."""
    damaged_bytes: int = 0
    problems: list[str] = field(default_factory=list)


class Stopped(Exception):
    """The recorder was told to stop while it waited for the ledger."""


class Pass(NamedTuple):
    """What one pass over the journals found."""

    busy: bool
    """There was something to do."""
    behind: bool
    """There is likely more where that came from."""


class _Journal:
    """A journal being followed."""

    def __init__(self, directory: Path, position: JournalPosition, parked: list[Opened]) -> None:
        self.reader = JournalReader(directory, position)
        self.follower = Follower(directory.name, parked)
        self.committed: JournalPosition | None = None
        self.problems_told = 0


class Recorder:
    """Books calls from the journals below a data folder into a ledger. Not safe between threads."""

    def __init__(
        self,
        settings: Settings,
        *,
        ledger: Ledger | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._root = root_of(settings.data_dir)
        self._ledger = ledger or Ledger.open(settings.ledger_url)
        self._clock = clock
        self._books = Bookkeeping(settings)
        self._journals: dict[str, _Journal] = {}
        self._positions: dict[str, Position] = {}
        self._orphans: dict[str, list[Opened]] = {}
        self._forget: list[str] = []
        self._lease = 0
        self._stop = threading.Event()
        self.before_pass: Callable[[], object] = lambda: None
        """Called before each pass, from the thread that records."""
        self.stats = RecorderStats()

    def reload(self, settings: Settings) -> None:
        """Take a new configuration for calls from now on (prices, waits)."""
        self._settings = settings
        self._books = Bookkeeping(settings)

    def stop(self) -> None:
        """Ask `run` to book what there is and return. Safe from a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Book until told to stop, and then until nothing is left to be booked.

        Raises:
            LeaseLost: if another recorder has taken over this ledger.
            UnknownVersion: if a journal was written by a newer program.
        """
        try:
            self.begin()
            while not self._stop.is_set():
                self.before_pass()
                # A commit costs the same for one row as for many: so a pass that has caught up
                # waits for more, and only one that has not goes straight on.
                if not self.step().behind:
                    self._stop.wait(self._settings.recorder.poll_milliseconds / 1000)
            while self.step().busy:
                pass
        except Stopped:
            log.warning("Stopped while the ledger was unavailable; the journal keeps the rest.")
        finally:
            self._ledger.close()

    def begin(self) -> None:
        """Bring the ledger's schema up to date, take the lead, and find where we left off."""
        owner = f"{socket.gethostname()}:{os.getpid()}"

        def lead() -> None:
            self._ledger.migrate()
            self._lease = self._ledger.take_lead(owner)
            state = self._ledger.load()
            self._positions = state.positions
            self._orphans = {}
            for parked in state.parked.values():
                record = decode_record(parked.record)
                if isinstance(record, Opened):
                    self._orphans.setdefault(parked.journal, []).append(record)

        self._insist(lead)
        log.info("Booking into %s.", self._ledger.place)
        self._book_orphans()

    def _book_orphans(self) -> None:
        """Finish calls whose journal is gone, and forget the positions of such journals."""
        present = set(journals(self._root))
        self._forget += [name for name in self._positions if name not in present]
        gone = [name for name in self._orphans if name not in present]
        ready = [Ready(interrupted(opened)) for name in gone for opened in self._orphans[name]]
        if ready or self._forget:
            unpark = [each.closed.opened.call_id for each in ready]
            self._commit([self._books.entry_of(each) for each in ready], {}, [], unpark)

    # -- one pass -----------------------------------------------------------------------------

    def step(self) -> Pass:
        """Make one pass over all journals."""
        busy = behind = False
        for name in journals(self._root):
            journal = self._journals.get(name)
            if journal is None:
                journal = self._journals[name] = self._begin_journal(name)
            read, booked = self._follow(journal)
            busy = busy or read + booked > 0
            behind = behind or read >= self._settings.recorder.batch_rows_max
        return Pass(busy, behind)

    def _begin_journal(self, name: str) -> _Journal:
        position = self._positions.get(name, Position(0, 0))
        return _Journal(
            self._root / name,
            JournalPosition(position.segment, position.offset),
            self._orphans.pop(name, []),
        )

    def _follow(self, journal: _Journal) -> tuple[int, int]:
        """Read and book some of a journal; give how many records and calls that were."""
        recorder = self._settings.recorder
        reader, follower = journal.reader, journal.follower
        reads = reader.read(recorder.batch_rows_max * 2)
        now = self._clock()
        ready = follower.take(reads, now)
        ready += follower.overdue(now, recorder.count_wait_seconds)
        ended = reader.finished
        if ended:
            ready += follower.end()
        park = [
            Parked(call_id, follower.journal, record)
            for call_id, record in follower.park(now, recorder.park_seconds)
        ]
        unpark = follower.take_unparked()
        mark = follower.low_water(reader.position)
        self._tell_problems(journal)
        moved = mark != journal.committed
        if ready or park or unpark or (moved and reads):
            entries = [self._books.entry_of(each) for each in ready]
            position = Position(mark.segment, mark.offset)
            self._commit(entries, {follower.journal: position}, park, unpark)
            journal.committed = mark
            if not ended:
                discard_segments(reader.directory, mark)
        if ended:
            self._finish(journal)
        return len(reads), len(ready)

    def _finish(self, journal: _Journal) -> None:
        """Everything a dead worker had to say is in the ledger: its journal can go."""
        directory = journal.reader.directory
        lost = read_lost(directory / LOST_NAME)
        if lost:
            self.stats.lost_calls += lost
            log.error("%d calls could not be journalled, and are in no ledger.", lost)
        discard_journal(directory)
        del self._journals[directory.name]
        self._positions.pop(directory.name, None)
        self._forget.append(directory.name)

    def _commit(
        self,
        entries: list[Entry],
        positions: dict[str, Position],
        park: list[Parked],
        unpark: list[str],
    ) -> None:
        """Commit, in parts if there is much; the positions go with the last part only."""
        while len(entries) > ENTRIES_MAX:
            part, entries = entries[:ENTRIES_MAX], entries[ENTRIES_MAX:]
            self._commit_part(Batch(lease=self._lease, entries=part))
        self._commit_part(
            Batch(
                lease=self._lease,
                entries=entries,
                forget=self._forget,
                positions=positions,
                park=park,
                unpark=unpark,
            )
        )
        self._forget = []

    def _commit_part(self, batch: Batch) -> None:
        def write() -> None:
            done = self._ledger.commit(batch)
            self.stats.commits += 1
            self.stats.booked += len(done.inserted)
            self.stats.repeated += len(done.repeated)
            self.stats.rejected += len(done.rejected)
            for call_id, reason in done.rejected.items():
                log.error("Call %s was set aside: %s.", call_id, reason)

        self._insist(write)
        self.stats.unpriced += sum(1 for entry in batch.entries if entry.cost_pico is None)

    def _insist(self, action: Callable[[], None]) -> None:
        """Do something with the ledger, for as long as it takes.

        Raises:
            Stopped: if told to stop while the ledger was unavailable.
        """
        wait, complained_at = RETRY_SECONDS_FIRST, float("-inf")
        while True:
            try:
                action()
            except (LedgerUnavailable, LedgerSchemaError) as error:
                self.stats.retries += 1
                complained_at = self._complain(error, complained_at)
            else:
                if complained_at > float("-inf"):
                    log.warning("The ledger is available again.")
                return
            if self._stop.wait(wait):
                raise Stopped
            wait = min(wait * 2, RETRY_SECONDS_MAX)

    def _complain(self, error: LedgerError, complained_at: float) -> float:
        now = self._clock()
        if now - complained_at < COMPLAINT_SECONDS:
            return complained_at
        log.error("The ledger is unavailable; the journal keeps the calls. %s", error)
        return now

    def _tell_problems(self, journal: _Journal) -> None:
        stats = journal.reader.stats
        met = stats.damaged_stretches + stats.unreadable_segments + stats.missing
        if met > journal.problems_told:
            journal.problems_told = met
            for words in stats.problems[-4:]:
                log.error("Journal damage: %s.", words)
            self.stats.damaged_bytes = stats.damaged_bytes


__all__ = ["Recorder", "RecorderStats", "UnknownVersion"]
