"""Budgets in Redis know again what was spent, after Redis has come back without it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from taximeter.admission import SpentSoFar
from taximeter.relay import _carried
from taximeter.shared_state import Line
from tests.relay.bench import bench
from tests.relay.test_admission import Scripted
from tests.relay.test_carried import BUDGET, Books, spending, status_of
from tests.support.redis import RedisServer


def sums(url: str) -> list[int]:
    """Give what Redis has of spending, over all windows."""
    with redis.Redis.from_url(url) as client:
        found = [client.hget(key, "s") for key in client.scan_iter("*purse*")]
    return sorted(int(each) for each in found if each is not None)


@pytest.mark.parametrize(("reading_seconds", "line_seconds"), [(0, 0), (0.4, 0), (0, 0.4)])
async def test_an_empty_redis_is_told_by_the_ledger(
    tmp_path: Path,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    reading_seconds: float,
    line_seconds: float,
) -> None:
    """O5: the first call of all under a spent budget is refused, and others' go on, whichever of
    ledger and Redis is there first.
    """
    read, connect = _carried.spent_before, Line._connect

    def read_late(*args: Any) -> list[SpentSoFar]:
        time.sleep(reading_seconds)
        return read(*args)

    async def connect_late(self: Line, client: Any) -> None:
        await asyncio.sleep(line_seconds)
        await connect(self, client)

    monkeypatch.setattr(_carried, "spent_before", read_late)
    monkeypatch.setattr(Line, "_connect", connect_late)
    books = Books(tmp_path)
    books.book(spending("alice", 150), spending("alice", 49), spending("bob", 20))
    tiers = {"default": BUDGET}
    async with bench(tmp_path, Scripted(), state=redis_url, tiers=tiers) as made:
        assert await status_of(made, "alice") == 402
        assert await status_of(made, "bob") == 200


@pytest.mark.parametrize("asked_meanwhile", [True, False])
async def test_a_redis_that_has_forgotten_is_told_again(
    tmp_path: Path, asked_meanwhile: bool
) -> None:
    """D10: what was spent counts again when Redis is back, whether it was missed or not."""
    server = RedisServer()
    books = Books(tmp_path)
    tiers = {"default": BUDGET}
    try:
        async with bench(tmp_path, Scripted(), state=server.url(), tiers=tiers) as made:
            assert await status_of(made, "alice") == 200
            books.book(spending("alice", 199, at_ns=time.time_ns()))
            server.stop()
            if asked_meanwhile:
                assert await status_of(made, "alice") == 200
            server.start()
            await made.until(lambda: 199 in sums(server.url()))
            assert await status_of(made, "alice") == 402
    finally:
        server.close()


async def test_what_redis_knows_is_only_ever_raised(tmp_path: Path, redis_url: str) -> None:
    """O5: two workers telling the same twice come to one sum; a larger one in Redis stays."""
    books = Books(tmp_path)
    books.book(spending("alice", 120), spending("bob", 30))
    tiers = {"default": BUDGET}
    said: dict[str, Any] = {
        "state": redis_url,
        "tiers": tiers,
        "ledger": f"sqlite:///{tmp_path / 'ledger.db'}",
    }
    async with bench(tmp_path / "a", Scripted(), **said) as one:
        await one.until(lambda: sums(redis_url) == [30, 120])
        assert await status_of(one, "bob") == 200
        await one.until(lambda: sums(redis_url) == [35, 120])
        async with bench(tmp_path / "b", Scripted(), **said) as other:
            await other.until(lambda: other.worker.carried._done > 1)
            assert sums(redis_url) == [35, 120]
