"""C5, H4: bodies of any length, in both directions, with room for little of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from pathlib import Path

import pytest

from taximeter.relay._exchange import Exchange
from tests.relay.bench import EVENTS, OK, Bench, Line, bench

LONG = b"POST /v1/files HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\n"
NEXT = b"GET /v1/next HTTP/1.1\r\nHost: a\r\n\r\n"
FLOOD = bytes(64 * 1024)


async def test_chunks_that_come_before_the_connection_does_are_not_lost(tmp_path: Path) -> None:
    """C1: a chunked upload arrives whole though all of it was read before there was anywhere to."""
    got: list[bytes] = []

    async def note(line: Line) -> None:
        while True:
            got.append((await line.request())[1])
            await line.say(OK)

    pieces = [b"%07d" % number * 100 for number in range(300)]
    said = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    async with bench(tmp_path, note) as made:
        client = await made.client()
        for _ in range(2):  # on a new connection, and on one that waits
            await client.say(LONG + b"Transfer-Encoding: chunked\r\n\r\n" + said + b"0\r\n\r\n")
            assert (await client.answer())[0] == 200
        assert got == [b"".join(pieces)] * 2


async def test_an_upload_waits_for_a_slow_upstream(tmp_path: Path) -> None:
    """C5: what the upstream does not take is not read from the client either."""
    go_on = asyncio.Event()
    size = 40_000_000

    async def slow(line: Line) -> None:
        await line.head()
        await go_on.wait()
        taken = 0
        while taken < size:
            taken += len(await line.reader.read(1 << 20))
        await line.say(OK)

    async with bench(tmp_path, slow) as made:
        client = await made.client()
        await client.say(LONG + b"Content-Length: %d\r\n\r\n" % size)
        client.writer.write(bytes(size))
        await asyncio.sleep(0.5)
        (exchange,) = made.worker.exchanges
        assert isinstance(exchange, Exchange)
        transport = exchange._leg.transport
        assert transport is not None
        assert transport.get_write_buffer_size() < 2_000_000
        go_on.set()
        assert (await client.answer())[0] == 200
        assert made.closed[0].request_bytes == size


async def test_an_upstream_that_takes_nothing_more_is_given_up(tmp_path: Path) -> None:
    """C5: an upload that the upstream does not take ends as its fault, not as the client's."""

    async def deaf(line: Line) -> None:
        await line.head()
        await asyncio.sleep(20)

    async with bench(tmp_path, deaf, upstream={"timeouts": {"send_seconds": 0.2}}) as made:
        client = await made.client()
        await client.say(LONG + b"Content-Length: 40000000\r\n\r\n")
        client.writer.write(bytes(40_000_000))
        status, _, _ = await client.answer()
        assert status == 504
        assert made.closed[0].error == "upstream_send_timeout"


async def test_an_upstream_may_answer_before_the_upload_ends(tmp_path: Path) -> None:
    """C7: an early 413 reaches the client that still sends, and nobody's connection is reused."""

    async def too_large(line: Line) -> None:
        await line.head()
        await line.say(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno\n")
        while await line.take():
            pass

    async with bench(tmp_path, too_large) as made:
        client = await made.client()
        await client.say(LONG + b"Content-Length: 3000000\r\n\r\n")
        sending = asyncio.create_task(client.say(bytes(3_000_000)))
        status, _, body = await client.answer()
        assert (status, body) == (413, b"no\n")
        await sending
        assert made.closed[0].outcome == "upstream_error"
        assert made.closed[0].status == 413


async def test_a_client_that_stops_reading_stops_its_upstream_alone(tmp_path: Path) -> None:
    """C5: little of an unread answer is kept, neighbours go on, and the deadline ends it."""
    sent = 0

    async def flood(line: Line) -> None:
        nonlocal sent
        head, _ = await line.request()
        if b"/next" in head:
            await line.say(OK)
            return
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while sent < 100_000_000:
            await line.say(FLOOD)
            sent += len(FLOOD)

    async with bench(tmp_path, flood, relay={"write_idle_seconds_max": 0.5}) as made:
        client = await made.client(receive_bytes_max=4096)
        await client.say(b"GET /v1/flood HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.until(b"\r\n\r\n")
        neighbour = await made.client()
        await neighbour.say(NEXT)
        assert (await neighbour.answer())[0] == 200
        await made.until(lambda: len(made.closed) == 2)
        assert sent < 30_000_000
        assert made.closed[1].outcome == "cancelled"
        assert made.closed[1].error == "client_write_timeout"


async def test_an_unread_answer_holds_back_the_next_one_too(tmp_path: Path) -> None:
    """C5: a client that pipelines and does not read is bounded by what it has not read."""
    sent = 0

    async def flood(line: Line) -> None:
        nonlocal sent
        head, _ = await line.request()
        if b"/first" in head:
            await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 6000000\r\n\r\n" + bytes(6_000_000))
            return
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while sent < 100_000_000:
            await line.say(FLOOD)
            sent += len(FLOOD)

    async with bench(tmp_path, flood, relay={"write_idle_seconds_max": 1}) as made:
        client = await made.client(receive_bytes_max=4096)
        await client.say(b"GET /v1/first HTTP/1.1\r\nHost: a\r\n\r\n")
        reading = 0
        while reading < 5_900_000:
            reading += len(await client.reader.read(65536))
        await client.say(b"GET /v1/second HTTP/1.1\r\nHost: a\r\n\r\n")
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await made.until(lambda: len(made.closed) == 2)
        assert sent < 30_000_000


async def test_a_client_that_never_takes_its_last_answer_is_dropped(tmp_path: Path) -> None:
    """H3: an answer that nobody reads does not hold a connection for ever."""

    async def large(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + bytes(200_000))

    async with bench(
        tmp_path, large, relay={"write_idle_seconds_max": 0.5, "keepalive_seconds": 0.5}
    ) as made:
        client = await made.client(receive_bytes_max=2048)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.say(b"GET /v1/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await made.until(lambda: bool(made.closed))
        await made.until(lambda: not made.worker.clients)


async def test_calls_beyond_the_connections_wait_for_one_to_be_free(tmp_path: Path) -> None:
    """O7: with one connection allowed, calls take turns on it, and none waits for its deadline."""

    async def slowly(line: Line) -> None:
        while True:
            await line.request()
            await asyncio.sleep(0.05)
            await line.say(OK)

    upstream = {"connections_max": 1, "timeouts": {"connect_seconds": 10}}
    async with bench(tmp_path, slowly, upstream=upstream) as made:
        clients = [await made.client() for _ in range(6)]
        started = time.monotonic()
        for client in clients:
            await client.say(NEXT)
        assert [(await client.answer())[0] for client in clients] == [200] * 6
        assert time.monotonic() - started < 5
        assert len(made.lines) == 1


async def test_a_call_that_waits_is_served_when_a_connection_breaks(tmp_path: Path) -> None:
    """O7: a connection that ends badly frees its place for the call that waits."""

    async def once(line: Line) -> None:
        await line.request()
        await asyncio.sleep(0.05)
        await line.say(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")

    upstream = {"connections_max": 1, "timeouts": {"connect_seconds": 3}}
    async with bench(tmp_path, once, upstream=upstream) as made:
        clients = [await made.client() for _ in range(4)]
        for client in clients:
            await client.say(NEXT)
        clients[2].leave()
        for number in (0, 1, 3):
            assert (await clients[number].answer())[0] == 200


async def test_with_every_connection_in_use_the_wait_has_an_end(tmp_path: Path) -> None:
    """O7: a call that gets no connection in time is told that it is ours to allow more."""

    async def hold(line: Line) -> None:
        await line.request()
        await asyncio.sleep(20)

    upstream = {"connections_max": 1, "timeouts": {"connect_seconds": 0.2}}
    async with bench(tmp_path, hold, upstream=upstream) as made:
        first, second = await made.client(), await made.client()
        await first.say(NEXT)
        await made.until(lambda: bool(made.lines))
        await second.say(NEXT)
        status, fields, _ = await second.answer()
        assert status == 503
        assert fields[b"x-taximeter-error"] == [b"connections_exhausted"]
        assert b"retry-after" in fields


async def test_a_reload_leaves_nothing_of_the_old_settings_behind(tmp_path: Path) -> None:
    """H11: a hundred reloads under calls: none fails, and no old snapshot stays."""
    async with bench(tmp_path) as made:
        client = await made.client()
        for _ in range(100):
            made.worker.reload(made.worker.settings)
            await client.say(NEXT)
            assert (await client.answer())[0] == 200
        await made.until(lambda: not made.worker._retired)


@pytest.mark.parametrize("gone", ["cancel", "drain"])
async def test_a_client_that_stopped_reading_and_left_is_let_go_in_time(
    tmp_path: Path, gone: str
) -> None:
    """C4: the bounds of a drain hold for a client that had stopped reading before it left."""

    async def flood(line: Line) -> None:
        await line.request()
        await line.say(EVENTS)
        while True:
            await line.say(b"8\r\ndata: x\n\r\n" * 5000)

    upstream = {"client_gone": gone, "drain_seconds_max": 0.5}
    async with bench(tmp_path, flood, upstream=upstream) as made:
        client = await made.client(receive_bytes_max=4096)
        await client.say(NEXT)
        await client.until(b"\r\n\r\n")
        await made.until(
            lambda: any(isinstance(e, Exchange) and e._paused_ns for e in made.worker.exchanges)
        )
        client.leave()
        await made.until(lambda: not made.worker.exchanges)
        assert made.closed[0].outcome == "cancelled"


async def test_after_any_churn_every_connection_is_idle_or_gone(tmp_path: Path) -> None:
    """C8: calls that end in every way, three connections, sixty clients: nothing is left."""
    dice = random.Random(7)

    async def moody(line: Line) -> None:
        while True:
            await line.request()
            await asyncio.sleep(dice.random() * 0.02)
            mood = dice.random()
            if mood < 0.2:
                await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
            if mood < 0.3:
                return
            await line.say(OK)

    async def call(made: Bench) -> None:
        client = await made.client()
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            for _ in range(6):
                await client.say(NEXT)
                if dice.random() < 0.2:
                    await asyncio.sleep(dice.random() * 0.03)
                    client.leave()
                    return
                await client.answer()

    async with bench(tmp_path, moody, upstream={"connections_max": 3}) as made:
        await asyncio.gather(*(call(made) for _ in range(60)))
        await made.until(lambda: not made.worker.exchanges)
        upstream = made.worker.snapshot.upstreams["openai"]
        assert (upstream._promised, len(upstream._waiting)) == (0, 0)
        upstream.drop_idle(float("inf"))
        await made.until(lambda: upstream.connector.in_use == 0)
