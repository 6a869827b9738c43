"""A child process over all its lives: started, heard, told, started again, ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable

import msgspec

from taximeter.live import ChildState, RelayState, decode_relay_state
from taximeter.serve._channel import (
    FromChild,
    ToChild,
    frame,
    receive_async,
    settings_frame,
)
from taximeter.serve._process import read_process
from taximeter.settings import Settings

log = logging.getLogger("taximeter.serve")

RESTART_SECONDS_FIRST = 0.1
RESTART_SECONDS_MAX = 10.0
STEADY_SECONDS = 30.0
"""A child that has lived so long is started again at once when it dies."""
STATE_SECONDS_MAX = 5.0
"""A relay that was not heard of for so long does not answer; it speaks once a second."""


class Child:
    """One child process, over all its lives."""

    def __init__(self, name: str, arguments: list[str], listener: socket.socket | None) -> None:
        self.name = name
        self._arguments = arguments
        self._listener = listener
        self.process: asyncio.subprocess.Process | None = None
        self.ready = False
        self.restarts = 0
        self.stopping = False
        self._task: asyncio.Task[None] | None = None
        self._state: tuple[float, RelayState] | None = None
        """What a relay last told, and when."""
        self._asked: dict[bool, asyncio.Future[bytes | None]] = {}
        """Metrics that are asked for and have not come, by whether in OpenMetrics."""

    # -- its lives ----------------------------------------------------------------------------

    def begin(self, settings: Callable[[], Settings]) -> None:
        """Keep it running."""
        self._task = asyncio.get_running_loop().create_task(self._keep(settings))

    async def _keep(self, settings: Callable[[], Settings]) -> None:
        wait = RESTART_SECONDS_FIRST
        while not self.stopping:
            started = time.monotonic()
            try:
                how = _how(await self._live_once(settings))
            except OSError as error:  # no file handles, no memory: it may be had later
                how = f"not started: {error.strerror}"
            if self.stopping:
                return
            lived = time.monotonic() - started
            wait = RESTART_SECONDS_FIRST if lived > STEADY_SECONDS else wait
            self.restarts += 1
            log.error("%s ended (%s); it is started again in %.1f s.", self.name, how, wait)
            await asyncio.sleep(wait)
            wait = min(wait * 2, RESTART_SECONDS_MAX)

    async def _live_once(self, settings: Callable[[], Settings]) -> int:
        reader, writer = os.pipe()
        passed = [writer] + ([self._listener.fileno()] if self._listener is not None else [])
        arguments = [
            str(self._listener.fileno()) if part == "LISTENER" and self._listener else part
            for part in self._arguments
        ]
        try:
            process = self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "taximeter.serve._child",
                *arguments,
                str(writer),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=passed,
            )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        # As they are now: those of when it was begun may have been read anew meanwhile.
        self.send(settings())
        if self.stopping and process.stdin is not None:
            process.stdin.close()
        hearing = asyncio.get_running_loop().create_task(self._hear(reader))
        try:
            return await process.wait()
        finally:
            hearing.cancel()
            self.process = None
            self.ready = False
            self._state = None
            self._answer_none()

    # -- what it says -------------------------------------------------------------------------

    async def _hear(self, handle: int) -> None:
        loop = asyncio.get_running_loop()
        stream = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(handle, "rb", 0)
        )
        try:
            while (message := await receive_async(stream)) is not None:
                self._heard(message.kind, message.body)
        finally:
            transport.close()

    def _heard(self, kind: int, body: bytes) -> None:
        if kind == FromChild.READY:
            self.ready = True
        elif kind == FromChild.STATE:
            try:
                self._state = (time.monotonic(), decode_relay_state(body))
            except msgspec.MsgspecError:
                # Newer files than ours, put in our place while we run: it goes on all the same.
                log.warning("%s says how it stands in words unknown here.", self.name)
        elif kind == FromChild.METRICS and body:
            asked = self._asked.pop(bool(body[0]), None)
            if asked is not None and not asked.done():
                asked.set_result(body[1:])

    @property
    def state(self) -> RelayState | None:
        """How a relay stands; None if that was not heard lately."""
        if self._state is None or time.monotonic() - self._state[0] > STATE_SECONDS_MAX:
            return None
        return self._state[1]

    def seen(self, *, up: bool) -> ChildState:
        """Tell what is known of it from outside; `up`: whether it answers."""
        process = self.process
        return ChildState(
            up=up and process is not None,
            restarts=self.restarts,
            process=read_process(process.pid) if process is not None else None,
        )

    # -- what it is told ----------------------------------------------------------------------

    def send(self, settings: Settings) -> None:
        """Give it a configuration."""
        self._write(settings_frame(settings))

    def _write(self, message: bytes) -> bool:
        process = self.process
        if process is None or process.stdin is None or process.stdin.is_closing():
            return False
        process.stdin.write(message)
        return True

    async def metrics(self, *, openmetrics: bool, seconds: float) -> bytes | None:
        """Ask it for its metrics; None if it gives none in time.

        It is asked once at a time: who comes while it is asked gets the same answer. What it has
        not answered stays asked, so that a child which has stopped finds one question, not many.
        """
        asked = self._asked.get(openmetrics)
        if asked is None:
            if not self.ready or not self._write(frame(ToChild.METRICS, bytes([openmetrics]))):
                return None
            asked = self._asked[openmetrics] = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait([asked], timeout=seconds)
        return (asked.result() or None) if done else None  # no text: a fault that its log tells

    def _answer_none(self) -> None:
        asked, self._asked = self._asked, {}
        for each in asked.values():
            if not each.done():
                each.set_result(None)

    # -- its end ------------------------------------------------------------------------------

    def signal(self, number: int) -> None:
        """Send it a signal if it lives."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def stop(self, seconds: float) -> bool:
        """Tell it to finish; kill it after `seconds`. Tells whether it finished by itself."""
        self.stopping = True
        if self._task is None:
            return True
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
        done, _ = await asyncio.wait([self._task], timeout=seconds)
        if done:
            return True
        log.error("%s did not finish within %.0f s and is killed.", self.name, seconds)
        self.signal(signal.SIGKILL)
        await asyncio.wait([self._task], timeout=5)
        return False


def _how(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"
