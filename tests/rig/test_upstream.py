"""The scripted upstream does as it is told: every later test stands on it."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rig import Script, expected, read_script, write_script
from tests.rig.upstream import Upstream

CHAT = {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": "How far?"}]}


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A scripted upstream of the test's own."""
    with Upstream() as running:
        yield running


def post(
    upstream: Upstream, path: str, said: dict[str, Any], headers: dict[str, str] | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Post JSON; give status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", upstream.port, timeout=5)
    try:
        connection.request("POST", path, json.dumps(said), headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def exchange_raw(upstream: Upstream, sent: bytes) -> bytes:
    """Send bytes and read until the other side ends the connection."""
    with socket.create_connection(("127.0.0.1", upstream.port), timeout=5) as connection:
        connection.sendall(sent)
        read = bytearray()
        while piece := connection.recv(65536):
            read += piece
        return bytes(read)


def raw_post(path: str, said: dict[str, Any], extra: str = "") -> bytes:
    """Give the bytes of a request."""
    body = json.dumps(said).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: rig\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def test_figures_follow_the_meaning_of_a_request(upstream: Upstream) -> None:
    """A call plain, streamed, or with usage asked for states the same figures, known beforehand."""
    figures = expected(CHAT)
    _, _, plain = post(upstream, "/v1/chat/completions", CHAT)
    asked = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    _, _, stream = post(upstream, "/v1/chat/completions", asked)
    last = json.loads(stream.split(b"\n\n")[-3].removeprefix(b"data: "))
    usage = json.loads(plain)["usage"]
    assert usage == last["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (figures.input, figures.output)
    assert json.loads(plain)["choices"][0]["message"]["content"] == figures.text
    assert last["choices"] == []
    assert [exchange.billed for exchange in upstream.log] == [True, True]
    assert upstream.log[0].id != upstream.log[1].id


def test_usage_comes_only_if_asked(upstream: Upstream) -> None:
    """A chat stream without `include_usage` has no usage anywhere, as at the real one."""
    _, headers, stream = post(upstream, "/v1/chat/completions", {**CHAT, "stream": True})
    assert b"usage" not in stream
    assert stream.endswith(b"data: [DONE]\n\n")
    assert headers["content-type"] == "text/event-stream; charset=utf-8"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/completions",
        "/v1/responses",
        "/v1/embeddings",
        "/v1/moderations",
        "/v1/images/generations",
        "/v1/audio/speech",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1beta/models/gemini-3-flash:generateContent",
        "/v1beta/models/gemini-3-flash:streamGenerateContent?alt=sse",
        "/v1beta/models/gemini-3-flash:streamGenerateContent",
        "/v1beta/models/gemini-3-flash:embedContent",
        "/v1beta/openai/chat/completions",
        "/api/chat",
        "/api/generate",
        "/api/embed",
        "/v1/batches",
        "/v1/unheard/of",
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_endpoints_answer(upstream: Upstream, path: str, stream: bool) -> None:
    """Every endpoint answers plain and streamed, the same bytes for the same id."""
    said = {"model": "m", "input": "x", "stream": stream}
    script = {"x-rig": write_script(Script(id="one"))}
    status, _, body = post(upstream, path, said, script)
    again = post(upstream, path, said, {"x-rig": write_script(Script(id="one", split=1))})
    assert (status, body) == (200, again[2])
    assert body


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("encoding", [None, "gzip", "deflate", "br", "zstd"])
def test_framing_and_coding_leave_the_body_alone(
    upstream: Upstream, framing: Any, encoding: Any
) -> None:
    """Whatever the framing and coding, what was said can be read back."""
    script = Script(framing=framing, encoding=encoding, id="one", chunk_bytes=7)
    headers = {"x-rig": write_script(script), "accept-encoding": str(encoding)}
    said = {**CHAT, "stream": True}
    _, answered, body = post(upstream, "/v1/chat/completions", said, headers)
    assert answered["content-encoding"] == encoding
    if encoding == "gzip":
        body = gzip.decompress(body)
    if encoding in (None, "gzip"):
        assert body.endswith(b"data: [DONE]\n\n")


def test_coding_needs_the_clients_word(upstream: Upstream) -> None:
    """A client that accepts only identity is not sent gzip, unless the script insists."""
    headers = {"accept-encoding": "identity"}
    upstream.queue(Script(encoding="gzip"), Script(encoding="gzip", encoding_forced=True))
    assert post(upstream, "/v1/responses", CHAT, headers)[1]["content-encoding"] is None
    assert post(upstream, "/v1/responses", CHAT, headers)[1]["content-encoding"] == "gzip"


@pytest.mark.parametrize("cut", ["fin", "rst"])
def test_cuts_end_the_stream_where_they_should(upstream: Upstream, cut: Any) -> None:
    """A cut between events, inside one, or before the head ends the connection right there."""
    sent = raw_post("/v1/chat/completions", {**CHAT, "stream": True})

    def read(script: Script) -> bytes:
        upstream.queue(script)
        got = bytearray()
        with socket.create_connection(("127.0.0.1", upstream.port), timeout=5) as connection:
            connection.sendall(sent)
            try:
                while piece := connection.recv(65536):
                    got += piece
            except ConnectionResetError:
                assert cut == "rst"
            else:
                assert cut == "fin"
        return bytes(got)

    # What was written before a reset may be lost on its way; what the log says was written is not.
    between = read(Script(cut_after_events=2, cut=cut))
    assert upstream.last.events_sent == 2
    inside = read(Script(cut_after_bytes=10, cut=cut))
    assert upstream.last.body_sent == 10
    before = read(Script(cut_before_head=True, cut=cut))
    assert before == b""
    if cut == "fin":
        assert between.endswith(b"}\n\n\r\n")
        assert inside.endswith(b'data: {"id')


def test_a_client_that_leaves_is_noticed(upstream: Upstream) -> None:
    """While the upstream stalls it sees at once that its client has gone, and when."""
    upstream.queue(Script(stall_after_events=1))
    with socket.create_connection(("127.0.0.1", upstream.port), timeout=5) as connection:
        connection.sendall(raw_post("/v1/chat/completions", {**CHAT, "stream": True}))
        assert connection.recv(100)
        left_at = time.monotonic()
    upstream.wait_until(lambda: upstream.last.client_left_at is not None)
    seen = upstream.last.client_left_at
    assert seen is not None
    assert -0.1 < seen - left_at < 1
    assert upstream.last.answered_at is None


def test_errors_take_the_familys_shape(upstream: Upstream) -> None:
    """A scripted status comes with the error body its family uses, and with its headers."""
    upstream.default = Script(status=429, headers=[("retry-after", "7"), ("retry-after", "8")])
    status, headers, body = post(upstream, "/v1/chat/completions", CHAT)
    assert (status, headers.get_all("retry-after")) == (429, ["7", "8"])
    assert json.loads(body)["error"]["type"] == "rate_limit_exceeded"
    assert json.loads(post(upstream, "/v1/messages", CHAT)[2])["type"] == "error"
    gemini = post(upstream, "/v1beta/models/g:generateContent", CHAT)[2]
    assert json.loads(gemini)["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert isinstance(json.loads(post(upstream, "/api/chat", CHAT)[2])["error"], str)


def test_oddities_of_http(upstream: Upstream) -> None:
    """Interim answers, trailers, bytes after the end and a verbatim answer leave as scripted."""
    upstream.queue(
        Script(
            interim_count=3, trailers=[("x-end", "yes")], idle_bytes="HTTP/1.1 200 OK", close=True
        )
    )
    read = exchange_raw(upstream, raw_post("/v1/responses", CHAT))
    assert read.count(b"HTTP/1.1 103 Early Hints") == 3
    assert read.endswith(b"0\r\nx-end: yes\r\n\r\nHTTP/1.1 200 OK")
    upstream.queue(Script(raw="HTTP/1.1 200 OK\r\nx: \xff\r\n\r\n"))
    assert exchange_raw(upstream, raw_post("/x", {})) == b"HTTP/1.1 200 OK\r\nx: \xff\r\n\r\n"


@pytest.mark.parametrize("stream", [False, True])
def test_a_head_that_waits_comes_with_the_body(upstream: Upstream, stream: bool) -> None:
    """The head is in one write with what comes first of the body, and not lost without one."""
    upstream.queue(Script(head_waits=True, delta_seconds=0.05))
    with socket.create_connection(("127.0.0.1", upstream.port), timeout=5) as connection:
        connection.sendall(raw_post("/v1/chat/completions", {**CHAT, "stream": stream}))
        head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body.endswith(b"\n\n\r\n" if stream else b"}")
    upstream.queue(Script(head_waits=True, body="", close=True))
    said = exchange_raw(upstream, raw_post("/v1/chat/completions", CHAT))
    assert said.endswith(b"content-length: 0\r\nconnection: close\r\n\r\n")


def test_lengths_can_lie(upstream: Upstream) -> None:
    """The stated length is wrong by as much as the script says."""
    upstream.queue(Script(body="12345", length_delta=3))
    read = exchange_raw(upstream, raw_post("/x", {}))
    assert b"content-length: 8\r\n" in read
    assert read.endswith(b"\r\n\r\n12345")


def test_what_came_is_kept_as_it_came(upstream: Upstream) -> None:
    """The log has a request's very bytes, its fields in order, and its body out of its framing."""
    sent = (
        b"POST /v1/unheard?a%2Fb? HTTP/1.1\r\nHost: rig\r\nX-B: 1\r\nx-a: \xff\r\nx-b: 2\r\n"
        b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    upstream.default = Script(close=True)
    exchange_raw(upstream, sent)
    seen = upstream.last
    assert bytes(seen.raw) == sent
    assert bytes(seen.body) == b"abcde"
    assert seen.target == "/v1/unheard?a%2Fb?"
    assert seen.headers[1:4] == [("X-B", "1"), ("x-a", "\xff"), ("x-b", "2")]


def test_malformed_requests_are_logged(upstream: Upstream) -> None:
    """What is no request is answered 400 and stays in the log with the reason."""
    read = exchange_raw(upstream, b"GET / HTTP/1.1\r\nHost: rig\r\nContent-Length: 1x\r\n\r\n")
    assert read.startswith(b"HTTP/1.1 400 ")
    assert upstream.last.malformed


def test_files_come_back_as_they_went(upstream: Upstream) -> None:
    """The content of an uploaded file is downloaded byte for byte."""
    content = os.urandom(100_000)
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    body += content + b"\r\n--b--\r\n"
    connection = http.client.HTTPConnection("127.0.0.1", upstream.port, timeout=5)
    with contextlib.closing(connection):
        kind = {"content-type": "multipart/form-data; boundary=b"}
        connection.request("POST", "/v1/files", body, kind)
        name = json.loads(connection.getresponse().read())["id"]
        connection.request("GET", f"/v1/files/{name}/content")
        assert connection.getresponse().read() == content


def test_background_runs_finish_after_polls(upstream: Upstream) -> None:
    """A background run is queued, then under way, then done, and done alike ever after."""
    upstream.queue(Script(polls_until_done=2))
    _, _, body = post(upstream, "/v1/responses", {**CHAT, "background": True})
    name = json.loads(body)["id"]

    def poll() -> Any:
        with urllib.request.urlopen(f"{upstream.url}/v1/responses/{name}") as answer:
            return json.load(answer)

    assert [poll()["status"] for _ in range(4)] == [
        "in_progress",
        "in_progress",
        "completed",
        "completed",
    ]


def test_a_wrong_script_is_loud(upstream: Upstream) -> None:
    """A script nobody can read is answered 599 with the reason, not ignored."""
    status, _, body = post(upstream, "/v1/responses", CHAT, {"x-rig": '{"no_such": 1}'})
    assert status == 599
    assert b"no_such" in body


def test_scripts_survive_their_json() -> None:
    """A script written for the header is read back as it was."""
    script = Script(tokens=3, headers=[("a", "é")], cut="rst", split_at=[1, 2])
    assert read_script(write_script(script)) == script
    assert write_script(script).isascii()


def test_it_runs_as_a_process_and_ends_with_its_parent() -> None:
    """As a process it prints its port, is told scripts over HTTP, and ends when its input does."""
    command = [sys.executable, "-m", "tests.rig.upstream", "--port", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdin is not None
            base = f"http://127.0.0.1:{int(process.stdout.readline())}"
            script = json.dumps({"body": "told"}).encode()
            urllib.request.urlopen(f"{base}/_rig/script", script).close()
            with urllib.request.urlopen(f"{base}/v1/models") as answer:
                assert answer.read() == b"told"
            with urllib.request.urlopen(f"{base}/_rig/log") as answer:
                (seen,) = json.load(answer)
            assert base64.b64decode(seen["raw_base64"]).startswith(b"GET /v1/models HTTP/1.1")
            process.stdin.close()
            assert process.wait(5) == 0
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
