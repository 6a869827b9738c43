"""C2: which streams are whole, where HTTP's own end has come and no end marker has."""

from __future__ import annotations

import functools
import gzip
from collections.abc import Callable
from pathlib import Path

import brotli
import pytest

from taximeter.call import Fact, Outcome, UsageSource
from taximeter.relay._decoders import PIECE_BYTES_MAX, STREAM_READ_BYTES_MAX, zstd
from tests.relay.bench import EVENTS, bench
from tests.relay.test_admission import Scripted, ask
from tests.relay.test_books import DELTA, chunk
from tests.relay.test_end_marker import tap_of

FINISHED = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
NOTICE = b'event: message\ndata: {"jsonrpc":"2.0","id":1,"result":{}}\n\n'
STARTED = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"x","model":"m",'
    b'"usage":{"input_tokens":9,"output_tokens":1}}}\n\n'
)
CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("path", "said", "outcome"),
    [
        ("/v1/mcp", NOTICE, Outcome.COMPLETED),
        ("/v1/mcp", b"", Outcome.COMPLETED),
        (CHAT, DELTA + FINISHED, Outcome.COMPLETED),
        (CHAT, DELTA, Outcome.TRUNCATED),
        (CHAT, b"", Outcome.TRUNCATED),
    ],
    ids=["no chat", "no chat, no event", "a reason to end", "no reason to end", "no event"],
)
async def test_a_stream_without_its_marker_is_whole_where_nothing_is_missing(
    path: str, said: bytes, outcome: Outcome, tmp_path: Path
) -> None:
    """C2: at an orderly end, what is no chat is whole, and a chat that said why it ended; one that
    was to go on is not.
    """
    answer = EVENTS + (chunk(said) if said else b"") + b"0\r\n\r\n"
    async with bench(tmp_path, Scripted(answer), upstream={"usage": "observe"}) as made:
        client = await made.client()
        await client.say(ask(path=path, stream=True))
        assert (await client.answer())[2] == said
        assert made.closed[0].outcome is outcome


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"cost":0.1}}\n\n'
CODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "br": functools.partial(brotli.compress, quality=5),
    "zstd": zstd.compress,
}


@pytest.mark.parametrize("coding", CODERS)
def test_no_read_of_a_coded_stream_takes_more_work_than_its_bound(coding: str) -> None:
    """H4: what is made to come to more in one read is passed on, and read no further."""
    tap = tap_of("openai", CHAT, coding)
    coded = CODERS[coding](DELTA + USAGE * 100_000)
    assert tap.feed(coded[:100_000], 1) == coded[:100_000]
    assert 0 < tap.body_bytes <= STREAM_READ_BYTES_MAX + 2 * PIECE_BYTES_MAX
    assert Fact.TAP_OVERFLOW in tap.facts
    assert tap.whole


def test_a_coded_stream_may_come_to_more_in_many_reads() -> None:
    """H4: the bound is on a read, not on the stream."""
    tap = tap_of("openai", CHAT, "gzip")
    for _ in range(20):
        coded = gzip.compress(USAGE * 1000)
        assert tap.feed(coded, 1) == coded
    tap.feed(gzip.compress(b"data: [DONE]\n\n"), 1)
    assert tap.body_bytes > 2 * STREAM_READ_BYTES_MAX
    assert tap.ended
    assert Fact.TAP_OVERFLOW not in tap.facts


async def test_what_was_read_of_a_stream_that_could_not_be_read_on_is_partial(
    tmp_path: Path,
) -> None:
    """C2: it is as whole as HTTP says, and the figures of its beginning are no last word."""
    coded = gzip.compress(STARTED) + b"no gzip"
    head = EVENTS.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
    async with bench(
        tmp_path,
        Scripted(head + chunk(coded) + b"0\r\n\r\n"),
        upstream={"dialect": "anthropic"},
    ) as made:
        client = await made.client()
        await client.say(ask(path="/v1/messages", stream=True, max_tokens=5))
        assert (await client.answer())[2] == coded
        (closed,) = made.closed
        assert closed.outcome is Outcome.COMPLETED
        assert closed.usage_source is UsageSource.PARTIAL
        assert {Fact.TAP_FAILED, Fact.COUNT_PENDING} <= set(closed.facts)
