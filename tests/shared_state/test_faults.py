"""What happens to calls, slots and budgets when Redis is slow, gone, deaf or has lost all."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from taximeter.admission import Admitted, Budget, Limits, Over, Plan, Spent
from taximeter.shared_state import Scripts
from tests.relay.bench import Line as UpstreamLine
from tests.relay.bench import bench
from tests.relay.test_admission import answer, ask, fetch
from tests.rig.chaos import Chaos, chaos
from tests.shared_state.hands import Hands, hands, plan_of, policy_of, until, worker

DEADLINE_SECONDS = 0.1
SLACK_SECONDS = 2.0
"""What a busy machine may add."""


@pytest.fixture
async def bad_line(redis_url: str) -> AsyncIterator[Chaos]:
    """A line that can be broken, to this test's database."""
    async with chaos(urlsplit(redis_url).port or 0) as made:
        yield made


def through(line: Chaos, redis_url: str) -> str:
    """Give the URL of the test's database by way of the line."""
    return urlsplit(redis_url)._replace(netloc=f"127.0.0.1:{line.port}").geturl()


async def spent_of(redis_url: str) -> int:
    """Give what Redis has as spent, all in all."""
    async with Redis.from_url(redis_url) as redis:
        found = [int(await redis.hget(key, "s") or 0) async for key in redis.scan_iter("t:purse*")]
        return sum(found)


async def slots_of(redis_url: str) -> int:
    """Give how many slots Redis has as taken."""
    async with Redis.from_url(redis_url) as redis:
        total = 0
        async for key in redis.scan_iter("t:slots*"):
            fields: Mapping[Any, Any] = await redis.hgetall(key)
            total += sum(int(value) for name, value in fields.items() if name.startswith(b"n:"))
        return total


async def timed_admit(each: Hands, plan: Plan, pico: int = 0) -> tuple[float, object]:
    """Ask for a call; give how long that took, and what came of it."""
    began = time.monotonic()
    _, found = await each.admit(plan, pico=pico)
    return time.monotonic() - began, found


@pytest.mark.alone
async def test_a_slow_redis_costs_a_call_its_deadline_and_then_nothing(
    redis_url: str, bad_line: Chaos
) -> None:
    """D10: answers kept back for 30 s: those who wait go on at the deadline, others at once."""
    plan = plan_of(upstream=Limits(concurrency=10))
    url = through(bad_line, redis_url)
    deadline_seconds = 0.5
    async with hands(url, share=0.5, deadline_seconds=deadline_seconds) as each:
        bad_line.down.latency_seconds = 30.0
        first = await asyncio.gather(*(timed_admit(each, plan) for _ in range(3)))
        assert all(seconds < deadline_seconds + SLACK_SECONDS for seconds, _ in first)
        assert each.store.stats.is_local
        assert each.store.stats.outages == 1
        for _ in range(2):
            seconds, found = await timed_admit(each, plan)
            assert seconds < deadline_seconds
            assert isinstance(found, Admitted)
            assert found.taken
        _, found = await each.admit(plan)
        assert isinstance(found, Admitted)
        assert not found.taken  # five are this worker's share of ten


async def test_without_redis_from_the_start_calls_go_by_their_share(redis_url: str) -> None:
    """D10: a worker starts, and relays, with nobody there to count."""
    plan = plan_of(upstream=Limits(concurrency=4), budgets=(Budget(pico=100),))
    began = time.monotonic()
    async with hands("redis://127.0.0.1:9/0", share=0.5, is_up=False) as each:
        assert time.monotonic() - began < 2.0
        _, found = await each.admit(plan, pico=30)
        assert isinstance(found, Admitted)
        assert found.taken
        _, over = await each.admit(plan, pico=30)
        assert isinstance(over, Over)  # half of the budget is this worker's share


async def test_what_was_spent_in_an_outage_is_booked_once_it_is_over(
    redis_url: str, bad_line: Chaos
) -> None:
    """D10, O5: a call that began before, and one that began in it, both count for all others."""
    plan = plan_of(upstream=Limits(concurrency=4), budgets=(Budget(pico=1000),))
    url = through(bad_line, redis_url)
    async with hands(url, share=0.5) as each, hands(redis_url) as other:
        before, found_before = await each.admit(plan, pico=100)
        bad_line.cut()
        await until(lambda: each.store.stats.is_local)
        during, found_during = await each.admit(plan, pico=100)
        assert isinstance(found_before, Admitted)
        assert isinstance(found_during, Admitted)
        each.settle(plan, before, found_before, Spent(tokens=1, pico=11))
        each.settle(plan, during, found_during, Spent(tokens=1, pico=22))
        bad_line.mend()
        await until(lambda: not each.store.stats.is_local)
        await each.sent()
        assert await spent_of(redis_url) == 33
        assert await slots_of(redis_url) == 0
        _, found = await other.admit(plan, pico=967)
        assert isinstance(found, Admitted)
        _, found = await other.admit(plan, pico=1)
        assert isinstance(found, Over)


async def test_a_booking_nobody_answered_counts_once(redis_url: str, bad_line: Chaos) -> None:
    """O5: Redis books and its answer is lost: the booking is sent again and not booked again."""
    plan = plan_of(budgets=(Budget(pico=1000),))
    url = through(bad_line, redis_url)
    async with hands(url, deadline_seconds=DEADLINE_SECONDS) as each:
        need, found = await each.admit(plan, pico=100)
        assert isinstance(found, Admitted)
        bad_line.down.timeout_seconds = 0.0
        each.settle(plan, need, found, Spent(tokens=1, pico=70))
        await until(lambda: each.store.stats.is_local)
        assert await spent_of(redis_url) == 70
        bad_line.mend()
        await until(lambda: not each.store.stats.is_local)
        await each.sent()
        assert await spent_of(redis_url) == 70


async def test_what_was_taken_unheard_comes_back(redis_url: str, bad_line: Chaos) -> None:
    """O7: Redis gives a slot and a reservation and its answer is lost: the next beat says so."""
    plan = plan_of(upstream=Limits(concurrency=1), budgets=(Budget(pico=100),))
    url = through(bad_line, redis_url)
    async with hands(url, deadline_seconds=DEADLINE_SECONDS, share=1.0) as each:
        bad_line.down.timeout_seconds = 0.0
        need, found = await each.admit(plan, pico=100)
        assert isinstance(found, Admitted)
        each.settle(plan, need, found, Spent(sent=False))  # decided and ended without Redis
        assert await slots_of(redis_url) == 1
        bad_line.mend()
        await until(lambda: not each.store.stats.is_local)
        await each.sent()
        assert await slots_of(redis_url) == 0
        _, found = await each.admit(plan, pico=100)
        assert isinstance(found, Admitted)
        assert found.taken


async def test_many_at_once_near_a_cap_pass_it_by_nothing(redis_url: str) -> None:
    """O5: 64 calls at once by two workers, room for 10: ten go, and what is spent is the cap."""
    plan = plan_of(budgets=(Budget(pico=1000),))
    async with hands(redis_url) as one, hands(redis_url) as other:
        asked = [(one, other)[number % 2] for number in range(64)]
        got = await asyncio.gather(*(each.admit(plan, pico=100) for each in asked))
        went = [
            (each, need, found)
            for each, (need, found) in zip(asked, got, strict=True)
            if isinstance(found, Admitted)
        ]
        assert len(went) == 10
        for each, need, found in went:
            each.settle(plan, need, found, Spent(tokens=1, pico=100))
        await one.sent()
        await other.sent()
        assert await spent_of(redis_url) == 1000


async def test_a_flapping_redis_loses_no_call_and_no_money(redis_url: str, bad_line: Chaos) -> None:
    """D10: up and down many times: every call is answered, and every sum is booked once."""
    plan = plan_of(upstream=Limits(concurrency=1000), budgets=(Budget(pico=10**9),))
    url = through(bad_line, redis_url)
    async with hands(url, deadline_seconds=DEADLINE_SECONDS) as each:
        done = False

        async def flap() -> None:
            while not done:
                await asyncio.sleep(0.06)
                bad_line.down.timeout_seconds = 0.0
                await asyncio.sleep(0.03)
                bad_line.cut()
                await asyncio.sleep(0.03)
                bad_line.mend()
                await asyncio.sleep(0.3)

        async def call(number: int) -> int:
            await asyncio.sleep(number * 0.004)
            need, found = await each.admit(plan, pico=1000)
            assert isinstance(found, Admitted)
            await asyncio.sleep(0.02)
            each.settle(plan, need, found, Spent(tokens=1, pico=number))
            return number

        flapping = asyncio.get_running_loop().create_task(flap())
        spent = sum(await asyncio.gather(*(call(number) for number in range(400))))
        done = True
        await flapping
        await until(lambda: not each.store.stats.is_local)
        await each.sent()
        assert each.store.stats.outages >= 2
        assert await spent_of(redis_url) == spent
        assert await slots_of(redis_url) == 0


async def test_a_redis_that_has_lost_all_is_told_anew(redis_url: str) -> None:
    """O7: after a flush, the slots in use are there again within a beat, and scripts are loaded."""
    plan = plan_of(upstream=Limits(concurrency=2))
    async with hands(redis_url, beat_seconds=0.1) as each:
        await each.admit(plan)
        await each.admit(plan)
        async with Redis.from_url(redis_url) as redis:
            await redis.flushdb()
            await redis.script_flush()

        async def told() -> None:
            while await slots_of(redis_url) != 2:
                await asyncio.sleep(0.02)

        await asyncio.wait_for(told(), 5)
        _, found = await each.admit(plan)
        assert isinstance(found, Admitted)
        assert not found.taken
        assert each.store.stats.outages == 0


@asynccontextmanager
async def interrupted(redis_url: str, between: Callable[[], Awaitable[None]]) -> AsyncIterator[str]:
    """Give a URL through which `between` is done when Redis has read one of two steps."""
    port = urlsplit(redis_url).port
    done = False

    async def talk(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        nonlocal done
        server, to_server = await asyncio.open_connection("127.0.0.1", port)
        answered = asyncio.Event()

        async def answer() -> None:
            while data := await server.read(65536):
                answered.set()
                to_client.write(data)

        answering = asyncio.create_task(answer())
        while data := await client.read(65536):
            if data.count(b"EVALSHA") == 2 and not done:
                place = data.rindex(b"*", 0, data.rindex(b"EVALSHA"))
                answered.clear()
                to_server.write(data[:place])
                await answered.wait()
                await between()
                done, data = True, data[place:]
            to_server.write(data)
        to_server.close()
        await answering
        to_client.close()

    proxy = await asyncio.start_server(talk, "127.0.0.1")
    try:
        at = proxy.sockets[0].getsockname()[1]
        yield urlsplit(redis_url)._replace(netloc=f"127.0.0.1:{at}").geturl()
        assert done
    finally:
        proxy.close()
        await proxy.wait_closed()


@pytest.mark.parametrize("comes", ["scripts", "room", "memory's end"])
async def test_a_redis_that_changes_its_mind_passes_no_booking_over(
    redis_url: str, comes: str
) -> None:
    """D10: when Redis can do a batch's later booking and not the earlier, both count in the end."""
    plan = plan_of(budgets=(Budget(tokens=1000),))
    async with Redis.from_url(redis_url) as redis:

        async def change() -> None:
            if comes == "scripts":  # another worker has missed them too
                for script in Scripts.of().all:
                    await redis.script_load(script.text)
            else:
                await redis.config_set("maxmemory", "0" if comes == "room" else "1")

        try:
            async with interrupted(redis_url, change) as url, hands(url) as each:
                calls = [await each.admit(plan, tokens=0) for _ in range(2)]
                if comes == "scripts":
                    await redis.script_flush()
                elif comes == "room":
                    await redis.config_set("maxmemory", "1")
                for (need, found), tokens in zip(calls, (100, 50), strict=True):
                    assert isinstance(found, Admitted)
                    each.settle(plan, need, found, Spent(tokens=tokens, output_tokens=1))
                await each.sent()
                await redis.config_set("maxmemory", "0")
                await until(lambda: not each.store.stats.is_local)
                await each.sent()
                assert await spent_of(redis_url) == 150
                assert each.store.stats.bookings_lost == 0
        finally:
            await redis.config_set("maxmemory", "0")


async def test_a_redis_that_refuses_to_write_is_as_good_as_gone(redis_url: str) -> None:
    """D10: out of memory, read-only: an error is an answer that says nothing of the call."""
    plan = plan_of(upstream=Limits(concurrency=2))
    async with Redis.from_url(redis_url) as redis, hands(redis_url) as each:
        await redis.config_set("maxmemory", "1")
        try:
            _, found = await each.admit(plan)
            assert isinstance(found, Admitted)
            assert found.taken
            assert each.store.stats.is_local
        finally:
            await redis.config_set("maxmemory", "0")
        await until(lambda: not each.store.stats.is_local)


async def test_absurd_amounts_stop_nobody(redis_url: str) -> None:
    """O5: sums past 64 bits stay at the most there is; whoever comes next is decided about."""
    plan = plan_of(budgets=(Budget(tokens=1000, hard=False),))
    limited = plan_of(limits=Limits(tokens_per_minute=6000))
    async with hands(redis_url, beat_seconds=0.05) as each:
        need, found = await each.admit(limited)
        assert isinstance(found, Admitted)
        assert found.taken
        each.settle(limited, need, found, Spent(tokens=10**40))
        for _ in range(3):
            need, found = await each.admit(plan, tokens=10**40)
            assert isinstance(found, Admitted)
            each.settle(plan, need, found, Spent(tokens=None))
        need, found = await each.admit(plan, tokens=10)
        assert isinstance(found, Admitted)
        async with Redis.from_url(redis_url) as redis:
            (key,) = [key async for key in redis.scan_iter("t:purse*")]
            await redis.hset(key, "s", str(9_223_372_036_854_775_000))
        each.settle(plan, need, found, Spent(tokens=10**40))
        await each.sent()
        other = plan_of(user="v", budgets=(Budget(tokens=1000),))
        _, found = await each.admit(other)
        assert isinstance(found, Admitted)
        assert each.store.stats.outages == 0


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_no_slot_is_passed_or_lost(redis_url: str, seed: int) -> None:
    """O7: calls come, leave while they are asked about, and end: never more go than may."""
    chance = random.Random(seed)
    policy = policy_of(upstream=Limits(concurrency=5), limits=Limits(concurrency=3))
    async with worker(redis_url, policy) as one, worker(redis_url, policy) as other:
        for _ in range(250):
            each = chance.choice((one, other))
            turn = chance.random()
            if turn < 0.45:
                each.ask(chance.choice("abc"))
            elif turn < 0.6:
                each.leave_one(chance)
            elif turn < 0.85 and each.going:
                each.end_one()
            else:
                await asyncio.sleep(chance.choice((0, 0.002, 0.01)))
            assert len(one.going) + len(other.going) <= 5
        async with asyncio.timeout(10):
            while one.under_way or other.under_way:
                for each in (one, other):
                    if each.going:
                        each.end_one()
                await asyncio.sleep(0.002)
        async with asyncio.timeout(5):
            while await slots_of(redis_url):
                await asyncio.sleep(0.01)


HOLDER = """
import asyncio, sys
from taximeter.admission import Budget, Limits
from tests.shared_state.hands import hands, plan_of

async def hold():
    plan = plan_of(upstream=Limits(concurrency=3), budgets=(Budget(pico=100),))
    async with hands(sys.argv[1], lease_seconds=0.6, beat_seconds=0.1) as each:
        for _ in range(3):
            await each.admit(plan, pico=30)
        print("held", flush=True)
        await asyncio.sleep(60)

asyncio.run(hold())
"""


async def test_what_a_killed_worker_held_lapses(redis_url: str) -> None:
    """O5, O7: after `kill -9` its slots and reservations are there again within the lease."""
    plan = plan_of(upstream=Limits(concurrency=3), budgets=(Budget(pico=100),))
    holder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLDER, redis_url),
        cwd=Path(__file__).parents[2],
        # It is to be the very Taximeter that is tested here, wherever that was found.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert await asyncio.wait_for(holder.stdout.readline(), 20) == b"held\n"
        async with hands(redis_url) as each:
            await asyncio.sleep(0.8)  # longer than the lease: it is renewed
            _, found = await each.admit(plan, pico=30)
            assert isinstance(found, Over)
            holder.send_signal(signal.SIGKILL)
            await holder.wait()
            killed = time.monotonic()
            while True:
                _, found = await each.admit(plan, pico=100)
                if isinstance(found, Admitted) and found.taken:
                    break
                assert time.monotonic() - killed < 0.6 + SLACK_SECONDS
                await asyncio.sleep(0.02)
    finally:
        if holder.returncode is None:
            holder.kill()
            await holder.wait()


async def test_no_client_sees_that_redis_is_gone(
    tmp_path: Path, redis_url: str, bad_line: Chaos, caplog: pytest.LogCaptureFixture
) -> None:
    """D10: calls go on while Redis hangs; the log says so once, without an address."""

    async def upstream(line: UpstreamLine) -> None:
        while True:
            await line.request()
            await line.say(answer())

    url = through(bad_line, redis_url)
    said: dict[str, Any] = {
        "upstream": {"limits": {"concurrency": 4, "requests_per_minute": 6000}},
        "state": url,
        "redis": {"deadline_milliseconds": 100, "local_share": 0.5},
    }
    async with bench(tmp_path, upstream, **said) as made:
        assert (await fetch(made, ask()))[0] == 200
        bad_line.down.latency_seconds = 30.0
        got = await asyncio.gather(*(fetch(made, ask()) for _ in range(30)))
        assert [status for status, _, _ in got] == [200] * 30
        assert made.worker.shared is not None
        assert made.worker.shared.stats.is_local
        bad_line.mend()
        shared = made.worker.shared
        await until(lambda: not shared.stats.is_local)
        assert (await fetch(made, ask()))[0] == 200
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert "by its own share" in errors[0]
    assert "127.0.0.1" not in errors[0]
