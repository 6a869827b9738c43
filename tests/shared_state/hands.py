"""A worker's share of the shared counts, driven by hand: a store, its line, and what it is told."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from taximeter.admission import (
    PENDING,
    Admission,
    Admitted,
    Budget,
    Go,
    Hold,
    Limits,
    Need,
    Over,
    Plan,
    Policy,
    Queue,
    Refuse,
    Request,
    Short,
    Spent,
    Ticket,
    Tier,
    Upstream,
    Wait,
    resolve,
)
from taximeter.shared_state import Line, RedisStore, Scripts

DEADLINE_SECONDS = 1.0
WAIT_SECONDS_MAX = 5.0
NO_LIMITS = Limits()
LONG_QUEUE = Queue()
USUAL = Spent(tokens=10, output_tokens=9, pico=10)


class Hands:
    """Asks a store, and waits for what it says."""

    def __init__(self, store: RedisStore, line: Line) -> None:
        self.store = store
        self.line = line

    async def admit(
        self,
        plan: Plan,
        *,
        tokens: int = 10,
        input_tokens: int = 1,
        pico: int | None = 0,
        passing: bool = True,
        now_ns: int | None = None,
        wall_ns: int | None = None,
    ) -> tuple[Need, Admitted | Over]:
        """Ask for a call; give what it is to be settled with, and the answer."""
        need = Ticket(plan, None, input_tokens, tokens, 1, 0)  # type: ignore[arg-type]
        now = time.monotonic_ns() if now_ns is None else now_ns
        wall = time.time_ns() if wall_ns is None else wall_ns
        found = self.store.admit(plan, need, tokens, pico, passing, now, wall)
        if found is PENDING:
            found = await self._answer(need)
        assert isinstance(found, Admitted | Over)
        return need, found

    async def take(self, plan: Plan, need: Need, now_ns: int | None = None) -> Short | None:
        """Ask for the limits of a call that has waited."""
        now = time.monotonic_ns() if now_ns is None else now_ns
        found = self.store.take(plan, need, now)
        if found is PENDING:
            found = await self._answer(need)
        assert found is None or isinstance(found, Short)
        return found

    async def sent(self) -> None:
        """Wait until Redis has heard all."""
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while self.store.has_work or self.line.is_busy:
                await asyncio.sleep(0.001)

    async def _answer(self, need: Need) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        _ANSWERS[need] = answer
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            return await answer

    def settle(
        self, plan: Plan, need: Need, found: Admitted, spent: Spent, now_ns: int | None = None
    ) -> None:
        """End a call."""
        now = time.monotonic_ns() if now_ns is None else now_ns
        self.store.settle(plan, need, found.hold, spent, found.taken, now)


_ANSWERS: dict[Need, asyncio.Future[Any]] = {}


def _tell(ticket: Ticket, found: Any) -> None:
    _ANSWERS.pop(ticket).set_result(found)


@asynccontextmanager
async def hands(
    url: str,
    *,
    share: float = 0.5,
    deadline_seconds: float = DEADLINE_SECONDS,
    scripts: Scripts | None = None,
    lease_seconds: float = 10.0,
    beat_seconds: float = 2.0,
    is_up: bool = True,
) -> AsyncIterator[Hands]:
    """Give a store with a line to Redis."""
    store = RedisStore(share)
    store.tell = _tell
    line = Line(
        url,
        store,
        prefix="t",
        deadline_seconds=deadline_seconds,
        lease_seconds=lease_seconds,
        beat_seconds=beat_seconds,
        scripts=scripts,
    )
    await line.begin()
    assert store.stats.is_local is not is_up
    try:
        yield Hands(store, line)
    finally:
        await line.end()


def plan_of(
    *,
    user: str = "u",
    limits: Limits = NO_LIMITS,
    upstream: Limits = NO_LIMITS,
    budgets: tuple[Budget, ...] = (),
) -> Plan:
    """Give the plan of one user's calls."""
    policy = policy_of(limits=limits, upstream=upstream, budgets=budgets)
    return resolve(policy, Request(upstream="up", user=user, input_tokens=0))


def policy_of(
    *,
    limits: Limits = NO_LIMITS,
    upstream: Limits = NO_LIMITS,
    budgets: tuple[Budget, ...] = (),
    queue: Queue = LONG_QUEUE,
) -> Policy:
    """Give a policy with one upstream and one tier."""
    return Policy(
        upstreams={"up": Upstream(limits=upstream, queue=queue)},
        tiers={"default": Tier(limits=limits, budgets=budgets)},
        default_tier="default",
    )


async def until(condition: Callable[[], bool], seconds: float = WAIT_SECONDS_MAX) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


class Worker:
    """A whole admission with shared counts, as a relay worker drives it."""

    def __init__(self, policy: Policy, store: RedisStore) -> None:
        self.admission = Admission(policy, lambda: 0.5, store)
        self.store = store
        self.going: list[Ticket] = []
        self.waiting: list[Ticket] = []
        self.refused: list[Refuse] = []
        self.waits_ns: list[int] = []
        store.tell = self._tell

    def _tell(self, ticket: Ticket, found: Admitted | Over | Short | None) -> None:
        self._take_in(self.admission.answered(ticket, found, time.monotonic_ns()))

    def _take_in(self, effects: list[Go | Refuse]) -> None:
        for effect in effects:
            if effect.ticket in self.waiting:
                self.waiting.remove(effect.ticket)
            if isinstance(effect, Go):
                self.going.append(effect.ticket)
                self.waits_ns.append(effect.waited_ns)
            else:
                self.refused.append(effect)

    def ask(self, user: str = "u", tokens: int = 10) -> None:
        """Let a call come."""
        request = Request(
            upstream="up",
            user=user,
            input_tokens=1,
            output_tokens_max=tokens - 1,
            input_pico=1,
            output_pico=1,
        )
        verdict = self.admission.arrive(request, time.monotonic_ns(), time.time_ns())
        if isinstance(verdict, Wait):
            self.waiting.append(verdict.ticket)
        else:
            self._take_in([verdict])

    def leave_one(self, chance: random.Random) -> None:
        """Let the client of a call leave that waits, or is asked about."""
        if self.waiting:
            ticket = self.waiting.pop(chance.randrange(len(self.waiting)))
            self._take_in(self.admission.leave(ticket, time.monotonic_ns()))

    @property
    def under_way(self) -> int:
        """Calls that wait or go."""
        return len(self.waiting) + len(self.going)

    def end_one(self, spent: Spent = USUAL) -> None:
        """End the call that has gone longest."""
        ticket = self.going.pop(0)
        self._take_in(self.admission.settle(ticket, spent, time.monotonic_ns()))

    def tick(self) -> None:
        """Let time go by."""
        self._take_in(self.admission.tick(time.monotonic_ns(), time.time_ns()))


@asynccontextmanager
async def worker(
    url: str,
    policy: Policy,
    *,
    share: float = 0.5,
    deadline_seconds: float = DEADLINE_SECONDS,
    lease_seconds: float = 10.0,
    beat_seconds: float = 2.0,
) -> AsyncIterator[Worker]:
    """Give a worker that ticks by itself."""
    store = RedisStore(share)
    made = Worker(policy, store)
    line = Line(
        url,
        store,
        prefix="t",
        deadline_seconds=deadline_seconds,
        lease_seconds=lease_seconds,
        beat_seconds=beat_seconds,
    )
    await line.begin()

    async def tick() -> None:
        while True:
            made.tick()
            await asyncio.sleep(0.005)

    ticking = asyncio.get_running_loop().create_task(tick())
    try:
        yield made
    finally:
        ticking.cancel()
        await asyncio.wait([ticking])
        await line.end()


__all__ = ["Hands", "Hold", "Worker", "hands", "plan_of", "policy_of", "until", "worker"]
