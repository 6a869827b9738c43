"""Where one call stands: what its exchange remembers of it, and what its time has gone into.

Its phase goes by the table `TRANSITIONS` and by no other way. The stages are filled in as they are
over; at any moment they and the stage under way add up to the call's age.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from taximeter.call import TRANSITIONS, Fact, Opened, Phase, Stage
from taximeter.relay._delivery import Delivery
from taximeter.relay._leg import Leg
from taximeter.relay._request import Request

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from taximeter.admission import Spent, Ticket
    from taximeter.relay._answer import Head
    from taximeter.relay._early_delivery import EarlyDelivery
    from taximeter.relay._errors import Refused
    from taximeter.relay._keeping import Keeper
    from taximeter.relay._message import Message
    from taximeter.relay._snapshot import Snapshot
    from taximeter.relay._tap import Tap
    from taximeter.relay._tunnel import Tunnel
    from taximeter.relay._turns import Turns
    from taximeter.relay._upstream import Upstream
    from taximeter.relay._worker import RelayWorker

_now = time.monotonic_ns
# Taken out of the class once: to look into an Enum is a call of its own.
RECEIVING, ADMITTING, ATTEMPTING, RELAYING, ENDED = Phase
_RECEIVE, _QUEUE = Stage.RECEIVE, Stage.QUEUE
_CONNECT, _FIRST_BYTE = Stage.CONNECT, Stage.FIRST_BYTE
_STREAM, _SETTLE = Stage.STREAM, Stage.SETTLE


class Standing:
    """What one call under way remembers."""

    __slots__ = (
        "_attempt_error",
        "_client",
        "_closed",
        "_collected",
        "_delivery",
        "_drain_deadline_ns",
        "_drained_bytes",
        "_early",
        "_early_timer",
        "_facts",
        "_fallbacks",
        "_finishing",
        "_head",
        "_keeper",
        "_kept",
        "_last_words",
        "_leg",
        "_opened",
        "_over",
        "_paused_ns",
        "_ping",
        "_refusal",
        "_request",
        "_retries_are_spent",
        "_retry_timer",
        "_spent",
        "_stages",
        "_started_ns",
        "_tap",
        "_ticket",
        "_told",
        "_tunnel",
        "_unsent",
        "_upload_done",
        "_upstream_full_ns",
        "_usage_asked",
        "_usage_refuser",
        "ahead",
        "call_id",
        "client_gone",
        "last_in_ns",
        "last_out_ns",
        "phase",
        "response_bytes",
        "worker",
    )

    def __init__(self, worker: RelayWorker, client: Turns, message: Message) -> None:
        self.worker = worker
        self.phase = RECEIVING
        self.client_gone = False
        self.ahead = b""
        """What the client has sent behind its request for an upgrade."""
        self._client = client
        self._started_ns = self.last_in_ns = self.last_out_ns = _now()
        self.call_id = worker.ids.make()
        self._request = Request(worker.snapshot, message, self.call_id)
        self._delivery = Delivery(client, message.http10, message.keep_alive)
        self._refusal: Refused | None = None
        self._opened: Opened | None = None
        self._early: EarlyDelivery | None = None
        """The delivery of a stream that was opened before the call had its turn."""
        self._early_timer: asyncio.TimerHandle | None = None
        self._keeper: Keeper | None = None
        """What keeps a copy of the answer, for a client that may ask again."""
        self._kept: asyncio.Future[None] | None = None
        self._head: Head | None = None
        self._tap: Tap | None = None
        self._tunnel: Tunnel | None = None
        self._collected: bytearray | None = None
        self._unsent: bytearray | None = None
        """Pieces of a long body that were read together with what made the call go on, before
        there was a connection: at most one read."""
        self._ticket: Ticket | None = None
        self._fallbacks: Iterator[Upstream] | None = None
        """Upstreams that it may still go to; None before the first has been of no use."""
        self._spent: Spent | None = None
        self._retry_timer: asyncio.TimerHandle | None = None
        self._retries_are_spent = False
        """Our own attempts came to their bound: the client's would only come on top."""
        self._told = b""
        """Fields of ours that its answer is to carry beside the usual ones."""
        self._attempt_error: str | None = None
        self._ping: bytes | None = None
        self._last_words: bytes | None = None
        """A comment that is to follow a stream's last event."""
        self._upstream_full_ns: int | None = None
        """Since when the upstream has taken no more of the request."""
        self._paused_ns: int | None = None
        self._drain_deadline_ns: int | None = None
        self._drained_bytes = 0
        self._closed = self._finishing = self._over = self._usage_asked = False
        self._usage_refuser: Upstream | None = None
        """Who has answered the option of ours with an error, as long as that may be for another
        reason: until it answers well without."""
        self._upload_done = True
        self._stages: dict[Stage, int] = {}
        self._facts: set[Fact] = set()
        self._leg = Leg(self._started_ns)
        self.response_bytes = 0

    @property
    def snapshot(self) -> Snapshot:
        """The settings it began under, and keeps."""
        return self._request.snapshot

    @property
    def upstream_name(self) -> str:
        """Whose call it is; '' if that is not known (yet)."""
        return self._request.upstream.name if self._request.routed else ""

    def _go(self, phase: Phase) -> None:
        if phase not in TRANSITIONS[self.phase]:
            raise RuntimeError(f"a call cannot go from {self.phase} to {phase}")
        self.phase = phase

    # -- where its time went --------------------------------------------------------------------

    @property
    def _decided_ns(self) -> int:
        """When the last wait before an attempt was over: it was let go, or refused."""
        stages = self._stages
        return self._started_ns + stages.get(_RECEIVE, 0) + stages.get(_QUEUE, 0)

    def _refusal_timing(self) -> bytes:
        """Give the stages of a call that ends with an answer of ours, as a field's line."""
        stages, attempts = self._stages, self._leg.number
        settled = stages.get(_SETTLE, 0) if attempts else _now() - self._decided_ns
        return b"Server-Timing: queue;dur=%d.%03d, connect;dur=%d.%03d, settle;dur=%d.%03d" % (
            *divmod(stages.get(_QUEUE, 0) // 1000, 1000),
            *divmod(stages.get(_CONNECT, 0) // 1000, 1000),
            *divmod(max(0, settled) // 1000, 1000),
        )

    def _end_wait(self, now: int) -> None:
        """Put the wait on record that a call has ended in: it came to no answer to pass on."""
        stages, leg = self._stages, self._leg
        if self.phase is ADMITTING:
            stages[_QUEUE] = now - self._started_ns - stages.get(_RECEIVE, 0)
        elif self._retry_timer is not None or leg.connected_ns is None:
            stages.pop(_FIRST_BYTE, None)  # of the attempt before: it is in `connect`, as it failed
            waited = stages.get(_RECEIVE, 0) + stages.get(_QUEUE, 0)
            stages[_CONNECT] = now - self._started_ns - waited
        elif leg.first_byte_ns is None:
            stages[_FIRST_BYTE] = now - leg.connected_ns
        else:
            stages[_STREAM] = now - leg.first_byte_ns
