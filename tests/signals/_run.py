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
LATE_SECONDS = 0.8
"""How late some answers begin: between two edges of every histogram, and far from both."""


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
    seconds: float = 0.0
    """From the request's first byte to the answer's last, by the client's clock."""
    first_byte_seconds: float = 0.0
    """From the request's first byte to the answer's head."""


@dataclass(frozen=True)
class Had:
    """What one request brought back."""

    status: int
    call_id: str | None
    body: bytes
    seconds: float
    first_byte_seconds: float


def call(
    port: int,
    user: str,
    dialect: str,
    said: dict[str, Any],
    script: Script | None = None,
    *,
    headers: dict[str, str] | None = None,
    leave_after_bytes: int | None = None,
) -> Had:
    """Make a call; give what came of it."""
    path = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}[dialect]
    named = {"x-taximeter-user": user, "Content-Type": "application/json", **(headers or {})}
    if script is not None:
        named["x-rig"] = write_script(script)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.connect()
        began = time.monotonic()
        connection.request("POST", path, json.dumps(said), named)
        answer = connection.getresponse()
        headed = time.monotonic()
        call_id = answer.getheader("x-taximeter-call-id")
        body = answer.read() if leave_after_bytes is None else answer.read(leave_after_bytes)
        ended = time.monotonic()
        return Had(answer.status, call_id, body, ended - began, headed - began)


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
    seen: list[Seen] = []

    def note(user: str, dialect: str, outcome: str, had: Had, **more: Any) -> None:
        seen.append(
            Seen(
                user,
                dialect,
                outcome,
                had.status,
                call_id=had.call_id,
                seconds=had.seconds,
                first_byte_seconds=had.first_byte_seconds,
                **more,
            )
        )

    late = Script(first_byte_seconds=LATE_SECONDS)
    whole: list[tuple[str, str, bool, Script | None]] = [
        ("alice", "openai", False, None),
        ("alice", "openai", False, late),
        ("bob", "openai", True, None),
        ("bob", "openai", True, late),
        ("bob", "openai", True, None),
        ("alice", "anthropic", False, None),
        ("bob", "anthropic", True, late),
    ]
    for user, dialect, stream, script in whole:
        said: dict[str, Any] = dict(CHAT if dialect == "openai" else MESSAGE)
        if stream:
            said["stream"] = True
            if dialect == "openai":
                said["stream_options"] = {"include_usage": True}
        had = call(port, user, dialect, said, script)
        assert had.status == 200
        inputs, outputs = _figures(dialect, had.body)
        tokens = {"input_tokens": inputs, "output_tokens": outputs}
        note(user, dialect, "completed", had, stream=stream, **tokens)
    for dialect in ("openai", "anthropic"):
        refused = call(port, "alice", dialect, dict(MESSAGE), Script(status=429))
        note("alice", dialect, "upstream_error", refused)
    slow = Script(tokens=100, delta_seconds=0.03)
    left = call(port, "bob", "openai", {**CHAT, "stream": True}, slow, leave_after_bytes=900)
    note("bob", "openai", "cancelled", left, stream=True)
    odd = {"Expect": "the unexpected"}
    note("alice", "openai", "rejected", call(port, "alice", "openai", dict(CHAT), headers=odd))
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
