"""One upstream as a worker holds it: its settings, its address, its pool, what it refuses."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from taximeter.dialects import has_dot_segments
from taximeter.relay._aiohttp import UpstreamConnector, UpstreamSide
from taximeter.relay._heads import field_plan
from taximeter.relay._trace import Spans
from taximeter.relay._usual_head import UsualHead, UsualStreamHead
from taximeter.settings import Settings
from taximeter.settings import Upstream as UpstreamSettings

if TYPE_CHECKING:
    from aiohttp.connector import Connection

USAGE_REFUSAL_SECONDS = 3600.0
"""How long an upstream that refused `stream_options` is not asked again."""
IDLE_SECONDS_MAX = 30.0
"""How long a connection waits for its next call: less than servers usually wait."""

_QUIRKS = {".x.ai": "x-ai", ".perplexity.ai": "perplexity"}
"""Hosts whose answers read differently, though they speak a family's words. Whose *prices* apply
is not decided here: the recorder tells it from the whole URL."""


class NoneFree(Exception):
    """Every connection that there may be is in use, and none became free in time."""


class Upstream:
    """An upstream of one settings snapshot. Its pool is made on first use, within the loop.

    Connections are made by aiohttp's connector. Those that wait for their next call are kept
    here, the last used first: taking one is a list's pop, with nothing to await. At
    `connections_max` calls wait in line here, not in aiohttp's, where they would not hear of a
    connection that another call has left.
    """

    def __init__(
        self,
        name: str,
        settings: UpstreamSettings,
        noted: frozenset[bytes] = frozenset(),
        spans: Spans | None = None,
    ) -> None:
        parts = urlsplit(settings.url)
        self.name = name
        self.settings = settings
        self.dialect: str = settings.dialect
        self.base_path = parts.path.rstrip("/")
        self.host = parts.netloc.encode("ascii")
        self.provider = settings.provider or _quirk_of(parts.hostname or "")
        self.spans = spans if settings.forward_trace else None
        """Tells it which span it is a child of; None where it is told nothing, or as it came."""
        self.field_plan = field_plan(
            noted, forward_trace=settings.forward_trace, own_span=self.spans is not None
        )
        self.usual_head = UsualHead()
        self.usual_stream_head = UsualStreamHead()
        self.asks_usage = settings.usage == "ask"
        self.api_key = settings.read_api_key()
        self._usage_refused_until: dict[str, float] = {}
        self._connector: UpstreamConnector | None = None
        self._idle: list[tuple[Connection, UpstreamSide, float]] = []
        self._waiting: deque[asyncio.Future[tuple[Connection, UpstreamSide] | None]] = deque()
        """Calls in line. Given a connection, or None: the place to make one."""
        self._promised = 0
        """Places given to calls that have not taken them yet: no later call may."""

    # -- connections ------------------------------------------------------------------------

    def take_idle(self) -> tuple[Connection, UpstreamSide] | None:
        """Give a connection that is ready at once, None if there is none."""
        idle = self._idle
        while idle:
            connection, side, _ = idle.pop()
            if side.is_silent():
                return connection, side
            connection.close()
        return None

    def keep(self, connection: Connection, side: UpstreamSide) -> None:
        """Take back a connection that can carry another call."""
        if not self._waiting or not self._give((connection, side)):
            self._idle.append((connection, side, time.monotonic()))

    def drop(self, connection: Connection) -> None:
        """Close a connection; its place goes to the next in line."""
        connection.close()
        self._give(None)

    def _give(self, what: tuple[Connection, UpstreamSide] | None) -> bool:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(what)
                self._promised += what is None
                return True
        return False

    async def connect(self) -> tuple[Connection, UpstreamSide, bool]:
        """Make a connection, or wait in line for one; tell whether it has carried a call before.

        Raises:
            NoneFree: if none became free within `connect_seconds`.
            aiohttp.ClientError, OSError, TimeoutError: as aiohttp's connector does.
        """
        connector = self.connector
        if self._waiting or connector.in_use + self._promised >= self.settings.connections_max:
            found = await self._wait_in_line()
            if found is None:
                self._promised -= 1
            elif found[1].is_silent():
                return *found, True
            else:
                found[0].close()  # and one is made in its place
        try:
            return *(await connector.connect()), False
        except BaseException:
            self._give(None)
            raise

    async def _wait_in_line(self) -> tuple[Connection, UpstreamSide] | None:
        waiter: asyncio.Future[tuple[Connection, UpstreamSide] | None]
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self.settings.timeouts.connect_seconds):
                return await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():
                # It was our turn just when we gave up: it goes to the next.
                found = waiter.result()
                if found is None:
                    self._promised -= 1
                    self._give(None)
                else:
                    self.keep(*found)
            else:
                waiter.cancel()
            if isinstance(error, TimeoutError):
                raise NoneFree from None
            raise

    @property
    def connections_in_use(self) -> int:
        """Connections that carry a call, or are being made for one."""
        return self._connector.in_use - len(self._idle) if self._connector is not None else 0

    @property
    def connections_idle(self) -> int:
        """Connections that wait for their next call."""
        return len(self._idle)

    @property
    def calls_waiting(self) -> int:
        """Calls that wait in line for a connection."""
        return len(self._waiting)

    @property
    def connector(self) -> UpstreamConnector:
        """Makes new connections."""
        if self._connector is None:
            timeouts = self.settings.timeouts
            self._connector = UpstreamConnector(
                self.settings.url,
                connections_max=self.settings.connections_max,
                connect_seconds=timeouts.connect_seconds,
                tls=self._tls(),
            )
        return self._connector

    def drop_idle(self, older_than: float) -> None:
        """Close the connections that have waited since before `older_than`, and the dead ones."""
        kept = []
        for connection, side, since in self._idle:
            if since < older_than or side.transport is None:
                connection.close()
            else:
                kept.append((connection, side, since))
        self._idle = kept

    def _tls(self) -> ssl.SSLContext | None:
        tls = self.settings.tls
        if tls.verify and tls.ca_file is None:
            return None
        context = ssl.create_default_context(
            cafile=str(tls.ca_file) if tls.ca_file is not None else None
        )
        if not tls.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    async def close(self) -> None:
        """Close every connection."""
        self.drop_idle(float("inf"))
        if self._connector is not None:
            await self._connector.close()

    # -- what it is like ----------------------------------------------------------------------

    def may_ask_usage(self, api: str) -> bool:
        """Whether `stream_options.include_usage` is worth a try on this family of calls."""
        if not self.asks_usage:
            return False
        until = self._usage_refused_until.get(api)
        return until is None or time.monotonic() >= until

    def refuses_usage(self, api: str) -> None:
        """Remember that it answered that option with an error."""
        self._usage_refused_until[api] = time.monotonic() + USAGE_REFUSAL_SECONDS

    def target_of(self, target: str) -> bytes:
        """Give the request target below its base; `/v1` once where both bring it."""
        base = self.base_path
        if base.endswith("/v1") and (target == "/v1" or target.startswith("/v1/")):
            base = base[:-3]
        return (base + target).encode("latin-1")

    def is_left_by(self, path: str, *, with_key: bool) -> bool:
        """Tell whether a path might lead to where our base, or our own key, is not meant to go."""
        return (with_key or bool(self.base_path)) and has_dot_segments(path)

    def credential_line(self, dialect: str) -> bytes:
        """Give the header field that carries the upstream's own key, for callers without one."""
        if self.api_key is None:
            return b""
        key = self.api_key.encode("ascii")
        match dialect:
            case "anthropic":
                return b"x-api-key: %b\r\n" % key
            case "gemini":
                return b"x-goog-api-key: %b\r\n" % key
            case _:
                return b"Authorization: Bearer %b\r\n" % key


def _quirk_of(host: str) -> str | None:
    for suffix, provider in _QUIRKS.items():
        if f".{host}".endswith(suffix):
            return provider
    return None


def upstreams_of(settings: Settings, noted: frozenset[bytes]) -> dict[str, Upstream]:
    """Make every upstream of a snapshot; `noted` are further request fields to be read."""
    otlp = settings.otlp
    spans = None
    if otlp.traces_url is not None:
        spans = Spans(1.0 if otlp.sample_ratio is None else otlp.sample_ratio)
    return {name: Upstream(name, one, noted, spans) for name, one in settings.upstreams.items()}
