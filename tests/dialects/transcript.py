"""Feeding a stream's bytes to a reader in every way that must make no difference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import msgspec
import pytest

from taximeter.dialects import AnswerFacts, StreamReader, _openai_stream, dialect_for

SSE = "text/event-stream; charset=utf-8"
LINES = "application/x-ndjson"
JSON = "application/json"

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
GEMINI = "/v1beta/models/gemini-3-flash:streamGenerateContent"
OLLAMA = "/api/chat"


@dataclasses.dataclass
class Seen:
    """What a reader made of a stream."""

    answer: AnswerFacts
    events: int
    token_seen: bool
    ended: bool
    released: bytes
    at_boundary: bool


def reader_of(
    name: str,
    path: str,
    content_type: str = SSE,
    *,
    provider: str | None = None,
    drop: bool = False,
) -> StreamReader:
    """Make a reader for an answer to a POST to `path`."""
    dialect = dialect_for(name, path)
    reader = dialect.stream_reader(dialect.operation("POST", path), provider, content_type, drop)
    assert reader is not None
    return reader


def run(reader: StreamReader, reads: Iterable[bytes]) -> Seen:
    """Feed `reads`, finish, and give what was seen."""
    released = b"".join([reader.feed(read) for read in reads])
    at_boundary = reader.at_boundary
    released += reader.finish()
    answer = msgspec.structs.replace(reader.answer)
    return Seen(answer, reader.events, reader.token_seen, reader.ended, released, at_boundary)


def patiently(read: Callable[[], Seen]) -> Seen:
    """Read a stream without the short way of usual chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_openai_stream, "read_usual_chunk", lambda data: None)
        return read()


def read_stream(
    name: str,
    path: str,
    stream: bytes,
    content_type: str = SSE,
    *,
    provider: str | None = None,
    drop: bool = False,
) -> Seen:
    """Read `stream` whole, patiently, byte by byte and in odd pieces: all must agree."""

    def seen(reads: Iterable[bytes]) -> Seen:
        return run(reader_of(name, path, content_type, provider=provider, drop=drop), reads)

    whole = seen([stream])
    assert patiently(lambda: seen([stream])) == whole, "the patient way"
    ways = {
        "byte by byte": [stream[place : place + 1] for place in range(len(stream))],
        "in sevens": [stream[place : place + 7] for place in range(0, len(stream), 7)],
        "event by event": stream.splitlines(keepends=True),
        "with empty reads": [b"", stream[:40], b"", stream[40:], b""],
        "one event a read": [part + b"\n\n" for part in stream.split(b"\n\n")[:-1]]
        + [stream.split(b"\n\n")[-1]],
    }
    for way, reads in ways.items():
        assert seen(reads) == whole, way
    if not drop:
        assert whole.released == stream
    return whole


def sse(*events: object, event_names: bool = False) -> bytes:
    """Write events: objects as JSON, texts and bytes as they are."""
    out = b""
    for event in events:
        if isinstance(event, str):
            event = event.encode()
        if isinstance(event, dict):
            if event_names:
                out += b"event: " + str(event["type"]).encode() + b"\n"
            event = msgspec.json.encode(event)
        assert isinstance(event, bytes)
        out += b"data: " + event + b"\n\n"
    return out


def chunk(delta: dict[str, object] | None, finish: str | None = None, **more: object) -> object:
    """Write a chat chunk: without a delta, one without choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {
        "id": "chatcmpl-A1",
        "object": "chat.completion.chunk",
        "created": 1_795_000_000,
        "model": "gpt-5.4-mini-2026-03-17",
        "choices": choices,
        **more,
    }
