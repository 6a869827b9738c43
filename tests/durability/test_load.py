"""The load that the tests here put on Taximeter is of every kind of call there is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.durability._load import Load
from tests.relay.bench import bench, ended_plainly
from tests.rig.upstream import Upstream


async def test_the_load_has_calls_that_go_the_plain_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D1: whatever is killed under this load, plain calls are among those under way."""
    ended = ended_plainly(monkeypatch)
    with Upstream() as upstream:
        async with bench(tmp_path, upstream={"url": upstream.url}) as made:
            load = Load(f"http://127.0.0.1:{made.port}", clients=4, pause_seconds=0, seed=1)
            load.start()
            await made.until(lambda: len(made.closed) >= 200, seconds=20)
            seen = await asyncio.to_thread(load.stop)
    assert all(one.whole for one in seen)
    # One in five has a head that is the same each time; the first of a connection is not plain.
    assert len(ended) > len(seen) / 10
    assert set(ended) <= {one.call_id for one in seen if not one.stream}
