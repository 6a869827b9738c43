"""A call's answer: opened, watched, passed on and completed, as its bytes come.

This is the hot path: what the upstream's connection brings goes to `upstream_bytes`, and from
there to the client before it returns. A stream under way soon leaves even that for a shorter way
of its own (`_splice`).
"""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import TYPE_CHECKING

from taximeter.call import Fact, Outcome, Stage
from taximeter.relay._answer import LENGTH, AnswerParser, Head
from taximeter.relay._chunks import MalformedAnswer
from taximeter.relay._splice import Splice
from taximeter.relay._standing import RELAYING
from taximeter.relay._stream_tap import StreamTap, tap_for
from taximeter.relay._summary import HELD_BYTES_MAX
from taximeter.relay._tap import Subject, Tap
from taximeter.relay._telling import Telling
from taximeter.relay._tunnel import Tunnel

if TYPE_CHECKING:
    from taximeter.relay._upstream import Upstream

REFUSAL_BYTES_MAX = 64 * 1024
"""Length up to which an error answer is held to see what may be done about it."""
_now = time.monotonic_ns
_CONNECT, _FIRST_BYTE, _QUEUE = Stage.CONNECT, Stage.FIRST_BYTE, Stage.QUEUE
_OUR_FIELDS = (
    b"x-taximeter-call-id: %b\r\n"
    b"Server-Timing: queue;dur=%d.%03d, connect;dur=%d.%03d, first_byte;dur=%d.%03d\r\n"
)
_COMPLETED = Outcome.COMPLETED


class Answering(Telling):
    """Passes the upstream's answer on to the client."""

    __slots__ = ()

    def upstream_bytes(self, data: bytes, came_ns: int | None = None) -> None:
        """Read, watch and pass on, now or, if it was kept somewhere, as of when it came."""
        now = self.last_in_ns = came_ns or _now()
        try:
            if self._tunnel is not None:
                self.response_bytes += len(data)
                self._tunnel.from_upstream(data)
            else:
                self._answer_bytes(data, now)
        except MalformedAnswer:
            self.upstream_failed("upstream_malformed")
        except Exception as error:
            self.fault(error)

    def _answer_bytes(self, data: bytes, now: int) -> None:
        leg = self._leg
        parser = leg.parser
        if parser is None or leg.sent_ns is None:
            raise MalformedAnswer("it spoke before it was asked")
        body = parser.feed(data)
        tap = self._tap
        if self._head is None:
            if parser.interim:
                self._pass_interim(parser)
            if parser.head is None:
                return
            leg.first_byte_ns = now
            self._begin_answer(parser.head, parser, now)
            tap = self._tap
            if self._tunnel is not None or self._finishing:
                return
        if body:
            self.response_bytes += len(body)
            if tap is not None:
                body = tap.feed(body, now)
            else:
                self._collect(body)
                body = b""
        if parser.complete:
            self._complete(body)
        elif self._drain_deadline_ns is not None:
            self._drained_bytes += len(data)
            self._delivery.write(body)  # to nobody, but for whoever keeps a copy
        else:
            if tap is not None and tap.ended and not self._closed:
                self._settle(self._outcome_of_whole_answer())
            if body:
                self.last_out_ns = now
                self._delivery.write(body)
                if self._last_words is not None:
                    self._say_last_words()
                elif isinstance(tap, StreamTap):
                    self._maybe_splice(tap)
            else:
                self._delivery.flush()

    def _pass_interim(self, parser: AnswerParser) -> None:
        for interim in parser.interim:
            if interim.status != 100:  # that one is ours to say, and we have said it
                self._delivery.interim(interim)
        parser.interim.clear()

    def _begin_answer(self, head: Head, parser: AnswerParser, now: int) -> None:
        self._head = head
        if head.status == 101:
            self._hear_answer(head, now)
            self._begin_tunnel(head, parser)
            return
        self._stages[_FIRST_BYTE] = now - (self._leg.connected_ns or now)
        if self._usage_refuser is not None and head.status < 300:
            self._note_refuser(self._usage_refuser)
        refuses = self._usage_asked and head.status in (400, 422)
        tells = self._request.intake.wants_summary and self._is_told_in_head(head)
        if self._hear_answer(head, now) and not refuses and not tells:
            self._open_answer(head)
        else:
            self._collected = bytearray()

    @abstractmethod
    def _hear_answer(self, head: Head, now: int) -> bool:
        """Take in an answer's head. False if it is to be held until its body has been read."""

    @abstractmethod
    def _try_again_after(self, head: Head, body: bytes) -> bool:
        """Make another attempt after an error answer, if there is to be one."""

    def _tap_for(self, head: Head) -> Tap:
        request, worker = self._request, self.worker
        subject = Subject(
            dialect=request.dialect,
            operation=request.operation,
            provider=request.upstream.provider,
            status=head.status,
            content_type=head.content_type,
            content_encoding=head.content_encoding,
        )
        return tap_for(
            subject,
            worker.snapshot.settings.relay.tap_bytes_max,
            worker.tap_budget,
            drop_usage=self._usage_asked and head.status < 400,
        )

    def _open_answer(self, head: Head) -> None:
        request, worker = self._request, self.worker
        dropping = self._usage_asked and head.status < 400
        limits = worker.snapshot.settings.relay
        self._tap = tap = self._tap_for(head)
        if tap.is_stream and limits.ping_seconds > 0 and not head.content_encoding:
            self._ping = request.dialect.ping(request.operation, head.content_type)
        self._go(RELAYING)
        sized = head.framing is LENGTH and not (dropping and tap.is_stream)
        self._delivery.begin(head, self._our_fields(), sized=sized, closing=worker.draining)

    def _our_fields(self) -> bytes:
        """Give the header fields that tell the client what this call was."""
        stages = self._stages
        fields = _OUR_FIELDS % (
            self.call_id.encode(),
            *divmod(stages.get(_QUEUE, 0) // 1000, 1000),
            *divmod(stages.get(_CONNECT, 0) // 1000, 1000),
            *divmod(stages.get(_FIRST_BYTE, 0) // 1000, 1000),
        )
        return fields + self._told if self._told else fields

    def _complete(self, body: bytes) -> None:
        """The upstream's answer is whole, as far as HTTP goes."""
        parser, head = self._leg.parser, self._head
        if parser is None or head is None or self._finishing:
            return
        if self._collected is not None:
            if head.status >= 400 and self._is_mended(head, bytes(self._collected)):
                return
            body = self._open_collected(head)
        self._finishing = True
        if self._tap is not None:
            body += self._tap.finish()
        if self._drain_deadline_ns is not None:
            self._facts.add(Fact.DRAINED)
            self._settle(Outcome.CANCELLED)
        elif not self._closed:
            self._settle(self._outcome_of_whole_answer())
        if self._last_words is not None:
            self._delivery.write(body)
            body = b""
            self._say_last_words()
        self._delivery.end(body, parser.trailers)
        if not self._upload_done:
            self._delivery.keep_alive = False
        self._leg.let_go(reusable=self._upload_done and self._upstream_full_ns is None)
        self._finish()

    def _is_mended(self, head: Head, body: bytes) -> bool:
        """Make another attempt after an error answer, if it is one that another may mend."""
        if self._usage_asked and self._request.dialect.refuses_usage(head.status, body):
            self._try_without_the_option(head)
            return True
        return self._try_again_after(head, body)

    def _outcome_of_whole_answer(self) -> Outcome:
        tap, head = self._tap, self._head
        if head is None or head.status >= 400:
            return Outcome.UPSTREAM_ERROR
        if tap is None or not tap.is_stream:
            return _COMPLETED
        if tap.answer().error is not None:
            return Outcome.UPSTREAM_ERROR
        return _COMPLETED if tap.whole else Outcome.TRUNCATED

    # -- a stream under way ------------------------------------------------------------------

    def _maybe_splice(self, tap: StreamTap) -> None:
        """Leave the stream to the short way from here on, if nothing about it is unusual."""
        if not tap.is_steady:
            return
        side, parser, client = self._leg.side, self._leg.parser, self._client.transport
        if (
            side is not None
            and parser is not None
            and parser.chunks is not None
            and client is not None
            and self._delivery.takes_events
            and not self._delivery.is_watched
            and not self._closed
        ):
            side.take = Splice(self, parser, parser.chunks, tap, tap.reader, client).take

    def _leave_splice(self) -> None:
        if self._leg.side is not None:
            self._leg.side.take = None

    def go_blind_from_splice(self, fault: Exception) -> None:
        """Take over from the splice: what watches the stream has met a fault of ours."""
        self._leave_splice()
        if self._tap is not None:
            self._tap.go_blind(fault)

    def go_on_from_splice(self, body: bytes, now: int) -> None:
        """Take over from the splice: its bytes are the stream's last, or none at all."""
        if not body and not (self._leg.parser is not None and self._leg.parser.complete):
            return  # framing without content
        self._leave_splice()
        tap = self._tap
        if body and tap is not None:
            self.response_bytes += len(body)
            body = tap.feed(body, now)
        self._complete(body)

    def end_from_splice(self, body: bytes, now: int) -> None:
        """Take over from the splice: the end marker is in what is about to be released."""
        self._leave_splice()
        if not self._closed:
            self._settle(self._outcome_of_whole_answer())
        if body:
            self.last_out_ns = now
            self._delivery.write(body)
        if self._last_words is not None:
            self._say_last_words()

    # -- an answer that is held until it is known what to do with it ---------------------------

    def _collect(self, body: bytes) -> None:
        """Hold an answer, up to a bound."""
        collected, head = self._collected, self._head
        if collected is None or head is None:
            return
        collected += body
        if len(collected) > (REFUSAL_BYTES_MAX if head.status >= 400 else HELD_BYTES_MAX):
            self._delivery.write(self._open_collected(head))

    def _open_collected(self, head: Head) -> bytes:
        """Take what was held for an answer like any other; give its bytes, to be released."""
        collected, self._collected = self._collected, None
        self._open_answer(head)
        if not collected or self._tap is None:
            return b""
        return self._tap.feed(bytes(collected), self.last_in_ns)

    def _try_without_the_option(self, head: Head) -> None:
        """Ask again as the client did: it may be that the upstream knows no `stream_options`."""
        self._usage_refuser = self._request.upstream
        self._facts.add(Fact.USAGE_REFUSED)
        self._usage_asked = False
        self._collected = None
        self._leg.note(head.status, None)
        self._leg.let_go(reusable=self._upstream_full_ns is None)
        self.response_bytes = 0
        self._try_once_more()

    def _note_refuser(self, refuser: Upstream) -> None:
        """Without the option all is well: have nobody ask this upstream for a while.

        Only now. An error that speaks of the option may be one about what its client sent, and
        must not cost everybody else the figures.
        """
        self._usage_refuser = None
        request = self._request
        if request.upstream is refuser:
            refuser.refuses_usage(request.operation.api)

    @abstractmethod
    def _try_once_more(self) -> None:
        """Make another attempt, if it may still be made."""

    # -- another protocol --------------------------------------------------------------------

    def _begin_tunnel(self, head: Head, parser: AnswerParser) -> None:
        """The upstream has agreed to an upgrade that the client asked for."""
        upgrade, client = self._request.intake.upgrade, self._client
        upstream = self._leg.transport
        tail = parser.upgraded_tail
        if upgrade is None or upstream is None or client.transport is None or tail is None:
            raise MalformedAnswer("it agreed to what nobody had asked")
        self._go(RELAYING)
        self._delivery.upgrade(head, self._our_fields(), upgrade)
        self._tunnel = Tunnel(client.transport, upstream)
        self.tunnel_bytes(self.ahead)
        self.response_bytes += len(tail)
        self._tunnel.from_upstream(tail)
        client.open_tunnel(self._tunnel)

    def tunnel_bytes(self, data: bytes) -> None:
        """The client says something in the other protocol."""
        if self._tunnel is not None:
            self._tunnel.from_client(data)
            self._request.body_bytes += len(data)

    def _end_tunnel(self, outcome: Outcome) -> None:
        """One side has closed: so does the other."""
        self._finishing = True
        self._leg.let_go(reusable=False)
        self._settle(outcome)
        self._delivery.break_off()
        self._finish()

    # -- what may go wrong -------------------------------------------------------------------

    def upstream_failed(self, code: str) -> None:
        """End the call, or its attempt: the upstream is of no further use to it."""
        if self._collected is not None and self._head is not None and not self._finishing:
            self._delivery.write(self._open_collected(self._head))
        super().upstream_failed(code)

    def upstream_lost(self, clean: bool) -> None:
        """The upstream's connection has ended."""
        self._guarded(lambda: self._upstream_lost(clean))

    def _upstream_lost(self, clean: bool) -> None:
        parser = self._leg.parser
        if self._finishing or parser is None:
            return
        if self._tunnel is not None:
            self._end_tunnel(Outcome.COMPLETED if clean else Outcome.TRUNCATED)
        elif clean and parser.end_of_bytes():
            self._complete(b"")
        elif self.phase is RELAYING:
            self.upstream_failed("upstream_truncated")
        else:
            self.upstream_failed("upstream_disconnected")
