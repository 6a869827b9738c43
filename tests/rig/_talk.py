"""What is asked of the scripted upstream and what it answers, below HTTP's framing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.rig._figures import Figures
from tests.rig._script import Script

CREATED = 1_795_000_000
"""The one second in which everything here happens: answers to like requests are alike."""


@dataclass(slots=True)
class Ask:
    """One request as an API family sees it."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    """Names in lower case; of repeated fields the last."""
    body: bytes
    said: dict[str, Any]
    """The body as JSON; empty if it is not a JSON object."""
    script: Script
    figures: Figures
    id: str
    kept: dict[str, Any]
    """What earlier calls left here: files by id, background runs by id."""

    @property
    def streams(self) -> bool:
        return bool(self.said.get("stream", False))

    @property
    def model(self) -> str:
        return str(self.said.get("model", "gpt-5.4-mini"))


@dataclass(slots=True)
class Answer:
    """One answer as an API family gives it. `events` is the body, in the pieces it is said in."""

    events: list[bytes]
    content_type: str = "application/json"
    status: int = 200
    streams: bool = False
    headers: list[tuple[str, str]] = field(default_factory=list)
    billed: bool = True
    """The answer states the usage of a generation it made."""


Maker = Callable[[Ask], Answer]


def compact(value: Any) -> bytes:
    """Give JSON as the APIs write it in streams: no spaces, text as UTF-8."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def plain(value: Any, *, status: int = 200, billed: bool = True) -> Answer:
    """Answer with one JSON body."""
    return Answer(events=[compact(value)], status=status, billed=billed)


def sse(events: list[bytes]) -> Answer:
    """Answer with a stream of server-sent events."""
    return Answer(events=events, content_type="text/event-stream; charset=utf-8", streams=True)


def data(value: Any) -> bytes:
    """One event without a name."""
    return b"data: " + compact(value) + b"\n\n"


def named(value: dict[str, Any]) -> bytes:
    """One event whose name is its JSON's `type`."""
    return b"event: " + str(value["type"]).encode() + b"\ndata: " + compact(value) + b"\n\n"
