"""H2, H4, C2, C3: streams of a hostile upstream: passed on to the byte, and not believed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile._streams import BELIEVED, CODED, CUT, NONSENSE, Stream, token
from tests.hostile._upstream import Heard, Upstream

BODY = b'{"model":"none","stream":true,"stream_options":{"include_usage":true},"messages":[]}'
ASK = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """One relay for all of them."""
    with Upstream(tmp_path_factory.mktemp("hostile")) as made:
        yield made


def chunked(body: bytes, pace: str) -> list[bytes]:
    """Frame a body as its upstream would, in one write or in several."""
    size = {"whole": len(body), "in sevens": 7, "in thousands": 1000}[pace]
    return [
        b"%x\r\n%b\r\n" % (len(piece), piece)
        for place in range(0, len(body), size)
        if (piece := body[place : place + size])
    ]


def stream(upstream: Upstream, case: Stream, pace: str, *, ends: str = "") -> Heard:
    """Have the upstream say a stream, to its end or until it breaks off."""
    coding = b"Content-Encoding: %b\r\n" % case.encoding if case.encoding else b""
    pieces = [HEAD + coding + b"\r\n", *chunked(case.said, pace)]
    if not ends:
        pieces.append(b"0\r\n\r\n")
    return upstream.ask(pieces, ends or "open", ASK)


WHOLE = {**NONSENSE, **BELIEVED, **CODED}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("pace", ["whole", "in sevens"])
def test_a_stream_goes_on_to_the_byte_and_is_believed_within_reason(
    upstream: Upstream, name: str, pace: str
) -> None:
    """H2, H4, C3: whatever is in it. What is booked is a figure that was stated, or none."""
    case = WHOLE[name]
    if len(case.said) > 20_000:
        pace = {"in sevens": "in thousands"}.get(pace, pace)
    heard = stream(upstream, case, pace)
    first, after = heard.answers.whole
    assert first.body == case.said
    assert after.body == b"served"
    row = heard.rows[0]
    assert row.outcome == case.outcome
    booked = None if row.usage is None else (row.usage.input_tokens, row.usage.output_tokens)
    assert booked == case.tokens
    assert (row.usage_source == "reported") is (case.tokens is not None)


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("ends", ["fin", "rst"])
def test_no_end_is_forged_for_a_stream_that_breaks_off(
    upstream: Upstream, name: str, ends: str
) -> None:
    """C2, H2: what looks like an end inside a stream ends nothing, here or in the books."""
    heard = stream(upstream, Stream(CUT[name]), "whole", ends=ends)
    assert heard.answers.whole == []
    assert heard.answers.left.startswith(b"HTTP/1.1 200 OK\r\n")
    assert not heard.said.endswith(b"0\r\n\r\n")
    assert [answer.body for answer in heard.after.whole] == [b"served"]
    assert heard.rows[0].outcome == "truncated"
    assert heard.rows[0].usage_source != "reported"


def test_what_comes_behind_the_end_changes_no_books(upstream: Upstream) -> None:
    """H2: a stream's end ends what is booked; bytes behind it go on, and are not counted."""
    said = token() + b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\n'
    more = b'data: {"choices":[],"usage":{"prompt_tokens":50,"completion_tokens":20}}\n\n'
    heard = stream(upstream, Stream(said + b"data: [DONE]\n\n" + more), "in thousands")
    assert heard.answers.whole[0].body == said + b"data: [DONE]\n\n" + more
    assert [(row.usage.input_tokens, row.outcome) for row in heard.rows if row.usage] in (
        [(5, "completed")],
        [(50, "completed")],
    )


PLAIN = {
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"usage":' * 50_000,
    "deep usage": b'{"usage":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "negative": b'{"usage":{"prompt_tokens":-1,"completion_tokens":-2}}',
    "not finite": b'{"usage":{"prompt_tokens":NaN,"completion_tokens":Infinity}}',
    "four megabytes of digits": b'{"usage":{"prompt_tokens":' + b"9" * 4_000_000 + b"}}",
    "no UTF-8": b'{"usage":{"prompt_tokens":"\xff\xfe"}}',
    "NULs": bytes(10_000),
    "nothing": b"",
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_answer_s_nonsense_goes_on_and_is_not_booked(upstream: Upstream, name: str) -> None:
    """H2, H4: JSON too deep, too long or of no sense at all costs neither call nor books."""
    body = PLAIN[name]
    asked = ASK.replace(b'"stream":true', b'"stream":null')
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    heard = upstream.ask([head % len(body) + body], "open", asked)
    assert [answer.body for answer in heard.answers.whole] == [body, b"served"]
    row = heard.rows[0]
    assert (row.outcome, row.usage) == ("completed", None)
    assert row.raw_usage is None or b"9" * 20 not in row.raw_usage.encode()
