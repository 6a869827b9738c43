"""A worker's journal, where the disk has no room to begin one.

A worker must not stay down for that: with `journal.when_full: fail_open` it relays, with
`fail_closed` it answers 503, and either way it goes on as usual as soon as a journal can be
begun. Until then `NoJournal` stands in its place, refuses every record, and keeps in memory how
many calls went by: the journal's own count, which outlives the process, takes that number over.

The key that credentials are hashed with stands in the same folder, so it is had together with the
journal or not at all: no record ever names a caller by a key that was made up for the moment.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from taximeter.journal import JournalError, JournalUnwritable, JournalWriter, Sync, SyncPolicy

log = logging.getLogger("taximeter.relay")

TRY_SECONDS_FIRST = 1.0
TRY_SECONDS_MAX = 15.0


class Begun(NamedTuple):
    """What a worker keeps on disk."""

    journal: JournalWriter
    hash_key: bytes


class LostInMemory:
    """How many calls went by unrecorded, for as long as this process lives."""

    def __init__(self) -> None:
        self.calls = 0

    def add(self, calls: int = 1) -> None:
        """Note `calls` more as lost."""
        self.calls += calls


class NoJournal:
    """Stands in for a `JournalWriter` and takes nothing."""

    sync_policy = SyncPolicy.NONE
    needs_sync = False
    sequence = synced = 0

    def __init__(self) -> None:
        self.lost = LostInMemory()

    def append(self, payload: bytes) -> int:
        """Refuse a record.

        Raises:
            JournalUnwritable: always.
        """
        raise JournalUnwritable("there is no room to begin a journal")

    def begin_sync(self) -> None:
        """There is nothing to be made power-safe."""

    def finish_sync(self, sync: Sync) -> bool:
        """There is nothing that could have failed."""
        return True

    def close(self) -> None:
        """There is nothing to be closed."""


class JournalStart:
    """Tries to begin a journal until it can be begun, ever further apart."""

    def __init__(self, begin: Callable[[], Begun], *, fail_closed: bool) -> None:
        self._begin = begin
        self._fail_closed = fail_closed
        self._task: asyncio.Task[None] | None = None
        self._wait_seconds = TRY_SECONDS_FIRST
        self._next_at = 0.0

    def try_now(self) -> Begun | None:
        """Try at the worker's start, before it has taken a call."""
        try:
            return self._begin()
        except (JournalError, OSError) as error:
            effect = "are answered 503" if self._fail_closed else "are relayed and not recorded"
            log.error("No journal can be begun, so calls %s until one can: %s", effect, error)
            return None

    def maybe_try(self, now: float, begun: Callable[[Begun], None]) -> None:
        """Try again if it is time to, in a thread: a disk in trouble may take long.

        Args:
            now: the loop's time.
            begun: called, in the loop, with what was had.
        """
        if self._task is None and now >= self._next_at:
            self._next_at = now + self._wait_seconds
            self._wait_seconds = min(self._wait_seconds * 2, TRY_SECONDS_MAX)
            self._task = asyncio.get_running_loop().create_task(self._try(begun))

    async def _try(self, begun: Callable[[Begun], None]) -> None:
        try:
            begun(await asyncio.to_thread(self._begin))
        except (JournalError, OSError):
            pass  # said at the start, and with every call that cannot be recorded
        except Exception:
            log.exception("The journal could not be begun.")
        finally:
            self._task = None

    async def stop(self) -> None:
        """Wait for a try that is under way."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=TRY_SECONDS_MAX)
