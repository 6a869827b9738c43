"""Connections to an upstream that carry one call after another: nothing is left on them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.relay.bench import Line, bench
from tests.relay.two_ways import QUICK, ask, at_once, good

WAITS = {**QUICK, "connections_max": 1}


@pytest.mark.parametrize("stream", [False, True])
async def test_what_came_after_an_answer_is_nobodys(tmp_path: Path, stream: bool) -> None:
    """C1: bytes that an upstream sends with no call under way are part of no answer, although they
    are still to be read when the next call takes the connection.
    """
    lines: list[Line] = []

    async def answer(line: Line) -> None:
        at_once(line.writer)
        lines.append(line)
        while True:
            await line.request()
            await line.say(good())

    async with bench(tmp_path, answer) as made:
        one, other = await made.client(), await made.client()
        for client in (one, other, one, other):
            await client.say(ask())
            await client.answer()
        (line,) = lines
        here, there = (each.writer.get_extra_info("socket").fileno() for each in (other, line))
        # Both are there before the relay looks again.
        os.write(here, ask(stream=stream))
        os.write(there, good({"id": "of another"}))
        status, _, body = await other.answer()
        assert status == 200
        assert b"of another" not in body
        await made.until(lambda: len(made.closed) == 5)
        assert made.closed[4].response_id == "x"
        assert len(lines) == 2


@pytest.mark.parametrize("how", ["as it is handed on", "as it is asked"])
async def test_a_connection_handed_on_may_have_ended(tmp_path: Path, how: str) -> None:
    """O7: a call in line that is given a connection which its upstream closes has another one, as a
    call that took it from those that are idle; and a connection that served before says so.
    """
    go_on = asyncio.Event()
    begun = 0

    async def answer(line: Line) -> None:
        nonlocal begun
        begun += 1
        first = begun == 1
        at_once(line.writer)
        await line.request()
        if first:
            await go_on.wait()
        await line.say(good())
        if first and how == "as it is handed on":
            line.writer.transport.abort()
        elif first:
            await line.request()
        else:
            await line.request()
            await line.say(good())

    async with bench(tmp_path, answer, upstream=WAITS) as made:
        one, other = await made.client(), await made.client()
        await one.say(ask())
        await made.until(lambda: begun == 1)
        await other.say(ask())
        upstream = made.worker.snapshot.upstreams["openai"]
        await made.until(lambda: upstream.calls_waiting == 1)
        go_on.set()
        assert (await one.answer())[0] == 200
        assert (await other.answer())[0] == 200
        await other.say(ask())
        assert (await other.answer())[0] == 200
        await made.until(lambda: len(made.closed) == 3)
        assert [closed.attempts[-1].reused for closed in made.closed] == [False, False, True]
        assert upstream.connections_in_use == 0


async def test_a_connection_handed_on_is_booked_as_used_before(tmp_path: Path) -> None:
    """The row of a call that waited in line tells of its connection what is so."""

    async def answer(line: Line) -> None:
        while True:
            await line.request()
            await asyncio.sleep(0.02)
            await line.say(good())

    async with bench(tmp_path, answer, upstream=WAITS) as made:
        clients = [await made.client() for _ in range(3)]
        for client in clients:
            await client.say(ask())
        for client in clients:
            assert (await client.answer())[0] == 200
        await made.until(lambda: len(made.closed) == 3)
        assert [closed.attempts[0].reused for closed in made.closed] == [False, True, True]


async def test_a_client_that_is_full_when_its_call_begins_is_read_no_answer_for(
    tmp_path: Path,
) -> None:
    """C5: what a client has not taken bounds the next call's answer, too, over a new connection and
    over one that is kept; and it has all of it once it reads.
    """
    small, large = 60_000, 20_000_000
    sent = 0

    async def answer(line: Line) -> None:
        nonlocal sent
        while True:
            _, body = await line.request()
            if b"large" not in body:
                await line.say(good({"filler": "a" * small, "usage": {"prompt_tokens": 1}}))
                continue
            sent = 0
            await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % large)
            while sent < large:
                await line.say(bytes(65_536)[: large - sent])
                sent += min(65_536, large - sent)

    async with bench(tmp_path, answer) as made:
        for kept in (True, False):
            client = await made.client(receive_bytes_max=4096)
            asked = len(made.closed)
            await made.until(lambda: len(made.worker.clients) == 1)
            (side,) = made.worker.clients
            while side._full_since is None:
                await client.say(ask())
                asked += 1
                await made.until(lambda n=asked: len(made.closed) == n)  # type: ignore[misc]
                await asyncio.sleep(0)
            if not kept:
                made.worker.snapshot.upstreams["openai"].drop_idle(float("inf"))
            await client.say(ask("large"))
            await asyncio.sleep(0.5)
            assert sent < large / 2
            assert side.transport is not None
            assert side.transport.get_write_buffer_size() < 1_000_000
            while len(made.closed) == asked:
                assert await client.reader.read(1 << 20)
            client.leave()
            await made.until(lambda: not made.worker.clients)
