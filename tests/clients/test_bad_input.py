"""Bad input: a clear error in the family's own shape, and a row wherever a call was accepted."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clients._bench import CHAT, Bench
from tests.rig import Script


def _talk(port: int, sent: bytes) -> tuple[int, dict[str, Any]]:
    """Send bytes on a connection of their own; give the answer's status and JSON."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(sent)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize(
    ("path", "place"),
    [("/nowhere/v1/chat/completions", "error"), ("/nowhere/v1/messages", "error")],
)
def test_an_unknown_upstream_is_told_and_booked(bench: Bench, path: str, place: str) -> None:
    """A path with an upstream nobody configured is a 404 that says so, and a row."""
    status, body = bench.fetch(CHAT, path)
    said = json.loads(body)[place]
    assert status == 404
    assert "nowhere" in said["message"]
    row = bench.row()
    assert (row["outcome"], row["error"]) == ("rejected", "unknown_upstream")
    assert row["cost_pico"] == 0


def test_an_oversize_head_is_refused_in_words(bench: Bench) -> None:
    """A head beyond the bound is a 431 that names the setting, the end of its connection, a row."""
    sent = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 70_000
    status, body = _talk(bench.meter.port, sent + b"\r\n\r\n")
    assert status == 431
    assert body["error"]["code"] == "head_too_large"
    assert "relay.head_bytes_max" in body["error"]["message"]
    row = bench.row()
    assert (row["outcome"], row["error"]) == ("rejected", "head_too_large")


def test_what_is_not_http_is_refused_in_words(bench: Bench) -> None:
    """Bytes that are no request get a 400 in JSON, not a traceback."""
    status, body = _talk(bench.meter.port, b"\x16\x03\x01 hello\r\n\r\n")
    assert status == 400
    assert body["error"]["code"] == "malformed_request"


def test_a_model_without_a_price_is_unknown_and_not_free(bench: Bench) -> None:
    """A call whose model nobody has a price for is booked with tokens and without a cost."""
    bench.fetch({**CHAT, "model": "nobody-knows-this"})
    row = bench.row()
    assert row["outcome"] == "completed"
    assert row["output_tokens"] > 0
    assert row["cost_pico"] is None
    assert row["price"].startswith("unpriced: ")


@pytest.mark.parametrize("broken", [b'{"model": "gpt-5.4-mini", ', b"\xff\xfe\x00", b"[1, 2"])
def test_broken_json_is_the_upstreams_to_refuse(bench: Bench, broken: bytes) -> None:
    """A body that is no JSON goes through untouched; the upstream's refusal comes back, booked."""
    bench.upstream.queue(Script(status=400))
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    head += b"Content-Length: %d\r\n\r\n" % len(broken)
    status, body = _talk(bench.meter.port, head + broken)
    assert status == 400
    assert "error" in body
    assert bytes(bench.upstream.last.body) == broken
    row = bench.row()
    assert (row["outcome"], row["status"], row["cost_pico"]) == ("upstream_error", 400, 0)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("listn: 127.0.0.1:1\n", "listen"),
        ("workers: many\n", "workers"),
        ("upstreams: {openai: {url: 'ftp://x'}}\n", "upstreams.openai.url"),
        ("prices: [{provider: openai, model: x}]\n", "prices"),
        (": [\n", "taximeter.yaml:1:"),
    ],
)
def test_a_wrong_configuration_is_refused_with_its_place(
    tmp_path: Path, text: str, hint: str
) -> None:
    """`serve` with a wrong file ends with code 2, and says where the fault is in plain words."""
    path = tmp_path / "taximeter.yaml"
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "taximeter", "serve", "--config", str(path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert hint in done.stderr
    assert "Traceback" not in done.stderr
