"""Events and answers of our own, as the vendors' SDKs take them."""

from __future__ import annotations

import json

import anthropic
import httpx2
import msgspec
import openai
import pytest

from taximeter.dialects import dialect_for
from taximeter.dialects._sse import events_of
from tests.dialects.transcript import (
    CHAT,
    GEMINI,
    JSON,
    LINES,
    MESSAGES,
    OLLAMA,
    RESPONSES,
    SSE,
    chunk,
    sse,
)

CALL_ID = "0190c1c8-0000-7000-8000-000000000000"


def event(name: str, path: str, content_type: str = SSE) -> bytes | None:
    """Give the event that ends a broken stream."""
    dialect = dialect_for(name, path)
    operation = dialect.operation("POST", path)
    return dialect.error_event(operation, content_type, "upstream_lost", "It broke off.", CALL_ID)


@pytest.mark.parametrize(
    ("name", "path"),
    [("openai", CHAT), ("openai", RESPONSES), ("anthropic", MESSAGES), ("gemini", GEMINI)],
)
def test_a_broken_stream_says_so(name: str, path: str) -> None:
    """C2: the event holds the code, `partial: true` and the call's id inside the error object."""
    data = event(name, path)
    assert data is not None
    assert data.endswith((b"\n\n", b"\r\n\r\n"))
    ((_, payload),) = events_of(data)
    error = json.loads(payload)["error"]
    assert error["partial"] is True
    assert error["call_id"] == CALL_ID
    assert error["message"] == "It broke off."
    assert "upstream_lost" in payload.decode().lower()


def test_ollamas_error_is_a_line() -> None:
    """Ollama's error is a text, with the rest beside it."""
    data = event("ollama", OLLAMA, LINES)
    assert data is not None
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    assert json.loads(data) == {
        "error": "It broke off.",
        "code": "upstream_lost",
        "partial": True,
        "call_id": CALL_ID,
    }


def test_geminis_error_comes_first() -> None:
    """Google's SDK raises only if `error` is the first key."""
    assert (event("gemini", GEMINI) or b"").startswith(b'data: {"error":{"code":503')


@pytest.mark.parametrize("content_type", ["application/json", "audio/mpeg", "", "text/plain"])
def test_other_bodies_get_no_event(content_type: str) -> None:
    """Into a body that is no stream of events nothing is ever put."""
    for name, path in (
        ("openai", CHAT),
        ("anthropic", MESSAGES),
        ("gemini", GEMINI),
        ("ollama", OLLAMA),
    ):
        assert event(name, path, content_type) is None


@pytest.mark.parametrize(
    ("name", "path", "content_type", "ping"),
    [
        ("openai", CHAT, SSE, b": ping\n"),
        ("openai", RESPONSES, SSE, b": ping\n"),
        ("gemini", "/v1beta/openai/chat/completions", SSE, b": ping\n"),
        ("anthropic", MESSAGES, SSE, b": ping\n"),
        ("anthropic", MESSAGES, JSON, None),
        ("openai", CHAT, "audio/mpeg", None),
        ("gemini", GEMINI, SSE, None),
        ("ollama", OLLAMA, LINES, None),
    ],
)
def test_only_where_a_ping_is_harmless_there_is_one(
    name: str, path: str, content_type: str, ping: bytes | None
) -> None:
    """One comment line for the openai and anthropic families, nothing elsewhere."""
    dialect = dialect_for(name, path)
    assert dialect.ping(dialect.operation("POST", path), content_type) == ping


@pytest.mark.parametrize(
    "status", [400, 401, 402, 403, 404, 408, 413, 429, 500, 502, 503, 504, 529]
)
def test_refusals_are_in_the_familys_shape(status: int) -> None:
    """Each family's error object, with our code where a program finds it."""
    message = 'No "more" today\n'

    def body(name: str) -> dict[str, object]:
        data = dialect_for(name, "/x").refusal(status, "budget_exceeded", message)
        found = msgspec.json.decode(data, type=dict[str, object])
        assert (
            dialect_for(name, "/x")
            .read_answer(
                dialect_for(name, "/x").operation("POST", "/x"), None, status, JSON, data, None
            )
            .error
        )
        return found

    assert msgspec.convert(body("openai")["error"], dict)["code"] == "budget_exceeded"
    assert msgspec.convert(body("openai")["error"], dict)["message"] == message
    theirs = body("anthropic")
    assert theirs["type"] == "error"
    assert msgspec.convert(theirs["error"], dict)["details"] == {"error_code": "budget_exceeded"}
    google = msgspec.convert(body("gemini")["error"], dict)
    assert google["code"] == status
    assert google["details"][0]["reason"] == "BUDGET_EXCEEDED"
    assert body("ollama")["error"] == message


# As the SDKs see it -----------------------------------------------------------------------------


class Canned(httpx2.BaseTransport):
    """Answers every request with the same stream."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": SSE}, content=self.body)


def test_the_openai_sdk_raises_on_our_event() -> None:
    """C2: a client of OpenAI's SDK has what came, and then an exception, not an end."""
    body = sse(chunk({"content": "Hi"})) + b": ping\n" + (event("openai", CHAT) or b"")
    with httpx2.Client(transport=Canned(body)) as http:
        client = openai.OpenAI(api_key="x", base_url="http://upstream/v1", http_client=http)
        stream = client.chat.completions.create(model="m", messages=[], stream=True)
        assert next(stream).choices[0].delta.content == "Hi"
        with pytest.raises(openai.APIError, match="It broke off"):
            next(stream)


def test_the_openai_sdk_raises_on_our_event_of_responses() -> None:
    """C2: the same on the Responses API, whose own error event would only be handed over."""
    delta = {"type": "response.output_text.delta", "delta": "Hi", "sequence_number": 1}
    body = sse(delta, event_names=True) + b": ping\n" + (event("openai", RESPONSES) or b"")
    with httpx2.Client(transport=Canned(body)) as http:
        client = openai.OpenAI(api_key="x", base_url="http://upstream/v1", http_client=http)
        stream = client.responses.create(model="m", input="x", stream=True)
        next(stream)
        with pytest.raises(openai.APIError, match="It broke off"):
            next(stream)


def test_the_anthropic_sdk_raises_on_our_event() -> None:
    """C2: a client of Anthropic's SDK has what came, and then an exception."""
    ping = {"type": "ping"}
    body = sse(ping, event_names=True) + b": ping\n" + (event("anthropic", MESSAGES) or b"")
    with httpx2.Client(transport=Canned(body)) as http:
        client = anthropic.Anthropic(api_key="x", base_url="http://upstream", http_client=http)
        stream = client.messages.create(model="m", max_tokens=1, messages=[], stream=True)
        with pytest.raises(anthropic.APIError, match="It broke off"):
            next(iter(stream))
