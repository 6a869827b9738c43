"""The course of one call: where it stands, and how it ends.

A call ends in one place, `_settle`, once: whatever happens around it, its close record is written
there, before its last bytes go. The ways there are these: it was refused (`_refuse`), it broke off
in the middle of an answer (`_break_off`), we met a fault of our own (`fault`), or its answer came
to an end (in `_answering`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from taximeter.call import TRANSITIONS, Fact, Opened, Outcome, Phase, Stage
from taximeter.relay._bookkeeper import Unrecorded
from taximeter.relay._chunks import MalformedAnswer
from taximeter.relay._delivery import Delivery
from taximeter.relay._ending import answer_stages, bare_close_record, close_record
from taximeter.relay._errors import PROBLEMS, Fault, Refused
from taximeter.relay._leg import Leg
from taximeter.relay._request import Request

if TYPE_CHECKING:
    from taximeter.admission import Spent, Ticket
    from taximeter.call import Closed
    from taximeter.counting import CountJob
    from taximeter.relay._answer import Head
    from taximeter.relay._early_delivery import EarlyDelivery
    from taximeter.relay._keeping import Keeper
    from taximeter.relay._message import Message
    from taximeter.relay._tap import Tap
    from taximeter.relay._tunnel import Tunnel
    from taximeter.relay._turns import Turns
    from taximeter.relay._upstream import Upstream
    from taximeter.relay._worker import RelayWorker, Snapshot

log = logging.getLogger("taximeter.relay")

_now = time.monotonic_ns
# Taken out of the class once: to look into an Enum is a call of its own.
RECEIVING, ADMITTING, ATTEMPTING, RELAYING, ENDED = Phase
_RECEIVE, _QUEUE = Stage.RECEIVE, Stage.QUEUE
_CONNECT, _FIRST_BYTE, _SETTLE = Stage.CONNECT, Stage.FIRST_BYTE, Stage.SETTLE


class Course:
    """State and end of one call under way."""

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
        self._upstream_full_ns: int | None = None
        """Since when the upstream has taken no more of the request."""
        self._paused_ns: int | None = None
        self._drain_deadline_ns: int | None = None
        self._drained_bytes = 0
        self._closed = self._finishing = self._over = self._usage_asked = False
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

    def _fail(self, refused: Refused) -> None:
        """Nothing of an answer has reached the client: give it one of ours."""
        if not self._finishing:
            self._refuse(refused)

    def _refuse(self, refused: Refused) -> None:
        """Answer in our own words, and end the call."""
        if self._closed:
            return
        self._finishing = True
        problem, request = refused.problem, self._request
        if self._retries_are_spent and refused.should_retry is None:
            refused.should_retry = False
        outcome = Outcome.REJECTED
        if self.client_gone:
            outcome = Outcome.ABANDONED
        elif refused.code == "draining":
            outcome = Outcome.INTERRUPTED
        elif self.phase is ATTEMPTING:
            outcome = Outcome.UPSTREAM_ERROR
            if problem.fault is Fault.UPSTREAM:
                self._attempt_error = refused.code
            elif problem.fault is Fault.CLIENT:
                outcome = Outcome.ABANDONED  # its request never came to its end
        if not self._upload_done:
            self._delivery.keep_alive = False
        if not self._settle(outcome, error=refused.code, status=problem.status):
            # An unbooked refusal may be told: nothing was had for it.
            refused = Refused("journal_unwritable")
        if not self.client_gone:
            self._delivery.refuse(
                refused,
                self.worker.dialect_of(request),
                self.call_id,
                bodiless=request.message.method == b"HEAD",
                timing=self._refusal_timing(),
            )
        self._finish()

    def _break_off(self, outcome: Outcome, code: str) -> None:
        """End an answer under way honestly: what came, one error event, no end."""
        request, tap = self._request, self._tap
        if tap is None:
            self._settle(outcome, error=code)
            self._delivery.break_off()
            return
        held = tap.finish()
        at_boundary = tap.at_boundary
        self._settle(outcome, error=code)
        if held:
            self._delivery.write(held)
        if at_boundary and self._delivery.takes_events:
            words = PROBLEMS[code].message.format(detail=request.upstream.name)
            event = request.dialect.error_event(
                request.operation, tap.content_type, code, words, self.call_id
            )
            if event is not None:
                self._delivery.write(event)
        self._delivery.break_off()

    def upstream_failed(self, code: str) -> None:
        """End the call, or its attempt: the upstream is of no further use to it."""
        if self._finishing:
            return
        self._attempt_error = code
        self._leg.let_go(reusable=False)
        if self.phase is not RELAYING and not self._closed:
            self._attempt_failed(code)
            return
        self._finishing = True
        if self._drain_deadline_ns is not None:
            self._settle(Outcome.CANCELLED, error=code)
        elif self._closed:
            self._delivery.break_off()  # the end marker was passed on; its framing was not
        else:
            self._break_off(Outcome.TRUNCATED, code)
        self._finish()

    def _attempt_failed(self, code: str) -> None:
        """There was no answer, and there will be none."""
        self._fail(Refused(code, self._request.upstream.name))

    def _settled(self, record: Closed) -> None:
        """Hear what is booked of the call."""

    def _give_back(self) -> None:
        """Give back what the call held, once it has come to its last byte."""

    def _settle(
        self, outcome: Outcome, *, error: str | None = None, status: int | None = None
    ) -> bool:
        """Close the call: exactly once, whatever happens around it.

        False if it could not be booked, and the settings want nothing delivered that is not.
        """
        if self._closed:
            return True
        self._closed = True
        now = since = _now()
        request, tap, leg = self._request, self._tap, self._leg
        leg.note(self._head.status if self._head is not None else None, self._attempt_error)
        if tap is not None and leg.first_byte_ns is not None:
            answer_stages(self._stages, leg.first_byte_ns, tap, now)
        elif tap is None and self._ticket is not None:
            self._end_wait(now)
        elif tap is None and self.phase is ADMITTING:
            # It was refused: from that decision on all is settling, also what it takes to tell.
            since = self._decided_ns
        if self._usage_asked:
            self._facts.add(Fact.USAGE_ASKED)
        opened = self._opened or request.opened()
        job: CountJob | None = None
        try:
            record, job = close_record(
                opened=opened,
                request=request,
                tap=tap,
                head=self._head,
                outcome=outcome,
                status=status,
                error=error or self._attempt_error,
                stages=self._stages,
                attempts=leg.attempts,
                facts=self._facts,
                sent=leg.sent_ns is not None,
                response_bytes=self.response_bytes,
                settle_started_ns=since,
            )
        except Exception as fault:
            # The call goes on, and is booked; what it used has to remain unknown.
            self._log_fault(fault)
            record = bare_close_record(
                opened, outcome, status, error or self._attempt_error, self._head, leg.attempts
            )
        if tap is not None and tap.fault is not None:
            self._log_fault(tap.fault)
        self.phase = ENDED
        try:
            self._settled(record)
        except Exception as fault:
            self._log_fault(fault)  # what it came to is not known to admission; it is on record
        self.worker.outcomes[outcome] += 1
        booked = True
        try:
            self._kept = self.worker.books.write(record)
        except Unrecorded:
            booked = False
            if self._delivery.begun:
                # Nobody may see this call answered.
                self._delivery.refuse_to_deliver()
        if self._kept is not None:
            self._delivery.hold()
            self._kept.add_done_callback(self._kept_safely)
        if tap is not None:
            tap.release()
        if job is not None:
            try:
                self.worker.count_later(self.call_id, job)
            except Exception as fault:
                self._log_fault(fault)  # it is booked without, when the recorder has waited enough
        return booked

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
        """Put the wait on record that a call has ended in: for its turn, or its next attempt."""
        stages = self._stages
        if self.phase is ADMITTING:
            stages[_QUEUE] = now - self._started_ns - stages.get(_RECEIVE, 0)
        elif self._retry_timer is not None:
            stages.pop(_FIRST_BYTE, None)  # of the attempt before: it is in `connect`, as it failed
            waited = stages.get(_RECEIVE, 0) + stages.get(_QUEUE, 0)
            stages[_CONNECT] = now - self._started_ns - waited

    def _kept_safely(self, kept: asyncio.Future[None]) -> None:
        """The close record is as safe as it was to be: what was held for it may go."""
        if kept.cancelled() or kept.exception() is not None:
            self._delivery.refuse_to_deliver()
        else:
            self._delivery.let_go()

    def _finish(self) -> None:
        """Leave the client's connection to the next call, once this one's last bytes are out."""
        if self._kept is not None and not self._kept.done():
            self._kept.add_done_callback(lambda _: self._guarded(self._finish))
            return
        if self._over:
            return
        self._over = True
        # Nothing of a call is left in a circle: what it took is free again at once, and warm.
        self._request.release()
        self.worker.exchanges.discard(self)
        self._give_back()
        self._client.exchange_ended(self, self._delivery.keep_alive)

    def _guarded(self, step: Callable[[], None]) -> None:
        """Take a step; an exception in it is a fault of ours, and must not look like an answer."""
        try:
            step()
        except MalformedAnswer:
            self.upstream_failed("upstream_malformed")
        except Exception as error:
            self.fault(error)

    def _log_fault(self, error: Exception) -> None:
        trace_id = self._opened.trace_id if self._opened is not None else None
        named = {"call_id": self.call_id, "trace_id": trace_id}
        log.error("A call met a fault of ours.", exc_info=error, extra=named)
        self.worker.faults += 1

    def fault(self, error: Exception) -> None:
        self._log_fault(error)
        self._finishing = True
        try:
            self._delivery.keep_alive = False
            self._leg.let_go(reusable=False)
            if not self._closed:
                begun = self._delivery.begun or self.client_gone
                if begun:
                    self._settle(Outcome.INTERRUPTED, error="internal_error")
                else:
                    self._refuse(Refused("internal_error"))
            if self._delivery.begun:
                self._delivery.abort()
        finally:
            self._finish()
