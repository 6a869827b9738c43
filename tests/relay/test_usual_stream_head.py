"""Heads of streams told by those before: whatever came before, just what the usual way says."""

from __future__ import annotations

import re

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from taximeter.relay._answer import AnswerParser, Head, MalformedAnswer
from taximeter.relay._usual_head import HEAD_BYTES_MAX, MISSED_FIRST, UsualStreamHead
from tests.relay.test_plain_head import REAL, heads

BODY = b"5\r\nhello\r\n0\r\n\r\n"
_LENGTH = re.compile(rb"content-length: ?[0-9]+", re.IGNORECASE)


def streamed(said: bytes) -> bytes:
    """Give a plain answer's head as a stream's."""
    said = _LENGTH.sub(b"Transfer-Encoding: chunked", said)
    return said.replace(b"application/json", b"text/event-stream")


def real(name: str) -> bytes:
    """Give a stream's head as an upstream says it."""
    return streamed(b"HTTP/1.1 200 OK\r\n" + REAL[name] + b"\r\n")


def outcome(data: bytes, usual: UsualStreamHead | None = None, cut: int = 0) -> object:
    """Read an answer, in two pieces if it is cut; give all that is known of it then."""
    parser = AnswerParser(usual=usual)
    try:
        body = parser.feed(data[:cut]) if cut else b""
        body += parser.feed(data[cut:])
    except MalformedAnswer:
        return "malformed"
    known = (body, parser.interim, parser.complete, parser.surplus, parser.reusable)
    return parser.head, parser.trailers, parser.chunks is not None, known


def used_to(said: bytes) -> UsualStreamHead:
    """Give one that has seen a head often enough."""
    usual = UsualStreamHead()
    for _ in range(MISSED_FIRST):
        outcome(said + BODY, usual)
    return usual


def check(usual: UsualStreamHead, data: bytes) -> bool:
    """Hold what is told of an answer against the usual way; give whether the form told its head."""
    is_told = usual.read(data) is not None
    assert outcome(data, usual) == outcome(data)
    return is_told


@settings(max_examples=500)
@given(heads().map(streamed), heads().map(streamed))
def test_after_any_head_any_other_is_told_as_the_usual_way_tells_it(
    before: bytes, said: bytes
) -> None:
    """H2: no head that came before has another be taken for one that it is not."""
    usual = used_to(before)
    event(f"told: {check(usual, said + BODY)}, before: {check(usual, before + BODY)}")


@settings(max_examples=400)
@given(st.sampled_from(list(REAL)), st.binary(max_size=12), st.integers(0, 400), st.integers(0, 40))
def test_a_real_head_with_any_bytes_in_it_is_told_as_the_usual_way_tells_it(
    name: str, bytes_in: bytes, place: int, gone: int
) -> None:
    """H2: wherever a head differs from the one before, it is told rightly or not by that one."""
    said = real(name)
    place %= len(said)
    check(used_to(said), said[:place] + bytes_in + said[place + gone :] + BODY)


@pytest.mark.parametrize("name", REAL)
def test_a_head_with_other_values_is_told_by_the_last_one(name: str) -> None:
    """What differs from stream to stream costs no fresh look; in pieces it is read anew."""
    usual = used_to(real(name))
    for old, new in [(b"10:00:00", b"10:00:01"), (b"97d-FRA", b"a1c-AMS"), (b"200 OK", b"200 ")]:
        data = real(name).replace(old, new) + BODY
        assert check(usual, data)
        for cut in range(1, len(data)):
            assert outcome(data, usual, cut) == outcome(data, cut=cut)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"keep-alive", b"close"),
        (b"text/event-stream", b"application/json"),
        (b"chunked", b"gzip, chunked"),
        (b"Transfer-Encoding: chunked", b"Content-Length: 15"),
        (b"Transfer-Encoding: chunked\r\n", b""),
        (b"CF-RAY", b"Transfer-Encoding"),
        (b"CF-RAY", b"Content-Encoding"),
        (b"CF-RAY", b"x-taximeter-call-id"),
        (b"Set-Cookie: c=d\r\n", b"Set-Cookie: c=d\r\n folded\r\n"),
        (b"HTTP/1.1 200", b"HTTP/1.1 201"),
        (b"HTTP/1.1 200", b"HTTP/1.0 200"),
    ],
)
def test_what_means_something_is_looked_at_anew(old: bytes, new: bytes) -> None:
    """H2: a line that concerns the connection, the kind or the framing counts letter for letter."""
    said = real("openai")
    assert old in said
    assert not check(used_to(said), said.replace(old, new, 1) + BODY)


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: close",
        b"Connection: keep-alive, CF-RAY",
        b"Content-Encoding: gzip",
        b"Proxy-Connection: close",
        b"Trailer: X",
        b"Upgrade: h2c",
        b"x-taximeter-user: a",
    ],
)
def test_of_a_head_that_says_more_no_form_is_made(line: bytes) -> None:
    """H2: where a field's value could mean something, each head is read the usual way."""
    said = real("a python server").replace(b"\r\n", b"\r\n" + line + b"\r\n", 1)
    assert not check(used_to(said), said + BODY)


def test_a_head_up_to_its_bound_is_told_and_none_beyond() -> None:
    """A head is as long at most as a plain one."""
    said = real("openai")
    usual = used_to(said)
    long = said.replace(b"403", b"4" * (HEAD_BYTES_MAX - len(said) + 3))
    assert len(long) == HEAD_BYTES_MAX
    assert check(usual, long + BODY)
    assert not check(usual, long.replace(b"444", b"4444", 1) + BODY)


def test_an_answer_without_a_body_is_no_stream() -> None:
    """H2: what follows a head that answers HEAD is no body, whatever the head says."""
    said = real("openai")
    usual = used_to(said)
    parser = AnswerParser(head_request=True, usual=usual)
    assert parser.feed(said) == b""
    assert parser.complete
    assert isinstance(parser.head, Head)
    assert parser.head.framing == "none"
