"""The scripted run: calls of two users over two dialects, in every way a call can end for them."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.rig import Script, write_script

MODEL = "fake-large"
INPUT_PICO, OUTPUT_PICO = 1_000_000, 2_000_000
"""A token's price: 1 and 2 USD a million."""
PRICES = [
    {
        "provider": "fake",
        "model": MODEL,
        "input_usd_per_million": 1,
        "output_usd_per_million": 2,
        "cached_usd_per_million": 1,
    }
]
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "How far is it?"}]}
MESSAGE = {**CHAT, "max_tokens": 100}


@dataclass(frozen=True)
class Seen:
    """What a client saw of one call."""

    user: str
    dialect: str
    outcome: str
    """As the client would call it."""
    status: int
    stream: bool = False
    input_tokens: int | None = None
    output_tokens: int | None = None
    call_id: str | None = None


def call(
    port: int,
    user: str,
    dialect: str,
    said: dict[str, Any],
    script: Script | None = None,
    *,
    headers: dict[str, str] | None = None,
    leave_after_bytes: int | None = None,
) -> tuple[int, str | None, bytes]:
    """Make a call; give status, call id and body."""
    path = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}[dialect]
    named = {"x-taximeter-user": user, "Content-Type": "application/json", **(headers or {})}
    if script is not None:
        named["x-rig"] = write_script(script)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("POST", path, json.dumps(said), named)
        answer = connection.getresponse()
        call_id = answer.getheader("x-taximeter-call-id")
        if leave_after_bytes is not None:
            return answer.status, call_id, answer.read(leave_after_bytes)
        return answer.status, call_id, answer.read()


def _figures(dialect: str, body: bytes) -> tuple[int, int]:
    """Read the tokens from an answer, plain or streamed, as its client would."""
    if not body.lstrip().startswith(b"{"):
        events = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: {")]
        said = [json.loads(event) for event in events]
        if dialect == "openai":
            usage = next(each["usage"] for each in said if each.get("usage"))
            return usage["prompt_tokens"], usage["completion_tokens"]
        first = next(each["message"]["usage"] for each in said if "message" in each)
        last = [each["usage"] for each in said if "usage" in each][-1]
        return _anthropic_input(first), last["output_tokens"]
    usage = json.loads(body)["usage"]
    if dialect == "openai":
        return usage["prompt_tokens"], usage["completion_tokens"]
    return _anthropic_input(usage), usage["output_tokens"]


def _anthropic_input(usage: dict[str, Any]) -> int:
    cached = usage.get("cache_read_input_tokens") or 0
    written = usage.get("cache_creation_input_tokens") or 0
    return int(usage["input_tokens"] + cached + written)


def run(port: int) -> list[Seen]:
    """Make all calls; give what their clients saw."""
    seen = []
    whole: list[tuple[str, str, bool]] = [
        ("alice", "openai", False),
        ("alice", "openai", False),
        ("bob", "openai", True),
        ("bob", "openai", True),
        ("bob", "openai", True),
        ("alice", "anthropic", False),
        ("bob", "anthropic", True),
    ]
    for user, dialect, stream in whole:
        said: dict[str, Any] = dict(CHAT if dialect == "openai" else MESSAGE)
        if stream:
            said["stream"] = True
            if dialect == "openai":
                said["stream_options"] = {"include_usage": True}
        status, call_id, body = call(port, user, dialect, said)
        assert status == 200
        tokens = _figures(dialect, body)
        seen.append(Seen(user, dialect, "completed", status, stream, *tokens, call_id))
    for dialect in ("openai", "anthropic"):
        status, call_id, _ = call(port, "alice", dialect, dict(MESSAGE), Script(status=429))
        seen.append(Seen("alice", dialect, "upstream_error", status, call_id=call_id))
    slow = Script(tokens=100, delta_seconds=0.03)
    said = {**CHAT, "stream": True}
    status, call_id, _ = call(port, "bob", "openai", said, slow, leave_after_bytes=900)
    seen.append(Seen("bob", "openai", "cancelled", status, True, call_id=call_id))
    odd = {"Expect": "the unexpected"}
    status, call_id, _ = call(port, "alice", "openai", dict(CHAT), headers=odd)
    seen.append(Seen("alice", "openai", "rejected", status, call_id=call_id))
    return seen


def wait_for(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait until something is so.

    Raises:
        AssertionError: if it is not so within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.05)
