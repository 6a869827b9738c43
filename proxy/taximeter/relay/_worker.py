"""A relay worker: one process, one event loop, one journal; it relays and does nothing else."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from collections import Counter as Tally
from collections.abc import Callable
from dataclasses import replace

from taximeter.admission import budget_periods
from taximeter.call import CallIds, Counted, Outcome
from taximeter.counting import Counter, CountJob
from taximeter.dialects import Dialect, dialect_for, family_of
from taximeter.journal import JournalWriter, SyncPolicy, root_of
from taximeter.keys import KeyStore, keys_path
from taximeter.live import ProcessState, RelayState
from taximeter.relay._admission import AdmissionDriver
from taximeter.relay._bookkeeper import Bookkeeper, Unrecorded
from taximeter.relay._budget import ByteBudget
from taximeter.relay._carried import Carried
from taximeter.relay._client import ClientSide
from taximeter.relay._delivery import Delivery
from taximeter.relay._errors import Refused
from taximeter.relay._exchange import Exchange
from taximeter.relay._headroom import HeadroomBook
from taximeter.relay._journal_start import Begun, JournalStart, NoJournal
from taximeter.relay._kept_answers import KeptAnswers
from taximeter.relay._known import KnownHeads
from taximeter.relay._money import Money, counts_money
from taximeter.relay._plain_call import PlainCall
from taximeter.relay._policy import policy_of
from taximeter.relay._pressure import look_at_pressure
from taximeter.relay._purses import purses_of
from taximeter.relay._request import Request
from taximeter.relay._seen_calls import SeenCalls
from taximeter.relay._shared import Shared, warn_if_apart
from taximeter.relay._snapshot import Snapshot
from taximeter.relay._state import LoopLag, state_of
from taximeter.relay._upstream import IDLE_SECONDS_MAX
from taximeter.settings import Settings
from taximeter.shared_state import SharedStats

log = logging.getLogger("taximeter.relay")

TICK_SECONDS = 1.0
"""How often deadlines are looked after: they are kept to within this."""
BACKLOG = 4096
LAST_WORDS_SECONDS = 2.0


class RelayWorker:
    """Relays calls until told to stop."""

    def __init__(self, settings: Settings, *, worker: int, hash_key: Callable[[], bytes]) -> None:
        """Make it; `hash_key` reads the key for credentials, and may raise OSError for now."""
        self.loop = asyncio.get_running_loop()
        self.ids = CallIds()
        self.exchanges: set[Exchange | PlainCall] = set()
        """Calls under way."""
        self.tap_budget = ByteBudget(settings.relay.taps_bytes_max)
        self.outcomes: Tally[Outcome] = Tally()
        self.faults = 0
        """Exceptions of ours that a call met."""
        self.unparsed = 0
        """Requests refused before they were calls: not HTTP, or too large a head."""
        self.refused_connections = 0
        """Connections closed at once, because there were too many."""
        self.draining = False
        self.headroom = HeadroomBook()
        self.kept = KeptAnswers(settings.replay)
        self.seen = SeenCalls()
        self.loop_lag = LoopLag(self.loop)
        self.counter = Counter(settings.data_dir)
        self._background: set[asyncio.Task[None]] = set()
        self._retired: list[Snapshot] = []
        self.number = worker
        self._server: asyncio.Server | None = None
        self.clients: set[ClientSide] = set()
        self._ticker: asyncio.TimerHandle | None = None
        self._unlooked_after: set[str] = set()
        """What the last tick could not look after, for a bug of ours."""
        fail_closed = settings.journal.when_full == "fail_closed"
        self._journal_start = JournalStart(
            lambda: _begin_records(settings, worker, hash_key), fail_closed=fail_closed
        )
        begun = self._journal_start.try_now()
        self.hash_key = begun.hash_key if begun is not None else secrets.token_bytes(32)
        self.keys = KeyStore.load(keys_path(settings.data_dir), self.hash_key)
        self.snapshot = Snapshot.of(settings, self.keys)
        self._keys_task: asyncio.Task[None] | None = None
        self.shared = Shared.of(settings)
        """Counts shared with other workers; None where each counts for itself."""
        store = self.shared.store if self.shared is not None else None
        policy = policy_of(settings, self.keys)
        self.admission = AdmissionDriver(policy, self.loop.call_later, store)
        self.carried = Carried(
            self.loop,
            purses_of(self.admission.admission.store),
            lambda: self.admission.admission.policy,
            lambda: self.keys,
            lambda: self.settings.ledger_url,
        )
        self.books = Bookkeeper(
            begun.journal if begun is not None else NoJournal(),
            sync_seconds=settings.journal.sync_milliseconds / 1000,
            fail_closed=fail_closed,
        )

    @property
    def settings(self) -> Settings:
        """The configuration in effect."""
        return self.snapshot.settings

    async def start(self, listener: socket.socket) -> None:
        """Begin to accept calls on a listening socket."""
        if self.shared is None:
            self.carried.begin()
        else:
            await self.shared.begin(
                self.admission.answered,
                self.admission.admission.breakers,
                self.carried.begin_anew,
            )
            # Without a line to Redis there is nobody to tell, and no call to wait for that.
            self.carried.hold()
        if self.number == 0:
            warn_if_apart(self.settings, self.admission.admission.policy)
        self._server = await self.loop.create_server(
            lambda: ClientSide(self), sock=listener, backlog=BACKLOG
        )
        self.loop_lag.begin()
        self._tick()

    def reload(self, settings: Settings) -> None:
        """Take a new configuration for calls from now on; those under way keep theirs."""
        self._retired.append(self.snapshot)
        self.snapshot = Snapshot.of(settings, self.keys)
        self.admission.apply(policy_of(settings, self.keys))
        self.kept.apply(settings.replay)
        self.carried.begin()
        if self.number == 0:
            warn_if_apart(settings, self.admission.admission.policy)

    @property
    def shared_state(self) -> SharedStats | None:
        """How it goes with the counts shared with other workers; None where none are."""
        return None if self.shared is None else self.shared.stats

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """The configurations that calls under way were begun with, the one in effect last."""
        return (*self._retired, self.snapshot)

    def state(self, process: ProcessState) -> RelayState:
        """Tell how things stand here; `process` is what the system says of this process."""
        return state_of(self, process)

    # -- connections ------------------------------------------------------------------------

    @property
    def head_bytes_max(self) -> int:
        """The largest head of a request."""
        return self.snapshot.settings.relay.head_bytes_max

    def accepted(self, client: ClientSide) -> None:
        """Take note of a new connection; at the bound it is closed at once."""
        self.clients.add(client)
        if len(self.clients) > self.settings.relay.connections_max and client.transport:
            self.refused_connections += 1
            client.transport.abort()

    def closed(self, client: ClientSide) -> None:
        """Take note of a connection's end."""
        self.clients.discard(client)

    def answer_unparsed(self, client: ClientSide, refused: Refused) -> None:
        """Answer a request that could not be parsed. It was never a call: there is no row."""
        self.unparsed += 1
        delivery = Delivery(client, False, False)
        delivery.refuse(refused, dialect_for("openai", ""), None)

    def dialect_of(self, request: Request) -> Dialect:
        """Tell in whose words an answer of ours is to be given."""
        if request.routed:
            return request.dialect
        path = request.message.target.decode("latin-1").partition("?")[0]
        return dialect_for(family_of(path), path)

    # -- the clock --------------------------------------------------------------------------

    def _tick(self) -> None:
        self._ticker = self.loop.call_later(TICK_SECONDS, self._tick)  # whatever happens below
        now = time.monotonic_ns()
        for exchange in tuple(self.exchanges):
            try:
                exchange.tick(now)
            except Exception:
                self.faults += 1
                log.exception("A deadline could not be looked after.")
        relay, moment = self.settings.relay, self.loop.time()
        for client in tuple(self.clients):
            try:
                client.tick(
                    moment,
                    relay.head_seconds_max,
                    relay.keepalive_seconds,
                    relay.write_idle_seconds_max,
                )
            except Exception:
                self.faults += 1
                log.exception("A connection's deadline could not be looked after.")
        self._look_after("What is known of heads", self.snapshot.heads.tick, moment)
        self._look_after("Kept answers", self.kept.tick, now)
        self._look_after("Calls seen before", self.seen.tick, now)
        self._look_after("Idle connections", self._drop_idle)
        self._look_after("Retired settings", self._let_go_of_retired)
        self._look_after("This worker's pressure", look_at_pressure, self)
        self._look_after("Admission", self.admission.look)
        self._look_after("Virtual keys", self._look_at_keys, now)
        if not self.books.has_journal:
            self._look_after(
                "The journal", self._journal_start.maybe_try, moment, self._begin_recording
            )

    def _look_after(self, what: str, step: Callable[..., object], *given: object) -> None:
        """Take one step of the clock: a bug in it keeps no other from being taken."""
        try:
            step(*given)
        except Exception:
            self.faults += 1
            if what not in self._unlooked_after:  # told once, not each second that it goes on
                self._unlooked_after.add(what)
                log.exception("%s could not be looked after.", what)
        else:
            self._unlooked_after.discard(what)

    def _drop_idle(self) -> None:
        since = time.monotonic() - IDLE_SECONDS_MAX
        for snapshot in self.snapshots:
            for upstream in snapshot.upstreams.values():
                upstream.drop_idle(since)

    def _begin_recording(self, begun: Begun) -> None:
        self.hash_key = begun.hash_key
        for snapshot in self.snapshots:
            snapshot.heads.forget()  # what is known of them names keys by the hash of before
        self.books.begin(begun.journal)
        self.keys = KeyStore.load(self.keys.path, self.hash_key)
        self._take_keys()

    def _look_at_keys(self, now: int) -> None:
        """See whether virtual keys have been made or revoked, and read them in a thread."""
        if self._keys_task is None and self.keys.is_due(now) and self.keys.has_changed(now):
            self._keys_task = self.loop.create_task(self._read_keys())

    async def _read_keys(self) -> None:
        try:
            if await asyncio.to_thread(self.keys.reload):
                self._take_keys()
        finally:
            self._keys_task = None

    def _take_keys(self) -> None:
        if self.keys.problem is not None:
            log.error("%s", self.keys.problem)
        # A head that is known names a key as it was judged: none of them holds any longer.
        prices = Money(self.settings) if counts_money(self.settings, self.keys) else None
        self.snapshot = replace(self.snapshot, heads=KnownHeads(), prices=prices)
        had_budgets = bool(budget_periods(self.admission.admission.policy))
        self.admission.apply(policy_of(self.settings, self.keys))
        if not had_budgets:
            self.carried.begin()

    def _let_go_of_retired(self) -> None:
        """Close what earlier settings hold, once no call keeps them."""
        if not self._retired:
            return
        # Told by what they hold: to read the keys makes another snapshot with the same upstreams.
        used = {id(exchange.snapshot.upstreams) for exchange in self.exchanges}
        retired, self._retired = self._retired, []
        for snapshot in retired:
            if id(snapshot.upstreams) in used:
                self._retired.append(snapshot)
                continue
            for upstream in snapshot.upstreams.values():
                task = self.loop.create_task(upstream.close())
                self._background.add(task)
                task.add_done_callback(self._background.discard)

    # -- counting ---------------------------------------------------------------------------

    def count_later(self, call_id: str, job: CountJob) -> None:
        """Count a closed call's text, off this loop, and journal the figures."""
        task = self.loop.create_task(self._count(call_id, job))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _count(self, call_id: str, job: CountJob) -> None:
        found = await self.counter.count(job)
        try:
            self.books.write(
                Counted(
                    call_id=call_id,
                    input_tokens=found.input_tokens,
                    output_tokens=found.output_tokens,
                    rule=found.rule,
                )
            )
        except Unrecorded:
            # The recorder books the call by the rule of last resort when it has waited enough.
            log.warning("A count could not be journalled.", extra={"call_id": call_id})

    # -- the end ----------------------------------------------------------------------------

    async def stop(self) -> None:
        """Drain: accept nothing new, let calls finish within their time, then cut them."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for client in tuple(self.clients):
            client.close_idle()
        deadline = self.loop.time() + self.settings.relay.drain_seconds_max
        while self.exchanges and self.loop.time() < deadline:
            await asyncio.sleep(0.05)
        for exchange in tuple(self.exchanges):
            exchange.interrupt()
        # What was told to the last clients gets a moment to leave.
        deadline = self.loop.time() + LAST_WORDS_SECONDS
        while self.clients and self.loop.time() < deadline:
            await asyncio.sleep(0.02)
        for client in tuple(self.clients):
            if client.transport is not None:
                client.transport.abort()
        if self._background:
            await asyncio.wait(tuple(self._background), timeout=10)
        if self._ticker is not None:
            self._ticker.cancel()
        self.loop_lag.stop()
        self.admission.close()
        if self.shared is not None:
            await self.shared.end()
        self.carried.close()
        if self._keys_task is not None:
            await asyncio.wait([self._keys_task])
        await self._journal_start.stop()
        await self.counter.close()
        for snapshot in self.snapshots:
            for upstream in snapshot.upstreams.values():
                await upstream.close()
        await self.books.close()


def _begin_records(settings: Settings, worker: int, hash_key: Callable[[], bytes]) -> Begun:
    """Begin what a worker keeps on disk.

    Raises:
        OSError, JournalError: if there is no place for it.
    """
    key = hash_key()
    journal = JournalWriter.begin(
        root_of(settings.data_dir),
        worker,
        sync=SyncPolicy(settings.journal.sync),
        segment_bytes=settings.journal.segment_bytes,
        bytes_max=settings.journal.bytes_max,
    )
    return Begun(journal, key)
