"""nginx as a plain proxy: made as quick as it gets, as it comes, and with TLS to the upstream."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from bench import _processes
from bench._targets import Target, free_port, started, wait_port

CONFIGURATION = """
daemon off;
worker_processes {workers};
pid {folder}/nginx.pid;
error_log stderr crit;
{user}
events {{ worker_connections 16384; }}
http {{
  access_log {access_log};
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 0;
  keepalive_requests 1000000000;
{kept}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      {passed}
    }}
  }}
}}
"""

KEPT = """
  upstream api {{
    server 127.0.0.1:{upstream};
    keepalive 2048;
    keepalive_requests 1000000000;
  }}
"""

TUNED = """
      proxy_pass {scheme}://api;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_request_buffering off;
"""

TLS = """
      proxy_ssl_trusted_certificate {ca_file};
      proxy_ssl_verify on;
      proxy_ssl_name localhost;
      proxy_ssl_session_reuse on;
"""


@contextlib.contextmanager
def tuned(
    upstream: int, folder: Path, *, ca_file: Path | None = None, workers: int = 1
) -> Iterator[Target]:
    """Kept connections, no buffering, no log: what everything is measured against."""
    passed = TUNED.format(scheme="http" if ca_file is None else "https")
    if ca_file is not None:
        passed += TLS.format(ca_file=ca_file)
    kept = KEPT.format(upstream=upstream)
    name = "nginx" if ca_file is None else "nginx, TLS upstream"
    yield from _running(name, folder, kept=kept, passed=passed, log="off", workers=workers)


@contextlib.contextmanager
def as_it_comes(upstream: int, folder: Path) -> Iterator[Target]:
    """`proxy_pass` alone: an access log, a connection upstream for each call, answers buffered."""
    passed = f"proxy_pass http://127.0.0.1:{upstream};"
    log = f"{folder}/access.log"
    for target in _running("nginx as it comes", folder, kept="", passed=passed, log=log, workers=1):
        target.exact = False  # it gathers events, and cuts chunks of its own
        yield target


def _running(
    name: str, folder: Path, *, kept: str, passed: str, log: str, workers: int
) -> Iterator[Target]:
    port = free_port()
    folder.mkdir()
    configuration = folder / "nginx.conf"
    text = CONFIGURATION.format(
        workers=workers,
        folder=folder,
        user="user root;" if os.geteuid() == 0 else "",
        access_log=log,
        kept=kept,
        port=port,
        passed=passed,
    )
    configuration.write_text(text)
    command = ["nginx", "-p", str(folder), "-c", str(configuration), "-e", "stderr"]
    with started(command) as process:
        wait_port(port, process)
        worker = [pid for pid in _processes.tree(process.pid) if pid != process.pid]
        yield Target(name, port, relaying=worker, root=process.pid)
