"""A stream that is opened while its call still waits for its turn (`queue.early_open_seconds`).

A client's library gives up on a stream whose head does not come. Opened, and fed with comments, it
waits. The price is that the status is spent: what goes wrong from then on is told inside the stream
(`_early_delivery`), and the client's library does not try again by itself. So it is off unless set.

What a stream may still do after that: be tried again and fall back, for that ends with an answer's
first byte, and a comment of ours is none. It asks for an answer that is not compressed, since there
is no head left to say that it is.

Only streams that are events of a text API, and in which a comment is known to do no harm, are
opened: chat completions, completions, responses, messages. Native Gemini, lines of JSON and media
never are.
"""

from __future__ import annotations

import time

from taximeter.call import Fact
from taximeter.relay._answer import Head
from taximeter.relay._early_delivery import EVENT_STREAM, EarlyDelivery
from taximeter.relay._errors import Refused
from taximeter.relay._repeating import Repeating
from taximeter.relay._standing import ADMITTING, ENDED, RELAYING

_now = time.monotonic_ns
OPENED_APIS = frozenset({"chat_completions", "completions", "responses", "messages"})


class Opening(Repeating):
    """Opens streams that wait."""

    __slots__ = ()

    def _begin_to_wait(self) -> None:
        """The call waits for its turn: have its stream opened if that takes long."""
        request = self._request
        seconds = request.upstream.settings.queue.early_open_seconds
        if (
            seconds is not None
            and request.facts.stream
            and request.operation.api in OPENED_APIS
            and self._upload_done
            and not self._delivery.http10
            and request.dialect.ping(request.operation, EVENT_STREAM) is not None
        ):
            self._early_timer = self.worker.loop.call_later(seconds, self._open_early)

    def _open_early(self) -> None:
        self._early_timer = None
        if self.phase is ADMITTING and not self._finishing and not self.client_gone:
            self._guarded(self._open)

    def _open(self) -> None:
        request = self._request
        comment = request.dialect.ping(request.operation, EVENT_STREAM)
        if comment is None:
            return
        self._facts.add(Fact.OPENED_EARLY)
        request.is_uncoded = True
        self._delivery = self._early = EarlyDelivery(
            self._delivery, request.dialect, request.operation, self._keeper
        )
        self.last_out_ns = _now()
        self._early.open(self.call_id, comment)

    def _ping_early(self, early: EarlyDelivery, now: int) -> None:
        """Keep the client of an opened stream waiting until its answer begins."""
        seconds = self.worker.snapshot.settings.relay.ping_seconds
        if self.phase in (RELAYING, ENDED) or not seconds:
            return
        comment = self._request.dialect.ping(self._request.operation, EVENT_STREAM)
        if comment is not None and now - self.last_out_ns > seconds * 1e9:
            self.last_out_ns = now
            early.add(comment)

    def _open_answer(self, head: Head) -> None:
        """Take an answer into the stream that is open, if it can be taken into one."""
        if self._early is not None and head.status < 400 and not _is_plain_stream(head):
            self._leg.let_go(reusable=False)
            self._fail(Refused("upstream_not_streaming", self._request.upstream.name))
            return
        super()._open_answer(head)


def _is_plain_stream(head: Head) -> bool:
    return not head.content_encoding and head.content_type.lower().startswith(EVENT_STREAM)
