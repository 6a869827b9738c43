"""The upstream's half of a call: one attempt after another, each on a connection of its own.

A leg knows how to come by a connection, what was sent on it, and when; what to make of the answer
is its owner's business. The connection's bytes go to the owner directly, not through here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Protocol

import aiohttp

from taximeter.call import Attempt
from taximeter.relay._aiohttp import AnswerOwner
from taximeter.relay._answer import AnswerParser
from taximeter.relay._upstream import NoneFree, Upstream

if TYPE_CHECKING:
    from aiohttp.connector import Connection

    from taximeter.relay._aiohttp import UpstreamSide
    from taximeter.relay._plain_standing import PlainStanding

ONE_WRITE_BYTES_MAX = 64 * 1024
"""Bodies up to this length go upstream in one write with the head."""

log = logging.getLogger("taximeter.relay")
_now = time.monotonic_ns


class LegOwner(AnswerOwner, Protocol):
    """Whose half it is."""

    def connected(self) -> None:
        """There is a connection; nothing has been sent on it yet."""

    def not_connected(self, code: str) -> None:
        """There is none to be had; `code` is a key of `PROBLEMS`."""


class Leg:
    """The attempts of one call. Times are monotonic nanoseconds, None for 'not reached'."""

    __slots__ = (
        "_connecting",
        "_connection",
        "_origin_ns",
        "_paused",
        "_upstream",
        "attempts",
        "connected_ns",
        "first_byte_ns",
        "first_started_ns",
        "number",
        "parser",
        "reused",
        "sent_ns",
        "side",
        "started_ns",
    )

    def __init__(self, origin_ns: int) -> None:
        self._origin_ns = origin_ns
        self._upstream: Upstream | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._paused = False
        self.attempts: list[Attempt] = []
        """Those that are over."""
        self.side: UpstreamSide | None = None
        self.parser: AnswerParser | None = None
        self.number = 0
        """Of the attempt under way, or the last one; 0 before the first."""
        self.reused = False
        self.started_ns = self.first_started_ns = 0
        self.connected_ns: int | None = None
        self.sent_ns: int | None = None
        self.first_byte_ns: int | None = None

    # -- a connection -------------------------------------------------------------------------

    def begin_attempt(self, owner: LegOwner, upstream: Upstream, *, head_request: bool) -> bool:
        """Get a connection: True if one was idle, else the owner is told when it is made."""
        self._upstream = upstream
        self.number += 1
        self.connected_ns = self.sent_ns = self.first_byte_ns = None
        self._paused = False
        self.parser = AnswerParser(head_request=head_request, usual=upstream.usual_stream_head)
        idle = upstream.take_idle()
        self.started_ns = _now()
        if self.number == 1:
            self.first_started_ns = self.started_ns
        self.reused = idle is not None
        if idle is None:
            self._connecting = asyncio.get_running_loop().create_task(
                self._connect(owner, upstream)
            )
            return False
        self._connection, self.side = idle
        self.side.owner = owner
        self.connected_ns = self.started_ns
        return True

    def count_from(self, origin_ns: int) -> None:
        """Count times from here."""
        self._origin_ns = origin_ns

    def take_over(self, owner: LegOwner, call: PlainStanding) -> None:
        """Go on with the first attempt of a call that was sent as a plain one."""
        self._upstream, self._connection, self.side = (
            call.intake.upstream,
            call.connection,
            call.side,
        )
        self.number, self.reused = 1, True
        self.started_ns = self.first_started_ns = self.connected_ns = call.decided_ns
        self.sent_ns = call.sent_ns
        self.parser = AnswerParser()
        if self.side is not None:
            self.side.owner = owner

    async def _connect(self, owner: LegOwner, upstream: Upstream) -> None:
        try:
            connection, side, self.reused = await upstream.connect()
        except NoneFree:
            code = "connections_exhausted"
        except (TimeoutError, aiohttp.ServerTimeoutError):
            code = "upstream_connect_timeout"
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError):
            code = "upstream_tls_failed"
        except (aiohttp.ClientError, OSError, ValueError):
            code = "upstream_unreachable"
        except Exception:  # whatever else it was: a call must not wait for a task that is dead
            log.exception("A connection could not be made.")
            code = "internal_error"
        else:
            self._connecting = None
            self._connection, self.side = connection, side
            side.owner = owner
            self.connected_ns = _now()
            owner.connected()
            return
        self._connecting = None
        owner.not_connected(code)

    def let_go(self, *, reusable: bool) -> None:
        """Keep the connection for another call, or close it (or stop making it) at once."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        connection, self._connection = self._connection, None
        side, self.side = self.side, None
        parser = self.parser
        if parser is not None:
            reusable = reusable and parser.reusable
            parser.close()
        if connection is None or side is None:
            return
        side.owner = side.take = None
        upstream = self._upstream
        if upstream is None:
            connection.close()
        elif reusable and not self._paused:
            upstream.keep(connection, side)
        else:
            upstream.drop(connection)

    # -- what is sent ---------------------------------------------------------------------------

    def send(self, head: bytes, body: bytes) -> bool:
        """Send a request, or its beginning; False if the connection is gone already."""
        transport = self.side.transport if self.side is not None else None
        if transport is None:
            return False
        if len(body) <= ONE_WRITE_BYTES_MAX:
            transport.write(head + body)  # one segment, one wake-up of the upstream
        else:
            transport.write(head)
            transport.write(body)
        self.sent_ns = _now()
        return True

    def send_more(self, data: bytes) -> None:
        """Send a further piece of a body, if anybody still listens."""
        side = self.side
        if side is not None and side.transport is not None and self.sent_ns is not None:
            side.transport.write(data)

    @property
    def transport(self) -> asyncio.Transport | None:
        """The connection's transport, None if there is none."""
        return self.side.transport if self.side is not None else None

    # -- what is read ---------------------------------------------------------------------------

    @property
    def is_paused(self) -> bool:
        """Whether it is we who do not read."""
        return self._paused

    def pause(self) -> None:
        """Read no more: the client does not keep up."""
        transport = self.transport
        if transport is not None and not self._paused:
            transport.pause_reading()
            self._paused = True

    def resume(self) -> None:
        """Read on."""
        transport = self.transport
        if transport is not None and self._paused:
            self._paused = False
            transport.resume_reading()

    # -- what is booked -------------------------------------------------------------------------

    def note(self, status: int | None, error: str | None) -> None:
        """Put the attempt under way on record, once; times count from the call's start."""
        if not self.number or (self.attempts and self.attempts[-1].number == self.number):
            return
        origin = self._origin_ns
        connected, sent, first = self.connected_ns, self.sent_ns, self.first_byte_ns
        self.attempts.append(
            Attempt(
                number=self.number,
                upstream=self._upstream.name if self._upstream is not None else "",
                started_ns=self.started_ns - origin,
                connected_ns=None if connected is None else connected - origin,
                sent_ns=None if sent is None else sent - origin,
                first_byte_ns=None if first is None else first - origin,
                ended_ns=_now() - origin,
                reused=self.reused,
                status=status,
                error=error,
            )
        )
