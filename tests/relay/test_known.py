"""Heads that were seen before: taken for the same only where llhttp would say the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taximeter.call import Closed
from taximeter.relay._intake import Intake
from taximeter.relay._known import GENERATION_SECONDS, HEADS_MAX, KnownHeads, cut, usual_of
from tests.hostile._refused import INNER, POST
from tests.relay.bench import bench

FIELDS = b"Authorization: Bearer sk-known\r\nX-Stainless-Retry-Count: 0\r\n"
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE_FIELD = b"traceparent: "
TRACE_BEFORE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


def said(body: bytes, *, trace: bytes = TRACE, length: bytes | None = None) -> bytes:
    """Give a request as a program makes it again and again."""
    stated = b"%d" % len(body) if length is None else length
    head = POST + FIELDS + b"traceparent: " + trace + b"\r\nContent-Length: " + stated
    return head + b"\r\n\r\n" + body


def test_a_head_is_cut_at_its_length_and_its_trace() -> None:
    """Two requests of a program differ in nothing but what is cut out."""
    first, second = cut(said(b"hello")), cut(said(b"hello, world", trace=TRACE_BEFORE))
    assert first is not None
    assert second is not None
    assert first.key == second.key
    assert (first.length, second.length) == (5, 12)
    assert (first.traceparent, second.traceparent) == (TRACE, TRACE_BEFORE)
    assert said(b"hello")[first.body_start :] == b"hello"


@pytest.mark.parametrize("length", [b"", b"0", b"05", b"+5", b"-5", b"0x5", b"5, 5", b"1" * 10])
def test_what_is_no_plain_length_is_not_cut(length: bytes) -> None:
    """H1: a length of any other form is left to the parser."""
    assert cut(said(b"hello", length=length)) is None


@pytest.mark.parametrize(
    "trace", [b"", b"00-1", TRACE.upper(), TRACE + b"-more", TRACE[:-1] + b"\r"]
)
def test_what_is_no_plain_trace_is_not_cut(trace: bytes) -> None:
    """A trace of any other form is left to the parser."""
    assert cut(said(b"hello", trace=trace)) is None


@settings(max_examples=500)
@given(
    st.sampled_from([b"Content-Length: ", b"content-length: "]),
    st.one_of(st.integers(0, 10**10).map(lambda n: b"%d" % n), st.binary(max_size=12)),
    st.sampled_from([b"", b"X-B: b\r\n", TRACE_FIELD + TRACE + b"\r\n", b"Content-Length: 7\r\n"]),
    st.binary(max_size=30),
    st.tuples(st.integers(0, 300), st.integers(0, 3), st.binary(max_size=3)),
)
def test_a_connection_tells_its_usual_head_only_where_it_is_that(
    name: bytes,
    length: bytes,
    behind: bytes,
    body: bytes,
    change: tuple[int, int, bytes],
) -> None:
    """H1: what a connection takes for the head it had before is cut to the same by a fresh look."""

    def head_with(digits: bytes, rest: bytes) -> bytes:
        return POST + FIELDS + name + digits + b"\r\n" + rest + b"\r\n"

    before = head_with(b"29", b"X-B: b\r\n")
    first = cut(before)
    assert first is not None
    intake = cast("Intake", SimpleNamespace(usual=None))
    usual = usual_of(before, first, intake)
    assert usual is not None
    assert usual_of(before, first, intake) is usual
    data = head_with(length, behind) + body
    place, gone, put_in = change
    for again in (data, data[:place] + put_in + data[place + gone :], data[:place]):
        found = usual.cut(again)
        if found is None:
            continue
        fresh = cut(again)
        assert fresh is not None
        assert fresh.key == first.key
        for field in ("length", "traceparent", "body_start"):
            assert getattr(found, field) == getattr(fresh, field), field
    assert usual.cut(head_with(b"7", b"X-B: b\r\n") + body) is not None


def test_any_other_difference_is_another_head() -> None:
    """H1: of all other bytes each counts, wherever it stands."""
    usual = said(b"hello")
    known = cut(usual)
    assert known is not None
    for place in range(usual.index(TRACE)):
        other = usual[:place] + bytes([usual[place] ^ 1]) + usual[place + 1 :]
        found = cut(other)
        assert found is None or found.key != known.key, place


async def test_a_known_head_makes_the_same_call(tmp_path: Path) -> None:
    """C1: upstream bytes and record of a call are the same, its head parsed or known."""
    async with bench(tmp_path) as made:
        client = await made.client()
        for _ in range(3):
            await client.say(said(b'{"model":"m","user":"u"}'))
            assert (await client.answer())[0] == 200
        await made.until(lambda: len(made.closed) == 3)
        bodies = bytes(made.lines[0].received).split(b"POST ")[1:]
        assert len(bodies) == 3
        assert len(set(bodies)) == 1
        parsed, *known = [record.opened for record in made.closed]
        for opened in known:
            for field in parsed.__struct_fields__:
                if field not in ("call_id", "started_at_ns"):
                    assert getattr(opened, field) == getattr(parsed, field), field
        assert parsed.trace_id is not None
        assert TRACE.split(b"-")[1].decode() == parsed.trace_id
        assert parsed.key_hash is not None
        assert parsed.user == "u"


async def test_each_call_keeps_its_own_length_and_trace(tmp_path: Path) -> None:
    """M2: what may differ is this call's own, not that of the call the head is known from."""
    async with bench(tmp_path) as made:
        client = await made.client()
        for body, trace in ((b"{}", TRACE), (b'{"model":"other"}', TRACE_BEFORE)):
            await client.say(said(body, trace=trace))
            assert (await client.answer())[0] == 200
        await made.until(lambda: len(made.closed) == 2)
        second = made.closed[1]
        assert second.request_bytes == len(b'{"model":"other"}')
        assert second.opened.model == "other"
        assert second.opened.trace_id == TRACE_BEFORE.split(b"-")[1].decode()
        assert second.opened.trace_flags == 0
        assert bytes(made.lines[0].received).endswith(b'\r\n\r\n{"model":"other"}')


@pytest.mark.parametrize("cuts", ["head and body", "inside the body", "inside the head", "bytes"])
async def test_a_known_head_may_come_in_pieces(tmp_path: Path, cuts: str) -> None:
    """C1: however a request behind a known head is cut, the upstream gets the same."""
    whole = said(b"hello")
    middle = {
        "head and body": whole.index(b"\r\n\r\n") + 4,
        "inside the body": len(whole) - 2,
        "inside the head": 20,
    }
    async with bench(tmp_path) as made:
        client = await made.client()
        await client.say(whole)
        assert (await client.answer())[0] == 200
        if cuts == "bytes":
            pieces = [whole[place : place + 1] for place in range(len(whole))]
        else:
            pieces = [whole[: middle[cuts]], whole[middle[cuts] :]]
        for piece in pieces:
            await client.say(piece)
            await asyncio.sleep(0.01 if cuts != "bytes" else 0)
        assert (await client.answer())[0] == 200
        first, second = bytes(made.lines[0].received).split(b"POST ")[1:]
        assert first == second


async def test_requests_sent_ahead_of_a_known_one_are_answered_in_turn(tmp_path: Path) -> None:
    """C7: what follows a known request in the same read is the next one, and the one after."""
    async with bench(tmp_path) as made:
        client = await made.client()
        await client.say(said(b"first"))
        assert (await client.answer())[0] == 200
        await client.say(said(b"second") + said(b"third") + INNER)
        for _ in range(3):
            assert (await client.answer())[0] == 200
        received = b"".join(bytes(line.received) for line in made.lines)
        assert received.index(b"first") < received.index(b"second") < received.index(b"third")
        assert received.count(b"GET /v1/smuggled") == 1


BEGUN = b"POST /v1/chat/completions HTTP/1.1\r\nX-Evil: 1\r\nX-Pad: "
"""The beginning of a head: whatever comes behind it on its connection is a part of it."""


async def test_what_goes_on_with_a_head_is_no_head(tmp_path: Path) -> None:
    """H1: where a read brings a request's end and the beginning of the next head, what comes behind
    it is that head's rest, though by itself it looks like a request: it is kept for nobody, and
    nobody else's call goes by what stood before it.
    """
    async with bench(tmp_path) as made:
        evil, victim = await made.client(), await made.client()
        secret = b"Authorization: Bearer evil\r\nx-taximeter-user: evil\r\nX-Pad: "
        await evil.say(said(b"first") + BEGUN.replace(b"X-Pad: ", secret))
        assert (await evil.answer())[0] == 200
        plain = POST + b"Content-Length: 6\r\n\r\nvictim"
        await evil.say(plain)
        assert (await evil.answer())[0] == 200
        await victim.say(plain)
        assert (await victim.answer())[0] == 200
        await made.until(lambda: len(made.closed) == 3)
        assert made.closed[1].opened.user == "evil"
        assert made.closed[2].opened.user is None
        assert made.closed[2].opened.key_hash is None
        received = b"".join(bytes(line.received) for line in made.lines)
        assert received.count(b"Bearer evil") == 1


@pytest.mark.parametrize("at", [1, 5, 12, len(POST) - 1])
async def test_the_rest_of_a_head_is_no_request_on_another_connection(
    tmp_path: Path, at: int
) -> None:
    """H1: of a client whose heads are cut by reads nothing is kept that is no head by itself."""
    async with bench(tmp_path) as made:
        client, other = await made.client(), await made.client()
        whole = said(b"hello")
        await client.say(INNER + whole[:at])
        assert (await client.answer())[0] == 200
        await client.say(whole[at:])
        assert (await client.answer())[0] == 200
        await other.say(whole[at:])
        assert (await other.answer())[0] == 400


@pytest.mark.parametrize("ahead", [False, True])
async def test_a_known_head_within_another_is_not_taken_for_a_call(
    tmp_path: Path, ahead: bool
) -> None:
    """H1: the next request of a connection is not glued to a head that was taken past the parser,
    also behind requests that were sent ahead.
    """
    async with bench(tmp_path) as made:
        client = await made.client()
        await client.say(said(b"known"))
        assert (await client.answer())[0] == 200
        if ahead:
            await client.say(said(b"known") + said(b"ahead") + BEGUN)
            assert (await client.answer())[0] == 200
        else:
            await client.say(INNER + BEGUN)
        assert (await client.answer())[0] == 200
        await client.say(said(b"within"))
        assert (await client.answer())[0] == 200
        await client.say(said(b"next"))
        assert (await client.answer())[0] == 200
        received = b"".join(bytes(line.received) for line in made.lines)
        within, behind = (received.index(word) for word in (b"within", b"next"))
        assert b"X-Evil" in received[:within]
        assert b"X-Evil" not in received[within:behind]


@pytest.mark.parametrize("between", [b"\r", b"\n", b"\r\n", b"\r\n\r", b" ", b"\0"])
async def test_what_stands_between_two_requests_is_judged_as_ever(
    tmp_path: Path, between: bytes
) -> None:
    """H1: bytes behind a request are as good or bad before a head that is known as before one that
    is not.
    """
    found = []
    for is_known in (False, True):
        folder = tmp_path / str(is_known)
        folder.mkdir()
        async with bench(folder) as made:
            if is_known:
                other = await made.client()
                await other.say(said(b"hello"))
                assert (await other.answer())[0] == 200
            client = await made.client()
            await client.say(INNER + between)
            first = (await client.answer())[0]
            await asyncio.sleep(0.01)
            await client.say(said(b"hello"))
            try:
                found.append((first, (await client.answer())[0]))
            except (asyncio.IncompleteReadError, ConnectionError):
                found.append((first, 0))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "spelt", ["traceparent: ", "Traceparent: ", "traceparent:", "TraceParent: "]
)
async def test_a_trace_is_each_calls_own_however_it_is_spelt(tmp_path: Path, spelt: str) -> None:
    """M2: a call is in its client's trace, and no other, be its head known or not."""
    async with bench(tmp_path) as made:
        client = await made.client()
        traces = [TRACE, TRACE, TRACE_BEFORE, TRACE]
        for trace in traces:
            await client.say(said(b"{}", trace=trace).replace(TRACE_FIELD, spelt.encode()))
            assert (await client.answer())[0] == 200
        await made.until(lambda: len(made.closed) == len(traces))
        assert [closed.opened.parent_span_id for closed in made.closed] == [
            trace.split(b"-")[2].decode() for trace in traces
        ]


async def test_an_answer_before_the_end_of_a_known_body_ends_the_connection(
    tmp_path: Path,
) -> None:
    """C7: what is left of a body whose call is over is not taken for a request."""
    async with bench(tmp_path) as made:
        client = await made.client()
        await client.say(said(b"hello"))
        assert (await client.answer())[0] == 200
        await client.say(said(b"x" * 10, length=b"200000")[:-5])
        await made.until(lambda: len(made.worker.exchanges) == 1)
        exchange = next(iter(made.worker.exchanges))
        exchange.interrupt()
        await client.say(INNER * 3)
        heard = await client.rest()
        assert heard.startswith(b"HTTP/1.1 503 ")
        assert heard.count(b"HTTP/1.1") == 1
        assert b"smuggled" not in b"".join(bytes(line.received) for line in made.lines)
        assert all(isinstance(record, Closed) for record in made.closed)


async def test_what_is_known_is_forgotten(tmp_path: Path) -> None:
    """Heads hold credentials: they are kept for two generations, and no more than so many."""
    async with bench(tmp_path) as made:
        client = await made.client()
        await client.say(said(b"hello"))
        assert (await client.answer())[0] == 200
        heads = made.worker.snapshot.heads
        head = cut(said(b"hello"))
        assert head is not None
        intake = heads.get(head.key)
        assert isinstance(intake, Intake)
    known = KnownHeads()
    known.keep(b"a", intake)
    known.tick(GENERATION_SECONDS)
    assert known.get(b"a") is intake
    known.tick(2 * GENERATION_SECONDS)
    assert known.get(b"a") is intake, "asked for in the generation before"
    known.tick(3 * GENERATION_SECONDS)
    known.tick(4 * GENERATION_SECONDS)
    assert known.get(b"a") is None
    for number in range(3 * HEADS_MAX):
        known.keep(b"%d" % number, intake)
    kept = sum(known.get(b"%d" % number) is not None for number in range(HEADS_MAX))
    assert kept == 0
    known.forget()
    assert known.get(b"%d" % (3 * HEADS_MAX - 1)) is None
