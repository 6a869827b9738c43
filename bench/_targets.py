"""What is measured: the ways from the load to the upstream.

Every target is a process of its own, with one worker where nothing else is said, started here and
ended here.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from bench import _processes

START_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 15.0
ROOT = Path(__file__).resolve().parent.parent

TAXIMETER_CONFIGURATION = """
listen: 127.0.0.1:{port}
console: 127.0.0.1:{console}
workers: {workers}
data_dir: {folder}
ledger: sqlite:///{folder}/ledger.db
upstreams:
  openai:
    url: {upstream}
    dialect: openai
    provider: openai
"""

LIMITS = """
    limits: {concurrency: 100000, requests_per_minute: 100000000, tokens_per_minute: 1000000000000}
tiers:
  default:
    {concurrency: 100000, requests_per_minute: 100000000, tokens_per_minute: 1000000000000}
"""
"""Every kind of limit, of the user and of the upstream: counted at each call, never reached."""


@dataclass(slots=True)
class Target:
    """A way to the upstream, running."""

    name: str
    port: int
    relaying: list[int] = field(default_factory=list)
    """Ids of the processes whose work is relaying; empty for none (direct)."""
    recording: list[int] = field(default_factory=list)
    """Ids of the processes whose work is recording."""
    recorder_only: bool = False
    """Its relay is another target's: only what its recorder does is worth measuring."""
    root: int | None = None
    """Id of the process that all others of it are below of; none for direct."""
    headers: dict[str, str] = field(default_factory=dict)
    """What its clients must say beside what every client says."""
    exact: bool = True
    """It passes events on as they are."""

    def whole(self) -> list[int]:
        """Give the ids of all its processes."""
        return [] if self.root is None else _processes.tree(self.root)


def free_port() -> int:
    """Find a port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until something listens on the port.

    Raises:
        RuntimeError: if the process ends, or does not listen, within `START_SECONDS_MAX`.
    """
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} does not listen")


@contextlib.contextmanager
def started(
    command: list[str],
    *,
    out: int | None = None,
    errors: IO[bytes] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process below; end it at the end, first asking, then not."""
    paths = {"PYTHONPATH": f"{ROOT / 'proxy'}:{ROOT}"}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=out,
        stderr=errors,
        env={**os.environ, **paths, **(environment or {})},
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


@contextlib.contextmanager
def module(name: str, *arguments: str) -> Iterator[tuple[int, int]]:
    """Run a module of this package that prints its port; give its id and port."""
    command = [sys.executable, "-m", f"bench.{name}", *arguments]
    with started(command, out=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{command!r} did not start")
        yield process.pid, int(line)


@contextlib.contextmanager
def plain_proxy(upstream: int, *, workers: int = 1) -> Iterator[Target]:
    """The plain aiohttp handler with `ClientSession`."""
    with module("_plain_proxy", str(upstream), str(workers)) as (pid, port):
        # A child may still be on its way: so ask when it is measured, not now.
        yield Target("aiohttp handler", port, relaying=[pid], root=pid)


@contextlib.contextmanager
def taximeter(
    upstream: int,
    folder: Path,
    *,
    traces: bool = False,
    limits: bool = False,
    ca_file: Path | None = None,
    workers: int = 1,
    more: str = "",
) -> Iterator[Target]:
    """Taximeter as it is shipped: journal, ledger in SQLite, metrics and access log on.

    With `traces` every call is exported as well, to a collector that takes whatever comes; with
    `limits` every kind of them is counted; with a `ca_file` the upstream is spoken to over TLS.
    `more` is YAML that goes on where the upstream's end.
    """
    url = f"http://127.0.0.1:{upstream}"
    with contextlib.ExitStack() as stack:
        if ca_file is not None:
            url = f"https://127.0.0.1:{upstream}"
            more = f"    tls: {{ca_file: {ca_file}}}\n" + more
        if limits:
            more = LIMITS + more
        if traces:
            _, collector = stack.enter_context(module("_collector"))
            more += f"otlp: {{endpoint: 'http://127.0.0.1:{collector}', sample_ratio: 1.0}}\n"
        target = stack.enter_context(_taximeter(url, folder, workers, more))
        if traces:
            target.name, target.recorder_only = "Taximeter with traces", True
        if limits:
            target.name = "Taximeter, limits on"
        if ca_file is not None:
            target.name = "Taximeter, TLS upstream"
        yield target


@contextlib.contextmanager
def _taximeter(upstream: str, folder: Path, workers: int, more: str) -> Iterator[Target]:
    port, console = free_port(), free_port()
    folder.mkdir()
    configuration = folder / "taximeter.yaml"
    text = TAXIMETER_CONFIGURATION.format(
        port=port, console=console, folder=folder, upstream=upstream, workers=workers
    )
    configuration.write_text(text + more)
    command = [sys.executable, "-m", "taximeter", "serve", "--config", str(configuration)]
    with (
        (folder / "taximeter.log").open("wb") as log,  # a line for each call
        started(command, errors=log) as process,
    ):
        wait_port(port, process)
        _wait_ready(console)
        relaying, recording = _roles(process.pid, port)
        yield Target("Taximeter", port, relaying=relaying, recording=recording, root=process.pid)


def _wait_ready(console: int) -> None:
    """Wait until the console says that all is up, recorder and all."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{console}/readyz", timeout=1).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("Taximeter's console does not say that it is ready")


def _roles(root: int, port: int) -> tuple[list[int], list[int]]:
    """Tell the relay's processes from the recorder's by who holds the listening socket."""
    holders = _processes.listeners(port)
    below = [pid for pid in _processes.tree(root) if pid != root] or [root]
    relaying = [pid for pid in below if pid in holders]
    if not relaying:
        raise RuntimeError("no process of Taximeter's holds the proxy's socket")
    helpers = ("resource_tracker", "forkserver")
    recording = [
        pid
        for pid in below
        if pid not in relaying and not any(word in _processes.command(pid) for word in helpers)
    ]
    return relaying, recording
