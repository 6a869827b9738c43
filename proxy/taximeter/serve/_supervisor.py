"""The supervisor: starts the relay workers and the recorder, and starts again what dies.

It holds the listening sockets, one a worker (SO_REUSEPORT), so that the connections which arrive
while a worker is being started again wait in its queue instead of being refused. It relays
nothing and books nothing itself.
"""

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

from taximeter.console import Console
from taximeter.serve._channel import encode
from taximeter.settings import Address, Settings, SettingsError

log = logging.getLogger("taximeter.serve")

RESTART_SECONDS_FIRST = 0.1
RESTART_SECONDS_MAX = 10.0
STEADY_SECONDS = 30.0
"""A child that has lived so long is started again at once when it dies."""
RECORDER_STOP_SECONDS = 30.0
TWICE_SECONDS = 0.5
"""Signals closer together than this are one."""
GRACE_SECONDS = 15.0
"""Beyond their own drain time, until children that were told to stop are killed."""


class _Child:
    """One child process, over all its lives."""

    def __init__(self, name: str, arguments: list[str], listener: socket.socket | None) -> None:
        self.name = name
        self._arguments = arguments
        self._listener = listener
        self.process: asyncio.subprocess.Process | None = None
        self.ready = False
        self.restarts = 0
        self._task: asyncio.Task[None] | None = None
        self.stopping = False

    def begin(self, settings: Callable[[], Settings]) -> None:
        """Keep it running."""
        self._task = asyncio.get_running_loop().create_task(self._keep(settings))

    async def _keep(self, settings: Callable[[], Settings]) -> None:
        wait = RESTART_SECONDS_FIRST
        while not self.stopping:
            started = time.monotonic()
            code = await self._live_once(settings())
            self.ready = False
            if self.stopping:
                return
            lived = time.monotonic() - started
            wait = RESTART_SECONDS_FIRST if lived > STEADY_SECONDS else wait
            self.restarts += 1
            log.error("%s ended (%s); it is started again in %.1f s.", self.name, _how(code), wait)
            await asyncio.sleep(wait)
            wait = min(wait * 2, RESTART_SECONDS_MAX)

    async def _live_once(self, settings: Settings) -> int:
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
        finally:
            os.close(writer)
        self.send(settings)
        watch = asyncio.get_running_loop().create_task(self._watch_ready(reader))
        try:
            return await process.wait()
        finally:
            watch.cancel()
            self.process = None

    async def _watch_ready(self, handle: int) -> None:
        loop = asyncio.get_running_loop()
        pipe = os.fdopen(handle, "rb", 0)
        stream = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), pipe
        )
        try:
            if await stream.readline() == b"ready\n":
                self.ready = True
        finally:
            transport.close()

    def send(self, settings: Settings) -> None:
        """Give it a configuration."""
        process = self.process
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(encode(settings))

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


def listeners(address: Address, count: int) -> list[socket.socket]:
    """Make `count` listening sockets on one address.

    Raises:
        OSError: if the address cannot be had.
    """
    family, kind, protocol, _, place = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made: list[socket.socket] = []
    try:
        for _ in range(count):
            listener = socket.socket(family, kind, protocol)
            made.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if count > 1:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(place)
            if place[1] == 0:
                place = listener.getsockname()
            listener.listen(4096)
            listener.setblocking(False)
    except OSError:
        for listener in made:
            listener.close()
        raise
    return made


class Supervisor:
    """Runs Taximeter in the foreground."""

    def __init__(
        self,
        settings: Settings,
        *,
        reread: Callable[[], Settings],
        ports: list[socket.socket],
        console: socket.socket,
    ) -> None:
        self.settings = settings
        self._console_listener = console
        self._console = Console(self._state)
        self._reread = reread
        self._ports = ports
        self.relays = [
            _Child(f"relay-{number}", ["relay", str(number), "LISTENER"], listener)
            for number, listener in enumerate(ports)
        ]
        self.recorder = _Child("recorder", ["recorder"], None)
        self.draining = False
        self._stop = asyncio.Event()
        self._hurry = False
        self._told_at = 0.0

    @property
    def ready(self) -> bool:
        """Whether calls are relayed. A recorder that is down costs no call: it does not count."""
        return not self.draining and all(child.ready for child in self.relays)

    def _state(self) -> dict[str, object]:
        children = (*self.relays, self.recorder)
        return {
            "ready": self.ready,
            "draining": self.draining,
            "processes": {
                child.name: {"ready": child.ready, "restarts": child.restarts} for child in children
            },
        }

    async def run(self) -> int:
        """Serve until told to stop; give the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        for child in (*self.relays, self.recorder):
            child.begin(lambda: self.settings)
        host, port = self._ports[0].getsockname()[:2]
        await self._console.start(self._console_listener)
        log.info("Taximeter listens on http://%s:%d (%d workers).", host, port, len(self.relays))
        await self._stop.wait()
        return await self._drain()

    def _told_to_stop(self) -> None:
        now = time.monotonic()
        if self.draining and now - self._told_at < TWICE_SECONDS:
            return  # one stop may reach us both from the terminal and from a service manager
        self._told_at = now
        if self.draining:
            self._hurry = True
            log.warning("Told twice: ending now.")
            for child in (*self.relays, self.recorder):
                child.stopping = True
                child.signal(signal.SIGKILL)
        self.draining = True
        self._stop.set()

    def reload(self) -> None:
        """Take the configuration anew, whole; a bad one changes nothing."""
        try:
            settings = self._reread()
        except SettingsError as error:
            log.error("The configuration was not reloaded; the one before stays. %s", error)
            return
        for key in ("listen", "console", "workers", "data_dir", "ledger", "journal"):
            if getattr(settings, key) != getattr(self.settings, key):
                log.warning("`%s` has changed: that takes a restart, and is left as it was.", key)
        kept = {
            key: getattr(self.settings, key)
            for key in ("listen", "console", "workers", "data_dir", "ledger", "journal")
        }
        self.settings = settings.model_copy(update=kept)
        for child in (*self.relays, self.recorder):
            child.send(self.settings)
        log.info("The configuration was reloaded.")

    async def _drain(self) -> int:
        log.info("Stopping: calls under way may finish.")
        seconds = self.settings.relay.drain_seconds_max + GRACE_SECONDS
        # Close our copies first: a connection that nobody will accept should be refused.
        for listener in self._ports:
            listener.close()
        relays = await asyncio.gather(*(child.stop(seconds) for child in self.relays))
        recorder = await self.recorder.stop(RECORDER_STOP_SECONDS)
        await self._console.stop()
        clean = all(relays) and recorder and not self._hurry
        log.info("Stopped." if clean else "Stopped in a hurry; the journal keeps the rest.")
        return 0 if clean else 1
