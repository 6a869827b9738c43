"""Answers of upstreams, as transcripts: bytes in; head, body, and whether it is whole, out."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from taximeter.relay._answer import AnswerParser, MalformedAnswer

HEAD = b"HTTP/1.1 200 OK\r\n"


@dataclass(frozen=True)
class Case:
    """Bytes of an upstream, and what is to be made of them."""

    said: bytes
    body: bytes = b""
    complete: bool = True
    reusable: bool = True
    head_request: bool = False
    whole_at_end: bool = True
    """Whether an orderly end of bytes completes it."""


GOOD = {
    "sized": Case(HEAD + b"Content-Length: 5\r\n\r\nhello", b"hello"),
    "empty": Case(HEAD + b"Content-Length: 0\r\n\r\n"),
    "chunked": Case(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nA: b\r\n\r\n",
        b"hello",
    ),
    "by close": Case(HEAD + b"\r\nhello", b"hello", complete=False, reusable=False),
    "cut": Case(
        HEAD + b"Content-Length: 9\r\n\r\nhello",
        b"hello",
        complete=False,
        reusable=False,
        whole_at_end=False,
    ),
    "cut chunk": Case(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"hello",
        complete=False,
        reusable=False,
        whole_at_end=False,
    ),
    "closing": Case(
        HEAD + b"Connection: close\r\nContent-Length: 1\r\n\r\na", b"a", reusable=False
    ),
    "HTTP/1.0": Case(b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", b"a", reusable=False),
    "no content": Case(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "not modified": Case(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
    "to HEAD": Case(HEAD + b"Content-Length: 9\r\n\r\n", head_request=True),
    "interim first": Case(
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + HEAD + b"Content-Length: 1\r\n\r\na", b"a"
    ),
    "surplus": Case(HEAD + b"Content-Length: 1\r\n\r\nab", b"a", reusable=False),
    "a second answer": Case(
        HEAD + b"Content-Length: 1\r\n\r\na" + HEAD + b"Content-Length: 1\r\n\r\nb",
        b"a",
        reusable=False,
    ),
    "one chunk a read": Case(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello"
    ),
    "chunks in chunks": Case(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n6\r\n1\r\na\r\n\r\n0\r\n\r\n", b"1\r\na\r\n"
    ),
    "kept in HTTP/1.0": Case(
        b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\na", b"a"
    ),
    "no reason": Case(b"HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\na", b"a"),
}


@pytest.mark.parametrize("pace", [1, 7, 10_000])
@pytest.mark.parametrize("name", GOOD)
def test_an_answer_is_read_the_same_however_it_is_cut(name: str, pace: int) -> None:
    """H2: head, body and end are the same whole, in pieces and byte by byte."""
    case = GOOD[name]
    parser = AnswerParser(head_request=case.head_request)
    body = b""
    for place in range(0, len(case.said), pace):
        body += parser.feed(case.said[place : place + pace])
    assert body == case.body
    assert parser.complete is case.complete
    assert parser.reusable is case.reusable
    assert parser.end_of_bytes() is case.whole_at_end


BAD = {
    "two lengths": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\na",
    "length and chunks": HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "length of words": HEAD + b"Content-Length: one\r\n\r\na",
    "negative length": HEAD + b"Content-Length: -1\r\n\r\na",
    "unknown coding": HEAD + b"Transfer-Encoding: gzip\r\n\r\na",
    "bad chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "chunk overflow": HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 1\n\na",
    "NUL in a value": HEAD + b"X: a\0b\r\nContent-Length: 1\r\n\r\na",
    "folded": HEAD + b"X: a\r\n b\r\nContent-Length: 1\r\n\r\na",
    "a folded length": HEAD + b"X: a\r\n Content-Length: 1\r\n\r\na",
    "space before the colon": HEAD + b"Content-Length : 1\r\n\r\na",
    "a lone CR": HEAD + b"X: a\rContent-Length: 1\r\n\r\na",
    "bare LF at a field": HEAD + b"X: a\nContent-Length: 1\r\n\r\na",
    "bare LF at the head's end": HEAD + b"Content-Length: 1\r\n\na",
    "begins with its end": b"\r\n\r\n" + HEAD + b"Content-Length: 1\r\n\r\na",
    "chunk size with a sign": HEAD + b"Transfer-Encoding: chunked\r\n\r\n+1\r\na\r\n",
    "chunk size of nothing": HEAD + b"Transfer-Encoding: chunked\r\n\r\n\r\na\r\n",
    "chunk too short": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n5\r\nabc\r\nde",
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\nContent-Length: 1\r\n\r\na",
    "interim flood": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20,
    "endless head": HEAD + b"X: " + b"x" * 300_000,
    "endless fields": HEAD + b"X: y\r\n" * 60_000,
    "endless trailer": HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: "
    + b"x" * 300_000,
    "endless extension": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 300_000,
}


@pytest.mark.parametrize("pace", [1009, 16_384])
@pytest.mark.parametrize("name", BAD)
def test_what_is_no_answer_is_refused_within_bounds(name: str, pace: int) -> None:
    """H2: malformed, ambiguous and endless answers are refused, and never complete."""
    parser = AnswerParser()
    said = BAD[name]

    def feed() -> None:
        for place in range(0, len(said), pace):
            parser.feed(said[place : place + pace])

    with pytest.raises(MalformedAnswer):
        feed()
    assert not parser.complete


@pytest.mark.parametrize("size", [3, 5, 21, 262])
def test_a_read_of_a_length_that_no_chunk_has_is_read_with_care(size: int) -> None:
    """H2: where no chunk is just as long as the read, nothing is taken for one: it is refused."""
    parser = AnswerParser()
    parser.feed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    with pytest.raises(MalformedAnswer):
        parser.feed(b"?".ljust(size - 2, b"a") + b"\r\n")
