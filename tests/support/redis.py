"""A Redis server of a test's own: real, on loopback, in a folder that goes with it."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.support.ports import free_port

_START_SECONDS_MAX = 10
_STOP_SECONDS_MAX = 10


class RedisMissing(RuntimeError):
    pass


class RedisServer:
    """A server that keeps nothing on disk, stopped by `close` with its folder deleted."""

    def __init__(self) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            raise RedisMissing("redis-server is not installed")
        self._binary = binary
        self._folder = Path(tempfile.mkdtemp(prefix="taximeter-redis-"))
        self.port = free_port()
        self._server: subprocess.Popen[bytes] | None = None
        self.start()

    def url(self, database: int = 0) -> str:
        """Give the URL of one of its databases."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, and wait until it answers. What it had before is gone."""
        self._server = subprocess.Popen(
            [
                *(self._binary, "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "no", "--dir", str(self._folder)),
                *("--databases", "64", "--loglevel", "warning"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _START_SECONDS_MAX
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as line:
                    line.sendall(b"PING\r\n")
                    if line.recv(16).startswith(b"+PONG"):
                        return
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise RuntimeError("redis-server has not started in time")
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: stopped, it hangs."""
        assert self._server is not None
        self._server.send_signal(number)

    def stop(self) -> None:
        """Kill it."""
        if self._server is not None:
            self._server.kill()
            self._server.wait(_STOP_SECONDS_MAX)
            self._server = None

    def close(self) -> None:
        """Stop it and delete its folder."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
