"""A whole Taximeter, where it is the process that matters: its memory, its signals, its end."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.rig import Script
from tests.rig.taximeter import Taximeter
from tests.rig.upstream import Upstream

UPLOAD_BYTES = 100_000_000
GROWTH_BYTES_MAX = 40_000_000
ASK = json.dumps(
    {"model": "fake-large", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
).encode()


@contextlib.contextmanager
def swallower() -> Iterator[tuple[str, list[int]]]:
    """Run an upstream that takes one long body, counts its bytes, and answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    taken: list[int] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            seen = connection.recv(65536)
            while b"\r\n\r\n" not in seen:
                seen += connection.recv(65536)
            count = len(seen) - seen.index(b"\r\n\r\n") - 4
            while count < UPLOAD_BYTES:
                count += len(connection.recv(1 << 20))
            taken.append(count)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", taken
        thread.join(10)
    finally:
        listener.close()


def peak_bytes(process: int) -> int:
    """Give the most memory that a process has had resident."""
    status = Path(f"/proc/{process}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def test_a_hundred_megabytes_go_up_in_flat_memory(tmp_path: Path) -> None:
    """H4: a long upload streams through, and the relay grows by less than 40 MB."""
    with swallower() as (url, taken):
        upstreams = {"openai": {"url": url, "dialect": "openai"}}
        with Taximeter(tmp_path, upstreams) as meter:
            relay = meter.children()["relay"]
            before = peak_bytes(relay)
            with socket.create_connection(("127.0.0.1", meter.port), 20) as client:
                client.sendall(
                    b"POST /v1/files HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; "
                    b"boundary=x\r\nContent-Length: %d\r\n\r\n" % UPLOAD_BYTES
                )
                piece = bytes(1_000_000)
                for _ in range(UPLOAD_BYTES // len(piece)):
                    client.sendall(piece)
                assert client.recv(12) == b"HTTP/1.1 200"
            assert taken == [UPLOAD_BYTES]
            assert peak_bytes(relay) - before < GROWTH_BYTES_MAX
            (row,) = meter.booked(1)
            assert row["outcome"] == "completed"


def begin_stream(port: int) -> socket.socket:
    """Begin a chat stream; give its connection, when its head has come."""
    client = socket.create_connection(("127.0.0.1", port), 10)
    client.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(ASK) + ASK
    )
    assert client.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
    return client


def read_all(client: socket.socket) -> bytes:
    """Read until the connection ends."""
    found = b""
    while data := client.recv(65536):
        found += data
    return found


def test_a_stream_that_outlasts_the_drain_is_cut_honestly(tmp_path: Path) -> None:
    """L1: at the drain's end a stream gets one error event and no end, and its row says so."""
    with Upstream(Script(tokens=500, delta_seconds=0.05)) as upstream:
        upstreams = {"openai": {"url": upstream.url, "dialect": "openai"}}
        with Taximeter(tmp_path, upstreams, relay={"drain_seconds_max": 0.5}) as meter:
            with begin_stream(meter.port) as client:
                time.sleep(0.2)
                assert meter.stop() == 0
                heard = read_all(client)
            assert b"draining" in heard
            assert b"[DONE]" not in heard
            assert not heard.endswith(b"0\r\n\r\n")
            (row,) = meter.booked(1)
            assert row["outcome"] == "interrupted"


def test_reloads_under_load_fail_no_call(tmp_path: Path) -> None:
    """H11: a new file is used by new calls, a bad one leaves the old running, and none fails."""
    with Upstream(Script(tokens=3)) as upstream:
        upstreams = {"openai": {"url": upstream.url, "dialect": "openai"}}
        with Taximeter(tmp_path, upstreams, workers=2) as meter:
            assert meter.process is not None
            said = json.loads(meter.configuration.read_text())
            calls = 0
            for round_ in range(10):
                said["relay"] = {"head_seconds_max": 10 + round_}
                words = "not: [a configuration" if round_ % 2 else json.dumps(said)
                meter.configuration.write_text(words)
                meter.process.send_signal(signal.SIGHUP)
                for _ in range(4):
                    with begin_stream(meter.port) as client:
                        heard = b""
                        while b"[DONE]" not in heard:
                            data = client.recv(65536)
                            assert data, "a stream broke off"
                            heard += data
                    calls += 1
            rows = meter.booked(calls)
            assert {row["outcome"] for row in rows} <= {"completed"}
