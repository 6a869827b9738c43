"""C7, H1, H3, H4: a client's connection: its turns, its bounds, its deadlines.

What becomes of hostile bytes, case by case, stands in `tests/hostile`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.hostile._refused import INNER, NEXT, POST
from tests.relay.bench import OK, Line, answer_all, bench, fields_of


async def test_http_1_0_ends_with_its_answer_unless_asked_to_go_on(tmp_path: Path) -> None:
    """C7: an HTTP/1.0 client's connection is closed after one answer, or kept if it says so."""
    async with bench(tmp_path) as made:
        client = await made.client()
        await client.say(b"GET /v1/echo HTTP/1.0\r\n\r\n")
        heard = await client.rest()
        assert heard.endswith(b"\r\n\r\n{}")
        assert b"Transfer-Encoding" not in heard
        client = await made.client()
        for _ in range(2):
            await client.say(b"GET /v1/echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            status, fields, _ = await client.answer()
            assert (status, fields[b"connection"]) == (200, [b"keep-alive"])


async def test_pipelined_requests_are_answered_in_their_order(tmp_path: Path) -> None:
    """C7: requests sent ahead wait for their turn, be it sixty behind a slow answer."""

    async def name_it(line: Line) -> None:
        while True:
            head, _ = await line.request()
            name = head.split(b" ")[1][-2:]
            if name == b"00":
                await asyncio.sleep(0.1)
            await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + name)

    async with bench(tmp_path, name_it) as made:
        client = await made.client()
        names = [b"%02d" % number for number in range(60)]
        await client.say(
            b"".join(b"GET /v1/x/" + name + b" HTTP/1.1\r\nHost: a\r\n\r\n" for name in names)
        )
        assert [(await client.answer())[2] for _ in names] == names
        assert len(made.closed) == 60


async def test_more_requests_ahead_than_the_bound_end_the_connection(tmp_path: Path) -> None:
    """C7: a client that pipelines without end gets what fits the bound, in order, and no more."""
    async with bench(tmp_path) as made:
        client = await made.client()
        await client.say(b"GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n" * 300)
        heard = await client.rest()
        assert heard.count(b"HTTP/1.1 200 OK") == len(made.closed) == 65


async def test_a_broken_request_behind_a_good_one_harms_it_not(tmp_path: Path) -> None:
    """H1: what comes behind a request is no part of it: the answer arrives, then the end."""

    async def slowly(line: Line) -> None:
        await line.request()
        await asyncio.sleep(0.1)
        await line.say(OK)

    async with bench(tmp_path, slowly) as made:
        client = await made.client()
        await client.say(NEXT + POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + INNER)
        heard = await client.rest()
        assert heard.startswith(b"HTTP/1.1 200 OK")
        assert b"smuggled" not in b"".join(bytes(line.received) for line in made.lines)
        assert heard.count(b"HTTP/1.1 200") == 1


async def test_upgrades_that_are_not_ours_may_come_by_the_thousand(tmp_path: Path) -> None:
    """H1: bytes behind an ignored upgrade are the next request, however often that happens."""
    async with bench(tmp_path) as made:
        client = await made.client()
        upgrade = b"GET /no HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
        await client.say(upgrade * 2500)
        for _ in range(2500):
            assert (await client.answer())[0] == 404


async def test_head_and_no_content_have_no_body_and_no_desync(tmp_path: Path) -> None:
    """C7: answers to HEAD, 204 and 304 end with their head, and the next answer follows."""

    async def bodiless(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
        await line.request()
        await line.say(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n")
        await line.request()
        await line.say(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: x\r\n\r\n")
        await line.request()
        await line.say(OK)

    async with bench(tmp_path, bodiless) as made:
        client = await made.client()
        await client.say(b"HEAD /v1/models HTTP/1.1\r\nHost: a\r\n\r\n")
        status, fields, _ = await client.answer(bodiless=True)
        assert (status, fields[b"content-length"]) == (200, [b"500"])
        await client.say(NEXT)
        status, fields, _ = await client.answer()
        assert status == 204
        assert b"content-length" not in fields
        await client.say(NEXT)
        assert (await client.answer())[0] == 304
        await client.say(NEXT)
        assert (await client.answer())[2] == b"{}"


async def test_expect_continue_is_answered_and_goes_no_further(tmp_path: Path) -> None:
    """C7: the client is told to go on by us; the upstream never sees the expectation."""
    async with bench(tmp_path) as made:
        client = await made.client()
        await client.say(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert (await client.answer())[0] == 100
        await client.say(b"hello")
        assert (await client.answer())[0] == 200
        assert b"expect" not in fields_of(bytes(made.lines[0].received).partition(b"hello")[0])


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /no/such HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n", 404),
        (POST + b"Expect: miracles\r\n", 417),
        (b"POST /v1/x HTTP/1.1\r\nHost: a\r\nHost: b\r\nExpect: 100-continue\r\n", 400),
    ],
)
async def test_a_refused_client_that_waits_to_be_told_is_told_at_once(
    tmp_path: Path, head: bytes, status: int
) -> None:
    """C7: who expects 100-continue hears the refusal without having sent its body."""
    async with bench(tmp_path) as made:
        client = await made.client()
        await client.say(head + b"Content-Length: 500000\r\n\r\n")
        assert (await client.answer())[0] == status


async def test_a_refusal_is_heard_while_the_body_still_comes(tmp_path: Path) -> None:
    """C7: a client that sends a long body to nowhere hears why, and no reset swallows it."""
    async with bench(tmp_path) as made:
        client = await made.client()
        size = 3_000_000
        sending = asyncio.create_task(
            client.say(
                b"POST /no/such HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
                + bytes(size)
            )
        )
        status, fields, _ = await client.answer()
        assert (status, fields[b"connection"]) == (404, [b"close"])
        await sending


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 431)])
async def test_a_head_may_be_as_long_as_the_bound(tmp_path: Path, more: int, status: int) -> None:
    """H4: the longest allowed head passes, one byte more is refused with 431."""
    async with bench(tmp_path, relay={"head_bytes_max": 2048}) as made:
        client = await made.client()
        fixed = len(b"/v1/echo") + len(b"Hosta") + 4 + len(b"X") + 4
        await client.say(
            b"GET /v1/echo HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (2048 - fixed + more) + b"\r\n\r\n"
        )
        assert (await client.answer())[0] == status


async def test_too_many_fields_are_refused(tmp_path: Path) -> None:
    """H4: three hundred fields are 431, however short they are."""
    async with bench(tmp_path) as made:
        client = await made.client()
        await client.say(b"GET /v1/echo HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 300 + b"\r\n")
        assert (await client.answer())[0] == 431


@pytest.mark.parametrize(
    "start",
    [
        b"GET /v1/",
        b"GET /v1/echo HTTP/1.1\r\nX: ",
        b"GET /v1/echo HTTP/1.1\r\nHost: a\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ",
        POST + b"Transfer-Encoding: chunked\r\n\r\n5;",
    ],
)
async def test_what_never_ends_is_given_up_at_the_bound(tmp_path: Path, start: bytes) -> None:
    """H4: an endless target, field, trailer or chunk extension is refused long before 10 MB."""
    async with bench(tmp_path) as made:
        client = await made.client()
        await client.say(start)
        filler = b"x" * 65536 if not start.endswith(b"a\r\n") else b"X: y\r\n" * 10000
        heard = asyncio.create_task(client.answer())
        taken = 0
        while taken < 4_000_000 and not heard.done():
            taken += len(filler)
            await client.say(filler)
            await asyncio.sleep(0)
        assert (await heard)[0] in (400, 431)


async def test_a_slow_head_is_given_up(tmp_path: Path) -> None:
    """H3: a client that does not finish its head in time loses its connection."""
    async with bench(tmp_path, relay={"head_seconds_max": 0.2}) as made:
        silent, slow = await made.client(), await made.client()
        await slow.say(b"GET /v1/echo HTTP/1.1\r\nHo")
        assert await silent.rest() == b""
        assert await slow.rest() == b""
        assert not made.closed


async def test_half_a_head_behind_a_call_does_not_end_that_call(tmp_path: Path) -> None:
    """H3: the deadline of the next request's head does not run while a call is under way."""

    async def slowly(line: Line) -> None:
        await line.request()
        await asyncio.sleep(2.5)
        await line.say(OK)

    async with bench(tmp_path, slowly, relay={"head_seconds_max": 0.2}) as made:
        client = await made.client()
        await client.say(NEXT + b"GET /v1/echo HTTP/1.1\r\nHost: a\r\nX-Half")
        assert (await client.answer())[0] == 200
        assert await client.rest() == b""


@pytest.mark.parametrize("sent", [b"", b"x" * 100_000])
async def test_a_slow_body_is_408(tmp_path: Path, sent: bytes) -> None:
    """H3: a body that stops coming is refused with 408, read ahead or already on its way."""

    async def swallow(line: Line) -> None:
        while await line.take():
            pass

    async with bench(tmp_path, swallow, relay={"body_idle_seconds_max": 0.2}) as made:
        client = await made.client()
        await client.say(POST + b"Content-Type: audio/wav\r\nContent-Length: 500000\r\n\r\n" + sent)
        status, fields, _ = await client.answer()
        assert (status, fields[b"connection"]) == (408, [b"close"])
        (row,) = made.closed
        assert row.error == "body_timeout"
        assert row.outcome == ("abandoned" if sent else "rejected")


async def test_a_body_that_comes_in_drips_is_408(tmp_path: Path) -> None:
    """H3: a byte now and then does not keep a body coming for ever."""
    async with bench(tmp_path, relay={"body_idle_seconds_max": 1}) as made:
        client = await made.client()
        await client.say(POST + b"Content-Length: 500000\r\n\r\n")
        heard = asyncio.create_task(client.answer())
        drips = 0
        while not heard.done() and drips < 100:
            await client.say(b"x")
            drips += 1
            await asyncio.sleep(0.05)
        assert (await heard)[0] == 408
        assert not made.lines


async def test_a_request_whose_body_breaks_while_it_waits_is_refused_in_its_turn(
    tmp_path: Path,
) -> None:
    """H1: a pipelined request with a broken body is not waited for until its deadline."""

    async def slowly(line: Line) -> None:
        await line.request()
        await asyncio.sleep(0.05)
        await line.say(OK)

    async with bench(tmp_path, slowly) as made:
        client = await made.client()
        await client.say(NEXT + POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n")
        assert (await client.answer())[0] == 200
        assert (await client.answer())[0] == 400
        assert await client.rest() == b""


async def test_the_body_of_a_call_that_breaks_after_its_answer_began_ends_the_connection(
    tmp_path: Path,
) -> None:
    """C2: no second head ever stands in the middle of an answer."""

    async def talk_early(line: Line) -> None:
        await line.head()
        await line.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        while await line.take():
            pass

    async with bench(tmp_path, talk_early) as made:
        client = await made.client()
        await client.say(
            POST
            + b"Content-Type: audio/wav\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"20000\r\n"
            + bytes(0x20000)
            + b"\r\n"
        )
        await client.until(b"3\r\nabc\r\n")
        await client.say(b"zz\r\n")
        assert await client.rest() == b""
        await made.until(lambda: bool(made.closed))
        assert made.closed[0].outcome == "cancelled"


async def test_answers_to_all_is_the_default(tmp_path: Path) -> None:
    """The bench itself: a plain call is completed, opened before and closed once."""
    async with bench(tmp_path, answer_all) as made:
        client = await made.client()
        await client.say(NEXT)
        assert (await client.answer())[2] == b"{}"
        assert [type(record).__name__ for record in made.records] == ["Opened", "Closed"]
