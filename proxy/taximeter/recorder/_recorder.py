"""The recorder: reads every journal, books what is ready, gives disk space back.

One pass is: read some records, make entries, commit them together with the positions, delete
what the positions have passed. Nothing is read further while a commit has not gone through
(`_commits`), so a database that is down costs no memory and no relay ever waits for it. What a
crash leaves behind, at whichever of these steps, the next start finds and finishes.

One recorder reads a folder of journals: a second one waits for the first one's lock. Should the
lock fail (a file system without it), the ledger's lease refuses all but the newest. Recorders of
other folders, on this machine or others, may share the ledger: see `scope_of`.

One journal's trouble is that journal's own. One that a newer program has written is left alone,
and so are files that the disk will not let go; the others go on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from taximeter.call import Opened
from taximeter.journal import (
    LOST_NAME,
    Lock,
    journals,
    lock_recorder,
    read_lost,
    root_of,
    scope_of,
)
from taximeter.journal import Position as JournalPosition
from taximeter.ledger import Ledger, Parked, Position
from taximeter.recorder._book import Bookkeeping
from taximeter.recorder._commits import (
    RETRY_SECONDS_FIRST,
    RETRY_SECONDS_MAX,
    Commits,
    Stopped,
)
from taximeter.recorder._follow import (
    JOURNAL_DAMAGED,
    Ready,
    decoded,
    interrupted,
)
from taximeter.recorder._journal import FollowedJournal, RecorderStats
from taximeter.recorder._reclaim import Reclaim
from taximeter.recorder._sinks import Sink, Sinks
from taximeter.settings import Settings

log = logging.getLogger("taximeter.recorder")

LEAD_SECONDS = 0.5
"""Between two tries to have the lock that another recorder holds."""


class Pass(NamedTuple):
    """What one pass over the journals found."""

    busy: bool
    """There was something to do."""
    behind: bool
    """There is likely more where that came from."""


class Recorder:
    """Books calls from the journals below a data folder into a ledger. Not safe between threads."""

    def __init__(
        self,
        settings: Settings,
        *,
        ledger: Ledger | None = None,
        sinks: Sequence[Sink] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._root = root_of(settings.data_dir)
        self._ledger = ledger or Ledger.open(settings.ledger_url)
        self._clock = clock
        self._books = Bookkeeping(settings)
        self.sinks = Sinks(sinks)
        self._journals: dict[str, FollowedJournal] = {}
        self._positions: dict[str, Position] = {}
        self._orphans: dict[str, list[Opened]] = {}
        self._forget: set[str] = set()
        self._reclaim = Reclaim(self._root, clock)
        self._root_identity: tuple[int, int] | None = None
        self._lock: Lock | None = None
        self._stop = threading.Event()
        self.stats = RecorderStats()
        self._commits = Commits(self._ledger, self.sinks, self.stats, stop=self._stop, clock=clock)
        self.before_pass: Callable[[], object] = lambda: None
        """Called before each pass, from the thread that records."""
        self.begun = False
        """The ledger has told where we left off, and sinks have taken up what they knew."""
        self._caught_up_at = clock()

    def reload(self, settings: Settings) -> None:
        """Take a new configuration for calls from now on (prices, waits)."""
        self._settings = settings
        self._books = Bookkeeping(settings)
        self.sinks.reload(settings)

    def stop(self) -> None:
        """Ask `run` to book what there is and return. Safe from a signal handler."""
        self._stop.set()

    def lag_seconds(self) -> float:
        """Tell how long ago the ledger had all that the journals held. Safe from any thread.

        No call has waited longer to be booked, but for those whose tokens are being counted. Right
        after the start it is counted from there.
        """
        return self._clock() - self._caught_up_at

    def run(self) -> None:
        """Book until told to stop, and then until nothing is left to be booked.

        Raises:
            LeaseLost: if another recorder has taken over these journals.
        """
        try:
            self.begin()
            while not self._stop.is_set():
                self.before_pass()
                # A commit costs the same for one row as for many: so a pass that has caught up
                # waits for more, and only one that has not goes straight on.
                looked_at = self._clock()
                if not self.step().behind:
                    self._caught_up_at = looked_at
                    self._stop.wait(self._settings.recorder.poll_milliseconds / 1000)
            while self.step().busy:
                pass
        except Stopped:
            log.warning("Stopped while waiting; the journal keeps the rest.")
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the ledger and of the lead."""
        self.sinks.close()
        self._ledger.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def begin(self) -> None:
        """Take the lead, bring the ledger's schema up to date, and find where we left off.

        Raises:
            Stopped: if told to stop while another recorder led, or the ledger was unavailable.
        """
        scope = self._wait_for_folder()
        self._root_identity = _identity(self._root)
        self._wait_for_lock()
        state = self._commits.lead(scope)
        self._positions = state.positions
        for parked in state.parked.values():
            record = decoded(parked.record)
            if isinstance(record, Opened):
                self._orphans.setdefault(parked.journal, []).append(record)
            else:
                self.stats.unreadable_records += 1
                log.error("A call under way cannot be read back; it stays in `parked`.")
        self.begun = True
        log.info("Booking into %s.", self._ledger.place)
        self._reclaim.drafts(time.time_ns())
        self._book_orphans()

    def _wait_for_folder(self) -> str:
        """Learn the name of this folder of journals; a full disk has no room to give it one."""
        wait, complained = RETRY_SECONDS_FIRST, False
        while True:
            try:
                return scope_of(self._root)
            except OSError as error:
                if not complained:
                    complained = True
                    log.error("There is no place for journals: %s; trying on.", error.strerror)
            if self._stop.wait(wait):
                raise Stopped
            wait = min(wait * 2, RETRY_SECONDS_MAX)

    def _wait_for_lock(self) -> None:
        try:
            self._lock = lock_recorder(self._root)
            if self._lock is None:
                log.warning("Another recorder books these journals; waiting for its end.")
            while self._lock is None:
                if self._stop.wait(LEAD_SECONDS):
                    raise Stopped
                self._lock = lock_recorder(self._root)
        except OSError as error:
            log.warning("The recorder's lock cannot be had (%s); going on.", error.strerror)

    def _book_orphans(self) -> None:
        """Finish calls whose journal is gone, and forget the positions of such journals."""
        present = set(journals(self._root))
        self._forget |= self._positions.keys() - present
        gone = self._orphans.keys() - present
        ready = [
            Ready(interrupted(opened, JOURNAL_DAMAGED))
            for name in sorted(gone)
            for opened in self._orphans.pop(name)
        ]
        if ready or self._forget:
            unpark = [each.closed.opened.call_id for each in ready]
            self._commit(ready, {}, [], unpark)

    # -- one pass -----------------------------------------------------------------------------

    def step(self) -> Pass:
        """Make one pass over all journals."""
        busy = behind = False
        present = journals(self._root)
        for name in present:
            if self._reclaim.finished(name):
                self._delete(name)
                continue
            journal = self._journals.get(name)
            if journal is None:
                journal = self._journals[name] = self._begin_journal(name)
            read, booked = self._follow(journal)
            busy = busy or read + booked > 0
            behind = behind or read >= self._settings.recorder.batch_rows_max
        self._miss(present)
        return Pass(busy, behind)

    def _miss(self, present: list[str]) -> None:
        """Finish the calls of journals that somebody has deleted."""
        gone = self._journals.keys() - set(present)
        if gone and _identity(self._root) != self._root_identity:
            return  # all of them are gone, folder and all: a disk that will be mounted again?
        for name in sorted(gone):
            log.error("The journal %s was deleted before it was booked.", name)
            journal = self._journals.pop(name)
            self._book(journal, journal.follower.end(lossy=True), ended=True)
        self._forget |= gone | self._reclaim.missing(present)

    def _begin_journal(self, name: str) -> FollowedJournal:
        position = self._positions.get(name, Position(0, 0))
        return FollowedJournal(
            self._root / name,
            JournalPosition(position.segment, position.offset),
            self._orphans.pop(name, []),
            self.stats,
        )

    def _follow(self, journal: FollowedJournal) -> tuple[int, int]:
        """Read and book some of a journal; give how many records and calls that were."""
        recorder = self._settings.recorder
        reader, follower = journal.reader, journal.follower
        reads = journal.read(recorder.batch_rows_max * 2)
        now = self._clock()
        ready = follower.take(reads, now)
        ready += follower.overdue(now, recorder.count_wait_seconds)
        ended = reader.finished
        if ended:
            ready += follower.end(lossy=reader.stats.lossy)
        journal.tell()
        self._book(journal, ready, ended=ended)
        if ended:
            self._finish(journal)
        return len(reads), len(ready)

    def _book(self, journal: FollowedJournal, ready: list[Ready], *, ended: bool) -> None:
        """Commit what is ready, together with how far the journal is done."""
        reader, follower = journal.reader, journal.follower
        park = [
            Parked(call_id, follower.journal, record)
            for call_id, record in follower.park(
                self._clock(), self._settings.recorder.park_seconds
            )
        ]
        unpark = follower.take_unparked()
        set_aside = follower.take_set_aside()
        mark = follower.low_water(reader.position)
        if not (ready or park or unpark or set_aside or mark != journal.committed):
            return
        done = Position(mark.segment, mark.offset)
        self._commit(ready, {follower.journal: done}, park, unpark, set_aside)
        journal.committed = mark
        if not ended:
            self._reclaim.segments(follower.journal, mark)

    def _finish(self, journal: FollowedJournal) -> None:
        """Everything a dead worker had to say is in the ledger: its journal can go."""
        name = journal.reader.name
        lost = read_lost(journal.reader.directory / LOST_NAME)
        if lost:
            self.stats.lost_calls += lost
            log.error("%d calls could not be journalled, and are in no ledger.", lost)
        del self._journals[name]
        self._delete(name)

    def _delete(self, name: str) -> None:
        """Delete a finished journal. Its position is kept for as long as its folder is there."""
        if self._reclaim.journal(name):
            self._positions.pop(name, None)
            self._forget.add(name)

    def _commit(
        self,
        ready: list[Ready],
        positions: dict[str, Position],
        park: list[Parked],
        unpark: list[str],
        set_aside: Sequence[bytes] = (),
    ) -> None:
        self._commits.commit(
            [self._books.entry_of(each) for each in ready],
            forget=self._forget,
            positions=positions,
            park=park,
            unpark=unpark,
            set_aside=set_aside,
        )
        self._forget.clear()


def _identity(path: Path) -> tuple[int, int] | None:
    """Tell one folder from another that stands in its place later; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
