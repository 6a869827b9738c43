"""C8: clients leave at any moment of a call's way, and nothing of their calls is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Any

import pytest

from taximeter.admission import MemoryStore
from taximeter.call import Fact
from taximeter.settings import Replay
from tests.relay.bench import EVENTS, Bench, Client, Line, bench, raw_upstream
from tests.relay.test_admission import answer, ask, error

CLIENTS = 60
LIMITS: dict[str, Any] = {
    "limits": {"concurrency": 3, "heed_upstream": False},
    "retry": {
        "backoff_seconds_first": 0.02,
        "backoff_seconds_max": 0.04,
        "budget_ratio": 1,
        "budget_floor_per_minute": 1000,
    },
    "breaker": {"calls_min": 1000},
    "queue": {"size": 20, "wait_seconds_max": 0.3},
}
TIERS = {"default": {"concurrency": 2, "budget": {"tokens": 10_000_000, "per": "month"}}}
EVENT = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'


def _upstream(dice: random.Random):  # type: ignore[no-untyped-def]
    """Give an upstream that does one thing or another with each request."""

    async def handler(line: Line) -> None:
        while True:
            await line.request()
            await asyncio.sleep(dice.random() * 0.02)
            what = dice.randrange(7)
            if what == 0:
                await line.say(answer(503, error("busy"), "retry-after: 0"))
            elif what == 1:
                await line.say(answer(429, error("slow"), "retry-after: 0"))
            elif what == 2:  # a head of an error, and its body later
                said = answer(503, error("busy"))
                await line.say(said[:-5])
                await asyncio.sleep(dice.random() * 0.05)
                await line.say(said[-5:])
            elif what == 3:
                return  # it breaks the connection off
            elif what == 4:
                await line.say(EVENTS)
                for _ in range(dice.randrange(10)):
                    await line.say(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
                    await asyncio.sleep(0.005)
                await line.say(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
            else:
                await line.say(answer())

    return handler


async def _client(made: Bench, dice: random.Random, number: int, *fields: str) -> None:
    """Call, and leave at some moment; some stay to the end, and some call twice at once."""
    await asyncio.sleep(dice.random() * 0.3)
    client: Client = await made.client()
    user = f"x-taximeter-user: u{number % 5}"
    request = ask(user, *fields, stream=dice.random() < 0.5, max_tokens=10)
    await client.say(request * (2 if dice.random() < 0.2 else 1))
    if dice.random() < 0.3:
        with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            await client.answer()
    else:
        await asyncio.sleep(dice.random() ** 2 * 0.3)
    client.leave()


@pytest.mark.parametrize("client_gone", ["cancel", "drain"])
@pytest.mark.parametrize("seed", range(4))
async def test_whoever_leaves_whenever_leaves_nothing_behind(
    tmp_path: Path, seed: int, client_gone: str
) -> None:
    """C8: waiting, between attempts, with an error held, in the middle of a stream: slots,
    reservations and places in the queue are given back, each once.
    """
    dice = random.Random(seed)
    setting = {**LIMITS, "client_gone": client_gone}
    async with bench(tmp_path, _upstream(dice), upstream=setting, tiers=TIERS) as made:
        await asyncio.gather(*(_client(made, dice, number) for number in range(CLIENTS)))
        await _nothing_is_left(made)


@pytest.mark.parametrize("client_gone", ["cancel", "drain"])
@pytest.mark.parametrize("seed", range(4))
async def test_nor_do_calls_of_the_rarer_kinds(tmp_path: Path, seed: int, client_gone: str) -> None:
    """C8: opened while they wait, with a key that others of them have, on their way to another
    upstream: neither a key nor a kept byte is left either, and no row of a replay is without the
    call that was paid.
    """
    dice = random.Random(seed)
    queue = {**LIMITS["queue"], "early_open_seconds": 0.03}
    setting = {**LIMITS, "queue": queue, "client_gone": client_gone, "fallback": ["standby"]}
    async with raw_upstream(_upstream(dice)) as (url, _):
        standby = {"url": url, "dialect": "openai", **LIMITS, "client_gone": client_gone}
        async with bench(
            tmp_path,
            _upstream(dice),
            upstream=setting,
            others={"standby": standby},
            tiers=TIERS,
            replay={"enabled": True, "bytes_max": 4000, "answer_bytes_max": 3000},
            relay={"ping_seconds": 0.01},
        ) as made:
            fields = [
                ("Authorization: Bearer sk-a", f"Idempotency-Key: {dice.randrange(12)}")
                if dice.random() < 0.6
                else ("x-stainless-retry-count: 1",)
                for _ in range(CLIENTS)
            ]
            calls = (_client(made, dice, n, *each) for n, each in enumerate(fields))
            await asyncio.gather(*calls)
            await _nothing_is_left(made)
            kept = made.worker.kept
            kept.apply(Replay())
            assert kept.bytes_taken == 0
            paid = {each.opened.call_id for each in made.closed if each.attempts}
            replays = [each for each in made.closed if Fact.REPLAYED in each.facts]
            assert {each.opened.retry_of for each in replays} <= paid


async def _nothing_is_left(made: Bench) -> None:
    await made.at_rest()
    admission = made.worker.admission.admission
    store = admission.store
    assert isinstance(store, MemoryStore)
    assert [each.reserved for each in store.book.snapshot() if each.reserved] == []
    slots = [f"slots\x1fuser\x1fu{each}" for each in range(5)]
    slots += [f"slots\x1fupstream\x1f{name}" for name in ("openai", "standby")]
    assert [key for key in slots if store.in_use(key)] == []
    assert sum(admission.waiting().values()) == 0
    counters = admission.counters
    assert counters.admitted == counters.settled
    assert counters.admitted > CLIENTS / 6, "the scenario let too few through to say anything"


@pytest.mark.parametrize("seed", range(2))
async def test_a_drain_with_a_full_queue_ends_in_its_time(tmp_path: Path, seed: int) -> None:
    """L1: whoever waits when we are told to go is told so; nothing new is begun for it upstream."""
    dice = random.Random(seed)
    asked = 0

    async def hang(line: Line) -> None:
        nonlocal asked
        await line.request()
        asked += 1
        await asyncio.sleep(30)

    setting = {**LIMITS, "queue": {"size": 50, "wait_seconds_max": 20}}
    async with bench(tmp_path, hang, upstream=setting) as made:
        clients = [await made.client() for _ in range(12)]
        for client in clients:
            await client.say(ask(f"x-taximeter-user: u{dice.randrange(3)}"))
        await made.until(lambda: asked == 3 and made.worker.admission.waiting == 9)
        await made.worker.stop()
        answers = [await client.answer() for client in clients]
        assert {status for status, _, _ in answers} == {503}
        assert asked == 3
