"""Relay workers that share their counts, with calls and a budget between them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.relay.bench import Line, bench
from tests.relay.test_admission import answer, ask, fetch


async def test_two_workers_have_ten_slots_between_them(tmp_path: Path, redis_url: str) -> None:
    """O7: of forty calls to two workers, ten at a time are upstream, and all are answered."""
    now = most = 0

    async def slow(line: Line) -> None:
        nonlocal now, most
        while True:
            await line.request()
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.05)
            now -= 1
            await line.say(answer())

    said = {"upstream": {"limits": {"concurrency": 10}}, "state": redis_url}
    async with (
        bench(tmp_path / "a", slow, **said) as one,
        bench(tmp_path / "b", slow, **said) as other,
    ):
        got = await asyncio.gather(*(fetch((one, other)[n % 2], ask()) for n in range(40)))
        assert [status for status, _, _ in got] == [200] * 40
        assert most == 10
        assert one.worker.shared is not None
        assert one.worker.shared.stats.decided_locally == 0
