"""The supervisor: starts the relay workers and the recorder, and starts again what dies.

It holds the listening sockets, one a worker (SO_REUSEPORT), so that the connections which arrive
while a worker is being started again wait in its queue instead of being refused. It relays
nothing and books nothing itself.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import time
from collections.abc import Callable

from taximeter.console import Console
from taximeter.live import ChildState, ConfigState
from taximeter.metrics import expose_live
from taximeter.serve._children import Child
from taximeter.serve._process import read_process
from taximeter.settings import Address, Settings, SettingsError

log = logging.getLogger("taximeter.serve")

METRICS_SECONDS_MAX = 3.0
"""That the recorder may take for its metrics; collectors usually wait ten seconds for all."""
RECORDER_STOP_SECONDS = 30.0
TWICE_SECONDS = 0.5
"""Signals closer together than this are one."""
GRACE_SECONDS = 15.0
"""Beyond their own drain time, until children that were told to stop are killed."""

_FIXED = (
    *("listen", "console", "console_token_env", "workers", "data_dir", "ledger", "journal"),
    *("state", "redis"),
)
"""Settings that take a restart."""


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


_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""Errors of a disk in trouble; others say that the folder's name is wrong."""


def make_data_dir(settings: Settings) -> None:
    """Make the folder of everything that is kept. A disk in trouble may have no room for it now.

    Raises:
        OSError: if it never will be had.
    """
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        log.error("There is no room for %s: %s.", settings.data_dir, error.strerror)


class Supervisor:
    """Runs Taximeter in the foreground."""

    def __init__(
        self,
        settings: Settings,
        *,
        reread: Callable[[], Settings],
        ports: list[socket.socket],
        console: socket.socket,
        console_token: str | None = None,
    ) -> None:
        self.settings = settings
        self._console_listener = console
        self._console = Console(self._state, self.metrics, token=console_token)
        self._reread = reread
        self._ports = ports
        self.relays = [
            Child(f"relay-{number}", ["relay", str(number), "LISTENER"], listener)
            for number, listener in enumerate(ports)
        ]
        self.recorder = Child("recorder", ["recorder"], None)
        self.draining = False
        self._stop = asyncio.Event()
        self._hurry = False
        self._told_at = 0.0
        self._config = ConfigState(taken_at_seconds=time.time_ns() / 1e9)

    @property
    def ready(self) -> bool:
        """Whether calls are relayed. A recorder that is down costs no call: it does not count."""
        return (
            not self.draining
            and all(child.ready for child in self.relays)
            and not (self._fails_closed and self._without_journal())
        )

    @property
    def _fails_closed(self) -> bool:
        return self.settings.journal.when_full == "fail_closed"

    def _without_journal(self) -> list[str]:
        """Name the relays whose disk had no room to begin a journal."""
        return [
            child.name
            for child in self.relays
            if child.state is not None and not child.state.has_journal
        ]

    def _state(self) -> dict[str, object]:
        children = (*self.relays, self.recorder)
        degraded = dict.fromkeys(self._without_journal(), "no journal: calls are not recorded")
        degraded |= {child.name: "down" for child in children if not child.ready}
        return {
            "ready": self.ready,
            "draining": self.draining,
            "degraded": degraded,
            "processes": {
                child.name: {"ready": child.ready, "restarts": child.restarts} for child in children
            },
        }

    async def metrics(self, openmetrics: bool) -> bytes:
        """Give everything there is for a collector.

        What comes from the recorder is missing, not nought, while it does not answer.
        """
        recorded = await self.recorder.metrics(openmetrics=openmetrics, seconds=METRICS_SECONDS_MAX)
        relays = {child.name: child.state for child in self.relays}
        processes = {
            child.name: child.seen(up=relays[child.name] is not None) for child in self.relays
        }
        processes[self.recorder.name] = self.recorder.seen(up=recorded is not None)
        own = read_process(os.getpid())
        processes["supervisor"] = ChildState(up=True, restarts=0, process=own)
        states = [state for state in relays.values() if state]
        live = expose_live(states, processes, openmetrics, self._config)
        return live + (recorded or b"") + (b"# EOF\n" if openmetrics else b"")

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
            self._config.is_good = False
            log.error("The configuration was not reloaded; the one before stays. %s", error)
            return
        for key in _FIXED:
            if getattr(settings, key) != getattr(self.settings, key):
                log.warning("`%s` has changed: that takes a restart, and is left as it was.", key)
        kept = {key: getattr(self.settings, key) for key in _FIXED}
        self.settings = settings.model_copy(update=kept)
        for child in (*self.relays, self.recorder):
            child.send(self.settings)
        self._config = ConfigState(taken_at_seconds=time.time_ns() / 1e9)
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
