"""The relay's hand on the journal: when a record counts as kept, and what if it cannot be.

`write` answers None when the record is as safe as the sync policy asks, which with `none` and
`interval` is at once; with `always` it gives a future that is done when a group commit has
made it power-safe. `fdatasync` runs in a thread; many calls share one.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from taximeter.call import Closed, Counted
from taximeter.journal import JournalError, JournalWriter, SyncPolicy
from taximeter.records import Answered, Record, encode_record
from taximeter.relay._journal_start import NoJournal

_INTERVAL, _ALWAYS = SyncPolicy.INTERVAL, SyncPolicy.ALWAYS

log = logging.getLogger("taximeter.relay")


class Unrecorded(Exception):
    """A record could not be kept, and the settings say that the call must not go on."""


class Bookkeeper:
    """Appends the records of one worker."""

    def __init__(
        self, writer: JournalWriter | NoJournal, *, sync_seconds: float, fail_closed: bool
    ) -> None:
        self._writer = writer
        self._sync_seconds = sync_seconds
        self._fail_closed = fail_closed
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal-sync")
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._sync_task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._complained_at = float("-inf")
        self.keeps_at_once = not fail_closed and writer.sync_policy is not _ALWAYS
        """Whether `write` neither makes anybody wait nor refuses: a record is kept, or counted."""
        self.records = 0
        self.refused = 0
        """Records the journal could not take."""

    @property
    def has_journal(self) -> bool:
        """Whether there is a journal to write to."""
        return not isinstance(self._writer, NoJournal)

    def begin(self, writer: JournalWriter) -> None:
        """Write to a journal from now on, that could not be begun before."""
        before, self._writer = self._writer, writer
        self.keeps_at_once = not self._fail_closed and writer.sync_policy is not _ALWAYS
        unrecorded = before.lost.calls if before.lost is not None else 0
        if unrecorded and writer.lost is not None:
            writer.lost.add(unrecorded)
        log.warning("The journal is begun; %d calls went by unrecorded before.", unrecorded)

    def write(
        self, record: Record | Answered, written: bytes | None = None
    ) -> asyncio.Future[None] | None:
        """Keep a record. `written` is its MessagePack form, where there is one already.

        Raises:
            Unrecorded: if it cannot be kept and `journal.when_full` is `fail_closed`.
        """
        try:
            sequence = self._writer.append(encode_record(record) if written is None else written)
        except (JournalError, OSError) as error:
            self._refuse(record, error)
            return None
        except Exception as fault:
            # A bug of ours must not cost a call; its words may quote one, so they are not told.
            log.error("A record met a fault of ours.", exc_info=fault, extra=_names(record))
            self._refuse(record, JournalError("it met a fault of ours", hint="see the log"))
            return None
        self.records += 1
        policy = self._writer.sync_policy
        if policy is _INTERVAL:
            if self._timer is None:
                self._timer = self._loop.call_later(self._sync_seconds, self._start_sync)
        elif policy is _ALWAYS:
            kept = self._loop.create_future()
            self._waiting.append((sequence, kept))
            self._start_sync()
            return kept
        return None

    def _refuse(self, record: Record | Answered, error: Exception) -> None:
        self.refused += 1
        now = self._loop.time()
        if now - self._complained_at > 10:
            self._complained_at = now
            log.error("A call could not be recorded: %s", error, extra=_names(record))
        if self._fail_closed:
            raise Unrecorded from error
        # Only a call's end decides whether it is lost: a lost beginning does not lose it.
        if isinstance(record, Closed | Answered) and self._writer.lost is not None:
            self._writer.lost.add()

    def _start_sync(self) -> None:
        self._timer = None
        if self._sync_task is None and self._writer.needs_sync:
            self._sync_task = self._loop.create_task(self._sync())

    async def _sync(self) -> None:
        try:
            while (sync := self._writer.begin_sync()) is not None:
                await self._loop.run_in_executor(self._thread, sync.run)
                try:
                    self._writer.finish_sync(sync)
                except (JournalError, OSError) as error:
                    log.error("Records could not be made power-safe: %s", error)
                    self._fail_waiting(error)
                    return
                self._wake(self._writer.synced)
                if self._writer.sync_policy is SyncPolicy.INTERVAL:
                    break
        finally:
            self._sync_task = None
            if self._writer.needs_sync and self._timer is None:
                self._timer = self._loop.call_later(self._sync_seconds, self._start_sync)

    def _wake(self, upto: int) -> None:
        still = []
        for sequence, kept in self._waiting:
            if sequence > upto:
                still.append((sequence, kept))
            elif not kept.done():
                kept.set_result(None)
        self._waiting = still

    def _fail_waiting(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, []
        for _, kept in waiting:
            if kept.done():
                continue
            if self._fail_closed:
                kept.set_exception(Unrecorded())
            else:
                kept.set_result(None)

    async def close(self) -> None:
        """Make everything power-safe and finish the journal."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        task = self._sync_task
        if task is not None:
            await asyncio.wait([task])
        if self._timer is not None:
            self._timer.cancel()
        self._thread.shutdown()
        try:
            self._writer.close()
        except (JournalError, OSError) as error:
            log.error("The journal's last records may not be power-safe: %s", error)
        self._wake(self._writer.sequence)


def _names(record: Record | Answered) -> dict[str, str | None]:
    """Give what tells which call a record is of."""
    if isinstance(record, Counted):
        return {"call_id": record.call_id}
    if isinstance(record, Answered):
        record = record.closed()
    opened = record.opened if isinstance(record, Closed) else record
    return {"call_id": opened.call_id, "trace_id": opened.trace_id}
