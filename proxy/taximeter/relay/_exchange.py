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

The life is told in ten parts, each of which goes on from the one before: where a call stands
(`_standing`), how it ends (`_course`), its way upstream (`_asking`), what its client is told of it
(`_telling`), its answer (`_answering`), its turn (`_admitting`), its attempts (`_retrying`), what
its client has asked before (`_repeating`), a stream that waits (`_opening`), and here what its
client and the worker do to it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from taximeter.call import Outcome, Stage
from taximeter.relay._errors import Refused
from taximeter.relay._intake import PEEK_BYTES, Intake
from taximeter.relay._opening import Opening
from taximeter.relay._standing import ADMITTING, ATTEMPTING, ENDED, RECEIVING, RELAYING

if TYPE_CHECKING:
    from taximeter.relay._known import Cut
    from taximeter.relay._plain_standing import PlainStanding

BODY_BYTES_PER_SECOND_MIN = 500
"""Bytes of a body that buy it a second more to come in: one that comes in drips is given up."""
_NS_FOR_A_BODY_BYTE = 1_000_000_000 // BODY_BYTES_PER_SECOND_MIN
_now = time.monotonic_ns
_RECEIVE, _QUEUE, _CONNECT = Stage.RECEIVE, Stage.QUEUE, Stage.CONNECT


class Exchange(Opening):
    """One call under way, as its client and the worker see it."""

    __slots__ = ()

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

    def began_as(self, call: PlainStanding) -> None:
        """Go by when, and under which settings, it began as a plain call."""
        self._started_ns = self.last_in_ns = self.last_out_ns = call.started_ns
        self._request.started_at_ns, self._request.snapshot = call.started_at_ns, call.snapshot
        self._leg.count_from(call.started_ns)

    def take_over(self, call: PlainStanding, body: bytes) -> None:
        """Stand where a plain call stands, and go on from there."""
        worker, request, stages, leg = self.worker, self._request, self._stages, self._leg
        worker.exchanges.add(self)
        self.call_id = request.call_id = call.call_id
        stages[_RECEIVE] = call.decided_ns - call.started_ns
        self._go(ADMITTING)
        self._ticket = call.ticket
        if call.connection is not None and call.side is not None:
            stages[_QUEUE] = stages[_CONNECT] = 0
            self._go(ATTEMPTING)
            self._opened = request.take_opened(call.opened)
            self.last_in_ns = call.sent_ns or call.decided_ns
            leg.take_over(self, call)
        if call.is_closed:
            self._closed = self._delivery.begun = True
            self.phase = ENDED
        # All that it holds is this one's by now: whatever raises from here on, it is given back.
        request.take_head(call.intake, len(body), call.traceparent)
        request.take(body)
        request.read_body(whole=True)

    def _begin(self, head: Cut | None) -> None:
        request, worker = self._request, self.worker
        snapshot, message = request.snapshot, request.message
        try:
            intake = Intake(
                message, snapshot.routes, snapshot.identity_headers, worker.hash_key, worker.keys
            )
        except Refused as refused:
            self._refuse_soon(refused)
            return
        request.take_head(intake, intake.stated_length, intake.traceparent)
        if intake.refusal is not None:
            self._refuse_soon(intake.refusal)
            return
        # A trace that was not cut out, for how it is spelt, is another one each time.
        traced_alike = head is not None and head.traceparent == intake.traceparent
        if head is not None and intake.is_repeatable and traced_alike:
            snapshot.heads.keep(head.key, intake)
        if intake.wants_summary and snapshot.prices is None:
            snapshot.prices_on_demand.ask()
        if intake.upgrade is not None:
            self._delivery.keep_alive = False
        if intake.expects_continue:
            self._delivery.go_on()

    def _refuse_soon(self, refused: Refused) -> None:
        """Tell the client when its body has come, or soon: so that it can hear it."""
        self._refusal = refused
        if any(name.lower() == b"expect" for name, _ in self._request.message.fields):
            # It waits for a word, and may send its body or not: no request can follow.
            self._delivery.keep_alive = False
            self._upload_done = False
            self._refuse(refused)

    def body_received(self, data: bytes) -> None:
        """A piece of the request's body has come."""
        self.last_in_ns = _now()
        if self.phase is RECEIVING:
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
        if self.phase is RECEIVING:
            if self._refusal is not None:
                self._refuse(self._refusal)
            else:
                self._guarded(self._go_on)
        elif not self._upload_done:
            self._guarded(self._end_upload)

    def body_broken(self, refused: Refused) -> None:
        """What came is no body: nothing sent upstream so far can be ended well."""
        self._delivery.keep_alive = False
        if self.phase is RECEIVING:
            self._guarded(lambda: self._refuse(refused))
        elif not self._upload_done:
            self._guarded(lambda: self._upload_broken(refused))

    def _upload_broken(self, refused: Refused) -> None:
        self._leg.let_go(reusable=False)
        if self.phase is not RELAYING:
            self._fail(refused)
        elif not self._finishing:
            # An answer is on its way already: no other can begin in the middle of it.
            self._finishing = True
            self._break_off(Outcome.CANCELLED, refused.code)
            self._finish()

    def _go_on_without_the_rest(self) -> None:
        self._upload_done = False
        self._client.pause_body()
        self._go_on()

    def _go_on(self) -> None:
        request, stages = self._request, self._stages
        request.read_body(whole=self._upload_done)
        stages[_RECEIVE] = _now() - self._started_ns
        self._admit()

    @property
    def wants_tunnel(self) -> bool:
        """Whether the client asked for an upgrade that is passed on."""
        return self._request.routed and self._request.intake.upgrade is not None

    # -- the client ---------------------------------------------------------------------------

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
            and not self.is_between_attempts
        ):
            self._drain_deadline_ns = _now() + int(settings.drain_seconds_max * 1e9)
            self._leave_splice()
            self.client_resumed()
            return
        self._finishing = True
        self._leg.let_go(reusable=False)
        if self._tap is not None:
            self._tap.finish()
        relaying = self.phase is RELAYING
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

    # -- the worker ---------------------------------------------------------------------------

    def interrupt(self) -> None:
        """We are going down and the call's time to finish is over."""
        self._guarded(self._interrupt)

    def _interrupt(self) -> None:
        if self._closed or self._finishing:
            return
        self._leg.let_go(reusable=False)
        if self.phase is RELAYING:
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
        if self._early is not None:
            self._ping_early(self._early, now)
        idle = now - self.last_in_ns
        if self.phase is RECEIVING:
            patience_ns = limits.body_idle_seconds_max * 1e9
            earned_ns = self._request.body_bytes * _NS_FOR_A_BODY_BYTE
            if idle > patience_ns or now - self._started_ns > patience_ns + earned_ns:
                self.body_broken(Refused("body_timeout"))
            return
        if self.is_between_attempts or self._leg.sent_ns is None:
            self._client.drop_if_gone()
            return  # admission and connecting have deadlines of their own
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
        elif self.phase is ATTEMPTING:
            most = timeouts.first_byte_seconds
            waited = now - self._leg.sent_ns
            # A head in drips, or an answer that is held, has as long again as a pause may last.
            if idle > most * 1e9 or waited > (most + timeouts.idle_seconds) * 1e9:
                self.upstream_failed("upstream_first_byte_timeout")
        elif self.phase in (RELAYING, ENDED) and self._tunnel is None:
            if idle > timeouts.idle_seconds * 1e9:
                self.upstream_failed("upstream_idle_timeout")
            elif self._ping is not None and now - self.last_out_ns > limits.ping_seconds * 1e9:
                self._send_ping(self._ping, now)

    def _send_ping(self, ping: bytes, now: int) -> None:
        tap = self._tap
        if not self._closed and tap is not None and tap.at_boundary and self._delivery.takes_events:
            self.last_out_ns = now
            self._delivery.add(ping)
