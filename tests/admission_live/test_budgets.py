"""O5 live: budgets under concurrent calls, and after the process that kept them has died."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.admission_live._talk import PRICES, SAID, Ask, at_once, spent
from tests.rig._script import Script
from tests.rig.taximeter import Taximeter
from tests.rig.upstream import Upstream

CALLS = 64


def _upstream(upstream: Upstream) -> dict[str, dict[str, Any]]:
    return {"openai": {"url": upstream.url, "dialect": "openai"}}


@pytest.mark.parametrize("unit", ["usd", "tokens"])
async def test_64_calls_at_once_near_the_cap_overspend_nothing(tmp_path: Path, unit: str) -> None:
    """O5: calls that say how much output they want have a reservation error of nought."""
    # 10 tokens of input at $1 a million and 20 of output at $2.
    cap: dict[str, object] = {"usd": 0.0005} if unit == "usd" else {"tokens": 300}
    budget = {**cap, "per": "month"}
    script = Script(body=SAID, first_byte_seconds=0.1)
    with (
        Upstream() as upstream,
        Taximeter(
            tmp_path, _upstream(upstream), prices=PRICES, tiers={"default": {"budget": budget}}
        ) as meter,
    ):
        asks = [Ask(user="alice", script=script, body={"max_tokens": 20}) for _ in range(CALLS)]
        got = await at_once(meter.url, asks)
        statuses = [each.status for each in got]
        assert set(statuses) == {200, 402}
        refused = [each for each in got if each.status == 402]
        assert {each.code for each in refused} == {"budget_exceeded"}
        assert {each.fields["x-should-retry"] for each in refused} == {"false"}
        rows = await asyncio.to_thread(meter.booked, CALLS)
        came_to = spent(rows, "cost_pico" if unit == "usd" else None)
        limit = 500_000_000 if unit == "usd" else 300
        assert limit / 4 < came_to <= limit
        # What was reserved beyond what it cost is there again: calls one by one fill it up.
        more = 0
        while (await at_once(meter.url, asks[:1]))[0].status == 200:
            more += 1
            assert more < CALLS
        rows = await asyncio.to_thread(meter.booked, CALLS + more + 1)
        came_to = spent(rows, "cost_pico" if unit == "usd" else None)
        assert limit * 0.7 < came_to <= limit


@pytest.mark.parametrize("what", ["all", "relay"])
async def test_a_budget_outlives_the_process_that_kept_it(tmp_path: Path, what: str) -> None:
    """O5: after `kill -9` with calls in flight a budget is what the ledger says; no reservation
    and no slot is left of the calls that were cut.
    """
    tiers = {"default": {"budget": {"tokens": 300, "per": "month"}, "concurrency": 4}}
    done, hung = Script(body=SAID), Script(tokens=20, stall_after_events=0)
    with (
        Upstream() as upstream,
        Taximeter(tmp_path, _upstream(upstream), tiers=tiers) as meter,
    ):
        ask = Ask(user="alice", script=done, body={"max_tokens": 20})
        first = [(await at_once(meter.url, [ask]))[0] for _ in range(3)]
        assert [each.status for each in first] == [200, 200, 200]
        body = {"max_tokens": 20, "stream": True}
        asks = [Ask(user="alice", script=hung, body=body) for _ in range(4)]
        hanging = asyncio.create_task(at_once(meter.url, asks))
        await asyncio.to_thread(upstream.wait_until, lambda: len(upstream.log) == 7)
        if what == "all":
            meter.kill()
            meter.start()
        else:
            os.kill(meter.children()["relay"], signal.SIGKILL)
        await hanging
        rows = await asyncio.to_thread(meter.booked, 7)
        assert [row["outcome"] for row in rows].count("interrupted") == 4
        await asyncio.to_thread(_until_served, meter)
        statuses: list[int] = []
        while not statuses or statuses[-1] == 200:
            statuses += [each.status for each in await at_once(meter.url, [ask])]
            assert len(statuses) < 20
        assert statuses[-1] == 402
        assert len(statuses) > 1, "what the cut calls had reserved is still held"
        count = 7 + len(statuses)
        rows = await asyncio.to_thread(meter.booked, count)
        assert 300 - 60 < spent(rows) <= 300


def _until_served(meter: Taximeter) -> None:
    """Wait until a worker listens again, and has read more than once what was spent."""
    time.sleep(1.5)


async def test_calls_wait_no_longer_than_stated_for_a_ledger_that_hangs(tmp_path: Path) -> None:
    """O5: a call without a budget over it does not wait for the ledger at all; one with a budget
    waits five seconds at most, and the log says what is not known.
    """
    users = {"alice": {"budget": {"tokens": 300, "per": "day"}}}
    # It accepts connections and never says a word.
    with socket.create_server(("127.0.0.1", 0)) as mute, Upstream() as upstream:
        url = f"postgresql://nobody@127.0.0.1:{mute.getsockname()[1]}/none"
        meter = Taximeter(tmp_path, _upstream(upstream), users=users, ledger=url)
        with meter:
            asks = [Ask(user="bob"), Ask(user="alice", body={"max_tokens": 20})]
            free, held = await at_once(meter.url, asks)
            assert free.status == held.status == 200
            assert free.stage_seconds("queue") < 2.5
            assert held.stage_seconds("queue") < 6
            await asyncio.to_thread(
                upstream.wait_until,
                lambda: "do not know what was spent" in meter.log_text(),
                10.0,
            )
