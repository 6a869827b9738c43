"""O2: a refusal, once decided, is told at once; by the server's own clock, whatever the reason.

Each refusal says in `Server-Timing` how long it took from the decision to its telling (`settle`),
beside what the call had waited (`queue`), and its row says the same. Half of a kind's refusals must
come within the bound: what a busy machine does to a single one proves nothing.
"""

from __future__ import annotations

import asyncio
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taximeter.admission import Level
from taximeter.call import Closed, Outcome, Stage
from taximeter.relay._exchange import Exchange
from tests.relay.bench import Bench, Client, Line, bench
from tests.relay.test_admission import Scripted, answer, ask, error

TOLD_SECONDS_MAX = 0.01
TIMES = 20
FREE = [
    {
        "provider": "*",
        "model": "m",
        "input_usd_per_million": 1_000_000,
        "output_usd_per_million": 1_000_000,
    }
]


def stage_seconds(fields: dict[bytes, list[bytes]], name: str) -> float:
    """Give a stage as an answer's `Server-Timing` has it."""
    found = re.search(rf"{name};dur=([0-9.]+)", fields[b"server-timing"][0].decode())
    assert found is not None
    return float(found[1]) / 1000


def check(
    told: list[dict[bytes, list[bytes]]],
    rows: list[Closed],
    code: str,
    outcome: Outcome = Outcome.REJECTED,
) -> None:
    """Hold refusals to the bound, as their clients were told and as they are booked."""
    assert {each[b"x-taximeter-error"][0].decode() for each in told} == {code}
    assert {each.error for each in rows} == {code}
    assert {each.outcome for each in rows} == {outcome}
    assert statistics.median(stage_seconds(each, "settle") for each in told) < TOLD_SECONDS_MAX
    settled = [each.stages[Stage.SETTLE] / 1e9 for each in rows]
    assert statistics.median(settled) < TOLD_SECONDS_MAX


async def refuse(made: Bench, request: bytes) -> tuple[int, dict[bytes, list[bytes]]]:
    """Ask for what is refused."""
    client = await made.client()
    await client.say(request)
    status, fields, _ = await client.answer()
    return status, fields


def _close_door(made: Bench) -> None:
    made.worker.admission.admission.pressure.level = Level.CLOSED


ON_ARRIVAL: dict[str, tuple[int, str, bytes, dict[str, Any], Callable[[Bench], None] | None]] = {
    "a budget": (
        402,
        "budget_exceeded",
        ask(max_tokens=10),
        {"tiers": {"default": {"budget": {"usd": 1, "per": "month"}}}, "prices": FREE},
        None,
    ),
    "a long input": (
        400,
        "input_tokens_exceeded",
        ask(messages=[{"role": "user", "content": "word " * 10_000}]),
        {"tiers": {"default": {"input_tokens_max": 100}}},
        None,
    ),
    "a long output": (
        400,
        "output_tokens_exceeded",
        ask(max_tokens=1000),
        {"tiers": {"default": {"output_tokens_max": 10, "output_over": "refuse"}}},
        None,
    ),
    "a limit of nought": (
        429,
        "limit_too_small",
        ask(),
        {"tiers": {"default": {"requests_per_minute": 0}}},
        None,
    ),
    "no queue": (
        503,
        "queue_full",
        ask(),
        {"upstream": {"limits": {"concurrency": 1}, "queue": {"size": 0}}},
        None,
    ),
    "a closed door": (503, "overloaded", ask(), {}, _close_door),
}


@pytest.mark.parametrize("kind", ON_ARRIVAL)
async def test_who_is_refused_on_arrival_is_told_at_once(tmp_path: Path, kind: str) -> None:
    """O2: the estimate, the budget, the limit, the queue: none of them holds a refusal up."""
    status, code, request, settings, begin = ON_ARRIVAL[kind]
    may_end = asyncio.Event()

    async def held(line: Line) -> None:
        await line.request()
        await may_end.wait()
        await line.say(answer())

    async with bench(tmp_path, held, **settings) as made:
        if kind == "no queue":
            await (await made.client()).say(ask())
            await made.until(lambda: bool(made.opened))
        if begin is not None:
            begin(made)
        # What was spent before is read first, where there are budgets: nobody is told before.
        await made.until(lambda: not made.worker.carried.is_awaited)
        told = []
        for _ in range(TIMES):
            got, fields = await refuse(made, request)
            assert got == status
            assert stage_seconds(fields, "queue") == 0
            told.append(fields)
        check(told, made.closed, code)
        may_end.set()


async def test_an_open_breaker_refuses_at_once(tmp_path: Path) -> None:
    """O2, O4: also where the reason is not the caller's."""
    upstream = Scripted(*(answer(500, error("broken")) for _ in range(9)))
    setting = {"retry": {"attempts_max": 1}, "breaker": {"calls_min": 2, "open_seconds": 30}}
    async with bench(tmp_path, upstream, upstream=setting) as made:
        refused = made.worker.admission.admission.counters.refused
        while not any(refused.values()):
            await refuse(made, ask())
        told = [(await refuse(made, ask()))[1] for _ in range(TIMES)]
        check(told, made.closed[-TIMES:], "breaker_open")


async def test_who_is_pushed_out_is_told_at_once(tmp_path: Path) -> None:
    """O2: the oldest call of the fattest user has waited, and hears of it the moment that another
    takes its place; its wait is in `queue`, its telling in `settle`.
    """
    may_end = asyncio.Event()

    async def held(line: Line) -> None:
        await line.request()
        await may_end.wait()
        await line.say(answer())

    setting = {"limits": {"concurrency": 1}, "queue": {"size": TIMES}}
    async with bench(tmp_path, held, upstream=setting) as made:
        fat, thin = "x-taximeter-user: fat", "x-taximeter-user: thin"
        holder = await made.client()
        await holder.say(ask(fat))
        await made.until(lambda: bool(made.opened))
        waiting: list[Client] = []
        while len(waiting) < TIMES:
            waiting.append(await made.client())
            await waiting[-1].say(ask(fat))
            await made.until(lambda: made.worker.admission.waiting == len(waiting))
        await asyncio.sleep(0.2)
        told = []
        for number in range(TIMES // 2):
            client = await made.client()
            await client.say(ask(thin))
            status, fields, _ = await waiting[number].answer()
            assert status == 503
            assert stage_seconds(fields, "queue") >= 0.2
            told.append(fields)
        rows = made.closed
        assert {each.opened.user for each in rows} == {"fat"}
        assert all(each.stages[Stage.QUEUE] >= 200_000_000 for each in rows)
        check(told, rows, "queue_full")
        made.leave()
        may_end.set()


async def test_who_waits_when_we_go_down_is_told_at_once(tmp_path: Path) -> None:
    """L1, O2: at the drain's end what still waits is refused, and may try elsewhere."""
    gone = asyncio.Event()

    async def held(line: Line) -> None:
        await line.request()
        await gone.wait()

    async with bench(tmp_path, held, upstream={"limits": {"concurrency": 1}}) as made:
        await (await made.client()).say(ask())
        await made.until(lambda: bool(made.opened))
        waiting = [await made.client() for _ in range(TIMES)]
        for client in waiting:
            await client.say(ask())
        await made.until(lambda: made.worker.admission.waiting == TIMES)
        for exchange in tuple(made.worker.exchanges):
            if isinstance(exchange, Exchange) and exchange.is_between_attempts:
                exchange.interrupt()
        answers = [await client.answer() for client in waiting]
        assert {status for status, _, _ in answers} == {503}
        assert all(b"retry-after" in fields for _, fields, _ in answers)
        rows = [each for each in made.closed if each.error == "draining"]
        check([fields for _, fields, _ in answers], rows, "draining", Outcome.INTERRUPTED)
        made.leave()
        gone.set()


async def test_a_queue_refused_as_a_whole_holds_up_nobody_else(tmp_path: Path) -> None:
    """O2: many that wait in vain are told one after the other, and others have their turns between:
    the loop is not gone for as long as that takes. Every one is told, once.
    """
    may_end = asyncio.Event()

    async def held(line: Line) -> None:
        await line.request()
        await may_end.wait()
        await line.say(answer())

    many = 300
    setting = {"limits": {"concurrency": 1}, "queue": {"size": many, "wait_seconds_max": 30}}
    async with bench(tmp_path, held, upstream=setting) as made:
        await (await made.client()).say(ask())
        await made.until(lambda: bool(made.opened))
        clients = [await made.client() for _ in range(many)]
        for client in clients:
            await client.say(ask())
        driver = made.worker.admission
        await made.until(lambda: driver.waiting == many)
        turns = 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            if driver.waiting:
                made.worker.loop.call_soon(turn)

        deadline_ns = 31 * 10**9
        now_ns, wall_ns = made.worker.loop.time() * 1e9, 0
        effects = driver.admission.tick(int(now_ns) + deadline_ns, wall_ns)
        assert len(effects) == many
        made.worker.loop.call_soon(turn)
        driver._carry_out(effects)
        assert 0 < driver.waiting < many, "told in one go"
        for client in clients[:5]:
            client.leave()
        answers = [await client.answer() for client in clients[5:]]
        assert {status for status, _, _ in answers} == {503}
        assert turns >= 3
        await made.until(lambda: len(made.closed) == many)
        may_end.set()
