"""The short way of a stream, held against the long one: whatever comes, both say the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, cast

import pytest

from taximeter.dialects import dialect_for
from taximeter.relay import _splice
from taximeter.relay._answer import AnswerParser
from taximeter.relay._budget import ByteBudget
from taximeter.relay._chunks import MalformedAnswer
from taximeter.relay._splice import Splice
from taximeter.relay._stream_tap import StreamTap, tap_for
from taximeter.relay._tap import Subject
from tests.relay.bench import EVENTS
from tests.relay.test_books import chunk

KEPT_BYTES_MAX = 20_000
READS = 400
PADDED = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}],"obfuscation":"%b"}\n\n'
BARE = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n'
TYPED = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta"%b}\n\n'
BLOCK = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":'
    b'{"type":"text_delta","text":"%b"}}\n\n'
)
GEMINI = b'data: {"candidates":[{"content":{"parts":[{"text":"%b"}]}}]}\r\n\r\n'
TEXTS = (b"a", b" taxi", b"", b'\\"', b"\\n", b"\xc3\xa9", b"long " * 60, b"x\\")
ODD = (b"a\nb", b"a\r", b'"', b'","usage":{"prompt_tokens":1,"completion_tokens":2},"x":"')

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
MESSAGES, GENERATE = "/v1/messages", "/v1beta/models/m:streamGenerateContent"
STREAMS: dict[str, tuple[str, str, Callable[[bytes, bytes], bytes], bytes]] = {
    "padded": ("openai", CHAT, lambda text, pad: PADDED % (text, pad), b"data: [DONE]\n\n"),
    "bare": ("openai", CHAT, lambda text, _: BARE % text, b"data: [DONE]\n\n"),
    "typed": (
        "openai",
        RESPONSES,
        lambda text, _: TYPED % (b',"delta":"%b"' % text),
        b'event: response.completed\ndata: {"type":"response.completed"}\n\n',
    ),
    "blocks": (
        "anthropic",
        MESSAGES,
        lambda text, _: BLOCK % text,
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    ),
    "gemini": ("gemini", GENERATE, lambda text, _: GEMINI % text, b": bye\n\n"),
}


class Client:
    """Takes what is written to it."""

    def __init__(self) -> None:
        self.heard = b""

    def write(self, data: bytes) -> None:
        """Take chunks."""
        self.heard += data


class Owner:
    """Stands in for the exchange: it goes on where the splice leaves off, and notes how."""

    def __init__(self) -> None:
        self.last_in_ns = self.last_out_ns = self.response_bytes = 0
        self.ending = ""
        self.said = b""
        self.splice: Splice | None = None

    def go_on_from_splice(self, body: bytes, now: int) -> None:
        """Only what has no content comes here in these streams."""
        assert not body

    def end_from_splice(self, body: bytes, now: int) -> None:
        """Be given the end marker, which goes out when the call is settled."""
        self.ending, self.said = "ended", body

    def upstream_failed(self, code: str) -> None:
        """Be told that the upstream is of no further use."""
        self.ending = code

    def fault(self, error: Exception) -> None:
        """Be told of a bug."""
        raise error

    go_blind_from_splice = fault


def body_of(chunks: bytes) -> bytes:
    """Take whole chunks out of their frames."""
    parser = AnswerParser()
    return parser.feed(EVENTS + chunks)


def new_tap(name: str, path: str, budget: ByteBudget) -> StreamTap:
    """Make the tap of a stream."""
    dialect = dialect_for(name, path)
    subject = Subject(
        dialect=dialect,
        operation=dialect.operation("POST", path),
        provider=name,
        status=200,
        content_type="text/event-stream",
        content_encoding="",
    )
    tap = tap_for(subject, KEPT_BYTES_MAX, budget, drop_usage=name == "openai")
    assert isinstance(tap, StreamTap)
    return tap


def reads_of(stream: str, rng: random.Random, odd: bool) -> Iterator[bytes]:
    """Give the reads of a stream under way: events, mostly whole and alone, mostly of one form."""
    _, _, event, end = STREAMS[stream]
    for _ in range(READS):
        texts = TEXTS + ODD if odd else TEXTS
        said = chunk(event(rng.choice(texts), rng.choice(texts)))
        way = rng.random()
        if way < 0.03:
            cut = rng.randrange(len(said))
            yield from (said[:cut], said[cut:]) if cut else (said,)
        elif way < 0.06:
            yield said + said
        elif way < 0.08:
            yield chunk(b": a comment\n\n")
        elif way < 0.1:
            yield said.replace(b"\r\n", b";x=y\r\n", 1)
        elif way < 0.11:
            yield from (b"%x\r\n" % len(said), said, b"\r\n")  # a chunk within a chunk
        elif way < 0.12:
            yield from (chunk(b"id: "), said)  # an event within a line
        elif odd and way < 0.13:
            yield rng.choice((said[said.index(b"\n") + 1 : -2], b"?ab\r\n", said[:-1] + b" "))
        else:
            yield said
    yield chunk(end)


@pytest.mark.parametrize("odd", [False, True], ids=["usual", "odd"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stream", STREAMS)
def test_the_short_way_of_a_stream_says_what_the_long_one_does(
    stream: str, seed: int, odd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C1, C3: however events come, whatever stands in their texts: the same bytes go on as
    without the splice, and the events, gaps, usage and text kept are the same; what is malformed
    is malformed at the same read.
    """
    name, path, event, _ = STREAMS[stream]
    rng = random.Random(f"{stream} {seed} {odd}")
    clock = count(1, 3_000_000)
    at = next(clock)
    monkeypatch.setattr(_splice, "_now", lambda: at)
    owner, client, budget = Owner(), Client(), ByteBudget(1 << 20)
    short, long = new_tap(name, path, budget), new_tap(name, path, ByteBudget(1 << 20))
    parser, model = AnswerParser(), AnswerParser()
    first = chunk(event(b"Hello", b"xy"))
    for tap, each in ((short, parser), (long, model)):
        assert tap.feed(each.feed(EVENTS + first), at)
        assert tap.is_steady
    assert parser.chunks is not None
    splice = Splice(
        cast(Any, owner),
        parser,
        parser.chunks,
        short,
        short.reader,
        cast(asyncio.Transport, client),
    )
    heard, untouched, size = b"", 0, 0
    for read in reads_of(stream, rng, odd):
        at = next(clock)
        written = len(client.heard)
        splice.take(read)
        try:
            body = model.feed(read)
        except MalformedAnswer:
            assert owner.ending == "upstream_malformed"
            break
        size += len(body)
        heard += long.feed(body, at) if body else b""
        untouched += client.heard[written:] == read
        assert owner.last_in_ns == at
        assert owner.ending == ("ended" if long.reader.ended else "")
        if owner.ending:
            break
        assert owner.response_bytes == size
        assert short.events == long.events
        assert short.reader.at_boundary == long.reader.at_boundary
    assert body_of(client.heard) + owner.said == heard
    assert short.kept() == long.kept()
    assert short.body_bytes == long.body_bytes
    assert short.gaps == long.gaps
    assert short.answer() == long.answer()
    assert budget.bytes_taken <= KEPT_BYTES_MAX
    assert odd or untouched > READS * 0.8, "a stream of alike events is passed on read by read"
