"""One journal being followed: its reader, what is under way in it, and what has been said of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from taximeter.call import Opened
from taximeter.journal import JournalReader, Position, Read, ReaderStats, UnknownVersion
from taximeter.recorder._follow import Follower

log = logging.getLogger("taximeter.recorder")


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
    unreadable_records: int = 0
    """Whole frames whose content no program of this version could have written."""
    damaged_bytes: int = 0
    missing_records: int = 0
    unreadable_segments: int = 0
    refused_journals: int = 0
    """Journals left alone, because a newer program has written them."""


class FollowedJournal:
    """A journal and how far it has been followed."""

    def __init__(
        self, directory: Path, position: Position, parked: Iterable[Opened], stats: RecorderStats
    ) -> None:
        self.reader = JournalReader(directory, position)
        self.follower = Follower(directory.name, parked)
        self.committed = position
        """What the ledger knows to be done."""
        self._stats = stats
        self._told = ReaderStats()
        self._unreadable_told = 0
        self._refused = False

    def read(self, records_max: int) -> list[Read]:
        """Give some further records; none for now, or none ever, if a newer program wrote them."""
        try:
            return self.reader.read(records_max)
        except UnknownVersion as error:
            if not self._refused:
                self._refused = True
                self._stats.refused_journals += 1
                log.error("A journal is left alone: %s; %s.", error, error.hint)
            return []

    def tell(self) -> None:
        """Add what has been met since the last look to the recorder's figures, and say it."""
        now, told, stats = self.reader.stats, self._told, self._stats
        unreadable = self.follower.unreadable - self._unreadable_told
        if unreadable:
            self._unreadable_told += unreadable
            stats.unreadable_records += unreadable
            log.error("%d records of a journal have no meaning to this program.", unreadable)
        stats.missing_records += now.missing - told.missing
        if now.problems_met > told.problems_met:
            for words in now.problems[told.problems_met - now.problems_met :]:
                log.error("Journal damage: %s.", words)
            stats.damaged_bytes += now.damaged_bytes - told.damaged_bytes
            stats.unreadable_segments += now.unreadable_segments - told.unreadable_segments
        self._told = replace(now, problems=[])
