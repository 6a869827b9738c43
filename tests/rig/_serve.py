"""The scripted upstream's connections: requests read with llhttp, answered one by one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import time
from collections import deque
from typing import Any, cast

import httptools
import msgspec

from tests.rig import _routes
from tests.rig._figures import expected
from tests.rig._log import Exchange, Log
from tests.rig._script import Script, read_script
from tests.rig._talk import Answer, Ask, plain
from tests.rig._write import ClientLeftError, CutError, Writer

CONTROL = "/_rig/"


class Shared:
    """What all connections of one upstream share."""

    def __init__(self, default: Script) -> None:
        self.default = default
        self.queued: deque[Script] = deque()
        self.log = Log()
        self.kept: dict[str, Any] = {}
        self.open: set[Connection] = set()
        self._ids = 0
        self._prefix = os.urandom(4).hex()

    def make_id(self) -> str:
        """Make an id that no other answer of any upstream here has."""
        self._ids += 1
        return f"{self._prefix}{self._ids:06d}"


class Connection(asyncio.Protocol):
    """One client's connection, and the `Line` its answers are written to."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._parser: Any = httptools.HttpRequestParser(self)
        self._number = 0
        self._current: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._arrived = asyncio.Event()
        self._left = asyncio.Event()
        self._left_at: float | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._version: dict[int, str] = {}

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        log = self._shared.log
        log.connections_made += 1
        log.connections_open += 1
        self._number = log.connections_made
        self._shared.open.add(self)
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        if self._current is None:
            self._begin()
        assert self._current is not None
        self._current.take_raw(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._malformed("upgrade")
        except httptools.HttpParserError as error:
            self._malformed(type(error).__name__)

    def eof_received(self) -> bool:
        self._leave()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._shared.log.connections_open -= 1
        self._shared.open.discard(self)
        self._writable.set()
        self._arrived.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # What the parser calls

    def on_url(self, url: bytes) -> None:
        self._now().target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._now().headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        exchange = self._now()
        exchange.method = self._parser.get_method().decode("latin-1")
        self._version[exchange.number] = self._parser.get_http_version()
        if (exchange.header("expect") or "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._now().take_body(body)

    def on_message_complete(self) -> None:
        exchange = self._now()
        exchange.request_ended_at = time.monotonic()
        self._current = None
        self._waiting.append(exchange)
        self._arrived.set()

    # Line

    async def send(self, data: bytes) -> None:
        if self._left.is_set():
            raise ClientLeftError
        self._transport.write(data)
        if not self._writable.is_set():
            await self._writable.wait()
            if self._left.is_set():
                raise ClientLeftError

    async def pause(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._left.wait()
        if self._left.is_set():
            raise ClientLeftError

    # Ours

    def abort(self) -> None:
        """End the connection at once, by RST."""
        raw = self._transport.get_extra_info("socket")
        if raw is not None and raw.fileno() >= 0:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    async def end(self) -> None:
        """Stop serving: cancel what is being answered and end the connection."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._transport.abort()

    def _begin(self) -> None:
        self._current = self._shared.log.begin(self._number, time.monotonic())

    def _now(self) -> Exchange:
        if self._current is None:
            self._begin()
        assert self._current is not None
        return self._current

    def _leave(self) -> None:
        if not self._left.is_set():
            self._left_at = time.monotonic()
            self._left.set()
            self._arrived.set()

    def _malformed(self, why: str) -> None:
        exchange = self._now()
        exchange.malformed = why
        self._transport.write(
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
        exchange.status = 400
        self._transport.close()

    async def _serve(self) -> None:
        """Answer requests in their order until the connection ends."""
        while True:
            while not self._waiting:
                if self._left.is_set():
                    return
                self._arrived.clear()
                await self._arrived.wait()
            exchange = self._waiting.popleft()
            try:
                kept = await self._answer(exchange)
            except ClientLeftError:
                exchange.client_left_at = self._left_at
                return
            except CutError:
                assert exchange.script is not None
                if exchange.script.cut == "rst":
                    self.abort()
                else:
                    self._transport.close()
                return
            if not kept:
                self._transport.close()
                return

    async def _answer(self, exchange: Exchange) -> bool:
        path, _, query = exchange.target.partition("?")
        headers = {name.lower(): value for name, value in exchange.headers}
        bodiless = exchange.method == "HEAD"
        http10 = self._version.pop(exchange.number, "1.1") == "1.0"
        accepts = headers.get("accept-encoding", "").lower()
        if path.startswith(CONTROL):
            self._shared.log.exchanges.remove(exchange)
            answer = self._control(exchange.method, path, bytes(exchange.body))
            writer = Writer(self, Script(), exchange)
            return await writer.write(answer, accepts=accepts, http10=http10, bodiless=bodiless)
        script, wrong = self._script(headers)
        exchange.script = script
        body = bytes(exchange.body)
        figures = expected(body, script)
        ask = Ask(
            method=exchange.method,
            path=path,
            query=query,
            headers=headers,
            body=body,
            said=_json_object(body),
            script=script,
            figures=figures,
            id=script.id if script.id is not None else self._shared.make_id(),
            kept=self._shared.kept,
        )
        answer = _routes.unknown_script(wrong) if wrong else _routes.answer(ask)
        exchange.id = ask.id
        exchange.figures = figures
        exchange.billed = answer.billed and answer.status < 400
        exchange.status = answer.status
        bodiless = bodiless or answer.status in (204, 304)
        writer = Writer(self, script, exchange)
        kept = await writer.write(answer, accepts=accepts, http10=http10, bodiless=bodiless)
        exchange.answered_at = time.monotonic()
        if script.idle_seconds:
            await self.pause(script.idle_seconds)
        if script.idle_bytes is not None:
            await self.send(script.idle_bytes.encode("latin-1"))
        return kept and not script.idle_close

    def _script(self, headers: dict[str, str]) -> tuple[Script, str]:
        """Find the script of a request, and what is wrong with it if anything is."""
        stated = headers.get("x-rig")
        if stated is not None:
            try:
                return read_script(stated), ""
            except msgspec.MsgspecError as error:
                return Script(), str(error)
        if self._shared.queued:
            return self._shared.queued.popleft(), ""
        return self._shared.default, ""

    def _control(self, method: str, path: str, body: bytes) -> Answer:
        """Answer a request of the control API."""
        shared = self._shared
        verb = (method, path.removeprefix(CONTROL))
        if verb == ("GET", "log"):
            return plain([exchange.as_json() for exchange in shared.log.exchanges])
        if verb == ("GET", "stats"):
            log = shared.log
            said = {
                "connections_made": log.connections_made,
                "connections_open": log.connections_open,
                "exchanges": len(log.exchanges) + log.dropped,
            }
            return plain(said)
        if verb == ("POST", "script"):
            try:
                shared.queued.append(read_script(body))
            except msgspec.MsgspecError as error:
                return plain({"error": str(error)}, status=400)
            return plain({"queued": len(shared.queued)})
        if verb == ("POST", "default"):
            try:
                shared.default = read_script(body)
            except msgspec.MsgspecError as error:
                return plain({"error": str(error)}, status=400)
            return plain({})
        if verb == ("POST", "reset"):
            shared.log.clear()
            shared.queued.clear()
            shared.kept.clear()
            return plain({})
        return plain({"error": "no such control"}, status=404)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
