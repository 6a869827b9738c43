"""Follows one journal's records until each call is ready to be booked. Pure: time is an argument.

A call is ready when its `Closed` has been read; if that says that a count follows
(`Fact.COUNT_PENDING`), when its `Counted` has come, or has been waited for long enough. What is
open when a journal has ended will never be closed by anyone: its worker died, and the call is
booked as interrupted.

How far the journal is done is told by `low_water`: everything before it has been booked, or
belongs to a call that has been *parked* (its opening is kept in the ledger's waiting room). So a
stream of an hour does not hold back the journal of an hour. What lies behind the low-water mark
is read again after a crash, and booking it again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from taximeter.call import Closed, Counted, Fact, Opened, Outcome
from taximeter.journal import Position, Read
from taximeter.records import Record, decode_newer_record, decode_record, encode_record

WORKER_DIED = "worker_died"
JOURNAL_DAMAGED = "journal_damaged"
"""Error codes of interrupted calls."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A call that can be booked."""

    closed: Closed
    counted: Counted | None = None


@dataclass(slots=True)
class _Open:
    opened: Opened
    start: Position
    since: float


@dataclass(slots=True)
class _Waiting:
    closed: Closed
    start: Position
    since: float


class Follower:
    """What is under way in one journal."""

    def __init__(self, journal: str, parked: Iterable[Opened] = ()) -> None:
        self.journal = journal
        self._open: dict[str, _Open] = {}
        """In the order of their beginnings: the first is the oldest."""
        self._parked: dict[str, Opened] = {opened.call_id: opened for opened in parked}
        self._waiting: dict[str, _Waiting] = {}
        self._unpark: list[str] = []
        self.unreadable = 0
        """Frames whose content is no record known here."""
        self._set_aside: list[bytes] = []

    @property
    def under_way(self) -> int:
        """Calls opened and not ended."""
        return len(self._open) + len(self._parked)

    def take(self, reads: Iterable[Read], now: float) -> list[Ready]:
        """Take note of records; give the calls they complete."""
        ready: list[Ready] = []
        for read in reads:
            record = decoded(read.payload)
            if record is None:
                self.unreadable += 1
                self._set_aside.append(read.payload)
            elif isinstance(record, Opened):
                self._begin(record, read.start, now)
            elif isinstance(record, Closed):
                self._close(record, read.start, now, ready)
            else:
                waiting = self._waiting.pop(record.call_id, None)
                if waiting is not None:
                    ready.append(Ready(waiting.closed, record))
        return ready

    def _begin(self, opened: Opened, start: Position, now: float) -> None:
        # After a failed fdatasync a record is in the journal twice; the first one counts.
        call_id = opened.call_id
        if call_id not in self._parked and call_id not in self._waiting:
            self._open.setdefault(call_id, _Open(opened, start, now))

    def _close(self, closed: Closed, start: Position, now: float, ready: list[Ready]) -> None:
        call_id = closed.opened.call_id
        opened = self._open.pop(call_id, None)
        if call_id in self._parked:
            del self._parked[call_id]
            self._unpark.append(call_id)
        if Fact.COUNT_PENDING in closed.facts:
            since = opened.start if opened is not None else start
            self._waiting.setdefault(call_id, _Waiting(closed, since, now))
        else:
            ready.append(Ready(closed))

    def overdue(self, now: float, wait_seconds: float) -> list[Ready]:
        """Give the calls whose count has been waited for long enough."""
        late = [
            call_id
            for call_id, waiting in self._waiting.items()
            if now - waiting.since >= wait_seconds
        ]
        return [Ready(self._waiting.pop(call_id).closed) for call_id in late]

    def end(self, *, lossy: bool = False) -> list[Ready]:
        """The journal has ended: give what nobody will ever complete.

        Args:
            lossy: some of the journal could not be read. Then it may be the end of a call that
                was lost, and not its worker that died; so too where a record had no meaning.
        """
        error = JOURNAL_DAMAGED if lossy or self.unreadable else WORKER_DIED
        ready = [Ready(waiting.closed) for waiting in self._waiting.values()]
        self._waiting.clear()
        ready += [Ready(interrupted(each.opened, error)) for each in self._open.values()]
        self._open.clear()
        ready += [Ready(interrupted(opened, error)) for opened in self._parked.values()]
        self._unpark += self._parked
        self._parked.clear()
        return ready

    def park(self, now: float, after_seconds: float) -> list[tuple[str, bytes]]:
        """Give the calls that have been open so long that the journal must not wait for them."""
        parked: list[tuple[str, bytes]] = []
        for call_id, each in tuple(self._open.items()):
            if now - each.since < after_seconds:
                break  # they stand in the order of their beginnings
            del self._open[call_id]
            self._parked[call_id] = each.opened
            parked.append((call_id, encode_record(each.opened)))
        return parked

    def take_unparked(self) -> list[str]:
        """Give the parked calls that have ended since this was last asked."""
        unparked, self._unpark = self._unpark, []
        return unparked

    def take_set_aside(self) -> list[bytes]:
        """Give the records without a meaning here that were met since this was last asked."""
        records, self._set_aside = self._set_aside, []
        return records

    def low_water(self, read_upto: Position) -> Position:
        """Tell up to where the journal is done, if it has been read up to `read_upto`."""
        first = next(iter(self._open.values()), None)
        marks = [waiting.start for waiting in self._waiting.values()]
        if first is not None:
            marks.append(first.start)
        return min(marks, default=read_upto)


def interrupted(opened: Opened, error: str) -> Closed:
    """Give the end of a call whose own end nobody has written, or nobody can read."""
    return Closed(opened=opened, outcome=Outcome.INTERRUPTED, error=error)


def decoded(record: bytes) -> Record | None:
    """Read a record, as far as it is known here; None if it is of no kind known here."""
    for decode in (decode_record, decode_newer_record):
        with suppress(msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return decode(record)
    return None
