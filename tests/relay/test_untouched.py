"""C1, C6: whatever two sides say to each other goes through byte for byte, and at once."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
from pathlib import Path

import pytest

from taximeter.call import Outcome
from taximeter.relay._aiohttp import UpstreamSide
from tests.relay.bench import EVENTS, Client, Line, bench
from tests.relay.test_books import DELTA, DONE, chunk
from tests.relay.test_order import Wire, request
from tests.rig.chaos import reset
from tests.rig.length import pick
from tests.rig.tally import Tally

EXCHANGES = pick(60, 2000)
BODY_BYTES_MAX = 200_000
UPGRADE = (
    b"GET /v1/realtime?model=m HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n"
)
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: x\r\n\r\n"
)
PATHS = ("/v1/chat/completions", "/v1/embeddings", "/v1/files", "/v1/a%2Fb?x=%20&")


class Dice:
    """Draws what is said: bodies, framings, and how they are cut."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def body(self) -> bytes:
        """Give bytes: mostly few, mostly any, sometimes what looks like events or JSON."""
        size = int(BODY_BYTES_MAX ** self._chance.random())
        kind = self._chance.randrange(4)
        if kind == 0:
            return (b'data: {"a": 1}\n\n' * (size // 16 + 1))[:size]
        if kind == 1:
            return b'{"model": "m", "input": "' + bytes(97 + size % 26 for _ in range(size)) + b'"}'
        return self._chance.randbytes(size)

    def parts(self, data: bytes) -> list[bytes]:
        """Cut bytes at a few places."""
        cuts = sorted(
            self._chance.randrange(len(data) + 1) for _ in range(self._chance.randrange(4))
        )
        edges = [0, *cuts, len(data)]
        return [data[low:high] for low, high in itertools.pairwise(edges) if low < high]

    def chunked(self, body: bytes) -> bytes:
        """Frame a body in chunks."""
        return b"".join(map(chunk, self.parts(body))) + b"0\r\n\r\n"

    def choose(self, *what: bytes) -> bytes:
        """Take one of some."""
        return self._chance.choice(what)

    def message(self, start: bytes, body: bytes, *, may_close: bool) -> bytes:
        """Give a whole message, framed in one of the ways there are."""
        ways = [b"length", b"chunked"] + [b"close"] * may_close
        kind = self.choose(b"application/json", b"text/event-stream", b"application/octet-stream")
        head = start + b"\r\nHost: a\r\nContent-Type: " + kind + b"\r\nX-Odd: \xff\t\xe4\r\n"
        match self.choose(*ways):
            case b"length":
                return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
            case b"chunked":
                return head + b"Transfer-Encoding: chunked\r\n\r\n" + self.chunked(body)
            case _:
                return head + b"Connection: close\r\n\r\n" + body


async def test_any_bodies_arrive_as_they_were_sent(tmp_path: Path, seed: int, tally: Tally) -> None:
    """C1: whatever a body is, however it is framed and cut, both sides get the other's bytes."""
    dice = Dice(seed)
    heard: list[bytes] = []
    said: list[bytes] = []

    async def answer(line: Line) -> None:
        while True:
            _, body = await line.request()
            heard.append(hashlib.sha256(body).digest())
            said.append(dice.body())
            message = dice.message(b"HTTP/1.1 200 OK", said[-1], may_close=True)
            for part in dice.parts(message):
                await line.say(part)
                await asyncio.sleep(0)
            if b"\r\nConnection: close\r\n" in message:
                line.writer.write_eof()
                await line.take()
                return

    async with bench(tmp_path, answer, upstream={"usage": "observe"}) as made:
        for number in range(EXCHANGES):
            asked = dice.body()
            client = await made.client()
            start = b"POST " + PATHS[number % len(PATHS)].encode() + b" HTTP/1.1"
            for part in dice.parts(dice.message(start, asked, may_close=False)):
                await client.say(part)
                await asyncio.sleep(0)
            status, fields, body = await client.answer()
            client.leave()
            assert status == 200
            assert heard[-1] == hashlib.sha256(asked).digest(), f"exchange {number}"
            assert body == said[-1], f"exchange {number}"
            assert fields[b"x-odd"] == [b"\xff\t\xe4"]
        tally.add("exchanges of any bytes", EXCHANGES)


async def test_bytes_of_a_stream_wait_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C1: what comes from the upstream is on its way to the client when the read that brought it
    is over: nothing waits for a timer, another read, or another turn of the loop.
    """
    late: list[bytes] = []
    reads = [0]
    wire = Wire(monkeypatch)
    real = UpstreamSide.data_received

    def read(side: UpstreamSide, data: bytes) -> None:
        before = len(wire.notes)
        real(side, data)
        reads[0] += 1
        if not any(kind == "client" for kind, _ in wire.notes[before:]):
            late.append(data)

    async def stream(line: Line) -> None:
        await line.request()
        for part in (EVENTS, *[chunk(DELTA[:20]), chunk(DELTA[20:])] * 10, chunk(DONE)):
            await line.say(part)
            await asyncio.sleep(0.002)
        await line.say(b"0\r\n\r\n")

    monkeypatch.setattr(UpstreamSide, "data_received", read)
    async with bench(tmp_path, stream, upstream={"usage": "observe"}) as made:
        wire.watch(made)
        client = await made.client()
        await client.say(request("/v1/chat/completions", stream=True))
        assert (await client.answer())[2] == DELTA * 10 + DONE
    assert reads[0] > 15
    assert late == []


@pytest.mark.parametrize("ends", ["client leaves", "upstream ends", "upstream breaks off"])
async def test_frames_of_a_websocket_pass_whole_whatever_they_are(
    ends: str, tmp_path: Path, seed: int
) -> None:
    """C6: fragments, control frames between them, bad UTF-8, close codes nobody knows, a megabyte
    in one frame: nothing is read, joined, answered or refused by us; one side's end ends the other.
    """
    chance = random.Random(seed)
    pieces = [
        b"\x01\x03abc", b"\x89\x00", b"\x80\x02de",  # a text in two fragments, a ping between
        b"\x81\x02\xff\xfe",  # no UTF-8
        b"\x88\x02\x0f\xa0", b"\x88\x01\x03",  # close codes 4000, and half of one
        b"\xff\x7f" + b"\xff" * 8,  # no frame
        b"\x82\x7f" + (1 << 20).to_bytes(8, "big") + chance.randbytes(1 << 20),
    ]  # fmt: skip
    chance.shuffle(pieces)
    whole = b"".join(pieces)
    there: list[bytes] = []

    async def speak(line: Line) -> None:
        await line.request()
        await line.say(SWITCHED)
        there.append(await line.exactly(len(whole)))
        await line.say(whole)
        if ends == "upstream breaks off":
            reset(line.writer)
        elif ends == "client leaves":
            there.append(await line.take())

    async with bench(tmp_path, speak) as made:
        client = await made.client()
        await client.say(UPGRADE)
        assert (await client.answer())[0] == 101
        for at in range(0, len(whole), 100_003):
            await client.say(whole[at : at + 100_003])
        if ends == "upstream breaks off":
            assert whole.startswith(await client.rest())
        else:
            assert await _exactly(client, len(whole)) == whole
        if ends == "client leaves":
            client.leave()
        else:
            assert await client.rest() == b""
        await made.until(lambda: len(made.closed) == 1)
        assert there[0] == whole
        if ends == "client leaves":
            await made.until(lambda: there[1:] == [b""])
        broken = ends == "upstream breaks off"
        assert made.closed[0].outcome is (Outcome.TRUNCATED if broken else Outcome.COMPLETED)


async def _exactly(client: Client, count: int) -> bytes:
    async with asyncio.timeout(5):
        return await client.reader.readexactly(count)
