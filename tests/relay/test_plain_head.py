"""Heads that are told at one glance: the usual way has to say just the same of them."""

from __future__ import annotations

import time

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from taximeter.relay._answer import LENGTH, AnswerParser
from taximeter.relay._heads import HOP_BY_HOP
from taximeter.relay._plain_head import plain_head

BODY_BYTES_MAX = 4096
"""Bodies up to which the usual way is given the whole of one."""

REAL = {
    "openai": (
        b"Date: Sat, 01 Nov 2025 10:00:00 GMT\r\nContent-Type: application/json\r\n"
        b"Content-Length: 812\r\nConnection: keep-alive\r\nCF-RAY: 97d-FRA\r\n"
        b"access-control-expose-headers: X-Request-ID\r\nopenai-processing-ms: 403\r\n"
        b"x-ratelimit-limit-requests: 500\r\nx-ratelimit-reset-tokens: 6ms\r\n"
        b'Set-Cookie: a=b; path=/\r\nSet-Cookie: c=d\r\nalt-svc: h3=":443"; ma=86400\r\n'
    ),
    "a python server": (
        b"content-length: 812\r\ncontent-type: application/json; charset=utf-8\r\n"
        b"date: Sat, 01 Nov 2025 10:00:00 GMT\r\nserver: uvicorn\r\n"
    ),
    "a kept connection": (
        b"Connection: Keep-Alive\r\nKeep-Alive: timeout=5, max=100\r\n"
        b"Content-Type:application/json\r\nContent-Length:812\r\n"
    ),
}
NAMES = [
    *HOP_BY_HOP,
    b"content-length",
    b"content-type",
    b"content-encoding",
    b"proxy-features",
    b"server-timing",
    b"set-cookie",
    b"te-st",
    b"x-request-id",
    b"x-taximeter-call-id",
    b"x-taximeter",
]
VALUES = [
    b"",
    b"5",
    b"05",
    b"+5",
    b"5, 5",
    b"0",
    b"812",
    b"9999999999",
    b"application/json",
    b"application/json; charset=utf-8",
    b"application/json-seq",
    b"application/jsonp",
    b"Application/JSON",
    b"text/event-stream",
    b"chunked",
    b"close",
    b"gzip",
    b"h2c",
    b"identity",
    b"keep-alive",
    b"keep-alive, x-request-id",
    b"timeout=5",
    "ä".encode("latin-1"),
    b"a\tb",
]
BEGINNINGS = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 200 ",
    b"HTTP/1.1 200 \xe9\t(fine)",
    b"HTTP/1.1 200 Connection: keep-alive",
    b"HTTP/1.1 200 Keep-Alive: 5",
]
ODD_BEGINNINGS = [
    b"HTTP/1.0 200 OK",
    b"http/1.1 200 OK",
    b"HTTP/1.1 200",
    b"HTTP/1.1 201 Created",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1  200 OK",
    b"HTTP/1.1 2000 OK",
]


@st.composite
def cased(draw: st.DrawFn, name: bytes) -> bytes:
    """Give a name in some case of its letters."""
    ways = (bytes.lower, bytes.upper, bytes.title, bytes.swapcase)
    return draw(st.sampled_from(ways))(name)


@st.composite
def field_lines(draw: st.DrawFn) -> bytes:
    """Give a field: mostly one that means something to somebody."""
    name = draw(cased(draw(st.sampled_from(NAMES))))
    before, behind = draw(st.sampled_from([(b" ", b""), (b"", b""), (b"  ", b""), (b" ", b" ")]))
    return b"%b:%b%b%b\r\n" % (name, before, draw(st.sampled_from(VALUES)), behind)


USUAL_LINES = st.sampled_from(
    [
        line + b"\r\n"
        for said in REAL.values()
        for line in said.split(b"\r\n")[:-1]
        if not line.lower().startswith(b"content-")
    ]
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Give a head: plain, or nearly so, or with something broken in it."""
    beginning = draw(st.sampled_from(BEGINNINGS * 3 + ODD_BEGINNINGS))
    framing = [
        draw(cased(b"content-length"))
        + draw(st.sampled_from([b": 5\r\n", b":12\r\n", b": 0\r\n"])),
        draw(cased(b"content-type"))
        + draw(st.sampled_from([b": application/json\r\n", b":application/json; a=b\r\n"])),
    ]
    others = draw(st.lists(st.one_of(USUAL_LINES, USUAL_LINES, field_lines()), max_size=4))
    kept = draw(st.sampled_from([framing] * 6 + [framing[:1], framing[1:], framing + framing[:1]]))
    lines = draw(st.permutations(kept + others))
    said = beginning + b"\r\n" + b"".join(lines) + b"\r\n"
    for _ in range(draw(st.sampled_from([0] * 4 + [1, 2]))):
        place = draw(st.integers(0, len(said) - 1))
        other = draw(
            st.one_of(st.binary(max_size=2), st.sampled_from([b"\r\n", b"\n", b":", b" "]))
        )
        said = said[:place] + other + said[place + draw(st.integers(0, 2)) :]
    return said


def check(said: bytes) -> bool:
    """Hold both ways of reading a head against each other; give whether it is told at a glance."""
    told = plain_head(said)
    if told is None:
        return False
    parser = AnswerParser()
    body = b"x" * min(told.length, BODY_BYTES_MAX)
    assert parser.feed(said + body) == body
    head = parser.head
    assert head is not None
    assert not parser.interim
    assert (head.status, head.reason + b"\r\n" + head.lines) == (200, told.passed)
    assert (head.framing, head.length) == (LENGTH, told.length)
    assert head.persistent
    assert not head.content_encoding
    assert head.content_type.lower().startswith("application/json")
    assert parser.complete == (told.length <= BODY_BYTES_MAX)
    assert parser.reusable == parser.complete
    for line in told.passed.split(b"\r\n")[1:]:
        name = line.partition(b":")[0].lower()
        assert name not in HOP_BY_HOP | {b"content-length"}
        assert not name.startswith(b"x-taximeter-")
    return True


@settings(max_examples=600)
@given(heads())
def test_what_is_told_at_a_glance_is_told_the_same_by_the_parser(said: bytes) -> None:
    """H2: no head is taken for a plain one that llhttp would refuse, or whose end, connection, kind
    or fields that go on are others by the usual way.
    """
    event("told" if check(said) else "not told")


@settings(max_examples=300)
@given(st.binary(max_size=40), st.integers(0, 400), st.integers(0, 60), st.sampled_from(list(REAL)))
def test_a_real_head_with_any_bytes_in_it_is_told_the_same(
    bytes_in: bytes, place: int, gone: int, name: str
) -> None:
    """H2: wherever a real head is broken, by whatever bytes, both ways agree or it is not told."""
    said = b"HTTP/1.1 200 OK\r\n" + REAL[name] + b"\r\n"
    place %= len(said)
    event("told" if check(said[:place] + bytes_in + said[place + gone :]) else "not told")


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_at_every_kind_of_place_is_told_the_same(byte: int) -> None:
    """H2: each byte there is, in a reason, a name, a value, before and behind each, agrees."""
    said = (
        b"HTTP/1.1 200 OK\r\nX-A: bc\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n"
    )
    for place in range(9, len(said)):
        check(said[:place] + bytes([byte]) + said[place:])
        check(said[:place] + bytes([byte]) + said[place + 1 :])


@pytest.mark.parametrize("name", REAL)
def test_a_real_head_is_told_at_a_glance(name: str) -> None:
    """What upstreams really say is told: else the plain way would be nobody's."""
    assert check(b"HTTP/1.1 200 OK\r\n" + REAL[name] + b"\r\n")


@pytest.mark.parametrize("field", [*sorted(HOP_BY_HOP), b"x-taximeter-call-id", b"content-length"])
def test_a_field_of_one_connection_or_of_ours_never_goes_on(field: bytes) -> None:
    """H2: in whatever case of its letters, and wherever it stands, it stays here."""
    for name in (field, field.upper(), field.title(), field.swapcase()):
        for value in (b"a", b"keep-alive", b"close", b"3"):
            for place in range(3):
                lines = [b"Content-Type: application/json", b"Content-Length: 3"]
                lines.insert(place, name + b": " + value)
                check(b"HTTP/1.1 200 OK\r\n" + b"\r\n".join(lines) + b"\r\n\r\n")


@pytest.mark.parametrize(
    "filler",
    [
        b"a:\r\n",
        b"a",
        b"connection: keep-alive\r\n",
        b"keep-alive: a\r\n",
        b"content-type: application/json\r\n",
        b"content-length: 5\r\n",
        b"content-length: 5\r\ncontent-type: application/json\r\n",
        b"connection: \r\n",
        b"a: \r",
        b" ",
        b"x-taximeter",
    ],
)
@pytest.mark.parametrize(
    "first", [b"", b"content-length: 5\r\n", b"content-type: application/json\r\n"]
)
def test_no_head_takes_longer_than_its_length_is_worth(first: bytes, filler: bytes) -> None:
    """H2: eight times the bytes take about eight times as long, whatever they say; a search that
    went back and forth would take sixty-four times.
    """

    def seconds(size: int) -> float:
        said = b"HTTP/1.1 200 OK\r\n" + first + filler * (size // len(filler)) + b"!\r\n\r\n"
        best = float("inf")
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(4):
                plain_head(said)
            best = min(best, time.perf_counter() - began)
        return best

    assert seconds(64_000) < 32 * seconds(8_000) + 1e-4
