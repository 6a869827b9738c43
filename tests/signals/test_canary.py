"""H9: secrets of clients, upstreams and operators, looked for in every byte that is written."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from tests.rig import Script, checkers, write_script
from tests.rig.taximeter import Taximeter
from tests.rig.upstream import Upstream
from tests.signals._run import PRICES, wait_for
from tests.traces.collector import HttpCollector

CANARY = "canary"
"""In every secret, and in nothing else."""


def secret(what: str) -> str:
    """Give a secret that says where it was put."""
    return f"sk-{CANARY}-{what}-4f9d"


HEADERS = {
    "Authorization": f"Bearer {secret('authorization')}",
    "x-api-key": secret("x-api-key"),
    "x-goog-api-key": secret("x-goog-api-key"),
    "api-key": secret("api-key"),
    "Cookie": f"session={secret('cookie')}",
    "Proxy-Authorization": f"Basic {secret('proxy')}",
    "Sec-WebSocket-Protocol": f"openai-insecure-api-key.{secret('subprotocol')}",
    "baggage": f"user.id=ann,internal.token={secret('baggage')}",
    "X-Custom": secret("custom"),
}
QUERY = f"?key={secret('query')}&alt=sse"
PROMPT = {"model": "fake-large", "messages": [{"role": "user", "content": secret("prompt")}]}
ASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", PROMPT),
    "chat stream": ("/v1/chat/completions", {**PROMPT, "stream": True}),
    "messages": ("/v1/messages", {**PROMPT, "system": secret("system"), "max_tokens": 9}),
    "messages stream": ("/v1/messages", {**PROMPT, "stream": True, "max_tokens": 9}),
    "gemini": (
        "/v1beta/models/fake-large:streamGenerateContent",
        {"contents": [{"parts": [{"text": secret("gemini")}]}]},
    ),
    "ollama": ("/api/chat", PROMPT),
    "unknown": ("/v1/somewhere/else", {"anything": secret("unknown")}),
}
ERROR = json.dumps({"error": {"message": f"no such key: {secret('error')}", "code": "denied"}})
SCRIPTS: dict[str, Script] = {
    "whole": Script(headers=[("Set-Cookie", secret("set-cookie")), ("X-Its", secret("its"))]),
    "its words": Script(tokens=3, usage_missing=True),
    "an error": Script(status=401, body=ERROR, content_type="application/json"),
    "an error in words": Script(status=500, body=f"At {secret('text')}", content_type="text/plain"),
    "an error in a stream": Script(error_after_events=1),
    "cut": Script(tokens=20, cut_after_events=2, cut="rst"),
    "cut before its head": Script(cut_before_head=True),
    "no HTTP": Script(raw=f"{secret('raw')}\r\n\r\n"),
    "a reason": Script(status=418, reason=secret("reason")),
    "a wrong length": Script(length_delta=7, framing="length", close=True),
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """A scripted upstream of this module's own."""
    with Upstream() as started:
        yield started


def ask(
    port: int, path: str, said: object, script: Script | None = None, key: str | None = None
) -> None:
    """Make a call that carries every secret; what comes of it does not matter."""
    headers = dict(HEADERS)
    if key is not None:
        headers["Idempotency-Key"] = key
    if script is not None:
        headers["x-rig"] = write_script(script)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("POST", path + QUERY, body, headers)
        connection.getresponse().read()


def send(port: int, data: bytes, *, wait: bool = True) -> None:
    """Send bytes that may be no request."""
    with socket.create_connection(("127.0.0.1", port), 5) as client, contextlib.suppress(OSError):
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        while wait and client.recv(65536):
            pass


def misbehave(port: int) -> None:
    """Ask for what is refused, in the ways in which it is."""
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items()).encode()
    line = f"POST /v1/chat/completions{QUERY} HTTP/1.1\r\nHost: x\r\n".encode()
    send(port, f"{secret('garbage')}\r\n\r\n".encode())
    send(port, line + head + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345")
    send(port, line + head + b"Content-Length: 500\r\n\r\n" + secret("half").encode())
    send(port, line + head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + secret("ch").encode())
    send(port, line + head + f"Expect: {secret('expect')}\r\n\r\n".encode())
    send(port, line + b"X-Long: " + secret("long").encode() * 5000 + b"\r\n\r\n")
    send(port, line + head + b"Content-Length: 0\r\n\r\n", wait=False)
    ask(port, "/v1/chat/completions", secret("not json").encode())
    ask(port, "/v1/chat/completions", {**PROMPT, "stream": secret("a type")})


def written(meter: Taximeter, collector: HttpCollector) -> dict[str, bytes]:
    """Give everything that can be read of a running Taximeter, by where it is."""
    found = {}
    for path in meter.folder.rglob("*"):
        if path.is_file():
            with contextlib.suppress(FileNotFoundError):
                found[str(path.relative_to(meter.folder))] = path.read_bytes()
    for accept in ("text/plain", "application/openmetrics-text; version=1.0.0"):
        request = urllib.request.Request(f"{meter.console_url}/metrics", headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=10) as answer:
            found[f"/metrics as {accept}"] = answer.read()
    with urllib.request.urlopen(f"{meter.console_url}/readyz", timeout=10) as answer:
        found["/readyz"] = answer.read()
    for number, request_ in enumerate(tuple(collector.requests)):
        found[f"export {number}"] = request_.body
    for words in (("calls", "--format", "jsonl", "--limit", "1000"), ("report", "--by", "user")):
        found[" ".join(words)] = meter.run(*words).encode()
    assert meter.process is not None
    for child in (meter.process.pid, meter.children()["relay"], meter.children()["recorder"]):
        found[f"arguments of {child}"] = Path(f"/proc/{child}/cmdline").read_bytes()
    return found


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_secret_is_written_anywhere(form: str, upstream: Upstream, tmp_path: Path) -> None:
    """H9, H10: no credential, prompt, answer or upstream's error text is in any byte we write.

    Looked through: log at level debug, journal, ledger, metrics, spans, commands, arguments; after
    whole calls, faults of every kind, refusals, and the deaths of relay and recorder.
    """
    upstreams = {
        name: {"url": upstream.url, "dialect": name, "provider": "fake"}
        for name in ("openai", "anthropic", "gemini", "ollama")
    }
    with (
        HttpCollector() as collector,
        ThreadPoolExecutor(len(ASKS)) as clients,
        Taximeter(
            tmp_path,
            upstreams,
            prices=PRICES,
            log={"level": "debug", "format": form},
            otlp={"endpoint": collector.url},
            replay={"enabled": True},
        ) as meter,
    ):
        journals: dict[str, bytes] = {}
        for path, said in ASKS.values():
            for _ in range(2):  # the second is given what was kept of the first
                ask(meter.port, path, said, SCRIPTS["whole"], secret(f"idempotency-{len(path)}"))
        for script in SCRIPTS.values():
            paths, bodies = zip(*ASKS.values(), strict=True)
            # All at a time: where an answer is bad, each waits to be tried again.
            list(clients.map(ask, repeat(meter.port), paths, bodies, repeat(script)))
            journals |= {str(path): path.read_bytes() for path in tmp_path.rglob("*.journal")}
        misbehave(meter.port)
        slow = Script(tokens=100, delta_seconds=0.05)
        said = json.dumps({**PROMPT, "stream": True})
        for word in ("relay", "recorder"):
            connection = http.client.HTTPConnection("127.0.0.1", meter.port, timeout=10)
            with contextlib.closing(connection):
                headers = {**HEADERS, "x-rig": write_script(slow)}
                connection.request("POST", f"/v1/chat/completions{QUERY}", said, headers)
                connection.getresponse().read(100)
                os.kill(meter.children()[word], signal.SIGKILL)
                time.sleep(0.2)
            wait_for(lambda: len(meter.rows()) > 0 and "SIGKILL" in meter.log_text())
        calls = len(SCRIPTS) * len(ASKS)
        wait_for(lambda: len(meter.rows()) >= calls, 30)
        wait_for(lambda: any("replayed" in (row["facts"] or ()) for row in meter.rows()))
        collector.wait_for(20)
        found = {**written(meter, collector), **journals}
    found["the log, to its end"] = meter.log_text().encode()
    assert len(found["ledger.db"]) > 100_000 or "ledger.db-wal" in found
    assert len(found["the log, to its end"].splitlines()) > calls
    assert len(journals) >= 1
    checkers.no_secret_bytes(found, [CANARY.encode()])
