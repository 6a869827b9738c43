"""H2, H3: upstreams that hold on: an answer that comes in drips comes to an end in time."""

from __future__ import annotations

import asyncio
from pathlib import Path

from taximeter.call import Closed
from tests.hostile._rig import LAST
from tests.relay.bench import Line, bench

TIMEOUTS = {"first_byte_seconds": 1, "idle_seconds": 1}


DRIPS = {
    "a reason": (b"HTTP/1.1 200 O", b"x"),
    "fields": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "interim answers": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    # Held until it has been read, since another attempt might mend it.
    "a refusal": (b"HTTP/1.1 503 No\r\nContent-Length: 5000\r\n\r\n", b"x"),
}


async def hear(folder: Path, begins: bytes, drip: bytes) -> tuple[bytes, Closed]:
    """Give what a client hears of an answer in drips, and what is booked of it."""

    async def slowly(line: Line) -> None:
        await line.request()
        await line.say(begins)
        while True:
            await line.say(drip)
            await asyncio.sleep(0.3)

    async with bench(folder, slowly, upstream={"timeouts": TIMEOUTS}) as made:
        client = await made.client()
        await client.say(LAST)
        heard = await client.rest()
        return heard, made.closed[0]


async def test_an_answer_s_head_in_drips_is_given_up(tmp_path: Path) -> None:
    """H2: a byte now and then does not keep a client waiting for an answer's head for ever."""
    all_heard = await asyncio.gather(
        *(hear(tmp_path / name, *said) for name, said in DRIPS.items()),
    )
    for name, (heard, row) in zip(DRIPS, all_heard, strict=True):
        if name == "a refusal":
            assert heard.startswith(b"HTTP/1.1 503 No\r\n")
        else:
            assert b"HTTP/1.1 504 " in heard
            assert row.error == "upstream_first_byte_timeout"
        assert row.outcome in ("upstream_error", "truncated")
