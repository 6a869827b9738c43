"""Relay workers that share their counts, with calls and a budget between them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.relay.bench import Line, bench, raw_upstream
from tests.relay.test_admission import Scripted, answer, ask, error, fetch, with_standby


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

    said: dict[str, Any] = {"upstream": {"limits": {"concurrency": 10}}, "state": redis_url}
    async with (
        bench(tmp_path / "a", slow, **said) as one,
        bench(tmp_path / "b", slow, **said) as other,
    ):
        got = await asyncio.gather(*(fetch((one, other)[n % 2], ask()) for n in range(40)))
        assert [status for status, _, _ in got] == [200] * 40
        assert most == 10
        assert one.worker.shared is not None
        assert one.worker.shared.stats.decided_locally == 0


async def test_a_call_falls_back_without_waiting_for_an_answer(
    tmp_path: Path, redis_url: str
) -> None:
    """Limits and budgets over it, and counts elsewhere: it goes by this worker's share; what it
    held and what it came to is told as ever.
    """
    broken, good = Scripted(*(answer(500, error("broken")) for _ in range(4))), Scripted()
    async with raw_upstream(good) as (url, _):
        settings = with_standby(url, limits={"concurrency": 5})
        settings["others"]["standby"]["limits"] = {"concurrency": 5, "requests_per_minute": 600}
        tiers = {"default": {"concurrency": 1, "budget": {"tokens": 100_000, "per": "month"}}}
        async with bench(tmp_path, broken, state=redis_url, tiers=tiers, **settings) as made:
            shared = made.worker.shared
            assert shared is not None
            await made.until(lambda: not shared.stats.is_local)
            for _ in range(4):
                status, fields, _ = await fetch(made, ask(max_tokens=10))
                assert (status, fields[b"x-taximeter-upstream"]) == (200, [b"standby"])
            assert len(good.heads) == 4
            assert not shared.stats.is_local
            keys = made.worker.admission.admission.store._holdings.in_use  # type: ignore[attr-defined]
            await made.until(lambda: not keys)


@pytest.mark.parametrize(
    ("said", "is_warned"),
    [
        ({"workers": 2, "upstream": {"limits": {"concurrency": 10}}}, True),
        ({"workers": 2, "upstream": {"limits": {"models": {"a-*": {"concurrency": 1}}}}}, True),
        ({"workers": 3, "tiers": {"free": {"requests_per_minute": 20}}}, True),
        ({"workers": 3, "tiers": {"free": {"shared": {"budget": {"usd": 1}}}}}, True),
        ({"workers": 2, "users": {"a": {"concurrency": 3}}}, True),
        ({"workers": 1, "upstream": {"limits": {"concurrency": 10}}}, False),
        ({"workers": 2}, False),
    ],
)
async def test_workers_that_count_apart_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, said: dict[str, Any], is_warned: bool
) -> None:
    """O5: with limits, several workers and no Redis, the start says what that comes to."""
    async with bench(tmp_path, **said):
        pass
    warned = [each for each in caplog.records if "counts limits and budgets" in each.getMessage()]
    assert len(warned) == is_warned


async def test_workers_that_count_together_do_not_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, redis_url: str
) -> None:
    """O5: with Redis, the number of workers makes no difference, and there is no warning."""
    said: dict[str, Any] = {"upstream": {"limits": {"concurrency": 10}}}
    async with bench(tmp_path, **said, workers=2, state=redis_url):
        pass
    assert "counts limits and budgets" not in caplog.text
