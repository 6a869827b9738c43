"""The scripted upstream: a real HTTP/1.1 server on loopback that does as it is told.

In a test, in a thread of its own:

    with Upstream() as upstream:
        upstream.queue(Script(cut_after_events=3, cut="rst"))
        ...  # call upstream.url
        assert upstream.last.client_left_at is None

As a process of its own, for tests that kill and for long runs:

    python -m tests.rig.upstream --port 0

prints its port, alone on a line, and serves until its standard input ends or SIGTERM. There the
control API tells and takes what the attributes do here: `GET /_rig/log`, `GET /_rig/stats`,
`POST /_rig/script`, `POST /_rig/default`, `POST /_rig/reset`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

from tests.rig._log import Exchange, Log
from tests.rig._script import Script
from tests.rig._serve import Connection, Shared

START_SECONDS_MAX = 5.0
POLL_SECONDS = 0.005


class Upstream:
    """A scripted upstream in a thread of its own. Start and stop it with `with`."""

    def __init__(self, default: Script | None = None, *, host: str = "127.0.0.1") -> None:
        self._shared = Shared(default or Script())
        self._host = host
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rig-upstream", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Its base, without a path and without a slash at the end."""
        return f"http://{self._host}:{self.port}"

    @property
    def log(self) -> list[Exchange]:
        """All exchanges so far, in the order in which their requests began."""
        return self._shared.log.exchanges

    @property
    def last(self) -> Exchange:
        """The newest exchange."""
        return self._shared.log.exchanges[-1]

    @property
    def counts(self) -> Log:
        """The log whole, with its counts of connections."""
        return self._shared.log

    @property
    def default(self) -> Script:
        """The script of calls that bring none and find none queued."""
        return self._shared.default

    @default.setter
    def default(self, script: Script) -> None:
        self._shared.default = script

    def queue(self, *scripts: Script) -> None:
        """Have the next calls answered by these, one each."""
        self._shared.queued.extend(scripts)

    def reset(self) -> None:
        """Forget exchanges, queued scripts and kept files and runs."""
        self._shared.log.clear()
        self._shared.queued.clear()
        self._shared.kept.clear()

    def wait_until(self, condition: Callable[[], bool], seconds: float = 5.0) -> None:
        """Wait until a condition holds.

        Raises:
            TimeoutError: if it does not hold within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not so within {seconds} s")
            time.sleep(POLL_SECONDS)

    def __enter__(self) -> Upstream:
        self._thread.start()
        if not self._ready.wait(START_SECONDS_MAX):
            raise TimeoutError("the scripted upstream did not start")
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_SECONDS_MAX)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # handed to the thread that waits in `__enter__`
            self._failure = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()

        def ready(port: int) -> None:
            self.port = port
            self._ready.set()

        await serve(self._shared, self._host, 0, self._stop, ready)


async def serve(
    shared: Shared, host: str, port: int, stop: asyncio.Event, ready: Callable[[int], None]
) -> None:
    """Serve on `host` and `port` (0 for any free one) until `stop` is set.

    `ready` is told the port once connections are taken.
    """
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(shared), host, port, backlog=4096)
    ready(server.sockets[0].getsockname()[1])
    await stop.wait()
    server.close()
    for connection in list(shared.open):
        await connection.end()
    await server.wait_closed()


async def _serve_process(host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)

    def watch_input() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            stop.set()

    # The parent holds the other end: when it is gone, however it went, so are we.
    loop.add_reader(sys.stdin.fileno(), watch_input)
    await serve(Shared(Script()), host, port, stop, lambda bound: print(bound, flush=True))
    loop.remove_reader(sys.stdin.fileno())


def main() -> None:
    """Serve as a process of its own."""
    parser = argparse.ArgumentParser(description="The scripted upstream.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 for any free one")
    chosen = parser.parse_args()
    asyncio.run(_serve_process(chosen.host, chosen.port))


if __name__ == "__main__":
    main()
