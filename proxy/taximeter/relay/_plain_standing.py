"""What a plain call remembers, and how it becomes an exchange.

It becomes one for whatever happens to it but its plain answer: the client leaves, the upstream is
lost, its time is over, we are going down. Each of these is told to the exchange, which stands where
the call stood and has the rules for it; there is none here.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from taximeter.relay._exchange import Exchange

if TYPE_CHECKING:
    from asyncio import TimerHandle

    from aiohttp.connector import Connection

    from taximeter.admission import Ticket
    from taximeter.call import Opened
    from taximeter.dialects import RequestFacts
    from taximeter.relay._aiohttp import UpstreamSide
    from taximeter.relay._errors import Refused
    from taximeter.relay._intake import Intake
    from taximeter.relay._known import Cut
    from taximeter.relay._turns import Turns
    from taximeter.relay._worker import RelayWorker

log = logging.getLogger("taximeter.relay")
_now = time.monotonic_ns


class EarlyAnswer:
    """What has come of a plain call's answer, while its rest is awaited."""

    __slots__ = ("_missing", "came_ns", "pieces", "too_late")

    def __init__(self, data: bytes, missing: int, came_ns: int, too_late: TimerHandle) -> None:
        self._missing = missing
        self.pieces = [data]
        self.came_ns = came_ns
        """When the first of them came."""
        self.too_late = too_late

    def add(self, data: bytes) -> bool:
        """Add what has come; give whether that is all."""
        self.pieces.append(data)
        self._missing -= len(data)
        return self._missing <= 0


class PlainStanding:
    """Where a call stands that has been plain so far."""

    __slots__ = (
        "_awaited",
        "_client",
        "_early",
        "_worker",
        "body",
        "call_id",
        "connection",
        "decided_ns",
        "facts",
        "head",
        "intake",
        "is_closed",
        "opened",
        "sent_ns",
        "side",
        "snapshot",
        "started_at_ns",
        "started_ns",
        "ticket",
        "traceparent",
        "user",
        "written",
    )

    call_id: str
    facts: RequestFacts
    opened: Opened
    written: bytes
    """Its `Opened` as it stands in the journal."""
    started_at_ns: int
    decided_ns: int

    def __init__(self, worker: RelayWorker, client: Turns, intake: Intake, head: Cut) -> None:
        self._worker = worker
        self._client = client
        self.intake = intake
        self.head = head
        self.traceparent = head.traceparent
        self.snapshot = worker.snapshot
        """The settings it began under."""
        self.body = b""
        """Its request's body, while the worker's budget holds room for it."""
        self.user: str | None = None
        """Whom its body names."""
        self.ticket: Ticket | None = None
        self.connection: Connection | None = None
        self.side: UpstreamSide | None = None
        self.started_ns = 0
        self.sent_ns: int | None = None
        self._awaited = b""
        self._early: EarlyAnswer | None = None
        self.is_closed = False
        """Whether its close record is written."""

    def _free_body(self) -> None:
        self.snapshot.body_budget.give_back(len(self.body))
        self.body = b""

    # -- whatever else happens ----------------------------------------------------------------

    def _become_exchange(self) -> Exchange:
        """Go on as a call like any other, from where this one stands."""
        exchange = self._exchange_in_place()
        self._tell_what_came(exchange)
        return exchange

    def _tell_what_came(self, exchange: Exchange) -> None:
        """Tell what had come of the answer, unless nobody is to hear it any more."""
        early, self._early = self._early, None
        if early is None:
            return
        came_ns: int | None = early.came_ns
        for piece in early.pieces:
            if self.side is not None and self.side.owner is exchange:
                exchange.upstream_bytes(piece, came_ns)
                came_ns = None

    def _exchange_in_place(self) -> Exchange:
        body = self.body
        if self._early is not None:
            self._early.too_late.cancel()
        self._free_body()  # the exchange takes room for it by itself
        exchange = Exchange(self._worker, self._client, self.intake.message)
        exchange.began_as(self)
        self._worker.exchanges.discard(self)
        self._client.follow(self, exchange)
        if self.ticket is None and not self.is_closed:
            exchange.begin(self.intake, self.head)
        else:
            try:
                exchange.take_over(self, body)
            except Exception as fault:  # it has ended with that: what it is told next is no matter
                exchange.fault(fault)
        return exchange

    def _log_fault(self, fault: Exception) -> None:
        """Tell of a fault of ours that costs the call no more than its shorter way."""
        log.error("A plain call met a fault of ours.", exc_info=fault)
        self._worker.faults += 1

    def body_broken(self, refused: Refused) -> None:
        """See `Exchange`."""
        self._become_exchange().body_broken(refused)

    def upstream_lost(self, clean: bool) -> None:
        """See `Exchange`."""
        self._become_exchange().upstream_lost(clean)

    def upstream_paused(self) -> None:
        """See `Exchange`."""
        self._become_exchange().upstream_paused()

    def upstream_resumed(self) -> None:
        """See `Exchange`."""
        self._become_exchange().upstream_resumed()

    def client_lost(self) -> None:
        """See `Exchange`. What was kept for the client has not reached it."""
        exchange = self._exchange_in_place()
        exchange.client_lost()
        self._tell_what_came(exchange)

    def client_paused(self) -> None:
        """See `Exchange`. It may be the answer itself that fills the buffer: that is no matter."""
        if not self.is_closed:
            self._become_exchange().client_paused()

    def client_resumed(self) -> None:
        """See `Exchange`."""
        self._become_exchange().client_resumed()

    def tunnel_bytes(self, data: bytes) -> None:
        """See `Exchange`: there is no tunnel here."""

    def interrupt(self) -> None:
        """See `Exchange`."""
        self._become_exchange().interrupt()

    def tick(self, now: int) -> None:
        """Look after the deadline of the answer's first byte; a body that is late is not plain."""
        sent_ns, seconds = self.sent_ns, self.intake.upstream.settings.timeouts.first_byte_seconds
        if sent_ns is None or now - sent_ns > seconds * 1e9:
            self._become_exchange().tick(now)

    # -- for whoever looks --------------------------------------------------------------------

    @property
    def upstream_name(self) -> str:
        """Whose call it is."""
        return self.intake.upstream.name

    @property
    def tier_in_use(self) -> str | None:
        """The tier that it goes by."""
        return None if self.ticket is None else self.ticket.plan.tier_name

    @property
    def age_ns(self) -> int:
        """Time since it came."""
        return _now() - self.started_ns
