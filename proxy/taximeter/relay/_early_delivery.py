"""The delivery of a stream that was opened before its call had its turn.

The client has a head that says 200, and comments to keep it waiting. Whatever comes after that can
only be said inside the stream: an answer's bytes go on as ever, but without the upstream's head; a
refusal, an upstream's error and every failure become an error event in the dialect's shape, after
which the connection ends without the bytes that would make the stream look whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taximeter.dialects import Dialect, Operation
from taximeter.relay._delivery import Delivery
from taximeter.relay._errors import Refused
from taximeter.relay._heads import answer_head

if TYPE_CHECKING:
    from taximeter.relay._answer import Head
    from taximeter.relay._keeping import Keeper

EVENT_STREAM = "text/event-stream"
ERROR_BYTES_MAX = 64 * 1024
"""Longest error answer of an upstream passed on as an event; of a longer one, its status is."""
_HEAD = b"Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"


class EarlyDelivery(Delivery):
    """Delivers into a stream that is open already."""

    __slots__ = ("_dialect", "_error", "_keeper", "_operation", "_status")

    def __init__(
        self, before: Delivery, dialect: Dialect, operation: Operation, keeper: Keeper | None
    ) -> None:
        """Go on from a delivery that has delivered nothing yet."""
        super().__init__(before.client, before.http10, before.keep_alive)
        self._dialect = dialect
        self._operation = operation
        self._keeper = keeper
        self._error: bytearray | None = None
        """An upstream's error answer, while it comes."""
        self._status = 0

    def open(self, call_id: str, comment: bytes) -> None:
        """Send the head, and a first comment."""
        self.begun = self._chunked = True
        lines = _HEAD + b"x-taximeter-call-id: %b\r\nx-taximeter-opened-early: true\r\n" % (
            call_id.encode()
        )
        self._pending = answer_head(200, b"OK", lines, chunked=True, close=not self.keep_alive)
        super().write(comment)

    @property
    def is_watched(self) -> bool:
        """See `Delivery.is_watched`."""
        return self._keeper is not None

    def begin(self, head: Head, ours: bytes, *, sized: bool, closing: bool) -> None:
        """Take note of what kind of answer there is: its head cannot be passed on any more."""
        if closing:
            self.keep_alive = False
        if head.status >= 400:
            self._error = bytearray()
            self._status = head.status
        elif self._keeper is not None:
            self._keeper.begin(sized=False)

    def write(self, body: bytes) -> None:
        """See `Delivery.write`."""
        if self._error is not None:
            if len(self._error) <= ERROR_BYTES_MAX:
                self._error += body
            return
        if self._keeper is not None:
            self._keeper.take(body)
        super().write(body)

    def add(self, event: bytes) -> None:
        """See `Delivery.add`."""
        super().write(event)

    def end(self, body: bytes, trailers: bytes) -> None:
        """See `Delivery.end`."""
        if self._error is not None:
            self.write(body)
            self.break_off()
            return
        if self._keeper is not None:
            self._keeper.take(body)
            self._keeper.end(trailers)
        super().end(body, trailers)

    def break_off(self) -> None:
        """See `Delivery.break_off`. An upstream's error is passed on first, as far as it came."""
        if self._error is not None:
            said, self._error = bytes(self._error), None
            super().write(self._event_of(said))
        super().break_off()

    def _event_of(self, said: bytes) -> bytes:
        """Give an upstream's error, in its own words if they are of the dialect's shape."""
        event = None
        if len(said) <= ERROR_BYTES_MAX:
            event = self._dialect.error_as_event(self._operation, said)
        if event is None:
            words = f"The upstream answered with status {self._status}."
            refusal = self._dialect.refusal(self._status, "upstream_error", words)
            event = self._dialect.error_as_event(self._operation, refusal)
        return event or b""

    def refuse(
        self,
        refused: Refused,
        dialect: Dialect,
        call_id: str | None,
        *,
        bodiless: bool = False,
        timing: bytes = b"",
    ) -> None:
        """Say no inside the stream. It was a refusal's status that was not to be had any more."""
        refusal = dialect.refusal(refused.problem.status, refused.code, refused.message)
        super().write(dialect.error_as_event(self._operation, refusal) or b"")
        self.break_off()

    def refuse_to_deliver(self) -> None:
        """See `Delivery.refuse_to_deliver`."""
        if self._keeper is not None:
            self._keeper.give_up()
        super().refuse_to_deliver()
