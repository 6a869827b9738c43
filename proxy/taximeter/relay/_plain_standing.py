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


class PlainStanding:
    """Where a call stands that has been plain so far."""

    __slots__ = (
        "_awaited",
        "_came_ns",
        "_client",
        "_missing",
        "_pieces",
        "_too_late",
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
    _came_ns: int
    """When the first of `_pieces` came."""

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
        self._pieces: list[bytes] = []
        """What has come of its answer, while the rest is awaited."""
        self._missing = 0
        """Bytes that are still to come of it."""
        self._too_late: TimerHandle | None = None
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
        pieces, self._pieces = self._pieces, []
        came_ns: int | None = self._came_ns if pieces else None
        for piece in pieces:
            if self.side is not None and self.side.owner is exchange:
                exchange.upstream_bytes(piece, came_ns)
                came_ns = None

    def _exchange_in_place(self) -> Exchange:
        body = self.body
        self._stop_waiting()
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

    def _stop_waiting(self) -> None:
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None

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
