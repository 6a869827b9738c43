"""The course of one call, to its end.

A call ends in one place, `_settle`, once: whatever happens around it, its close record is written
there, before its last bytes go. The ways there are these: it was refused (`_refuse`), it broke off
in the middle of an answer (`_break_off`), we met a fault of our own (`fault`), or its answer came
to an end (in `_answering`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from taximeter.call import Fact, Outcome
from taximeter.relay._bookkeeper import Unrecorded
from taximeter.relay._chunks import MalformedAnswer
from taximeter.relay._ending import answer_stages, bare_close_record, close_record
from taximeter.relay._errors import PROBLEMS, Fault, Refused
from taximeter.relay._standing import ADMITTING, ATTEMPTING, ENDED, RELAYING, Standing

if TYPE_CHECKING:
    from taximeter.call import Closed
    from taximeter.counting import CountJob

log = logging.getLogger("taximeter.relay")

_now = time.monotonic_ns


class Course(Standing):
    """The end of one call under way, whichever it is."""

    __slots__ = ()

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
                request.operation, tap.subject.content_type, code, words, self.call_id
            )
            if event is not None:
                self._delivery.write(event)
            if self._last_words is not None:
                self._delivery.add(self._last_words)
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
