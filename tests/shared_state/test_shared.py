"""Counts that several workers share through a real Redis."""

from __future__ import annotations

import itertools
import random
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from taximeter.admission import (
    Admitted,
    Breaker,
    Budget,
    CircuitBreaker,
    Held,
    Limits,
    MemoryStore,
    Need,
    Over,
    Plan,
    PurseWatch,
    Spent,
    State,
    Ticket,
)
from taximeter.shared_state import RedisStore, Scripts
from tests.shared_state.hands import hands, plan_of, policy_of, until, worker

NOTHING_SENT = Spent(sent=False)


async def test_a_concurrency_limit_is_one_for_all_workers(redis_url: str) -> None:
    """O7: ten slots are ten in all, however many workers ask; one given back is one to be had."""
    plan = plan_of(upstream=Limits(concurrency=10))
    async with hands(redis_url) as one, hands(redis_url) as other:
        held = []
        for turn in range(10):
            each = (one, other)[turn % 2]
            need, found = await each.admit(plan)
            assert isinstance(found, Admitted)
            assert found.taken
            held.append((each, need, found))
        for each in (one, other):
            _, found = await each.admit(plan)
            assert isinstance(found, Admitted)
            assert not found.taken
            assert found.short is not None
            assert found.short.wait_ns  # other workers' calls end unseen
        each, need, found = held.pop(0)
        each.settle(plan, need, found, Spent(tokens=1))
        _, found = await each.admit(plan)
        assert isinstance(found, Admitted)


async def test_a_budget_is_one_for_all_workers(redis_url: str) -> None:
    """O5: what one worker reserves or books, the others find gone."""
    plan = plan_of(budgets=(Budget(pico=100),))
    async with hands(redis_url) as one, hands(redis_url) as other:
        need, found = await one.admit(plan, pico=70)
        assert isinstance(found, Admitted)
        _, over = await other.admit(plan, pico=40)
        assert isinstance(over, Over)
        assert over.resets_ns > 0
        one.settle(plan, need, found, Spent(tokens=1, pico=20))
        await one.sent()
        need, found = await other.admit(plan, pico=80)
        assert isinstance(found, Admitted)
        other.settle(plan, need, found, NOTHING_SENT)
        await other.sent()
        need, found = await one.admit(plan, pico=80)
        assert isinstance(found, Admitted)


@pytest.mark.parametrize("is_taken", [True, False])
async def test_a_call_that_moves_keeps_what_it_has(redis_url: str, is_taken: bool) -> None:
    """O5, O7: between a fallback and the next beat, the others find its reservation and its slots
    taken; one that is turned back there takes nobody's with it.
    """
    own: dict[str, Any] = {"limits": Limits(concurrency=4), "budgets": (Budget(tokens=1000),)}
    plan, there = plan_of(**own), plan_of(upstream=Limits(concurrency=1), **own)
    seldom: dict[str, Any] = {"share": 1.0, "beat_seconds": 60.0}
    async with hands(redis_url, **seldom) as one, hands(redis_url, **seldom) as other:
        need, found = await one.admit(plan, tokens=400)
        assert isinstance(found, Admitted)
        ticket, store = Ticket(there, None, 1, 400, 1, 0), one.store  # type: ignore[arg-type]
        held = Held(frozenset(slot.key for slot in plan.slots), found.hold)
        now, wall = time.monotonic_ns(), time.time_ns()
        moved = store.admit(there, ticket, 400, 0, is_taken, now, wall, held)
        assert isinstance(moved, Admitted)
        assert moved.taken is is_taken
        if is_taken:
            one.settle(plan, need, found, NOTHING_SENT)
        else:
            store.settle(there, ticket, moved.hold, NOTHING_SENT, False, now)
        await one.sent()
        async with Redis.from_url(redis_url) as redis:
            counts = {
                (key.split(b"\x1f")[0], name[:1]): int(value)
                async for key in redis.scan_iter("t:*")
                for name, value in (await redis.hgetall(key)).items()
                if name[:2] in (b"r:", b"n:")
            }
            keys = [key async for key in redis.scan_iter("t:slots*")]
        assert counts == {(b"t:purse", b"r"): 400, (b"t:slots", b"n"): 1}
        assert len(keys) == (2 if is_taken else 1)
        _, over = await other.admit(plan, tokens=601)
        assert isinstance(over, Over)
        _, found = await other.admit(there, tokens=600)
        assert isinstance(found, Admitted)
        assert found.taken is not is_taken


CLOCK = """
local function now_us()
  return tonumber(redis.call('GET', 'clock'))
end
"""


@pytest.mark.parametrize("seed", range(6))
async def test_it_says_what_memory_says(redis_url: str, seed: int) -> None:
    """Every verdict is the one that counts in this process would have given."""
    chance = random.Random(seed)
    plans = [
        plan_of(
            user=user,
            limits=Limits(
                concurrency=chance.choice([None, 0, 1, 3]),
                requests_per_minute=chance.choice([None, 6, 60, 600]),
                tokens_per_minute=chance.choice([None, 600, 6000]),
                burst_seconds=chance.choice([10.0, 60.0]),
            ),
            upstream=Limits(concurrency=4, requests_per_minute=60, tokens_per_minute=6000),
            budgets=chance.choice(
                [
                    (),
                    (Budget(pico=300, per="hour"),),
                    (Budget(tokens=900, per="day", hard=False), Budget(pico=500, per="month")),
                    (Budget(pico=200, per="day", unpriced="refuse"),),
                ]
            ),
        )
        for user in ("a", "b", "c")
    ]
    memory = MemoryStore()
    now_ns, wall_ns = 10**9, 1_709_251_100 * 10**9  # a minute before a leap day's end
    async with Redis.from_url(redis_url) as redis:
        await redis.set("clock", wall_ns // 1000)
    async with (
        Redis.from_url(redis_url) as redis,
        hands(redis_url, scripts=Scripts.of(CLOCK), lease_seconds=1e6) as remote,
    ):
        held: list[tuple[Plan, Need, Admitted, Need, Admitted]] = []
        for _ in range(150):
            step_ns = chance.choice([0, 1000, 10**7, 10**9, 20 * 10**9])
            now_ns, wall_ns = now_ns + step_ns, wall_ns + step_ns
            await redis.set("clock", wall_ns // 1000)
            remote.store._tight.clear()  # it knows what is full, and would not ask
            if held and chance.random() < 0.45:
                plan, own, before, need, given = held.pop(chance.randrange(len(held)))
                tokens = chance.choice([None, 0, 5, 40, 300])
                spent = Spent(tokens=tokens, pico=tokens, sent=chance.random() < 0.8)
                if chance.random() < 0.3:
                    memory.charge(plan, now_ns)
                    remote.store.charge(plan, now_ns)
                memory.settle(plan, own, before.hold, spent, before.taken, now_ns)
                remote.settle(plan, need, given, spent, now_ns)
                await remote.sent()
                continue
            plan = chance.choice(plans)
            tokens = chance.choice([5, 40, 200, 2000])
            inputs = chance.choice([1, tokens])
            pico = chance.choice([None, tokens])
            passing = chance.random() < 0.8
            own = Need(inputs, tokens)
            mine = memory.admit(plan, own, tokens, pico, passing, now_ns, wall_ns)
            need, found = await remote.admit(
                plan,
                tokens=tokens,
                input_tokens=inputs,
                pico=pico,
                passing=passing,
                now_ns=now_ns,
                wall_ns=wall_ns,
            )
            assert type(found) is type(mine)
            if isinstance(mine, Over):
                assert isinstance(found, Over)
                assert (found.purse, found.unpriced) == (mine.purse, mine.unpriced)
                assert found.resets_ns == mine.resets_ns
                continue
            assert isinstance(found, Admitted)
            assert (found.taken, found.hold.soft_over) == (mine.taken, mine.hold.soft_over)
            if not mine.taken and passing:
                assert mine.short is not None
                assert found.short is not None
                assert found.short.key == mine.short.key
                assert found.short.never == mine.short.never
                if mine.short.wait_ns is not None:
                    assert found.short.wait_ns == mine.short.wait_ns
            held.append((plan, own, mine, need, found))


async def test_workers_that_wait_get_their_share_of_slots(redis_url: str) -> None:
    """O1: a worker that has all slots, and more calls for them, leaves a fair part to others."""
    policy = policy_of(upstream=Limits(concurrency=4))
    async with worker(redis_url, policy) as one, worker(redis_url, policy) as other:
        for _ in range(60):
            one.ask()
        await until(lambda: len(one.going) == 4)
        for _ in range(60):
            other.ask()
        for _ in range(60):
            if not (one.going or other.going):
                break
            most = one if len(one.going) >= len(other.going) else other
            most.end_one()
            await until(lambda: len(one.going) + len(other.going) == 4)
            if len(other.going) == 2:
                break
        assert (len(one.going), len(other.going)) == (2, 2)


async def test_one_slot_goes_from_worker_to_worker(redis_url: str) -> None:
    """O1: with fewer slots than workers, the one that has waited longest is next."""
    policy = policy_of(upstream=Limits(concurrency=1))
    async with worker(redis_url, policy) as one, worker(redis_url, policy) as other:
        for each in (one, other):
            for _ in range(4):
                each.ask()
        order = []
        for _ in range(8):
            await until(lambda: bool(one.going or other.going))
            assert len(one.going) + len(other.going) == 1
            who = one if one.going else other
            order.append(who is one)
            who.end_one()
        assert sorted(order) == [False] * 4 + [True] * 4
        assert sum(a != b for a, b in itertools.pairwise(order)) >= 5


async def test_a_breaker_that_opens_opens_for_all(redis_url: str) -> None:
    """O4: an upstream that one worker leaves alone is left alone by the others, as long."""
    async with (
        hands(redis_url, beat_seconds=0.05) as one,
        hands(redis_url, beat_seconds=0.05) as other,
    ):
        config = Breaker(calls_min=1, open_seconds=0.6)
        mine, theirs, another = (CircuitBreaker(config, lambda: 0.0) for _ in range(3))
        one.store.breakers = lambda: {("up", "m"): mine}
        other.store.breakers = lambda: {("up", "m"): theirs, ("up", "n"): another}
        await one.sent()
        period = mine.try_pass(time.monotonic_ns())
        assert period is not None
        mine.failed(period, time.monotonic_ns())
        opened = time.monotonic()
        await until(lambda: theirs.state is State.OPEN)
        assert another.state is State.CLOSED
        await until(lambda: theirs.try_pass(time.monotonic_ns()) is not None)
        assert time.monotonic() - opened > 0.5
        assert theirs.state is State.HALF_OPEN


async def test_budgets_can_be_watched_by_every_worker_that_uses_them(redis_url: str) -> None:
    """A worker shows what all have spent, as it heard last, and what it spent itself since."""
    plan = plan_of(budgets=(Budget(pico=100),))
    async with hands(redis_url) as one, hands(redis_url) as other:
        need, found = await one.admit(plan, pico=30)
        assert isinstance(found, Admitted)
        assert seen(one.store) == [(0, 30, 0)]
        one.settle(plan, need, found, Spent(tokens=1, pico=20))
        await one.sent()
        assert seen(one.store) == [(20, 0, 0)]
        assert seen(other.store) == []
        need, found = await other.admit(plan, pico=50)
        assert isinstance(found, Admitted)
        assert seen(other.store) == [(20, 50, 0)]
        _, over = await one.admit(plan, pico=40)
        assert isinstance(over, Over)
        assert seen(one.store) == [(20, 0, 1)]
        other.settle(plan, need, found, Spent(tokens=1, pico=50))
        assert seen(other.store) == [(70, 0, 0)]


async def test_a_budget_that_is_spent_is_seen_by_who_comes_too_late(redis_url: str) -> None:
    """A worker whose first call of a budget is refused shows it as used up, and the refusal."""
    plan = plan_of(budgets=(Budget(pico=100),))
    async with hands(redis_url) as one, hands(redis_url) as other:
        need, found = await one.admit(plan, pico=100)
        assert isinstance(found, Admitted)
        one.settle(plan, need, found, Spent(tokens=1, pico=100))
        await one.sent()
        _, over = await other.admit(plan, pico=1)
        assert isinstance(over, Over)
        assert seen(other.store) == [(100, 0, 1)]


def seen(store: RedisStore) -> list[tuple[int, int, int]]:
    """Give what is shown of each budget: spent, reserved, calls refused."""
    shown = PurseWatch().look(store.book, time.monotonic_ns(), time.time_ns())
    return [(used.spent, used.reserved, used.refused) for used in shown]
