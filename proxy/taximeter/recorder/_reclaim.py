"""Gives disk space back, and remembers what the disk would not let go.

Deleting comes after the commit that says it may be, and it may fail: the disk has become
read-only, something foreign stands in the folder. None of that stops the booking.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from taximeter.journal import Position, discard_drafts, discard_journal, discard_segments

log = logging.getLogger("taximeter.recorder")

RECLAIM_SECONDS = 30.0
"""Between two tries to delete a journal that would not go."""


class Reclaim:
    """Deletes what has been booked below one folder of journals."""

    def __init__(self, root: Path, clock: Callable[[], float]) -> None:
        self._root = root
        self._clock = clock
        self._done: dict[str, float] = {}
        """Finished journals whose folders are still here, and when to try them again."""
        self._complained = False

    def drafts(self, now_ns: int) -> None:
        """Delete what writers left behind that died before they had begun."""
        self._try(lambda: discard_drafts(self._root, now_ns))

    def segments(self, name: str, position: Position) -> None:
        """Delete a journal's segments before a position."""
        self._try(lambda: discard_segments(self._root / name, position))

    def finished(self, name: str) -> bool:
        """Tell whether a journal has been finished: it is only still here."""
        return name in self._done

    def journal(self, name: str) -> bool:
        """Delete a finished journal; tell whether it is gone. If not, ask again: it has time."""
        now = self._clock()
        if now < self._done.get(name, now):
            return False
        self._done[name] = now + RECLAIM_SECONDS
        gone = self._try(lambda: discard_journal(self._root / name))
        if gone:
            del self._done[name]
        return gone

    def missing(self, present: list[str]) -> set[str]:
        """Give, once, the finished journals that somebody else has deleted."""
        gone = self._done.keys() - set(present)
        for name in gone:
            del self._done[name]
        return gone

    def _try(self, action: Callable[[], object]) -> bool:
        try:
            gone = bool(action())
        except FileNotFoundError:
            return False  # somebody else was quicker; the next look will see it
        except OSError as error:
            if not self._complained:
                log.error("Disk space cannot be given back: %s.", error.strerror)
            self._complained = True
            return False
        self._complained = False
        return gone
