"""A plain call: the way of nearly every call that is no stream, in as few steps as it takes.

Its head is known, its body comes in one read, with it or behind it, nothing is to be decided about
its turn, a connection is idle, and the answer is a good one that is there at once and says what it
used. Such a call needs none of what an `Exchange` keeps for whatever may happen to a call. It goes
upstream in `begin` and comes back in `upstream_bytes`; each writes the record that belongs there,
in the order that the books hang on.

Many servers write an answer's head and its body one by one, and two reads bring them. So where the
head tells a length, what has come is kept until the rest of it is there, for no longer than
`REST_SECONDS_MAX`. It counts as come when it came, not when it goes on.

What makes it safe to have this beside the other way is that it decides nothing. Wherever
something is not as above, the call becomes an exchange that stands where this one stood
(`_plain_standing`), and goes on from there as any other. Until `begin` has a ticket it has touched
nothing, and just says no. From then on whatever happens but the plain answer is told to the
exchange, which has the one set of rules for it: the client leaves, the upstream is lost, the time
is over, the answer is an error, is compressed, is slow to come, or does not say what it used.

A test makes calls both ways, and holds the bytes and the records of one against the other's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import Raw

from taximeter.admission import Go
from taximeter.call import Outcome
from taximeter.counting import tokens_from_bytes
from taximeter.records import Answered, encode_record
from taximeter.relay._holder import wrong_with
from taximeter.relay._plain_standing import EarlyAnswer, PlainStanding
from taximeter.relay._request import opened_of

if TYPE_CHECKING:
    from taximeter.admission import Ticket
    from taximeter.call import Usage
    from taximeter.dialects import AnswerFacts
    from taximeter.relay._plain_head import PlainHead

PLAIN_BYTES_MAX = 64 * 1024
"""Length of a body, either way, up to which a call is a plain one: it is written in one go."""
REST_SECONDS_MAX = 0.005
"""For how long an answer whose length is known is kept from the client until all of it is there;
after that it is passed on as it comes."""

_now = time.monotonic_ns
_COMPLETED = Outcome.COMPLETED
"""Taken out of its class once: to look into an Enum is a call of its own."""
_STREAM, _TRUE = b'"stream":', (b"true", b" true")
_ANSWER = (
    b"HTTP/1.1 200 %bx-taximeter-call-id: %b\r\n"
    b"Server-Timing: queue;dur=0.000, connect;dur=0.000, first_byte;dur=%d.%03d\r\n"
    b"Content-Length: %d\r\n\r\n%b"
)


def looks_streamed(said: bytes) -> bool:
    """Tell at a glance that a request is for a stream, as most that are not plain are.

    It may be wrong: then a plain call goes the usual way, or is found to be a stream when it is
    read.
    """
    at = said.find(_STREAM)
    return at >= 0 and said.startswith(_TRUE, at + len(_STREAM))


class PlainCall(PlainStanding):
    """One call under way that has been plain so far."""

    __slots__ = ()

    # -- its body, where it comes in a read of its own ---------------------------------------

    def await_body(self) -> None:
        """Begin with the head alone: the next read may bring the body, and nothing else."""
        self.started_at_ns, self.started_ns = time.time_ns(), _now()
        self._worker.exchanges.add(self)

    def body_received(self, data: bytes) -> None:
        """Its body has come; in pieces it is not plain."""
        if len(data) == self.head.length:
            self._awaited = data
        else:
            self._become_exchange().body_received(data)

    def body_complete(self) -> None:
        """All of it has come."""
        body, self._awaited = self._awaited, b""
        if looks_streamed(body) or not self.begin(body):
            exchange = self._become_exchange()
            exchange.body_received(body)
            exchange.body_complete()

    # -- to the upstream --------------------------------------------------------------------

    def begin(self, body: bytes) -> bool:
        """Go upstream; False if the call is not plain, and nothing has been done for it yet."""
        worker, snapshot, size = self._worker, self.snapshot, len(body)
        if (
            size >= snapshot.plain_bytes_max
            or not worker.books.keeps_at_once
            or not snapshot.body_budget.try_take(size)
        ):
            return False
        self.body = body
        if not self.started_ns:
            self.started_at_ns, self.started_ns = time.time_ns(), _now()
        try:
            ticket = self._enter(body, size)
        except Exception as fault:  # the usual way takes the call from here
            self._log_fault(fault)
            ticket = None
        if ticket is None:
            self._free_body()
            return False
        self.ticket = ticket
        worker.exchanges.add(self)
        try:
            self._send(ticket, body)
        except Exception as fault:
            self._become_exchange().fault(fault)
        return True

    def _enter(self, body: bytes, size: int) -> Ticket | None:
        """Get the call its turn; None if it does not have it at once, or is nothing plain."""
        intake = self.intake
        route, known, holder = intake.route, intake.opened, intake.holder
        self.facts = facts = route.dialect.read_request(
            route.operation, route.path, route.query, intake.content_type, body, True
        )
        if facts.stream or facts.batch:
            return None
        if holder is not None and wrong_with(
            holder, intake, body, self.started_at_ns, self.snapshot.settings
        ):
            return None
        if facts.user is not None:
            self.user = intake.speaker.user_of_body(facts.user)
        output = facts.output_tokens_max
        if output is not None and facts.answers > 1:
            output *= facts.answers
        admission = self._worker.admission.admission
        plan = intake.plan_of(admission, facts.model or "", self.user or known.user or "")
        self.decided_ns = now = _now()
        tokens = tokens_from_bytes(size) if intake.is_text else 0
        # Nothing may go wrong once it has its turn.
        self.call_id = call_id = self._worker.ids.make(self.started_at_ns)
        self.opened = opened = opened_of(
            intake, facts, call_id, self.started_at_ns, self.user, self.traceparent
        )
        self.written = encode_record(opened)
        return admission.straight.enter(plan, tokens, output, now)

    def _send(self, ticket: Ticket, body: bytes) -> None:
        intake, opened = self.intake, self.opened
        upstream = intake.upstream
        idle = upstream.take_idle()
        if idle is None:
            self._become_exchange().admitted(Go(ticket))
            return
        self.connection, self.side = idle
        side = self.side
        side.owner = self
        self._worker.books.write(opened, self.written)
        head, spans = intake.start(uncoded=False), upstream.spans
        if spans is not None:
            head += spans.traceparent(opened, 1)
        transport = side.transport
        assert transport is not None  # `take_idle` gives none without
        # Before it is written: to write may fill the buffer, and it is an exchange from there on.
        self.sent_ns = _now()
        transport.write(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body))

    # -- back to the client -----------------------------------------------------------------

    def upstream_bytes(self, data: bytes) -> None:
        """Bytes of the answer have come: pass it on if it is a plain one."""
        now, early = _now(), self._early
        if early is not None:
            if not early.add(data):
                return
            data, now = b"".join(early.pieces), early.came_ns
        try:
            found = self._read(data, now)
        except Exception as fault:  # so does it here
            self._log_fault(fault)
            found = None
        if found is None:
            if early is not None:
                self._become_exchange()
            elif self._early is None:
                self._become_exchange().upstream_bytes(data)
            return
        if early is not None:
            early.too_late.cancel()
            self._early = None
        try:
            self._end(*found, now)
        except Exception as fault:
            self._become_exchange().fault(fault)

    def _read(self, data: bytes, now: int) -> tuple[PlainHead, bytes, AnswerFacts] | None:
        """Read an answer; None if it is not plain, or still to be awaited (`_early`). Nothing else
        follows from it yet.
        """
        worker, route = self._worker, self.intake.route
        head = route.upstream.usual_head.read(data)
        if head is None:
            return None
        body = data[head.end :]
        size = len(body)
        if size < head.length < self.snapshot.plain_bytes_max:
            too_late = worker.loop.call_later(REST_SECONDS_MAX, self._become_exchange)
            self._early = EarlyAnswer(data, head.length - size, now, too_late)
            return None
        if (
            head.length != size
            or size >= self.snapshot.plain_bytes_max
            or worker.draining
            or not worker.books.keeps_at_once  # it did when the call began
            or worker.headroom.is_due(route.upstream.name, self.opened.model, now)
        ):
            return None
        answer = route.dialect.read_answer(
            route.operation, route.upstream.provider, 200, "application/json", body, None
        )
        if answer.usage is None or answer.error is not None or answer.deferred or answer.clamped:
            return None
        return head, body, answer

    def _end(self, head: PlainHead, body: bytes, answer: AnswerFacts, answered_ns: int) -> None:
        """Book the call, and give the client its answer."""
        worker, client, origin = self._worker, self._client, self.started_ns
        decided_ns, sent_ns = self.decided_ns, self.sent_ns or answered_ns
        size = len(body)
        ended_ns = _now()
        record = Answered(
            Raw(self.written),
            decided_ns - origin,
            sent_ns - origin,
            answered_ns - origin,
            ended_ns - origin,
            _now() - origin,
            answer.response_id,
            answer.response_model,
            answer.service_tier,
            answer.price_variant,
            answer.finish_reason,
            answer.usage,
            answer.raw_usage,
            len(self.body),
            size,
        )
        self.is_closed = True
        worker.outcomes[_COMPLETED] += 1
        worker.books.write(record)
        transport, waited_us = client.transport, (answered_ns - decided_ns) // 1000
        if transport is not None:
            transport.write(
                _ANSWER
                % (
                    head.passed,
                    self.call_id.encode(),
                    waited_us // 1000,
                    waited_us % 1000,
                    size,
                    body,
                )
            )
        self._let_go(answer.usage, answered_ns, ended_ns)
        client.exchange_ended(self, True)

    def _let_go(self, usage: Usage | None, answered_ns: int, now: int) -> None:
        """Give back all that the call held, each thing known as held until it is given back."""
        worker, connection, side, ticket = self._worker, self.connection, self.side, self.ticket
        if connection is not None and side is not None:
            side.owner = None
            self.intake.upstream.keep(connection, side)
            self.connection = self.side = None
        self._free_body()
        worker.exchanges.discard(self)
        if ticket is None or usage is None:
            return
        inputs, outputs, tokens = usage.input_tokens, usage.output_tokens, None
        if inputs is not None or outputs is not None:
            tokens = (inputs or 0) + (outputs or 0)
        if not worker.admission.straight.leave(ticket, tokens, outputs, answered_ns, now):
            worker.admission.end_well(ticket, tokens, outputs, answered_ns)
        self.ticket = None
