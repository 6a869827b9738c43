"""D1: a stream's end marker that comes in pieces: its line is out when its call is closed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from taximeter.dialects import dialect_for
from taximeter.relay._budget import ByteBudget
from taximeter.relay._stream_tap import StreamTap, tap_for
from taximeter.relay._tap import Subject
from tests.relay.bench import EVENTS, Line, bench
from tests.relay.test_books import DELTA, chunk
from tests.relay.test_order import request

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
INTERACTIONS = "/v1beta/interactions"
DONE = b"data: [DONE]\n\n"
ENDS = {
    "done": ("openai", CHAT, DONE),
    "done, without a space": ("openai", CHAT, b"data:[DONE]\r\n\r\n"),
    "done, in lone CRs": ("openai", CHAT, b"data: [DONE]\r\r"),
    "done, with an id": ("openai", CHAT, b"id: 7\ndata: [DONE]\n\n"),
    "an error": ("openai", CHAT, b'data: {"error": {"code": "busy"}}\n\n'),
    "completed": (
        "openai",
        RESPONSES,
        b'event: response.completed\ndata: {"type":"response.completed"}\n\n',
    ),
    "completed, without a name": (
        "openai",
        RESPONSES,
        b'data: {"type": "response.completed", "response": {}}\n\n',
    ),
    "message_stop": (
        "anthropic",
        MESSAGES,
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    ),
    "an interaction": (
        "gemini",
        INTERACTIONS,
        b'event: interaction.completed\ndata: {"event_type":"interaction.completed"}\n\n',
    ),
}
"""A dialect, a path, and the event that ends such a stream."""
OTHERS = (
    DELTA,
    b"data: [1, 2]\n\n",
    b'data: {"type":"response.created"}\n\n',
    b"event: response.completed_item\ndata: {}\n\n",
    b"event: message_stopped\ndata: {}\n\n",
    b": data: [DONE]\n\n",
)
"""Events that end nothing."""


def tap_of(dialect: str, path: str, encoding: str = "") -> StreamTap:
    """Make the tap of a stream of which nothing is taken out."""
    family = dialect_for(dialect, path)
    subject = Subject(
        dialect=family,
        operation=family.operation("POST", path),
        provider=None,
        status=200,
        content_type="text/event-stream",
        content_encoding=encoding,
    )
    tap = tap_for(subject, 1 << 16, ByteBudget(1 << 20), drop_usage=False)
    assert isinstance(tap, StreamTap)
    return tap


@pytest.mark.parametrize("pace", [1, 3, 8])
@pytest.mark.parametrize("name", ENDS)
def test_the_line_of_an_end_marker_is_held_back_until_the_marker_is_whole(
    name: str, pace: int
) -> None:
    """D1: no read releases the end of the marker's line before the tap tells that the stream has
    ended; all other bytes go at once, and all go in the end.
    """
    dialect, path, end = ENDS[name]
    tap = tap_of(dialect, path)
    others = b"".join(OTHERS if path == CHAT else OTHERS[1:])
    assert b"".join(tap.feed(others[at : at + 1], 1) for at in range(len(others))) == others
    line = end.rstrip(b"\r\n")
    released = b""
    for at in range(0, len(end), pace):
        released += tap.feed(end[at : at + pace], 1)
        if not tap.ended:
            assert len(released) <= len(line)
    assert tap.ended
    assert released + tap.finish() == end


@pytest.mark.parametrize("event", OTHERS)
def test_no_event_that_ends_nothing_is_held_back(event: bytes) -> None:
    """C3: each byte of it is released by the read that brings it."""
    for dialect, path in (("openai", CHAT), ("openai", RESPONSES), ("anthropic", MESSAGES)):
        tap = tap_of(dialect, path)
        for at in range(len(event)):
            assert tap.feed(event[at : at + 1], 1) == event[at : at + 1]


def test_what_is_held_back_goes_when_the_stream_ends_without_its_blank_line() -> None:
    """C1: an end marker that is never whole arrives with the end of bytes."""
    tap = tap_of("openai", CHAT)
    assert tap.feed(DELTA + DONE[:-1], 1) == DELTA
    assert tap.finish() == DONE[:-1]
    assert tap.ended


def test_what_is_held_back_is_bounded() -> None:
    """H4: an end marker of more than 64 KiB is passed on as it comes."""
    tap = tap_of("openai", RESPONSES)
    said = b'data: {"type":"response.completed","response":"'
    assert tap.feed(said, 1) == b""
    long = b"x" * (64 << 10)
    assert tap.feed(long, 1) == said + long
    assert tap.feed(b"y", 1) == b"y"


def test_a_bug_while_something_is_held_back_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """L5: what was held back goes with the bytes that could not be looked at."""
    tap = tap_of("openai", CHAT)
    assert tap.feed(DONE[:-1], 1) == b""

    def fail(_: bytes) -> bytes:
        raise RuntimeError("a bug")

    monkeypatch.setattr(type(tap.reader), "feed", lambda _, data: fail(data))
    assert tap.feed(b"\n", 1) == DONE
    assert tap.feed(b"more", 1) == b"more"
    assert tap.finish() == b""


@pytest.mark.parametrize("events", [[], [DELTA]])
@pytest.mark.parametrize("usage", ["ask", "observe"])
async def test_a_client_that_has_the_end_markers_line_finds_its_call_closed(
    usage: str, events: list[bytes], tmp_path: Path
) -> None:
    """D1: with or without the splice, nothing of the marker is out while the call is open."""
    go_on = asyncio.Event()

    async def in_two_reads(line: Line) -> None:
        await line.request()
        await line.say(EVENTS + b"".join(map(chunk, events)))
        await asyncio.sleep(0.02)
        await line.say(chunk(DONE[:-1]))
        await go_on.wait()
        await line.say(chunk(b"\n"))
        await asyncio.sleep(0.02)
        await line.say(b"0\r\n\r\n")

    async with bench(tmp_path, in_two_reads, upstream={"usage": usage}) as made:
        client = await made.client()
        await client.say(request(CHAT, stream=True))
        await client.until(b"\r\n\r\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.15):
                await client.until(b"[DONE]\n")
        assert not made.closed
        go_on.set()
        await client.until(b"[DONE]\n\n")
        assert len(made.closed) == 1
        await client.until(b"0\r\n\r\n")
