"""The client's half of an answer: framing it, holding it while a record is made safe, ending it.

An answer ends in one of two ways. `end` writes what tells the client that it is whole: the last
byte of a sized body, the terminator of a chunked one. `break_off` closes the connection without
it, so that a truncated answer never looks whole: for a client whose framing is the connection
itself (HTTP/1.0) the close is a reset, since to it an orderly end would mean "complete".
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

from taximeter.dialects import Dialect
from taximeter.relay._answer import NONE, Head
from taximeter.relay._errors import Refused
from taximeter.relay._heads import answer_head, chunk, last_chunk, reason_of

if TYPE_CHECKING:
    from taximeter.relay._turns import Turns


def end_by_reset(transport: asyncio.Transport) -> None:
    """Have a connection end by a reset, whatever of it is unread.

    An orderly end waits behind what the other side does not read, and so does the memory for it:
    in the system's hands, for minutes, where no bound of ours holds.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Delivery:
    """Writes one answer to one client. Does nothing once the client is gone."""

    __slots__ = (
        "_break_off_after",
        "_chunked",
        "_held",
        "_pending",
        "begun",
        "client",
        "http10",
        "keep_alive",
        "to_the_end_of_the_connection",
    )

    def __init__(self, client: Turns, http10: bool, wants_keep_alive: bool) -> None:
        self.client = client
        self.http10 = http10
        self._chunked = False
        self._pending = b""
        self._held: list[bytes] | None = None
        self._break_off_after = False
        self.begun = False
        self.keep_alive = wants_keep_alive
        """Whether the connection can carry another call after this one."""
        self.to_the_end_of_the_connection = False

    @property
    def is_watched(self) -> bool:
        """Whether every byte of the body must go through here, and none past it."""
        return False

    @property
    def takes_events(self) -> bool:
        """Whether an event of our own can be put between the upstream's."""
        return self.begun and self._chunked

    def begin(self, head: Head, ours: bytes, *, sized: bool, closing: bool) -> None:
        """Make the head ready; it goes out with the first bytes of the body, or by `flush`.

        `sized`: the body goes on as it is, so the upstream's length holds. `closing`: we are
        shutting down and want no further call on this connection.
        """
        bodiless, length = head.framing is NONE, head.length
        if not sized and not bodiless:
            length = None
        if length is None and not bodiless:
            self._chunked = not self.http10
            self.to_the_end_of_the_connection = self.http10
        if closing or self.to_the_end_of_the_connection:
            self.keep_alive = False
        self.begun = True
        self._pending = answer_head(
            head.status,
            head.reason,
            head.lines + ours,
            length=length,
            chunked=self._chunked,
            close=not self.keep_alive,
            keep_alive=self.keep_alive and self.http10,
        )

    def say(self, fields: bytes) -> None:
        """Add lines to a head that is ready and has not gone out."""
        if self._pending:
            self._pending = b"%b%b\r\n" % (self._pending[:-2], fields)

    def go_on(self) -> None:
        """Tell the client to send its body (100-continue)."""
        if not self.http10:
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def interim(self, head: Head) -> None:
        """Pass an interim answer (1xx) on to a client that can take it."""
        if not self.http10 and not self.begun:
            self._send(answer_head(head.status, head.reason, head.lines))

    def refuse(
        self,
        refused: Refused,
        dialect: Dialect,
        call_id: str | None,
        *,
        bodiless: bool = False,
        timing: bytes = b"",
    ) -> None:
        """Write a whole answer of our own, in the dialect's shape. `timing` is a field's line."""
        problem = refused.problem
        lines = ["Content-Type: application/json", f"x-taximeter-error: {refused.code}"]
        if call_id is not None:
            lines.append(f"x-taximeter-call-id: {call_id}")
        if timing:
            lines.append(timing.decode("ascii"))
        if refused.retry_after_ms is not None:
            lines.append(f"Retry-After: {-(-refused.retry_after_ms // 1000)}")
            lines.append(f"retry-after-ms: {refused.retry_after_ms}")
        if refused.should_retry is not None:
            lines.append(f"x-should-retry: {'true' if refused.should_retry else 'false'}")
        body = dialect.refusal(problem.status, refused.code, refused.message)
        self.begun = True
        head = answer_head(
            problem.status,
            reason_of(problem.status),
            ("\r\n".join(lines) + "\r\n").encode("ascii"),
            length=len(body),
            close=not self.keep_alive,
            keep_alive=self.keep_alive and self.http10,
        )
        self._send(head if bodiless else head + body)

    def upgrade(self, head: Head, ours: bytes, protocol: bytes) -> None:
        """Pass on that the connection becomes something else."""
        self.begun, self.keep_alive = True, False
        self._send(answer_head(101, head.reason, head.lines + ours, upgrade=protocol))

    def write(self, body: bytes) -> None:
        """Pass body bytes on. There must be some: an empty chunk would be the end."""
        if not body:
            return
        if self._chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body)
        if self._pending:
            body, self._pending = self._pending + body, b""
        self._send(body)

    def add(self, event: bytes) -> None:
        """Put in an event of our own."""
        self.write(event)

    def flush(self) -> None:
        """Send the head on its own if it still waits for the body."""
        if self._pending:
            pending, self._pending = self._pending, b""
            self._send(pending)

    def end(self, body: bytes, trailers: bytes) -> None:
        """Write the last bytes: those that tell the client that the answer is whole."""
        if self._chunked:
            last = last_chunk(trailers)
            body = chunk(body) + last if body else last
        if self._pending:
            body, self._pending = self._pending + body, b""
        if body:
            self._send(body)

    def break_off(self) -> None:
        """End the connection without the bytes that would make the answer look whole."""
        self.keep_alive = False
        self.flush()
        transport = self.client.transport
        if transport is None:
            return
        if self._held is not None:
            self._break_off_after = True
            return
        if self.to_the_end_of_the_connection:
            end_by_reset(transport)
        transport.close()

    def abort(self) -> None:
        """Drop the connection and whatever it still has to send."""
        self.keep_alive = False
        transport = self.client.transport
        if transport is not None:
            end_by_reset(transport)
            transport.abort()

    def refuse_to_deliver(self) -> None:
        """The call could not be booked: what is left of its answer must not arrive."""
        self._held = []
        self.abort()

    # -- holding ----------------------------------------------------------------------------

    def hold(self) -> None:
        """Keep back what is written from now on."""
        if self._held is None:
            self._held = []

    def let_go(self) -> None:
        """Send what was kept back."""
        held, self._held = self._held, None
        if held:
            self._send(b"".join(held))
        if self._break_off_after:
            self.break_off()

    def _send(self, data: bytes) -> None:
        if self._held is not None:
            self._held.append(data)
            return
        transport: asyncio.Transport | None = self.client.transport
        if transport is not None:
            transport.write(data)
