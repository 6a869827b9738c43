"""What is measured: the ways from the load to the upstream.

Every target is a process of its own with one worker, started here and ended here.
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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from bench import _processes

START_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 15.0
ROOT = Path(__file__).resolve().parent.parent

NGINX_CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr crit;
{user}
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  upstream api {{
    server 127.0.0.1:{upstream};
    keepalive 2048;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://api;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""

TAXIMETER_CONFIGURATION = """
listen: 127.0.0.1:{port}
console: 127.0.0.1:{console}
workers: 1
data_dir: {folder}
ledger: sqlite:///{folder}/ledger.db
upstreams:
  openai:
    url: http://127.0.0.1:{upstream}
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
    command: list[str], *, out: int | None = None, errors: IO[bytes] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process below; end it at the end, first asking, then not."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'proxy'}:{ROOT}"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=out, stderr=errors, env=environment, cwd=ROOT
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
def nginx(upstream: int, folder: Path) -> Iterator[Target]:
    """Debian's nginx as a plain proxy: one worker, kept connections, no buffering, no log."""
    port = free_port()
    folder.mkdir()
    configuration = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    text = NGINX_CONFIGURATION.format(folder=folder, user=user, upstream=upstream, port=port)
    configuration.write_text(text)
    command = ["nginx", "-p", str(folder), "-c", str(configuration), "-e", "stderr"]
    with started(command) as process:
        wait_port(port, process)
        worker = [pid for pid in _processes.tree(process.pid) if pid != process.pid]
        yield Target("nginx", port, relaying=worker)


@contextlib.contextmanager
def plain_proxy(upstream: int) -> Iterator[Target]:
    """The plain aiohttp handler with `ClientSession`."""
    with module("_plain_proxy", str(upstream)) as (pid, port):
        yield Target("aiohttp handler", port, relaying=[pid])


@contextlib.contextmanager
def taximeter(
    upstream: int, folder: Path, *, traces: bool = False, limits: bool = False, more: str = ""
) -> Iterator[Target]:
    """Taximeter as it is shipped: journal, ledger in SQLite, metrics and access log on, one worker.

    With `traces` every call is exported as well, to a collector that takes whatever comes; with
    `limits` every kind of them is counted. `more` is YAML that goes on where the upstream's end.
    """
    with contextlib.ExitStack() as stack:
        if limits:
            more = LIMITS + more
        if traces:
            _, collector = stack.enter_context(module("_collector"))
            more += f"otlp: {{endpoint: 'http://127.0.0.1:{collector}', sample_ratio: 1.0}}\n"
        target = stack.enter_context(_taximeter(upstream, folder, more))
        if traces:
            target.name, target.recorder_only = "Taximeter with traces", True
        if limits:
            target.name = "Taximeter, limits on"
        yield target


@contextlib.contextmanager
def _taximeter(upstream: int, folder: Path, more: str) -> Iterator[Target]:
    port, console = free_port(), free_port()
    folder.mkdir()
    configuration = folder / "taximeter.yaml"
    text = TAXIMETER_CONFIGURATION.format(
        port=port, console=console, folder=folder, upstream=upstream
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
        yield Target("Taximeter", port, relaying=relaying, recording=recording)


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
