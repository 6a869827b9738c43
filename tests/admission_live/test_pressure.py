"""O6: a worker that runs short closes what is idle first, then its door; calls go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from taximeter.admission import Level
from taximeter.relay._pressure import LEAN_AT_MOST, open_files_share, readings
from tests.relay.bench import EVENTS, OK, Client, Line, bench
from tests.relay.test_admission import ask, fetch

PIECE = b"4\r\n: a\n\r\n"


async def test_levels_are_entered_with_what_they_ask_for(tmp_path: Path) -> None:
    """O6: lean closes kept connections and lets nobody new wait; closed refuses new calls with
    503 and `Retry-After`; the streams under way come to their ends on every level.
    """
    more = asyncio.Event()

    async def stream(line: Line) -> None:
        while b"stream" not in (await line.request())[1]:
            await line.say(OK)
        await line.say(EVENTS + PIECE)
        await more.wait()
        await line.say(PIECE + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    setting = {"limits": {"concurrency": 5}}
    room = {"connections_max": 10}
    async with bench(tmp_path, stream, upstream=setting, relay=room) as made:
        pressure = made.worker.admission.admission.pressure
        kept = [await made.client() for _ in range(2)]
        for client in kept:
            assert (await fetch_on(client))[0] == 200
        streams = [await made.client() for _ in range(5)]
        for client in streams:
            await client.say(ask(stream=True))
            await client.until(b": a\n")
        late = await made.client()
        await made.until(lambda: pressure.level is Level.LEAN)
        assert pressure.worst == "connections"
        assert [await client.rest() for client in kept] == [b"", b""]
        await late.say(ask())
        status, fields, _ = await late.answer()
        assert status == 503
        assert b"retry-after" in fields
        others = [await made.client() for _ in range(10 - len(made.worker.clients))]
        await made.until(lambda: pressure.level is Level.CLOSED)
        status, fields, body = await fetch_on(others[0])
        assert (status, b"overloaded" in body) == (503, True)
        assert b"retry-after" in fields
        more.set()
        for client in streams:
            assert b"[DONE]" in await client.until(b"0\r\n\r\n")


async def fetch_on(client: Client) -> tuple[int, dict[bytes, list[bytes]], bytes]:
    """Ask on a connection that is there already."""
    await client.say(ask())
    return await client.answer()


async def test_readings_are_shares_and_full_buffers_close_no_door(tmp_path: Path) -> None:
    """O6: room for bodies that is used up makes calls go on without it; it refuses none."""
    async with bench(tmp_path) as made:
        worker = made.worker
        await fetch(made, ask())
        found = readings(worker)
        assert set(found) == {"connections", "bodies", "taps", "loop_lag", "open_files"}
        assert all(0 <= share < 0.5 for share in found.values())
        budget = worker.snapshot.body_budget
        budget.take(budget.bytes_max * 2)
        assert readings(worker)["bodies"] == LEAN_AT_MOST
        budget.give_back(budget.bytes_max * 2)


def test_the_share_of_open_files_grows_with_them(tmp_path: Path) -> None:
    """O6: one look at the process tells it."""
    before = open_files_share()
    assert before is not None
    files = [(tmp_path / str(number)).open("w") for number in range(20)]
    after = open_files_share()
    for file in files:
        file.close()
    assert after is not None
    assert after > before


@pytest.mark.parametrize(("lags", "least"), [((9.0,), 0.0), ((2.0,) * 5, 2.0)])
async def test_one_long_stop_is_no_pressure(
    tmp_path: Path, lags: tuple[float, ...], least: float
) -> None:
    """O6: a machine that slept was late once; a loop that has too much to do is late each time."""
    async with bench(tmp_path) as made:
        lag = made.worker.loop_lag
        lag.stop()
        for each in lags:
            lag._lately.append(each)
        assert least <= lag.least_lately <= least + 0.5
        lag._lately.extend([0.0] * 5)
