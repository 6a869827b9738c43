"""The order of the books: open before the first byte upstream, close before the last byte here."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from taximeter.call import Closed, Fact
from taximeter.journal import LOST_NAME, JournalError, JournalWriter, read_lost
from taximeter.relay import _course
from tests.relay.bench import EVENTS, OK, Bench, Line, bench

NEXT = b"GET /v1/next HTTP/1.1\r\nHost: a\r\n\r\n"
STREAM = json.dumps({"model": "m", "stream": True, "messages": []}).encode()
ASK = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n" % len(STREAM) + STREAM
)
DELTA = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


def chunk(data: bytes) -> bytes:
    """Give one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_a_stream_s_end_marker_does_not_wait_for_the_upstream_to_end(tmp_path: Path) -> None:
    """With journal.sync `always` the marker goes out when its record is safe, not later."""

    async def linger(line: Line) -> None:
        await line.request()
        await line.say(EVENTS + chunk(DELTA) + chunk(DONE))
        await asyncio.sleep(20)

    async with bench(tmp_path, linger, journal={"sync": "always"}) as made:
        client = await made.client()
        await client.say(ASK)
        await client.until(b"[DONE]")
        assert made.closed[0].outcome == "completed"


@pytest.mark.parametrize("sync", ["always", "none"])
async def test_pipelined_answers_keep_their_order_when_each_waits_for_the_disk(
    tmp_path: Path, sync: str
) -> None:
    """With journal.sync `always` every answer arrives, in order, after its own record is safe."""

    async def name_it(line: Line) -> None:
        while True:
            head, _ = await line.request()
            await line.say(
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + head.split(b" ")[1][-2:]
            )

    async with bench(tmp_path, name_it, journal={"sync": sync}) as made:
        client = await made.client()
        names = [b"%02d" % number for number in range(40)]
        await client.say(
            b"".join(b"GET /v1/x/" + name + b" HTTP/1.1\r\nHost: a\r\n\r\n" for name in names)
        )
        assert [(await client.answer())[2] for _ in names] == names


def _break_the_journal(made: Bench, *, only_ends: bool = False) -> None:
    """Have the journal refuse records from now on."""
    append = made.worker.books._writer.append

    def refuse(data: bytes) -> int:
        from taximeter.records import decode_record

        if only_ends and not isinstance(decode_record(data), Closed):
            return append(data)
        raise JournalError("the disk is full")

    made.worker.books._writer.append = refuse  # type: ignore[method-assign, assignment]


async def test_fail_closed_answers_503_when_nothing_can_be_booked(tmp_path: Path) -> None:
    """D6: with `fail_closed` no byte goes upstream, and the client is told why."""
    async with bench(tmp_path, journal={"when_full": "fail_closed"}) as made:
        _break_the_journal(made)
        client = await made.client()
        await client.say(NEXT)
        status, fields, _ = await client.answer()
        assert status == 503
        assert fields[b"x-taximeter-error"] == [b"journal_unwritable"]
        assert not any(line.received for line in made.lines)
        await client.say(b"GET /no/such HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.answer())[0] == 503


async def test_fail_closed_never_delivers_a_last_byte_unbooked(tmp_path: Path) -> None:
    """D6: an answer whose end cannot be booked does not arrive whole."""
    async with bench(tmp_path, journal={"when_full": "fail_closed"}) as made:
        _break_the_journal(made, only_ends=True)
        client = await made.client()
        await client.say(NEXT)
        assert not (await client.rest()).endswith(b"{}")
        made.records.clear()  # what was opened was never closed: that is the point


async def test_fail_open_relays_on_and_counts_what_it_lost(tmp_path: Path) -> None:
    """D6: with `fail_open` calls go on, and the count of the lost ones outlives the process."""
    async with bench(tmp_path) as made:
        _break_the_journal(made)
        client = await made.client()
        for _ in range(3):
            await client.say(NEXT)
            assert (await client.answer())[0] == 200
        assert made.worker.books.refused == 6
        writer = made.worker.books._writer
        assert isinstance(writer, JournalWriter)
    assert read_lost(writer.directory / LOST_NAME) == 3


async def test_an_error_answer_that_was_held_is_booked_before_it_is_passed_on(
    tmp_path: Path,
) -> None:
    """The last byte of a refused stream's error goes out after its close record."""
    error = b'{"error":{"message":"no such model","type":"invalid_request_error"}}'

    async def refuse(line: Line) -> None:
        await line.request()
        await line.say(
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(error) + error
        )

    async with bench(tmp_path, refuse) as made:
        client = await made.client()
        order: list[str] = []
        write = made.worker.books.write

        def note(record: object, *written: bytes) -> object:
            order.append(type(record).__name__)
            return write(record, *written)  # type: ignore[arg-type]

        made.worker.books.write = note  # type: ignore[method-assign, assignment]
        await client.say(ASK)
        await made.until(lambda: bool(made.worker.clients))
        (side,) = made.worker.clients
        assert side.transport is not None
        transport = side.transport

        class Spy:
            def __getattr__(self, name: str) -> object:
                return getattr(transport, name)

            def write(self, data: bytes) -> None:
                order.append("bytes")
                transport.write(data)

        side.transport = Spy()  # type: ignore[assignment]
        status, _, body = await client.answer()
        assert (status, body) == (400, error)
        assert order == ["Opened", "Closed", "bytes"]


@pytest.mark.parametrize("accepted", [True, False])
async def test_a_websocket_is_passed_both_ways_or_refused(tmp_path: Path, accepted: bool) -> None:
    """C6: after 101 bytes go both ways untouched; a refusal is passed on; either books one row."""

    async def speak(line: Line) -> None:
        head, _ = await line.request()
        assert b"Upgrade: websocket" in head
        if not accepted:
            await line.say(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno")
            await line.take()
            return
        await line.say(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: x\r\n\r\nfirst"
        )
        while data := await line.take():
            await line.say(data.upper())

    async with bench(tmp_path, speak) as made:
        client = await made.client()
        await client.say(
            b"GET /v1/realtime?model=m HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\nahead"
        )
        status, fields, body = await client.answer()
        if accepted:
            assert status == 101
            assert fields[b"sec-websocket-accept"] == [b"x"]
            assert await client.until(b"AHEAD") == b"firstAHEAD"
            await client.say(b"\x81\x05hello")
            assert await client.until(b"HELLO") == b"\x81\x05HELLO"
            client.leave()
            await made.until(lambda: bool(made.closed))
            assert made.closed[0].outcome == "completed"
            # What comes in one read with a head is counted like what comes after it.
            assert made.closed[0].request_bytes == len(b"ahead\x81\x05hello")
            assert made.closed[0].response_bytes == len(b"firstAHEAD\x81\x05HELLO")
        else:
            assert (status, body, fields[b"connection"]) == (426, b"no", [b"close"])
            assert await client.rest() == b""
            assert made.closed[0].outcome == "upstream_error"


@pytest.mark.parametrize("ahead", [b"", b"ahead"])
async def test_a_websocket_behind_a_slow_call_waits_for_its_turn(
    ahead: bytes, tmp_path: Path
) -> None:
    """C7: an upgrade sent ahead takes place after the answer before it, and loses no byte then."""

    async def speak(line: Line) -> None:
        head, _ = await line.request()
        if b"websocket" not in head:
            await asyncio.sleep(0.05)
            await line.say(OK)
            await line.request()
        await line.say(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        while data := await line.take():
            await line.say(data.upper())

    async with bench(tmp_path, speak) as made:
        client = await made.client()
        await client.say(
            NEXT + b"GET /v1/realtime HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\n\r\n" + ahead
        )
        assert (await client.answer())[0] == 200
        assert (await client.answer())[0] == 101
        await client.say(b"hello")
        assert await client.until(b"HELLO") == ahead.upper() + b"HELLO"


@pytest.mark.parametrize(
    "agreed", [b"Upgrade: h2c\r\n", b"Upgrade: websocket\r\nUpgrade: h2c\r\n", b""]
)
async def test_an_agreement_to_another_protocol_is_told_as_none(
    agreed: bytes, tmp_path: Path
) -> None:
    """C6, H2: 101 for what was not asked is no answer: 502, and no byte of it goes on."""

    async def agree(line: Line) -> None:
        await line.request()
        await line.say(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n" + agreed + b"\r\nfirst"
        )
        await line.take()

    async with bench(tmp_path, agree) as made:
        client = await made.client()
        await client.say(
            b"GET /v1/realtime HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\n\r\n"
        )
        heard = await client.rest()
        assert heard.startswith(b"HTTP/1.1 502 ")
        assert b"first" not in heard
        assert made.closed[0].error == "upstream_malformed"


async def test_a_fault_in_making_the_record_costs_the_figures_and_not_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L5: if the figures of a call cannot be made out it is answered and booked without them."""

    def fail(**_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(_course, "close_record", fail)
    async with bench(tmp_path) as made:
        client = await made.client()
        await client.say(NEXT)
        status, _, body = await client.answer()
        assert (status, body) == (200, b"{}")
        assert (made.closed[0].outcome, made.closed[0].status) == ("completed", 200)
        assert made.closed[0].facts == [Fact.TAP_FAILED]
        assert made.worker.faults == 1
        made.worker.faults = 0  # this one was ours to make
