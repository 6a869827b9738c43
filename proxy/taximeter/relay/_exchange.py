"""The life of one call in the relay, from its head to its last byte.

The first half is a coroutine, `Exchange.run`: receive the request, tell whom and what it is,
get a connection, write the open record, write the request. From then on nobody awaits a byte.
The upstream's bytes arrive in `upstream_bytes`, called from the connection's `data_received`;
they are parsed, watched by the tap and written to the client's transport before that call
returns. `run` sleeps on one future until the answer has ended.

What may happen at any moment - the client leaves, the upstream breaks off, a deadline passes,
we are told to stop - arrives as a plain call (`client_lost`, `upstream_lost`, `tick`,
`interrupt`) and is decided at once, from the phase the call is in. So there is one place where
a call ends, `_settle`, it runs once, and no `await` stands between a decision and its record.

The order that the books hang on:

    open record  ->  first byte upstream  ->  ...  ->  close record  ->  last byte to the client

For a stream the last byte is its end marker: once the tap has seen it in what is about to be
released, the close record is written first. With journal.sync `always` "written" means
power-safe, and the bytes are held until it is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import aiohttp

from taximeter.call import (
    Attempt,
    Closed,
    Fact,
    Opened,
    Outcome,
    Phase,
    Stage,
    UsageSource,
    is_legal,
)
from taximeter.relay._aiohttp import Incoming, UpstreamSide, Written
from taximeter.relay._answer import AnswerParser, Framing, Head, MalformedAnswer
from taximeter.relay._bookkeeper import Unrecorded
from taximeter.relay._delivery import Delivery
from taximeter.relay._errors import PROBLEMS, Fault, Refused
from taximeter.relay._heads import upstream_request
from taximeter.relay._request import ClientLeft, Request, Upload
from taximeter.relay._settle import UsageFinding, count_job, find_usage
from taximeter.relay._tap import Tap
from taximeter.relay._tunnel import Tunnel

if TYPE_CHECKING:
    from aiohttp.connector import Connection

    from taximeter.relay._worker import RelayWorker

log = logging.getLogger("taximeter.relay")

REFUSAL_BYTES_MAX = 64 * 1024
"""Length up to which an error answer is held to see whether it refuses `stream_options`."""

_now = time.monotonic_ns


class _TryAgain(Exception):
    """The attempt came to nothing that the client should see; another is to be made."""


class Exchange:
    """One call under way."""

    __slots__ = (
        "_answer_started_ns",
        "_attempt_error",
        "_attempt_number",
        "_attempts",
        "_closed",
        "_collected",
        "_connected_ns",
        "_connection",
        "_delivery",
        "_done",
        "_drain_deadline_ns",
        "_drained_bytes",
        "_failure",
        "_finishing",
        "_first_byte_ns",
        "_head",
        "_incoming",
        "_interrupted",
        "_kept",
        "_last_in_ns",
        "_last_out_ns",
        "_opened",
        "_parser",
        "_paused_ns",
        "_ping",
        "_request",
        "_response_bytes",
        "_sent_ns",
        "_side",
        "_stages",
        "_started_ns",
        "_task",
        "_tap",
        "_tunnel",
        "_upstream_paused",
        "_usage_asked",
        "_usage_refused",
        "call_id",
        "client_gone",
        "phase",
        "worker",
    )

    def __init__(self, worker: RelayWorker, incoming: Incoming) -> None:
        self.worker = worker
        self.phase = Phase.RECEIVING
        self.client_gone = False
        self._incoming = incoming
        self._started_ns = _now()
        self.call_id = worker.ids.make()
        message = incoming.message
        self._delivery = Delivery(
            incoming.client,
            http10=message.version < (1, 1),
            wants_keep_alive=not message.should_close and not worker.draining,
        )
        self._task: asyncio.Task[object] | None = None
        self._request: Request | None = None
        self._opened: Opened | None = None
        self._closed = False
        self._finishing = False
        self._interrupted = False
        self._kept: asyncio.Future[None] | None = None
        self._failure: str | None = None
        self._done: asyncio.Future[None] | None = None
        self._stages: dict[Stage, int] = {}
        self._attempts: list[Attempt] = []
        self._attempt_number = 0
        self._attempt_error: str | None = None
        self._answer_started_ns = 0
        self._connection: Connection | None = None
        self._side: UpstreamSide | None = None
        self._connected_ns: int | None = None
        self._sent_ns: int | None = None
        self._first_byte_ns: int | None = None
        self._parser: AnswerParser | None = None
        self._head: Head | None = None
        self._tap: Tap | None = None
        self._tunnel: Tunnel | None = None
        self._collected: bytearray | None = None
        self._usage_asked = False
        self._usage_refused = False
        self._response_bytes = 0
        self._ping: bytes | None = None
        self._last_in_ns = self._last_out_ns = self._started_ns
        self._paused_ns: int | None = None
        self._upstream_paused = False
        self._drain_deadline_ns: int | None = None
        self._drained_bytes = 0

    # == the first half: a coroutine ==========================================================

    async def run(self) -> Written:
        """See the call through. Never raises, but for the cancellation of a shutdown."""
        client = self._incoming.client
        client.owner = self
        self._task = asyncio.current_task()
        self.worker.exchanges.add(self)
        try:
            await self._run()
        except Refused as refused:
            self._refuse(refused)
        except ClientLeft:
            self.client_gone = True
        except asyncio.CancelledError:
            if not self.client_gone:
                self.interrupt()
                raise
            if self._task is not None:
                self._task.uncancel()
        except Exception as error:  # a fault of ours must not look like an answer
            log.exception("A call met a fault of ours.", extra={"call_id": self.call_id})
            self.worker.faults += 1
            if self._delivery.begun or self.client_gone:
                self._end_early(Outcome.INTERRUPTED, "internal_error")
            else:
                self._refuse(Refused("internal_error", type(error).__name__))
        finally:
            client.owner = None
            self._let_upstream_go(reusable=False)
            if not self._closed:
                self._end_early(Outcome.ABANDONED if self.client_gone else Outcome.INTERRUPTED)
            if self._kept is not None and not self._kept.done():
                await asyncio.wait((self._kept,))  # no other answer may overtake this one's end
            self.worker.exchanges.discard(self)
            if self._request is not None:
                self._request.release()
        return Written(self._delivery.keep_alive)

    async def _run(self) -> None:
        request = self._request = Request(self.worker, self._incoming, self.call_id)
        request.read_head()
        await request.receive(self._delivery)
        request.read_body()
        received_ns = _now()
        self._stages[Stage.RECEIVE] = received_ns - self._started_ns
        self._go(Phase.ADMITTING)
        self._stages[Stage.QUEUE] = 0
        self._go(Phase.ATTEMPTING)
        self._usage_asked = request.can_ask_usage
        while True:
            try:
                await self._attempt(request)
            except _TryAgain:
                self._end_attempt(reusable=True)
                continue
            return

    def _go(self, phase: Phase) -> None:
        if not is_legal(self.phase, phase):
            raise RuntimeError(f"a call cannot go from {self.phase} to {phase}")
        self.phase = phase

    async def _attempt(self, request: Request) -> None:
        self._attempt_number += 1
        self._answer_started_ns = _now()
        self._connected_ns = self._sent_ns = self._first_byte_ns = None
        self._attempt_error = None
        connection = await self._connect(request)
        connected_ns = self._connected_ns = _now()
        self._stages[Stage.CONNECT] = connected_ns - self._answer_started_ns
        self._connection = connection
        side = connection.protocol
        if not isinstance(side, UpstreamSide) or side.transport is None:
            raise Refused("upstream_disconnected", request.upstream.name)
        self._side = side
        self._parser = AnswerParser(head_request=request.method == "HEAD")
        self._head = None
        self._done = self.worker.loop.create_future()
        side.owner = self
        if self._opened is None:
            self._opened = request.opened()
            try:
                kept = self.worker.books.write(self._opened)
                if kept is not None:
                    await kept
            except Unrecorded:
                raise Refused("journal_unwritable") from None
        body, upload = request.outgoing(ask_usage=self._usage_asked)
        head = upstream_request(
            request.method.encode("ascii"),
            request.target,
            request.upstream.host,
            request.head,
            length=request.length_of(body, upload),
            chunked=upload is not None and upload.length is None,
            identity=self._usage_asked,
            credential=request.credential_line,
            upgrade=request.upgrade,
        )
        if side.transport is None:
            raise Refused("upstream_disconnected", request.upstream.name)
        # One write where the body is small: one segment, one wake-up of the upstream.
        if len(body) <= 65_536:
            side.transport.write(head + body)
        else:
            side.transport.write(head)
            side.transport.write(body)
        self._last_in_ns = self._sent_ns = _now()
        if upload is not None:
            await self._upload(upload, side)
        await self._done
        if self._failure is not None and not self._closed:
            raise Refused(self._failure, request.upstream.name)
        if self._usage_refused and self._usage_asked:
            self._usage_asked = False
            raise _TryAgain

    async def _connect(self, request: Request) -> Connection:
        name = request.upstream.name
        try:
            return await request.upstream.connector.connect()
        except asyncio.CancelledError:
            raise
        except (TimeoutError, aiohttp.ServerTimeoutError):
            connector = request.upstream.connector
            exhausted = connector.in_use >= request.upstream.settings.connections_max
            code = "connections_exhausted" if exhausted else "upstream_connect_timeout"
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError):
            code = "upstream_tls_failed"
        except (aiohttp.ClientError, OSError, ValueError):
            code = "upstream_unreachable"
        self._note_attempt(code)
        raise Refused(code, name)

    async def _upload(self, upload: Upload, side: UpstreamSide) -> None:
        """Stream the rest of a long body, for as long as the answer leaves it wanted."""
        done = self._done
        if done is None:
            return
        pump = self.worker.loop.create_task(upload.pump(side, self))
        await asyncio.wait((pump, done), return_when=asyncio.FIRST_COMPLETED)
        if not pump.done():
            # The answer is whole before the question is: what is left of it is not wanted,
            # and neither connection can carry anything after it.
            pump.cancel()
            self._delivery.keep_alive = False
            await asyncio.wait((pump,))
        if not pump.cancelled() and (error := pump.exception()) is not None:
            if self.client_gone or done.done():
                return
            if isinstance(error, Refused):
                raise error
            self._upstream_failed("upstream_disconnected")
        self._last_in_ns = self._sent_ns = _now()

    def bytes_sent(self, count: int) -> None:
        """Note progress of an upload."""
        self._last_in_ns = _now()

    # == the second half: what the upstream's connection brings ===============================

    def upstream_bytes(self, data: bytes) -> None:
        """Read, watch and pass on: the hot path."""
        if self._tunnel is not None:
            self._last_in_ns = _now()
            self._response_bytes += len(data)
            self._tunnel.from_upstream(data)
            return
        parser = self._parser
        if parser is None or self._sent_ns is None:
            self._upstream_failed("upstream_malformed")  # it spoke before it was asked
            return
        now = self._last_in_ns = _now()
        try:
            body = parser.feed(data)
        except MalformedAnswer:
            self._upstream_failed("upstream_malformed")
            return
        if self._head is None:
            for interim in parser.interim:
                if interim.status != 100:
                    self._delivery.interim(interim)
            parser.interim.clear()
            if parser.head is None:
                return
            self._begin_answer(parser.head, now)
            if self._tunnel is not None or self._finishing:
                return
        tap = self._tap
        if body:
            self._response_bytes += len(body)
            if self._collected is not None:
                self._collect(body)
                body = b""
            elif tap is not None:
                body = tap.feed(body, now)
        if parser.complete:
            self._complete(body)
            return
        if self._drain_deadline_ns is not None:
            self._drained_bytes += len(data)
            return
        if tap is not None and tap.ended and not self._closed:
            self._settle(self._outcome_of_whole_answer())
        if body:
            self._last_out_ns = now
            self._delivery.write(body)
        else:
            self._delivery.flush()

    def _begin_answer(self, head: Head, now: int) -> None:
        request, parser = self._request, self._parser
        if request is None or parser is None:
            return
        self._head = head
        self._first_byte_ns = now
        if head.status == 101:
            self._begin_tunnel(head)
            return
        self._stages[Stage.FIRST_BYTE] = now - (self._connected_ns or now)
        if self._usage_asked and head.status in (400, 422):
            self._collected = bytearray()
            return
        self._open_answer(head)

    def _begin_tunnel(self, head: Head) -> None:
        """The upstream has agreed to an upgrade that the client asked for."""
        request, parser, side = self._request, self._parser, self._side
        client = self._incoming.client
        if request is None or request.upgrade is None or parser is None or side is None:
            self._upstream_failed("upstream_malformed")  # it agreed to what nobody had asked
            return
        self._go(Phase.RELAYING)
        self._delivery.upgrade(head, self._our_fields(), request.upgrade)
        self._tunnel = Tunnel(client, side)
        self._tunnel.open(client.take_upgraded(), parser.upgraded_tail or b"")

    def _end_tunnel(self, outcome: Outcome) -> None:
        """One side has closed: so does the other."""
        self._finishing = True
        self._let_upstream_go(reusable=False)
        self._settle(outcome)
        self._delivery.break_off()
        self._wake()

    def _open_answer(self, head: Head) -> None:
        request = self._request
        if request is None:
            return
        content_type = content_encoding = ""
        for name, value in head.fields:
            lowered = name.lower()
            if lowered == b"content-type":
                content_type = value.decode("latin-1")
            elif lowered == b"content-encoding":
                content_encoding = value.decode("latin-1")
        dropping = self._usage_asked and head.status < 400
        limits = self.worker.settings.relay
        self._tap = tap = Tap(
            request.dialect,
            request.operation,
            request.provider,
            status=head.status,
            content_type=content_type,
            content_encoding=content_encoding,
            drop_usage=dropping,
            kept_bytes_max=limits.tap_bytes_max,
            budget=self.worker.tap_budget,
        )
        if tap.is_stream and limits.ping_seconds > 0 and not content_encoding:
            self._ping = request.dialect.ping(request.operation, content_type)
        self._go(Phase.RELAYING)
        sized = head.framing is Framing.LENGTH and not (dropping and tap.is_stream)
        self._delivery.begin(head, self._our_fields(), sized=sized, closing=self.worker.draining)

    def _our_fields(self) -> bytes:
        """Give the header fields that tell the client what this call was."""
        stages = self._stages
        return (
            "x-taximeter-call-id: %s\r\nServer-Timing: queue;dur=%.3f, connect;dur=%.3f"
            % (self.call_id, stages[Stage.QUEUE] / 1e6, stages[Stage.CONNECT] / 1e6)
            + ", first_byte;dur=%.3f\r\n" % (stages.get(Stage.FIRST_BYTE, 0) / 1e6)
        ).encode("ascii")

    def _collect(self, body: bytes) -> None:
        """Hold an error answer that may be the refusal of an option of ours."""
        collected, head = self._collected, self._head
        if collected is None or head is None:
            return
        collected += body
        if len(collected) > REFUSAL_BYTES_MAX:
            self._release_collected(head)

    def _release_collected(self, head: Head) -> None:
        collected, self._collected = self._collected, None
        self._open_answer(head)
        if collected and self._tap is not None:
            self._delivery.write(self._tap.feed(bytes(collected), self._last_in_ns))

    def _complete(self, body: bytes) -> None:
        """The upstream's answer is whole, as far as HTTP goes."""
        request, parser, head = self._request, self._parser, self._head
        if request is None or parser is None or head is None or self._finishing:
            return
        if self._collected is not None:
            if request.dialect.refuses_usage(head.status, bytes(self._collected)):
                request.upstream.refuses_usage(request.operation.api)
                self._usage_refused = True
                self._collected = None
                self._wake()
                return
            self._release_collected(head)
        self._finishing = True
        if self._tap is not None:
            body += self._tap.finish()
        if self._drain_deadline_ns is not None:
            self._settle(Outcome.CANCELLED, drained=True)
        elif not self._closed:
            self._settle(self._outcome_of_whole_answer())
        self._delivery.end(body, parser.trailers)
        self._let_upstream_go(reusable=parser.reusable)
        self._wake()

    def _outcome_of_whole_answer(self) -> Outcome:
        tap, head = self._tap, self._head
        if head is None or head.status >= 400:
            return Outcome.UPSTREAM_ERROR
        if tap is None or not tap.is_stream:
            return Outcome.COMPLETED
        answer = tap.answer()
        if answer.error is not None:
            return Outcome.UPSTREAM_ERROR
        return Outcome.COMPLETED if tap.whole else Outcome.TRUNCATED

    def upstream_lost(self, clean: bool) -> None:
        """The upstream's connection has ended."""
        parser = self._parser
        if self._finishing or parser is None:
            return
        if self._tunnel is not None:
            self._end_tunnel(Outcome.COMPLETED if clean else Outcome.TRUNCATED)
            return
        if clean and parser.end_of_bytes():
            self._complete(b"")
            return
        code = "upstream_truncated" if self.phase is Phase.RELAYING else "upstream_disconnected"
        self._upstream_failed(code)

    def _upstream_failed(self, code: str) -> None:
        """The upstream is of no further use to this call."""
        if self._finishing:
            return
        self._finishing = True
        if self._collected is not None and self._head is not None:
            self._release_collected(self._head)
        self._attempt_error = code
        self._let_upstream_go(reusable=False)
        if self.phase is not Phase.RELAYING:
            self._failure = code
        elif self._drain_deadline_ns is not None:
            self._settle(Outcome.CANCELLED, error=code)
        elif self._closed:
            self._delivery.break_off()  # the end marker was passed on; its framing was not
        else:
            self._break_off(Outcome.TRUNCATED, code)
        self._wake()

    def _break_off(self, outcome: Outcome, code: str) -> None:
        """End an answer under way honestly: what came, one error event, no end."""
        request, tap = self._request, self._tap
        if request is None or tap is None:
            return
        held = tap.finish()
        at_boundary = tap.at_boundary
        self._settle(outcome, error=code)
        if held:
            self._delivery.write(held)
        if at_boundary and self._delivery.takes_events:
            event = request.dialect.error_event(
                request.operation, self._content_type(), code, self._words(code), self.call_id
            )
            if event is not None:
                self._delivery.write(event)
        self._delivery.break_off()

    def _words(self, code: str) -> str:
        name = self._request.upstream.name if self._request is not None else ""
        return PROBLEMS[code].message.format(detail=name)

    def _content_type(self) -> str:
        for name, value in self._head.fields if self._head is not None else ():
            if name.lower() == b"content-type":
                return value.decode("latin-1")
        return ""

    def _let_upstream_go(self, *, reusable: bool) -> None:
        """Give the connection back to the pool, or close it at once."""
        connection, self._connection = self._connection, None
        side, self._side = self._side, None
        if self._parser is not None:
            self._parser.close()
        if side is not None:
            side.owner = None
        if connection is None:
            return
        if self._upstream_paused:
            reusable = False
        if reusable and side is not None and side.transport is not None:
            connection.release()
        else:
            connection.close()

    def _end_attempt(self, *, reusable: bool) -> None:
        parser = self._parser
        self._let_upstream_go(reusable=reusable and parser is not None and parser.reusable)
        self._note_attempt(None)
        self._head = None
        self._response_bytes = 0

    def _note_attempt(self, error: str | None) -> None:
        request = self._request
        if request is None or not self._attempt_number:
            return
        if self._attempts and self._attempts[-1].number == self._attempt_number:
            return
        start = self._started_ns

        def after(moment: int | None) -> int | None:
            return None if moment is None else moment - start

        self._attempts.append(
            Attempt(
                number=self._attempt_number,
                upstream=request.upstream.name,
                started_ns=self._answer_started_ns - start,
                connected_ns=after(self._connected_ns),
                sent_ns=after(self._sent_ns),
                first_byte_ns=after(self._first_byte_ns),
                ended_ns=_now() - start,
                status=self._head.status if self._head is not None else None,
                error=error,
            )
        )

    def _wake(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    # == what else may happen =================================================================

    def client_lost(self) -> None:
        """The client has left."""
        self.client_gone = True
        self._delivery.keep_alive = False
        if self.phase in (Phase.RECEIVING, Phase.ADMITTING):
            return  # reading the body raises by itself; nothing has gone upstream
        request = self._request
        if self._finishing or request is None:
            return
        if self._tunnel is not None:
            self._end_tunnel(Outcome.COMPLETED)
            return
        if self._sent_ns is None:
            if self._task is not None:
                self._task.cancel()
            return
        if self._closed:
            self._finishing = True
            self._let_upstream_go(reusable=False)
            self._wake()
            return
        settings = request.upstream.settings
        if settings.client_gone == "drain" and not request.streams_upload:
            self._drain_deadline_ns = _now() + int(settings.drain_seconds_max * 1e9)
            self._resume_upstream()
            return
        self._finishing = True
        self._let_upstream_go(reusable=False)
        if self._tap is not None:
            self._tap.finish()
        gone = Outcome.CANCELLED if self.phase is Phase.RELAYING else Outcome.ABANDONED
        self._settle(gone)
        self._wake()

    def client_paused(self) -> None:
        """The client's buffer is full: read no more from the upstream."""
        self._paused_ns = _now()
        side = self._side
        if side is not None and side.transport is not None and not self._upstream_paused:
            side.transport.pause_reading()
            self._upstream_paused = True

    def client_resumed(self) -> None:
        """The client's buffer has room: read on."""
        self._paused_ns = None
        self._resume_upstream()

    def _resume_upstream(self) -> None:
        side = self._side
        if self._upstream_paused and side is not None and side.transport is not None:
            # No idle time was the upstream's while we were the ones who did not read.
            self._last_in_ns = _now()
            self._upstream_paused = False
            side.transport.resume_reading()

    def interrupt(self) -> None:
        """We are going down and the call's time to finish is over."""
        self._interrupted = True
        if self._closed or self._finishing:
            return
        if self.phase is Phase.RELAYING:
            self._finishing = True
            self._let_upstream_go(reusable=False)
            self._break_off(Outcome.INTERRUPTED, "draining")
            self._wake()
        elif self.phase is Phase.ATTEMPTING:
            self._failure = "draining"
            self._finishing = True
            self._let_upstream_go(reusable=False)
            self._wake()

    def tick(self, now: int) -> None:
        """Look after deadlines; called about once a second for every call under way."""
        request = self._request
        limits = self.worker.settings.relay
        if self._paused_ns is not None and now - self._paused_ns > limits.write_idle_seconds_max * 1e9:
            self._attempt_error = "client_write_timeout"
            self._delivery.abort()
            return
        if request is None or self._finishing:
            return
        if self.phase is Phase.RECEIVING:
            if now - request.last_byte_ns > limits.body_idle_seconds_max * 1e9:
                request.give_up("body_timeout")
            return
        if self._sent_ns is None:
            return
        timeouts = request.upstream.settings.timeouts
        idle = now - self._last_in_ns
        if self.phase is Phase.ATTEMPTING:
            if idle > timeouts.first_byte_seconds * 1e9:
                self._upstream_failed("upstream_first_byte_timeout")
            return
        if self._drain_deadline_ns is not None:
            bytes_max = request.upstream.settings.drain_bytes_max
            if now > self._drain_deadline_ns or self._drained_bytes > bytes_max:
                self._upstream_failed("upstream_idle_timeout")
            return
        if self.phase is not Phase.RELAYING or self._upstream_paused or self._tunnel is not None:
            return
        if idle > timeouts.idle_seconds * 1e9:
            self._upstream_failed("upstream_idle_timeout")
        elif self._ping is not None and now - self._last_out_ns > limits.ping_seconds * 1e9:
            self._send_ping(now)

    def _send_ping(self, now: int) -> None:
        tap = self._tap
        if self._closed or tap is None or not tap.at_boundary or self._ping is None:
            return
        if self._delivery.takes_events:
            self._last_out_ns = now
            self._delivery.write(self._ping)

    # == the end ==============================================================================

    def _refuse(self, refused: Refused) -> None:
        """Answer in our own words: nothing of an upstream's answer has reached the client."""
        if self._closed:
            return
        problem = refused.problem
        request = self._request
        upstream_fault = problem.fault is Fault.UPSTREAM
        if self.phase is Phase.ATTEMPTING:
            outcome = Outcome.INTERRUPTED if refused.code == "draining" else Outcome.UPSTREAM_ERROR
        else:
            outcome = Outcome.REJECTED
        if self.client_gone:
            outcome = Outcome.ABANDONED
        self._note_attempt(refused.code if upstream_fault else None)
        if request is not None and not request.received:
            self._delivery.keep_alive = False
        self._settle(outcome, error=refused.code, status=problem.status)
        if self.client_gone:
            return
        dialect = self.worker.dialect_of(self._incoming.message.path, request)
        body = dialect.refusal(problem.status, refused.code, refused.message)
        lines = [
            "Content-Type: application/json",
            f"x-taximeter-call-id: {self.call_id}",
            f"x-taximeter-error: {refused.code}",
        ]
        if problem.retry_after_seconds is not None:
            lines.append(f"Retry-After: {problem.retry_after_seconds}")
            lines.append(f"retry-after-ms: {problem.retry_after_seconds * 1000}")
        fields = ("\r\n".join(lines) + "\r\n").encode("ascii")
        bodiless = self._incoming.message.method == "HEAD"
        self._delivery.plain(problem.status, fields, body, bodiless=bodiless)

    def _end_early(self, outcome: Outcome, error: str | None = None) -> None:
        """Book a call that ends outside the usual ways, and leave nothing half open."""
        if self._closed:
            return
        self._settle(outcome, error=error)
        if self._delivery.begun:
            self._delivery.break_off()

    def _settle(
        self,
        outcome: Outcome,
        *,
        error: str | None = None,
        status: int | None = None,
        drained: bool = False,
    ) -> None:
        """Close the call: exactly once, whatever happens around it."""
        if self._closed:
            return
        self._closed = True
        settle_started_ns = _now()
        request, tap, head = self._request, self._tap, self._head
        if self.phase is not Phase.RELAYING and outcome is Outcome.CANCELLED:
            outcome = Outcome.ABANDONED
        self._note_attempt(self._attempt_error or (error if head is None else None))
        self._stage_times(tap, settle_started_ns)
        facts: set[Fact] = set()
        finding = UsageFinding()
        job = None
        if request is not None and request.routed:
            finding = find_usage(request, tap, outcome, drained=drained, sent=self._sent_ns is not None)
            facts |= finding.facts
            if finding.must_count:
                job = count_job(request, tap, finding)
                facts.add(Fact.COUNT_PENDING)
            if self._usage_asked:
                facts.add(Fact.USAGE_ASKED)
            if self._usage_refused:
                facts.add(Fact.USAGE_REFUSED)
        if drained:
            facts.add(Fact.DRAINED)
        answer = finding.answer
        opened = self._opened or self._opening()
        self._stages[Stage.SETTLE] = _now() - settle_started_ns
        record = Closed(
            opened=opened,
            outcome=outcome,
            status=status if status is not None else head.status if head is not None else None,
            stages=self._stages,
            attempts=self._attempts,
            response_id=answer.response_id,
            response_model=answer.response_model,
            service_tier=answer.service_tier,
            price_variant=answer.price_variant,
            finish_reason=answer.finish_reason,
            usage=finding.usage,
            usage_source=finding.source,
            raw_usage=answer.raw_usage,
            gaps=tap.gaps if tap is not None else None,
            events=tap.events if tap is not None else 0,
            request_bytes=request.body_bytes if request is not None else 0,
            response_bytes=self._response_bytes,
            text_bytes_in=finding.text_bytes_in,
            text_bytes_out=finding.text_bytes_out,
            error=error or answer.error or self._attempt_error,
            facts=sorted(facts),
        )
        if tap is not None:
            tap.release()
        self.phase = Phase.ENDED
        self.worker.note_end(outcome)
        self._keep(record)
        if job is not None:
            self.worker.count_later(self.call_id, job)

    def _opening(self) -> Opened:
        """Give what is known of a call that ended before it was opened."""
        request = self._request
        if request is not None:
            return request.opened()
        return Opened(
            call_id=self.call_id,
            started_at_ns=time.time_ns() - (_now() - self._started_ns),
            method=self._incoming.message.method[:16],
        )

    def _stage_times(self, tap: Tap | None, now: int) -> None:
        if self._first_byte_ns is None or tap is None:
            return
        since = self._first_byte_ns
        if tap.first_token_ns is not None:
            self._stages[Stage.FIRST_TOKEN] = tap.first_token_ns - since
            since = tap.first_token_ns
        self._stages[Stage.STREAM] = max(0, now - since)

    def _keep(self, record: Closed) -> None:
        """Write the close record; hold the client's last bytes until it is as safe as asked."""
        try:
            kept = self.worker.books.write(record)
        except Unrecorded:
            # Nobody may see this call answered: it could not be booked.
            self._delivery.hold()
            self._delivery.abort()
            return
        if kept is not None:
            self._kept = kept
            self._delivery.hold()
            kept.add_done_callback(self._let_go)

    def _let_go(self, kept: asyncio.Future[None]) -> None:
        if kept.cancelled() or kept.exception() is not None:
            self._delivery.abort()
        else:
            self._delivery.let_go()
