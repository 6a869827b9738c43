"""The life of one call in the relay, from its head to its last byte.

Nothing here awaits a byte. A call goes on when something happens to it, and each thing that can
happen is a plain method: the client's connection calls `begin`, `body_received`,
`body_complete`, `client_lost`; the upstream's `upstream_bytes`, `upstream_lost`; the worker's
clock `tick`; its end `interrupt`. What follows is decided at once, from the phase the call is
in, and done before the method returns. Only two things are ever waited for: a new connection
(a task, if none is idle) and, with journal.sync `always`, a record's way to the disk.

So there is one place where a call ends, `_settle`; it runs once; and nothing stands between a
decision and its record. The order that the books hang on:

    open record  ->  first byte upstream  ->  ...  ->  close record  ->  last byte to the client

For a stream the last byte is its end marker: once the tap has seen it in what is about to be
released, the close record is written first. With `always`, "written" means power-safe, and the
bytes are held until it is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from taximeter.call import Fact, Opened, Outcome, Phase, Stage, is_legal
from taximeter.relay._answer import AnswerParser, Framing, Head, MalformedAnswer
from taximeter.relay._bookkeeper import Unrecorded
from taximeter.relay._delivery import Delivery
from taximeter.relay._ending import answer_stages, bare_close_record, close_record
from taximeter.relay._errors import PROBLEMS, Fault, Refused
from taximeter.relay._heads import LAST_CHUNK, chunk
from taximeter.relay._intake import PEEK_BYTES, Intake
from taximeter.relay._leg import Leg
from taximeter.relay._request import Request
from taximeter.relay._splice import Splice
from taximeter.relay._tap import Tap
from taximeter.relay._tunnel import Tunnel

if TYPE_CHECKING:
    from taximeter.counting import CountJob
    from taximeter.relay._client import ClientSide
    from taximeter.relay._known import Cut
    from taximeter.relay._message import Message
    from taximeter.relay._worker import RelayWorker, Snapshot

log = logging.getLogger("taximeter.relay")

REFUSAL_BYTES_MAX = 64 * 1024
"""Length up to which an error answer is held to see whether it refuses `stream_options`."""
_now = time.monotonic_ns


class Exchange:
    """One call under way."""

    __slots__ = (
        "_attempt_error",
        "_client",
        "_closed",
        "_collected",
        "_content_type",
        "_delivery",
        "_drain_deadline_ns",
        "_drained_bytes",
        "_facts",
        "_finishing",
        "_head",
        "_kept",
        "_leg",
        "_opened",
        "_over",
        "_paused_ns",
        "_ping",
        "_refusal",
        "_request",
        "_stages",
        "_started_ns",
        "_tap",
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

    def __init__(self, worker: RelayWorker, client: ClientSide, message: Message) -> None:
        self.worker = worker
        self.phase = Phase.RECEIVING
        self.client_gone = False
        self.ahead = b""
        """What the client has sent behind its request for an upgrade."""
        self._client = client
        self._started_ns = self.last_in_ns = self.last_out_ns = _now()
        self.call_id = worker.ids.make()
        self._request = Request(worker.snapshot, message, self.call_id)
        self._delivery = Delivery(
            client, http10=message.http10, wants_keep_alive=message.keep_alive
        )
        self._refusal: Refused | None = None
        self._opened: Opened | None = None
        self._closed = False
        self._finishing = False
        self._over = False
        self._kept: asyncio.Future[None] | None = None
        self._stages: dict[Stage, int] = {}
        self._facts: set[Fact] = set()
        self._leg = Leg(self._started_ns)
        self._attempt_error: str | None = None
        self._upload_done = True
        self._unsent = bytearray()
        """Pieces of a long body that were read together with what made the call go on, before
        there was a connection: at most one read."""
        self._upstream_full_ns: int | None = None
        """Since when the upstream has taken no more of the request."""
        self._head: Head | None = None
        self._content_type = ""
        self._tap: Tap | None = None
        self._tunnel: Tunnel | None = None
        self._collected: bytearray | None = None
        self._usage_asked = False
        self.response_bytes = 0
        self._ping: bytes | None = None
        self._paused_ns: int | None = None
        self._drain_deadline_ns: int | None = None
        self._drained_bytes = 0

    @property
    def snapshot(self) -> Snapshot:
        """The settings it began under, and keeps."""
        return self._request.snapshot

    @property
    def upstream_name(self) -> str:
        """Whose call it is; '' if that is not known (yet)."""
        return self._request.upstream.name if self._request.routed else ""

    # == the request ==========================================================================

    def begin(self, intake: Intake | None, head: Cut | None) -> None:
        """The request's head is here.

        Args:
            intake: what it decides, if it is known.
            head: the head as it was cut; None if it is not to be known the next time.
        """
        self.worker.exchanges.add(self)
        try:
            if intake is not None and head is not None:
                self._request.take_head(intake, head.length, head.traceparent)
            else:
                self._begin(head)
        except Exception as error:
            self.fault(error)

    def _begin(self, head: Cut | None) -> None:
        request, worker = self._request, self.worker
        snapshot, message = request.snapshot, request.message
        try:
            intake = Intake(message, snapshot.routes, snapshot.identity_headers, worker.hash_key)
        except Refused as refused:
            # Told to the client when its body has come, or soon: so that it can hear it.
            self._refusal = refused
            if any(name.lower() == b"expect" for name, _ in message.fields):
                # It waits for a word, and may send its body or not: no request can follow.
                self._delivery.keep_alive = False
                self._upload_done = False
                self._refuse(refused)
            return
        request.take_head(intake, intake.stated_length, intake.traceparent)
        if head is not None and intake.is_repeatable:
            snapshot.heads.keep(head.key, intake)
        if intake.upgrade is not None:
            self._delivery.keep_alive = False
        if intake.expects_continue:
            self._delivery.go_on()

    def body_received(self, data: bytes) -> None:
        """A piece of the request's body has come."""
        self.last_in_ns = _now()
        if self.phase is Phase.RECEIVING:
            if self._refusal is not None:
                self._request.body_bytes += len(data)
                if self._request.body_bytes > PEEK_BYTES:
                    self._delivery.keep_alive = False
                    self._refuse(self._refusal)
            elif not self._request.take(data):
                self._guarded(self._go_on_without_the_rest)
        elif not self._upload_done:
            self._guarded(lambda: self._upload(data))

    def body_complete(self) -> None:
        """The request's body has come to its end."""
        if self.phase is Phase.RECEIVING:
            if self._refusal is not None:
                self._refuse(self._refusal)
            else:
                self._guarded(self._go_on)
        elif not self._upload_done:
            self._guarded(self._end_upload)

    def body_broken(self, refused: Refused) -> None:
        """What came is no body: nothing sent upstream so far can be ended well."""
        self._delivery.keep_alive = False
        if self.phase is Phase.RECEIVING:
            self._guarded(lambda: self._refuse(refused))
        elif not self._upload_done:
            self._guarded(lambda: self._upload_broken(refused))

    def _upload_broken(self, refused: Refused) -> None:
        self._leg.let_go(reusable=False)
        if self.phase is not Phase.RELAYING:
            self._fail(refused)
        elif not self._finishing:
            # An answer is on its way already: no other can begin in the middle of it.
            self._finishing = True
            self._break_off(Outcome.CANCELLED, refused.code)
            self._finish()

    def _go_on(self) -> None:
        self._request.read_body(whole=True)
        self._admit()

    def _go_on_without_the_rest(self) -> None:
        self._request.read_body(whole=False)
        self._upload_done = False
        self._client.pause_body()
        self._admit()

    def _admit(self) -> None:
        request = self._request
        self._stages[Stage.RECEIVE] = _now() - self._started_ns
        self._go(Phase.ADMITTING)
        self._stages[Stage.QUEUE] = 0
        self._go(Phase.ATTEMPTING)
        self._usage_asked = request.can_ask_usage
        self._try()

    def _go(self, phase: Phase) -> None:
        if not is_legal(self.phase, phase):
            raise RuntimeError(f"a call cannot go from {self.phase} to {phase}")
        self.phase = phase

    # == an attempt ===========================================================================

    def _try(self) -> None:
        self._attempt_error = None
        self._head = None
        self._leg.begin_attempt(
            self, self._request.upstream, head_request=self._request.message.method == b"HEAD"
        )

    def not_connected(self, code: str) -> None:
        """No connection is to be had."""
        refused = Refused(code, self._request.upstream.name)
        self._guarded(lambda: self._fail(refused))

    def connected(self) -> None:
        """There is a connection."""
        self._guarded(self._connected)

    def _connected(self) -> None:
        leg = self._leg
        if self._finishing:
            leg.let_go(reusable=True)
            return
        self._stages[Stage.CONNECT] = (leg.connected_ns or leg.started_ns) - leg.started_ns
        if self._opened is not None:
            self._send_request()
            return
        self._opened = self._request.opened()
        try:
            kept = self.worker.books.write(self._opened)
        except Unrecorded:
            leg.let_go(reusable=False)
            self._fail(Refused("journal_unwritable"))
            return
        if kept is None:
            self._send_request()
        else:
            kept.add_done_callback(self._opened_safely)

    def _opened_safely(self, kept: asyncio.Future[None]) -> None:
        if self._finishing:
            return
        if kept.cancelled() or kept.exception() is not None:
            self._leg.let_go(reusable=False)
            self._fail(Refused("journal_unwritable"))
        else:
            self._guarded(self._send_request)

    def _send_request(self) -> None:
        request = self._request
        head, body = request.outgoing(ask_usage=self._usage_asked)
        self.last_in_ns = _now()
        if not self._leg.send(head, body):
            self.upstream_failed("upstream_disconnected")
            return
        if self._unsent:
            self._leg.send_more(bytes(self._unsent))
            self._unsent.clear()
        if not self._upload_done and self._upstream_full_ns is None:
            self._client.resume_body()

    # == the rest of a long body ==============================================================

    def _upload(self, data: bytes) -> None:
        """Pass a further piece on; if the answer is over before the question, to nobody."""
        self._request.body_bytes += len(data)
        self._send_piece(chunk(data) if self._request.is_chunked else data)

    def _send_piece(self, piece: bytes) -> None:
        if self._leg.sent_ns is None:
            self._unsent += piece
        else:
            self._leg.send_more(piece)

    def _end_upload(self) -> None:
        self._upload_done = True
        if self._request.is_chunked:
            self._send_piece(LAST_CHUNK)
        if self._leg.sent_ns is not None:
            self.last_in_ns = self._leg.sent_ns = _now()

    def upstream_paused(self) -> None:
        """The upstream takes no more: nor do we."""
        self._upstream_full_ns = _now()
        if not self._upload_done or self._tunnel is not None:
            self._client.pause_body()

    def upstream_resumed(self) -> None:
        """The upstream takes more again."""
        if self._upstream_full_ns is not None:
            self._upstream_full_ns = None
            self.last_in_ns = _now()  # while it took none, the client could not send
        if not self._upload_done or self._tunnel is not None:
            self._client.resume_body()

    # == the answer ===========================================================================

    def upstream_bytes(self, data: bytes) -> None:
        """Read, watch and pass on: the hot path."""
        now = self.last_in_ns = _now()
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
        else:
            if tap is not None and tap.ended and not self._closed:
                self._settle(self._outcome_of_whole_answer())
            if body:
                self.last_out_ns = now
                self._delivery.write(body)
                if tap is not None and tap.first_token_ns is not None:
                    self._maybe_splice(tap)
            else:
                self._delivery.flush()

    def _maybe_splice(self, tap: Tap) -> None:
        """Leave the stream to the short way from here on, if nothing about it is unusual."""
        side, parser, client = self._leg.side, self._leg.parser, self._client.transport
        reader = tap.steady_reader
        if (
            reader is not None
            and side is not None
            and parser is not None
            and client is not None
            and self._delivery.takes_events
            and not self._closed
        ):
            side.take = Splice(self, parser, tap, reader, client).take

    def _leave_splice(self) -> None:
        if self._leg.side is not None:
            self._leg.side.take = None

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

    def _pass_interim(self, parser: AnswerParser) -> None:
        for interim in parser.interim:
            if interim.status != 100:  # that one is ours to say, and we have said it
                self._delivery.interim(interim)
        parser.interim.clear()

    def _begin_answer(self, head: Head, parser: AnswerParser, now: int) -> None:
        self._head = head
        if head.status == 101:
            self._begin_tunnel(head, parser)
            return
        self._stages[Stage.FIRST_BYTE] = now - (self._leg.connected_ns or now)
        request = self._request
        self.worker.headroom.hear(request.upstream.name, request.facts.model, head.fields(), now)
        if self._usage_asked and head.status in (400, 422):
            self._collected = bytearray()
        else:
            self._open_answer(head)

    def _open_answer(self, head: Head) -> None:
        request, worker = self._request, self.worker
        self._content_type = head.content_type
        dropping = self._usage_asked and head.status < 400
        limits = worker.snapshot.settings.relay
        self._tap = tap = Tap(
            request.dialect,
            request.operation,
            request.upstream.provider,
            status=head.status,
            content_type=self._content_type,
            content_encoding=head.content_encoding,
            drop_usage=dropping,
            kept_bytes_max=limits.tap_bytes_max,
            budget=worker.tap_budget,
        )
        if tap.is_stream and limits.ping_seconds > 0 and not head.content_encoding:
            self._ping = request.dialect.ping(request.operation, self._content_type)
        self._go(Phase.RELAYING)
        sized = head.framing is Framing.LENGTH and not (dropping and tap.is_stream)
        self._delivery.begin(head, self._our_fields(), sized=sized, closing=worker.draining)

    def _our_fields(self) -> bytes:
        """Give the header fields that tell the client what this call was."""
        stages = self._stages
        queue = stages.get(Stage.QUEUE, 0) / 1e6
        connect = stages.get(Stage.CONNECT, 0) / 1e6
        first_byte = stages.get(Stage.FIRST_BYTE, 0) / 1e6
        return (
            f"x-taximeter-call-id: {self.call_id}\r\nServer-Timing: queue;dur={queue:.3f}, "
            f"connect;dur={connect:.3f}, first_byte;dur={first_byte:.3f}\r\n"
        ).encode("ascii")

    def _collect(self, body: bytes) -> None:
        """Hold an error answer that may be the refusal of an option of ours."""
        collected, head = self._collected, self._head
        if collected is None or head is None:
            return
        collected += body
        if len(collected) > REFUSAL_BYTES_MAX:
            self._delivery.write(self._open_collected(head))

    def _open_collected(self, head: Head) -> bytes:
        """Take what was held for an answer like any other; give its bytes, to be released."""
        collected, self._collected = self._collected, None
        self._open_answer(head)
        if not collected or self._tap is None:
            return b""
        return self._tap.feed(bytes(collected), self.last_in_ns)

    def _complete(self, body: bytes) -> None:
        """The upstream's answer is whole, as far as HTTP goes."""
        request, parser, head = self._request, self._leg.parser, self._head
        if parser is None or head is None or self._finishing:
            return
        if self._collected is not None:
            if request.dialect.refuses_usage(head.status, bytes(self._collected)):
                self._try_without_the_option(head)
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
        self._delivery.end(body, parser.trailers)
        if not self._upload_done:
            self._delivery.keep_alive = False
        self._leg.let_go(reusable=self._upload_done)
        self._finish()

    def _try_without_the_option(self, head: Head) -> None:
        """Ask again as the client did: the upstream does not know `stream_options`."""
        request = self._request
        request.upstream.refuses_usage(request.operation.api)
        self._facts.add(Fact.USAGE_REFUSED)
        self._usage_asked = False
        self._collected = None
        self._leg.note(head.status, None)
        self._leg.let_go(reusable=True)
        self.response_bytes = 0
        self._try()

    def _outcome_of_whole_answer(self) -> Outcome:
        tap, head = self._tap, self._head
        if head is None or head.status >= 400:
            return Outcome.UPSTREAM_ERROR
        if tap is None or not tap.is_stream:
            return Outcome.COMPLETED
        if tap.answer().error is not None:
            return Outcome.UPSTREAM_ERROR
        return Outcome.COMPLETED if tap.whole else Outcome.TRUNCATED

    # == another protocol =====================================================================

    @property
    def wants_tunnel(self) -> bool:
        """Whether the client asked for an upgrade that is passed on."""
        return self._request.routed and self._request.intake.upgrade is not None

    def _begin_tunnel(self, head: Head, parser: AnswerParser) -> None:
        """The upstream has agreed to an upgrade that the client asked for."""
        upgrade, client = self._request.intake.upgrade, self._client
        upstream = self._leg.transport
        tail = parser.upgraded_tail
        if upgrade is None or upstream is None or client.transport is None or tail is None:
            raise MalformedAnswer("it agreed to what nobody had asked")
        self._go(Phase.RELAYING)
        self._delivery.upgrade(head, self._our_fields(), upgrade)
        self._tunnel = Tunnel(client.transport, upstream)
        self._tunnel.from_client(self.ahead)
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

    # == what may go wrong ====================================================================

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
        elif self.phase is Phase.RELAYING:
            self.upstream_failed("upstream_truncated")
        else:
            self.upstream_failed("upstream_disconnected")

    def upstream_failed(self, code: str) -> None:
        """End the call, or its attempt: the upstream is of no further use to it."""
        if self._finishing:
            return
        if self._collected is not None and self._head is not None:
            self._delivery.write(self._open_collected(self._head))
        self._attempt_error = code
        self._leg.let_go(reusable=False)
        if self.phase is not Phase.RELAYING and not self._closed:
            self._fail(Refused(code, self._request.upstream.name))
            return
        self._finishing = True
        if self._drain_deadline_ns is not None:
            self._settle(Outcome.CANCELLED, error=code)
        elif self._closed:
            self._delivery.break_off()  # the end marker was passed on; its framing was not
        else:
            self._break_off(Outcome.TRUNCATED, code)
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
                request.operation, self._content_type, code, words, self.call_id
            )
            if event is not None:
                self._delivery.write(event)
        self._delivery.break_off()

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
        outcome = Outcome.REJECTED
        if self.client_gone:
            outcome = Outcome.ABANDONED
        elif refused.code == "draining":
            outcome = Outcome.INTERRUPTED
        elif self.phase is Phase.ATTEMPTING:
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
            )
        self._finish()

    def client_lost(self) -> None:
        """The client has left."""
        self.client_gone = True
        self._delivery.keep_alive = False
        self._guarded(self._client_lost)

    def _client_lost(self) -> None:
        if self._finishing:
            return
        if self._tunnel is not None:
            self._end_tunnel(Outcome.COMPLETED)
            return
        settings = self._request.upstream.settings if self._request.routed else None
        if (
            settings is not None
            and settings.client_gone == "drain"
            and not self._closed
            and self._upload_done
            and self._leg.sent_ns is not None
        ):
            self._drain_deadline_ns = _now() + int(settings.drain_seconds_max * 1e9)
            self._leave_splice()
            self.client_resumed()
            return
        self._finishing = True
        self._leg.let_go(reusable=False)
        if self._tap is not None:
            self._tap.finish()
        relaying = self.phase is Phase.RELAYING
        self._settle(Outcome.CANCELLED if relaying else Outcome.ABANDONED)
        self._finish()

    def client_paused(self) -> None:
        """The client's buffer is full: read no more from the upstream."""
        self._paused_ns = _now()
        self._leg.pause()

    def client_resumed(self) -> None:
        """The client's buffer has room: read on."""
        self._paused_ns = None
        self._resume_upstream()

    def _resume_upstream(self) -> None:
        if self._leg.is_paused:
            # No idle time was the upstream's while we were the ones who did not read.
            self.last_in_ns = _now()
            self._leg.resume()

    def interrupt(self) -> None:
        """We are going down and the call's time to finish is over."""
        self._guarded(self._interrupt)

    def _interrupt(self) -> None:
        if self._closed or self._finishing:
            return
        self._leg.let_go(reusable=False)
        if self.phase is Phase.RELAYING:
            self._finishing = True
            self._break_off(Outcome.INTERRUPTED, "draining")
            self._finish()
        else:
            self._delivery.keep_alive = False
            self._refuse(Refused("draining"))

    def tick(self, now: int) -> None:
        """Look after deadlines; called about once a second for every call under way."""
        limits = self.worker.snapshot.settings.relay
        if self._paused_ns is not None:
            if now - self._paused_ns > limits.write_idle_seconds_max * 1e9:
                self._attempt_error = "client_write_timeout"
                self._delivery.abort()
            return
        if self._finishing:
            return
        idle = now - self.last_in_ns
        if self.phase is Phase.RECEIVING:
            if idle > limits.body_idle_seconds_max * 1e9:
                self.body_broken(Refused("body_timeout"))
            return
        if self._leg.sent_ns is None:
            return  # connecting has a deadline of its own
        timeouts = self._request.upstream.settings.timeouts
        if self._upstream_full_ns is not None:
            if now - self._upstream_full_ns > timeouts.send_seconds * 1e9:
                self.upstream_failed("upstream_send_timeout")
            return
        if not self._upload_done:
            if idle > limits.body_idle_seconds_max * 1e9:
                self.body_broken(Refused("body_timeout"))
            return
        if self._drain_deadline_ns is not None:
            bytes_max = self._request.upstream.settings.drain_bytes_max
            if now > self._drain_deadline_ns or self._drained_bytes > bytes_max:
                self.upstream_failed("drain_ended")
        elif self.phase is Phase.ATTEMPTING:
            if idle > timeouts.first_byte_seconds * 1e9:
                self.upstream_failed("upstream_first_byte_timeout")
        elif self.phase in (Phase.RELAYING, Phase.ENDED) and self._tunnel is None:
            if idle > timeouts.idle_seconds * 1e9:
                self.upstream_failed("upstream_idle_timeout")
            elif self._ping is not None and now - self.last_out_ns > limits.ping_seconds * 1e9:
                self._send_ping(self._ping, now)

    def _send_ping(self, ping: bytes, now: int) -> None:
        tap = self._tap
        if not self._closed and tap is not None and tap.at_boundary and self._delivery.takes_events:
            self.last_out_ns = now
            self._delivery.write(ping)

    # == the end ==============================================================================

    def _settle(
        self, outcome: Outcome, *, error: str | None = None, status: int | None = None
    ) -> bool:
        """Close the call: exactly once, whatever happens around it.

        False if it could not be booked, and the settings want nothing delivered that is not.
        """
        if self._closed:
            return True
        self._closed = True
        now = _now()
        request, tap, leg = self._request, self._tap, self._leg
        leg.note(self._head.status if self._head is not None else None, self._attempt_error)
        if tap is not None and leg.first_byte_ns is not None:
            answer_stages(self._stages, leg.first_byte_ns, tap, now)
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
                settle_started_ns=now,
            )
        except Exception as fault:
            # The call goes on, and is booked; what it used has to remain unknown.
            self._log_fault(fault)
            record = bare_close_record(
                opened, outcome, status, error or self._attempt_error, self._head, leg.attempts
            )
        self.phase = Phase.ENDED
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
            self.worker.count_later(self.call_id, job)
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
