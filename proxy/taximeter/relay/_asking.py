"""A call's way upstream: attempts, the request that is sent, and the rest of a long body."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod

from taximeter.call import Stage
from taximeter.relay._bookkeeper import Unrecorded
from taximeter.relay._course import Course
from taximeter.relay._errors import Refused
from taximeter.relay._heads import LAST_CHUNK, chunk

_now = time.monotonic_ns
_CONNECT = Stage.CONNECT


class Asking(Course, ABC):
    """Asks the upstream, once the request is understood."""

    __slots__ = ()

    @abstractmethod
    def upstream_bytes(self, data: bytes) -> None:
        """Bytes of an answer have come."""

    @abstractmethod
    def upstream_lost(self, clean: bool) -> None:
        """The upstream's connection has ended."""

    def _try(self) -> None:
        self._attempt_error = self._upstream_full_ns = None
        self._head = None
        request = self._request
        if self._leg.begin_attempt(
            self, request.upstream, head_request=request.message.method == b"HEAD"
        ):
            self._connected()

    def not_connected(self, code: str) -> None:
        """No connection is to be had."""
        self._guarded(lambda: self._attempt_failed(code))

    def connected(self) -> None:
        """There is a connection."""
        self._guarded(self._connected)

    def _connected(self) -> None:
        leg = self._leg
        if self._finishing:
            leg.let_go(reusable=True)
            return
        if self._client.drop_if_gone():
            return  # we are told that it has left, and nothing of this attempt has been sent
        # With the attempts that failed: what a stage does not hold would be in none.
        self._stages[_CONNECT] = (leg.connected_ns or leg.started_ns) - leg.first_started_ns
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
        head, body = request.outgoing(ask_usage=self._usage_asked, attempt=self._leg.number)
        self.last_in_ns = _now()
        if not self._leg.send(head, body):
            self.upstream_failed("upstream_disconnected")
            return
        if self._paused_ns is not None:
            self._leg.pause()  # the client has been full since before there was a connection
        if self._unsent is not None:
            self._leg.send_more(bytes(self._unsent))
            self._unsent = None
        if not self._upload_done and self._upstream_full_ns is None:
            self._client.resume_body()

    # -- the rest of a long body ---------------------------------------------------------------

    def _upload(self, data: bytes) -> None:
        """Pass a further piece on; if the answer is over before the question, to nobody."""
        self._request.body_bytes += len(data)
        self._send_piece(chunk(data) if self._request.is_chunked else data)

    def _send_piece(self, piece: bytes) -> None:
        if self._leg.sent_ns is None:
            self._unsent = bytearray(piece) if self._unsent is None else self._unsent + piece
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
