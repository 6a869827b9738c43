"""The plain way and the usual way of a call: nobody can tell one from the other."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.relay.two_ways import (
    HANG_UP,
    RESET,
    Scene,
    ask,
    good,
    good_bytes,
    in_turn,
    same_both_ways,
    until_the_end,
)

MESSAGES = {
    "id": "msg_1",
    "type": "message",
    "model": "m",
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 2, "cache_read_input_tokens": 1},
}
RESPONSES = {
    "id": "resp_1",
    "object": "response",
    "model": "m",
    "status": "completed",
    "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
}
GEMINI = {
    "candidates": [{"finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
    "modelVersion": "m",
    "responseId": "r",
}
OLLAMA = {
    "model": "m",
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 3,
    "eval_count": 2,
}
EMBEDDINGS = {"object": "list", "model": "m", "data": [], "usage": {"prompt_tokens": 3}}
PACKED = gzip.compress(json.dumps(json.loads(good().partition(b"\r\n\r\n")[2])).encode(), mtime=0)
BODY = good().partition(b"\r\n\r\n")[2]


def again(path: str, **said: Any) -> Scene:
    """Give a scene of three equal calls of one kind, of which the last two are plain."""
    return Scene(play=in_turn(*[ask(path=path, **said)] * 3), plain=2, calls=3)


def talked(path: str, dialect: str, answer: object, **said: Any) -> Scene:
    """Give a scene of three equal calls in one dialect."""
    scene = again(path, **said)
    scene.answers = [(good(answer),)] * 3
    scene.upstream = {"dialect": dialect}
    return scene


def odd(*parts: bytes | object, plain: int = 1, **more: object) -> Scene:
    """Give a scene whose second call is answered oddly, and the third well again."""
    return Scene(
        answers=[(good(),), parts],  # type: ignore[list-item]
        play=in_turn(*[ask()] * 3),
        plain=plain,
        begun=2,
        **more,  # type: ignore[arg-type]
    )


SCENES: dict[str, Scene] = {
    "a chat": again("/v1/chat/completions"),
    "a response": talked("/v1/responses", "openai", RESPONSES),
    "embeddings": talked("/v1/embeddings", "openai", EMBEDDINGS),
    "messages": talked("/v1/messages", "anthropic", MESSAGES),
    "gemini": talked("/v1beta/models/m:generateContent", "gemini", GEMINI),
    "ollama": talked("/api/chat", "ollama", OLLAMA, stream=False),
    # answers that are good, and not plain
    "no usage": odd(good({"id": "x"})),
    "usage that contradicts itself": odd(
        good({"usage": {"prompt_tokens": -3, "completion_tokens": 10**30}})
    ),
    "an error object": odd(good({"error": {"message": "no", "code": "c", "type": "t"}})),
    "not JSON": odd(good_bytes(b"<html>")),
    "an empty body": odd(good_bytes(b"")),
    "another type": odd(good().replace(b"application/json", b"text/plain")),
    "no type": odd(good().replace(b"Content-Type: application/json\r\n", b"")),
    "a type with a charset": odd(
        good().replace(b"application/json", b"application/json; charset=utf-8"), plain=2
    ),
    "packed": odd(good_bytes(PACKED, "Content-Encoding: gzip")),
    "in chunks": odd(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    ),
    "to the connection's end": odd(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + BODY, HANG_UP, plain=0
    ),
    "of HTTP/1.0": odd(good().replace(b"HTTP/1.1", b"HTTP/1.0"), HANG_UP, plain=0),
    "that closes": odd(good(None, "Connection: close"), HANG_UP, plain=0),
    "that keeps": odd(good(None, "Connection: keep-alive", "Keep-Alive: timeout=5"), plain=2),
    "with fields": odd(
        good(
            None, "X-Request-Id: r", "x-taximeter-call-id: theirs", "Set-Cookie: a", "set-cookie: b"
        )
    ),
    "with more than it said": odd(good() + b"more", plain=0),
    "after an early hint": odd(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + good()),
    "a stream not asked for": odd(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 14\r\n\r\n"
        b"data: [DONE]\n\n"
    ),
    "created": odd(good(status="201 Created")),
    # heads that are none
    "bare line ends": odd(good().replace(b"\r\n", b"\n"), HANG_UP, plain=0),
    "a NUL": odd(good(None, "X-A: a\0b"), HANG_UP, plain=0),
    "two lengths": odd(good(None, "Content-Length: 2"), HANG_UP, plain=0),
    "a length and chunks": odd(good(None, "Transfer-Encoding: chunked"), HANG_UP, plain=0),
    "a huge head": odd(good(None, "X-A: " + "a" * 200_000), HANG_UP, plain=0),
    "a large head": odd(good(None, "X-A: " + "a" * 20_000)),
    "a folded field": odd(good(None, "X-A: a\r\n b"), HANG_UP, plain=0),
    # errors
    **{
        f"{status} each time": odd(
            good({"error": {"message": "no", "code": "c"}}, status=f"{status} No")
        )
        for status in (400, 401, 404)
    },
    **{
        f"{status}, then well": odd(
            good({"error": {"message": "no", "code": "c"}}, "Retry-After: 0", status=f"{status} No")
        )
        for status in (429, 500, 503)
    },
    # connections
    "lost at once": odd(HANG_UP),
    "reset at once": odd(RESET),
    "lost in the head": odd(good()[:30], HANG_UP),
    "lost in the body": Scene(
        answers=[(good(),), (good()[:-3], RESET)], play=until_the_end(ask(), ask()), begun=1
    ),
}


@pytest.mark.parametrize("name", SCENES)
async def test_both_ways_are_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C1, D1: whatever the answer, bytes, records, their order and all counts are the same, be it
    that a call went the plain way or not.
    """
    await same_both_ways(SCENES[name], tmp_path, monkeypatch)
