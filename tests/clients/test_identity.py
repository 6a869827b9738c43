"""Byte for byte: what a client gets through Taximeter is what the upstream sent it.

Each case is one request of one endpoint family, asked twice of the same upstream under one
scripted id: direct, and over the way under test. Bodies must be equal, and so must all headers
that are not one connection's own affair.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
from typing import Any, NamedTuple

import pytest

from tests.clients._ways import Way
from tests.rig import Script, write_script

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "trailer"}
OURS = {"x-taximeter-call-id", "server-timing"}
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    + bytes(range(256)) * 64
    + b"\r\n--b--\r\n"
)
CHAT = {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": "How far?"}]}
ASKED = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}


class Case(NamedTuple):
    """One request."""

    path: str
    said: dict[str, Any] | bytes | None = None
    kind: str = "application/json"
    method: str = "POST"


CASES = {
    "chat": Case("/v1/chat/completions", CHAT),
    "chat stream": Case("/v1/chat/completions", {**CHAT, "stream": True}),
    "chat stream with usage": Case("/v1/chat/completions", ASKED),
    "completions stream": Case("/v1/completions", {**ASKED, "prompt": "x"}),
    "responses": Case("/v1/responses", {"model": "gpt-5.4", "input": "x"}),
    "responses stream": Case("/v1/responses", {"model": "gpt-5.4", "input": "x", "stream": True}),
    "embeddings": Case("/v1/embeddings", {"model": "e", "input": ["x", "y"]}),
    "embeddings base64": Case("/v1/embeddings", {"input": "x", "encoding_format": "base64"}),
    "moderations": Case("/v1/moderations", {"input": "x"}),
    "images": Case("/v1/images/generations", {"prompt": "x", "n": 2}),
    "images stream": Case("/v1/images/generations", {"prompt": "x", "stream": True}),
    "transcription": Case("/v1/audio/transcriptions", FORM, "multipart/form-data; boundary=b"),
    "speech": Case("/v1/audio/speech", {"input": "x"}),
    "file": Case("/v1/files", FORM, "multipart/form-data; boundary=b"),
    "models": Case("/v1/models", None, method="GET"),
    "batch": Case("/v1/batches", {"input_file_id": "file-1"}),
    "messages": Case("/v1/messages", {**CHAT, "max_tokens": 9}),
    "messages stream": Case("/v1/messages", {**CHAT, "max_tokens": 9, "stream": True}),
    "count tokens": Case("/v1/messages/count_tokens", CHAT),
    "gemini": Case("/v1beta/models/g:generateContent", {"contents": []}),
    "gemini stream": Case("/v1beta/models/g:streamGenerateContent?alt=sse", {"contents": []}),
    "gemini array": Case("/v1beta/models/g:streamGenerateContent", {"contents": []}),
    "ollama chat": Case("/api/chat", {"model": "llama3.2", "messages": []}),
    "ollama generate": Case("/api/generate", {"model": "llama3.2", "stream": False}),
    "unknown": Case("/v1/unheard/of?a=%2F&&b", {"x": 1}),
    "options": Case("/v1/chat/completions", None, method="OPTIONS"),
    "head": Case("/v1/models", None, method="HEAD"),
    "delete": Case("/v1/files/file-1", None, method="DELETE"),
}
UNASKED = CASES["chat stream"]
FRAMINGS = {
    "as it comes": Script(),
    "sized": Script(framing="length"),
    "until close": Script(framing="close"),
    "tiny chunks": Script(framing="chunked", chunk_bytes=3),
}
STREAMS = [name for name in CASES if "stream" in name or name in ("gemini array", "ollama chat")]


class Got(NamedTuple):
    """An answer, as far as it must be the same on every way."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    sha256: str
    length: int


def fetch(base: str, case: Case, script: Script, accepts: str = "identity") -> Got:
    """Ask for a case; give what came."""
    status, reason, headers, content = ask(base, case, script, accepts)
    kept = [
        (name.lower(), value) for name, value in headers if name.lower() not in HOP_BY_HOP | OURS
    ]
    return Got(status, reason, kept, hashlib.sha256(content).hexdigest(), len(content))


def ask(
    base: str, case: Case, script: Script, accepts: str = "identity"
) -> tuple[int, str, list[tuple[str, str]], bytes]:
    """Ask for a case; give status, reason, headers and body."""
    body = json.dumps(case.said).encode() if isinstance(case.said, dict) else case.said
    headers = {"x-rig": write_script(script), "accept-encoding": accepts}
    headers |= {"content-type": case.kind, "authorization": "Bearer sk-rig"}
    address, _, prefix = base.removeprefix("http://").partition("/")
    path = f"/{prefix}{case.path}" if prefix else case.path
    connection = http.client.HTTPConnection(address, timeout=10)
    with contextlib.closing(connection):
        connection.request(case.method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.reason, answer.getheaders(), answer.read()


def assert_same(way: Way, case: Case, script: Script, accepts: str = "identity") -> None:
    """Ask both ways, in turn; all must be the same."""
    direct = fetch(way.upstream.url, case, script, accepts)
    way.upstream.reset()
    seen = fetch(exact(way, case), case, script, accepts)
    assert seen == direct


def exact(way: Way, case: Case) -> str:
    """Give the base over which a case is relayed as it is."""
    return f"{way.base}/exact" if way.meter is not None and case is UNASKED else way.base


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("name", CASES)
def test_answers_are_the_same(way: Way, name: str, framing: str) -> None:
    """Every endpoint's answer is the same in status, reason, headers and bytes."""
    wanted = FRAMINGS[framing]
    script = Script(
        id="one",
        framing=wanted.framing,
        chunk_bytes=wanted.chunk_bytes,
        headers=[("set-cookie", "a=1"), ("X-Mixed-Case", "\xe9 "), ("set-cookie", "b=2")],
    )
    assert_same(way, CASES[name], script)


@pytest.mark.parametrize("name", STREAMS)
def test_streams_written_byte_by_byte_are_the_same(way: Way, name: str) -> None:
    """A stream whose every byte, framing included, is a write of its own arrives the same."""
    assert_same(way, CASES[name], Script(id="one", split=1, tokens=6))


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("name", ["chat", "responses stream", "chat stream with usage", "messages"])
def test_coded_answers_are_the_same(way: Way, name: str, encoding: Any) -> None:
    """A body the client accepts coded comes coded, the very bytes."""
    assert_same(way, CASES[name], Script(id="one", encoding=encoding), encoding)


@pytest.mark.parametrize("status", [201, 204, 302, 304, 400, 418, 429, 500, 502, 529])
def test_any_status_is_the_same(way: Way, status: int) -> None:
    """Statuses with and without bodies pass with their reason, redirects unfollowed."""
    script = Script(
        id="one",
        status=status,
        reason="As You Wish",
        headers=[
            ("location", "http://127.0.0.1:9/"),
            ("retry-after", "121"),
            ("x-should-retry", "false"),
        ],
    )
    assert_same(way, CASES["responses"], script)


def test_html_errors_are_the_same(way: Way) -> None:
    """A middlebox's page of HTML passes as it is."""
    script = Script(id="one", status=400, body="<html>caf\u00e9</html>", content_type="text/html")
    assert_same(way, CASES["chat stream"], script)


def test_large_bodies_are_the_same(way: Way) -> None:
    """Tens of megabytes, up or down, pass the same."""
    assert_same(way, CASES["speech"], Script(id="one", body_bytes=20_000_000))
    upload = Case("/v1/files", os.urandom(8_000_000), "application/octet-stream")
    assert_same(way, upload, Script(id="one"))
    assert way.exchanges[-1].body_sha256 == hashlib.sha256(upload.said or b"").hexdigest()


@pytest.mark.parametrize("name", CASES)
def test_requests_arrive_as_sent(way: Way, name: str) -> None:
    """The upstream gets the target and the body as the client sent them."""
    case = CASES[name]
    fetch(exact(way, case), case, Script())
    seen = way.exchanges[-1]
    body = json.dumps(case.said).encode() if isinstance(case.said, dict) else case.said or b""
    assert (seen.method, seen.target) == (case.method, case.path)
    assert bytes(seen.body) == body
    assert seen.header("authorization") == "Bearer sk-rig"
    assert seen.header("user-agent") is None
    assert seen.malformed is None


@pytest.mark.parametrize("split", [None, 1])
def test_usage_asked_for_is_taken_out_whole(way: Way, split: int | None) -> None:
    """Who did not ask gets, byte for byte, the stream of who did ask, without its usage event."""
    script = Script(id="one", split=split, tokens=6)
    _, _, _, whole = ask(way.upstream.url, CASES["chat stream with usage"], script)
    _, _, _, seen = ask(way.base, UNASKED, script)
    events = whole.split(b"\n\n")
    assert b'"choices":[]' in events[-3]
    if way.meter is None:
        assert b"usage" not in seen
    else:
        assert seen == b"\n\n".join(events[:-3] + events[-2:])
