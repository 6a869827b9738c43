"""A call's attempts: what an answer or a failure means, another attempt, another upstream.

Another attempt is made only while nothing has reached the client. An error answer that another
attempt may mend is therefore held, whole, until admission has read its code: a 429 of an account
that cannot pay looks like one of a busy minute, but for its body.

Whether there is to be another, and after which wait, is admission's to say; here it is told what
happened, and done.
"""

from __future__ import annotations

from taximeter.admission import Again, Answer, Go, Held, Spent, Stop
from taximeter.call import Fact
from taximeter.relay._admitting import Admitting
from taximeter.relay._answer import Head
from taximeter.relay._errors import PROBLEMS, Fault, Refused
from taximeter.relay._fallback import FALLBACK_STOPS, choices, rerouted

_NOTHING_TOLD: dict[str, str] = {}
_SPENT_RETRIES = frozenset(
    {Stop.ATTEMPTS_SPENT, Stop.USER_BUDGET_SPENT, Stop.UPSTREAM_BUDGET_SPENT, Stop.WAIT_TOO_LONG}
)


class Retrying(Admitting):
    """Makes a call's attempts, while it has its turn."""

    __slots__ = ()

    # -- an answer ----------------------------------------------------------------------------

    def _hear_answer(self, head: Head, now: int) -> bool:
        """Take in an answer's head. False if it is to be held until its body has been read."""
        ticket, request, worker = self._ticket, self._request, self.worker
        status, driver, headroom = head.status, worker.admission, worker.headroom
        upstream, model = request.upstream.name, request.facts.model
        looked = headroom.is_due(upstream, model, now)
        if looked:
            headroom.hear(upstream, model, head.fields(), now)
        if ticket is None:
            return True
        if status >= 400:
            may_mend = status in ticket.plan.upstream.retry.statuses
            if may_mend and request.is_replayable and not self.client_gone:
                return False
            told = _told_by(head)
            driver.heard(ticket, Answer(status=status, headers=told, replayable=False), now)
        elif looked or not driver.straight.hear(ticket, now):
            told = _told_by(head) if looked else _NOTHING_TOLD
            driver.heard(ticket, Answer(status=status, headers=told), now)
        return True

    def _try_again_after(self, head: Head, body: bytes) -> bool:
        """Make another attempt after an error answer, if there is to be one."""
        if self._ticket is None:
            return False
        heard = self.worker.admission.heard(
            self._ticket,
            Answer(
                status=head.status,
                code=self._code_of(head, body),
                headers=_told_by(head),
                replayable=not self.client_gone,  # there is nobody to have another answer
            ),
        )
        if heard.again is None or self._finishing:
            if heard.stop in FALLBACK_STOPS and self._leave_attempt(head.status, None):
                return True
            if self._are_spent(heard.stop) and b"x-should-retry" not in head.lines.lower():
                self._told += b"x-should-retry: false\r\n"
            return False
        self._leg.note(head.status, None)
        self._leg.let_go(reusable=self._upstream_full_ns is None)
        self._collected = None
        self.response_bytes = 0
        self._wait_for_attempt(heard.again)
        return True

    def _leave_attempt(self, status: int | None, code: str | None) -> bool:
        """Leave an attempt that failed for good for another upstream; False if there is none."""
        if not self._request.is_replayable or not self._upload_done or self.client_gone:
            return False
        head, collected = self._head, self._collected
        self._leg.note(status, code)
        self._head = self._collected = None
        if self._fall_back():
            return True
        self._head, self._collected = head, collected
        return False

    def _fall_back(self) -> bool:
        """Take the call to the next upstream that lets it go at once; False if there is none."""
        request = self._request
        if self._fallbacks is None:
            self._fallbacks = choices(request.intake, request.snapshot.upstreams)
        for upstream in self._fallbacks:
            holder = request.intake.holder
            if holder is not None and not holder.allows(upstream.name, request.facts.model):
                continue
            before = request.intake
            request.go_elsewhere(rerouted(before, upstream))
            driver = self.worker.admission
            asked = self._asked()
            asked.moving = Held() if self._ticket is None else self._ticket.held
            verdict = driver.arrive(self, asked)
            if isinstance(verdict, Go):
                self._leg.let_go(reusable=self._upstream_full_ns is None)
                self.response_bytes = 0
                if self._ticket is not None:
                    # The upstream before it gave no answer, or an error: nothing was spent there.
                    driver.settle(self._ticket, Spent(tokens=0, pico=0))
                self._opened = request.opened() if self._opened is not None else None
                self._facts.add(Fact.FELL_BACK)
                self._told += b"x-taximeter-upstream: %b\r\n" % upstream.name.encode()
                self._go_ahead(verdict)
                return True
            request.go_elsewhere(before)  # another queue would be no way out of this one
        return False

    def _attempt_failed(self, code: str) -> None:
        """There was no answer: make another attempt, if there is to be one."""
        ticket = self._ticket
        leg = self._leg
        if ticket is not None and not self._finishing and PROBLEMS[code].fault is Fault.UPSTREAM:
            sent = leg.sent_ns is not None
            # What has been sent may have been worked on, and paid for: it is sent once more only
            # where the connection was an old one, closed by the upstream just as it was taken.
            is_stale = leg.reused and code == "upstream_disconnected"
            heard = self.worker.admission.heard(
                ticket,
                Answer(
                    status=None,
                    code=code,
                    sent=sent,
                    replayable=self._request.is_replayable
                    and self._upload_done
                    and not self.client_gone
                    and (not sent or is_stale)
                    and code != "upstream_tls_failed",
                ),
            )
            if heard.again is not None and not self._finishing:
                self._leg.note(None, code)
                self._wait_for_attempt(heard.again)
                return
            if heard.stop in FALLBACK_STOPS and self._leave_attempt(None, code):
                return
            self._retries_are_spent = self._are_spent(heard.stop)
        super()._attempt_failed(code)

    def _are_spent(self, stop: Stop | None) -> bool:
        """Tell whether our retries came to their bound: the client's on top would multiply."""
        ticket = self._ticket
        return (
            stop in _SPENT_RETRIES
            and ticket is not None
            and ticket.plan.upstream.retry.attempts_max > 1
        )

    def _wait_for_attempt(self, again: Again) -> None:
        self._head = None
        self._retry_timer = self.worker.loop.call_later(again.wait_ns / 1e9, self._resume)

    def _resume(self) -> None:
        self._retry_timer = None
        self._guarded(self._try_once_more)

    def _try_once_more(self) -> None:
        if self._finishing or self._ticket is None:
            return
        resumed = self.worker.admission.resume(self._ticket)
        if isinstance(resumed, Again):
            self._wait_for_attempt(resumed)
        elif resumed:
            self._try()
        elif not self._fall_back():
            self._fail(Refused("breaker_open", self._request.upstream.name))

    def _open_collected(self, head: Head) -> bytes:
        """Take what was held for an answer like any other; give its bytes, to be released."""
        if self._ticket is not None:
            # One that grew too long to be held, or broke off, has not been heard of yet.
            self.worker.admission.heard(
                self._ticket,
                Answer(
                    status=head.status, headers=_told_by(head), passed_on=True, replayable=False
                ),
            )
        return super()._open_collected(head)

    def _code_of(self, head: Head, body: bytes) -> str | None:
        tap = self._tap_for(head)
        try:
            tap.feed(body, self.last_in_ns)
            return tap.answer().error
        except Exception as fault:  # a bug here costs no attempt: the status says enough
            self._log_fault(fault)
            return None
        finally:
            tap.release()


def _told_by(head: Head) -> dict[str, str]:
    return {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in head.fields()
    }
