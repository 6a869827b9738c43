"""L1, L2: how it starts when something is missing, and how it ends when it is told to."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.rig import Script
from tests.rig.taximeter import Taximeter
from tests.rig.upstream import Upstream
from tests.support.ports import free_port

CHAT = {"model": "fake-large", "messages": [{"role": "user", "content": "hi"}]}
STREAM = json.dumps({**CHAT, "stream": True}).encode()
END_SECONDS_MAX = 5.0
READY_SECONDS_MAX = 2.0
"""After the signal: at once, on a machine that has other things to do."""


def begin_stream(port: int) -> socket.socket:
    """Begin a stream; give its connection, when its head has come."""
    client = socket.create_connection(("127.0.0.1", port), 10)
    client.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(STREAM) + STREAM
    )
    assert client.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
    return client


def status_of(url: str) -> int:
    """Ask; give the status."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_told_to_stop_it_is_not_ready_and_told_twice_it_ends(tmp_path: Path) -> None:
    """L1: readiness says no at once, while a stream goes on and nobody new is taken; a second
    signal ends it now, with a code that says so; the stream is booked at the next start.
    """
    with Upstream(Script(tokens=2000, delta_seconds=0.05)) as upstream:
        upstreams = {"openai": {"url": upstream.url, "dialect": "openai"}}
        with Taximeter(tmp_path, upstreams) as meter:
            assert meter.process is not None
            with begin_stream(meter.port) as stream:
                meter.process.send_signal(signal.SIGTERM)
                told_at = time.monotonic()
                while status_of(f"{meter.console_url}/readyz") == 200:
                    assert time.monotonic() - told_at < READY_SECONDS_MAX, "still ready"
                    time.sleep(0.01)
                upstream.wait_until(lambda: _is_refused(meter.port))
                assert stream.recv(10), "the stream was ended"
                time.sleep(0.6)  # two signals at once are one that came twice
                meter.process.send_signal(signal.SIGTERM)
                assert meter.process.wait(END_SECONDS_MAX) == 1
            assert "Traceback" not in meter.log_text()
            meter.start()
            (row,) = meter.booked(1)
            assert row["outcome"] == "interrupted"


def _is_refused(port: int) -> bool:
    """Tell whether nobody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("kind", ["down", "a folder"])
def test_without_its_ledger_it_relays_and_books_later(kind: str, tmp_path: Path) -> None:
    """L2: a ledger that is not to be had at the start costs no call; nothing is lost of what was
    answered, and the log says what is missing.
    """
    place = tmp_path / "ledger.db"
    if kind == "a folder":
        place.mkdir()
        url = f"sqlite:///{place}"
    else:
        url = f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/none"
    with Upstream() as upstream:
        upstreams = {"openai": {"url": upstream.url, "dialect": "openai"}}
        with Taximeter(tmp_path, upstreams, ledger=url) as meter:
            connection = http.client.HTTPConnection("127.0.0.1", meter.port, timeout=5)
            connection.request("POST", "/v1/chat/completions", json.dumps(CHAT))
            answer = connection.getresponse()
            assert answer.status == 200
            assert answer.read()  # who goes before the end of it is booked as gone
            connection.close()
            upstream.wait_until(lambda: "edger" in meter.log_text())
            assert "Traceback" not in meter.log_text()
            if kind == "a folder":
                place.rmdir()
                (row,) = meter.booked(1, seconds=20)
                assert row["outcome"] == "completed"


@pytest.mark.parametrize("taken", ["listen", "console"])
def test_a_port_that_is_taken_is_told(taken: str, tmp_path: Path) -> None:
    """L2: it ends at once, with a word that names the address and no traceback."""
    upstreams = {"openai": {"url": "http://127.0.0.1:9", "dialect": "openai"}}
    meter = Taximeter(tmp_path, upstreams)
    port = meter.port if taken == "listen" else meter.console_port
    with socket.create_server(("127.0.0.1", port)):
        ended = subprocess.run(
            [sys.executable, "-m", "taximeter", "serve", "--config", str(meter.configuration)],
            env=meter._environment(), capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    assert ended.returncode not in (0, None)
    assert str(port) in ended.stderr
    assert "Traceback" not in ended.stderr
