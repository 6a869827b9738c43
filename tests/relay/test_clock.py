"""D12: the wall clock jumps, to and fro, while calls go by."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.relay.bench import bench
from tests.relay.test_order import request

DAY_NS = 24 * 3600 * 10**9


async def test_no_figure_of_a_call_follows_the_wall_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """D12: with a clock that jumps by up to a day between any two looks, no stage of a call is
    negative or longer than it took, and ids go on in the order of the calls.
    """
    chance, real = random.Random(seed), time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + chance.randrange(-DAY_NS, DAY_NS))
    began = time.monotonic_ns()
    async with bench(tmp_path) as made:
        client = await made.client()
        for _ in range(40):
            await client.say(request("/v1/chat/completions", stream=False))
            assert (await client.answer())[0] == 200
        took = time.monotonic_ns() - began
        assert len(made.closed) == 40
        for closed in made.closed:
            assert closed.stages
            assert all(0 <= spent <= took for spent in closed.stages.values()), closed.stages
            assert all(0 <= spent <= took for each in closed.attempts for spent in _times(each))
        ids = [closed.opened.call_id for closed in made.closed]
        assert ids == sorted(ids)


def _times(attempt: object) -> list[int]:
    """Give the durations that an attempt states."""
    names = [name for name in dir(attempt) if name.endswith("_ns") and "at" not in name.split("_")]
    return [value for name in names if (value := getattr(attempt, name)) is not None]
