"""Heads told by those before: whatever came before, just what a fresh look at them tells."""

from __future__ import annotations

import time

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from taximeter.relay import _usual_head
from taximeter.relay._plain_head import PlainHead, plain_head
from taximeter.relay._usual_head import FIELDS_MAX, HEAD_BYTES_MAX, MISSED_FIRST, UsualHead
from tests.relay.test_plain_head import REAL, heads

BODY = b'{"a":\r\n\r\n1}'


def fresh(data: bytes) -> PlainHead | None:
    """Look at the head that some bytes begin with, whatever came before."""
    return plain_head(data[: data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX) + 4])


class Watched(UsualHead):
    """Counts the heads that its pattern did not tell."""

    def __init__(self) -> None:
        super().__init__()
        self.missed = self.made = 0

    def _read_any(self, data: bytes) -> PlainHead | None:
        self.missed += 1
        return super()._read_any(data)

    def _take_on(self, said: bytes) -> bool:
        self.made += 1
        return super()._take_on(said)


def real(name: str) -> bytes:
    """Give a head as an upstream says it."""
    return b"HTTP/1.1 200 OK\r\n" + REAL[name] + b"\r\n"


def used_to(said: bytes) -> Watched:
    """Give one that has seen a head often enough."""
    made = Watched()
    for _ in range(MISSED_FIRST):
        made.read(said)
    assert made.made == (fresh(said) is not None)
    made.missed = 0
    return made


def check(usual: Watched, data: bytes) -> bool:
    """Hold what is told of a head against a fresh look; give whether its pattern told it."""
    missed, found = usual.missed, fresh(data)
    assert usual.read(data) == found
    is_told = usual.missed == missed
    assert found is not None or not is_told
    if found is not None:
        assert data[found.end - 4 : found.end] == b"\r\n\r\n"
    return is_told


@settings(max_examples=500)
@given(heads(), heads())
def test_after_any_head_any_other_is_told_as_by_a_fresh_look(before: bytes, said: bytes) -> None:
    """H2: no head that came before has another be taken for a plain one, or for a different one."""
    usual = used_to(before)
    event(f"told: {check(usual, said + BODY)}, before: {check(usual, before + BODY)}")
    assert check(usual, before) == (fresh(before) is not None)


@settings(max_examples=400)
@given(st.sampled_from(list(REAL)), st.binary(max_size=12), st.integers(0, 400), st.integers(0, 40))
def test_a_real_head_with_any_bytes_in_it_is_told_as_by_a_fresh_look(
    name: str, bytes_in: bytes, place: int, gone: int
) -> None:
    """H2: wherever a head differs from the one before, it is told rightly or not by that one."""
    said = real(name)
    place %= len(said)
    data = said[:place] + bytes_in + said[place + gone :] + BODY
    event(f"told by the last one: {check(used_to(said), data)}")


@pytest.mark.parametrize("name", REAL)
def test_every_byte_at_every_place_is_told_as_by_a_fresh_look(name: str) -> None:
    """H2: cut off at each byte, without it, and with each odd byte in its place or before it."""
    said = real(name)
    usual = used_to(said)
    for place in range(len(said)):
        check(usual, said[:place])
        check(usual, said[:place] + said[place + 1 :] + BODY)
        for byte in b"\x00\t\n\r ,:;0aA\x7f\xff":
            check(usual, said[:place] + bytes([byte]) + said[place:] + BODY)
            check(usual, said[:place] + bytes([byte]) + said[place + 1 :] + BODY)


@pytest.mark.parametrize("name", REAL)
def test_a_head_with_other_values_is_told_by_the_last_one(name: str) -> None:
    """What differs from answer to answer costs no fresh look: a date, an id, the length."""
    usual = used_to(real(name))
    for old, new in [
        (b"10:00:00", b"10:00:01"),
        (b"812", b"7"),
        (b": 403", b": 12"),
        (b"97d-FRA", b"a1c-AMS"),
        (b"max=100", b"max=99"),
        (b"200 OK", b"200 "),
    ]:
        assert check(usual, real(name).replace(old, new) + BODY)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"keep-alive", b"close"),
        (b"application/json", b"text/event-stream"),
        (b"Content-Length: 812", b"Content-Length: 812, 812"),
        (b"Content-Length: 812", b"Content-Length: 1234567890"),
        (b"Content-Length: 812\r\n", b""),
        (b"Content-Length: 812\r\n", b"Content-Length: 812\r\nContent-Length: 812\r\n"),
        (b"CF-RAY", b"Transfer-Encoding"),
        (b"CF-RAY", b"x-taximeter-call-id"),
        (b"Content-Type: application/json\r\n", b"Content-Type: application/json\r\n folded\r\n"),
        (b"HTTP/1.1 200", b"HTTP/1.1 201"),
        (b"HTTP/1.1 200", b"HTTP/1.0 200"),
    ],
)
def test_what_means_something_is_looked_at_anew(old: bytes, new: bytes) -> None:
    """H2: a line that concerns the connection, the kind or the framing counts letter for letter."""
    said = real("openai")
    assert old in said
    assert not check(used_to(said), said.replace(old, new) + BODY)


def test_a_head_up_to_its_bound_is_told_and_none_beyond() -> None:
    """H2: the last one tells no head longer than a fresh look would."""
    usual = used_to(real("openai"))
    short = real("openai")
    long = short.replace(b"403", b"4" * (HEAD_BYTES_MAX - len(short) + 3))
    assert len(long) == HEAD_BYTES_MAX
    assert check(usual, long + BODY)
    assert not check(usual, long.replace(b"444", b"4444", 1) + BODY)
    assert usual.read(long.replace(b"444", b"4444", 1) + BODY) is None


def test_few_patterns_are_made_however_heads_differ() -> None:
    """Heads of ever another form cost one pattern for each doubling of their number."""
    usual = Watched()
    for number in range(MISSED_FIRST * 31):
        name = b"\r\nX-%d: a\r\nDate:" % number
        check(usual, real("openai").replace(b"\r\nDate:", name) + BODY)
    assert usual.made == 5


def test_a_head_of_many_lines_is_looked_at_anew_each_time() -> None:
    """No upstream has a pattern made that would take long to make."""
    lines = real("openai").count(b"\r\n") - 2
    said = real("openai").replace(b"\r\nDate:", b"\r\nX: a" * (FIELDS_MAX - lines) + b"\r\nDate:")
    assert check(used_to(said), said + BODY)
    longer = said.replace(b"\r\nDate:", b"\r\nX: a\r\nDate:")
    usual = Watched()
    for _ in range(2 * MISSED_FIRST):
        assert not check(usual, longer + BODY)


def test_no_head_takes_longer_than_its_length_is_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    """H2: eight times the bytes take about eight times as long to find that it is another head."""
    monkeypatch.setattr(_usual_head, "FIELDS_MAX", 1 << 20)

    def seconds(size: int) -> float:
        lines = b"".join(b"X-%d: %b\r\n" % (number, b"v" * 60) for number in range(size // 70))
        said = b"HTTP/1.1 200 OK\r\n" + lines + REAL["openai"]
        usual = UsualHead()
        usual._take_on(said + b"\r\n")
        assert usual._match(said + b"\r\n") is not None
        best = float("inf")
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(4):
                assert usual._match(said + b"!\r\n\r\n") is None
            best = min(best, time.perf_counter() - began)
        return best

    assert seconds(64_000) < 32 * seconds(8_000) + 1e-4
