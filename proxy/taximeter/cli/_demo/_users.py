"""Simulated users: each calls now and then, reads its answer, and sometimes leaves early."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import aiohttp

from taximeter.cli._demo._models import ANTHROPIC_MODEL

IN_FLIGHT_MAX = 64
"""Calls under way at a time; a user whose turn comes beyond that sits it out."""
LEAVES_EARLY = 0.04


@dataclass(frozen=True)
class User:
    """One simulated user."""

    name: str
    team: str
    weight: float
    """Share of all calls."""
    models: tuple[str, ...]


USERS = (
    User("ada", "search", 5, ("demo-small", "demo-small", "demo-large")),
    User("grace", "search", 3, ("demo-large",)),
    User("linus", "support", 3, ("demo-small",)),
    User("margaret", "support", 2, (ANTHROPIC_MODEL, "demo-small")),
    User("barbara", "research", 2, (ANTHROPIC_MODEL, "demo-large")),
    User("edsger", "research", 1, ("demo-small",)),
)
_QUESTIONS = (
    "Where did the time go?",
    "Summarize this ticket for the next shift, with what was tried and what is left to try.",
    "Write the release notes for these changes, in plain sentences, for people who do not code.",
    "Which of these three queries is the slow one, and why? " * 6,
)


async def call_for_ever(base: str, rate: float, seed: int) -> None:
    """Make calls to a Taximeter at `base`, `rate` a second on average, until cancelled."""
    chance = random.Random(seed)
    weights = [user.weight for user in USERS]
    under_way: set[asyncio.Task[None]] = set()
    async with (
        aiohttp.ClientSession(base, cookie_jar=aiohttp.DummyCookieJar()) as session,
        asyncio.TaskGroup() as group,
    ):
        while True:
            await asyncio.sleep(chance.expovariate(rate))
            if len(under_way) >= IN_FLIGHT_MAX:
                continue
            user = chance.choices(USERS, weights)[0]
            task = group.create_task(_call(session, user, random.Random(chance.random())))
            under_way.add(task)
            task.add_done_callback(under_way.discard)


async def _call(session: aiohttp.ClientSession, user: User, chance: random.Random) -> None:
    model = chance.choice(user.models)
    messages = [{"role": "user", "content": chance.choice(_QUESTIONS)}]
    body: dict[str, Any] = {"model": model, "messages": messages, "stream": chance.random() < 0.75}
    path = "/v1/chat/completions"
    if model == ANTHROPIC_MODEL:
        path = "/v1/messages"
        body["max_tokens"] = 1000
    headers = {
        "Authorization": "Bearer demo",
        "x-taximeter-user": user.name,
        "x-taximeter-team": user.team,
    }
    events_max = chance.randint(3, 10) if chance.random() < LEAVES_EARLY else None
    try:
        async with session.post(path, json=body, headers=headers) as response:
            async for line in response.content:
                if events_max is not None and line.startswith(b"data:"):
                    events_max -= 1
                    if events_max == 0:
                        response.close()
                        return
    except (aiohttp.ClientError, ConnectionError, TimeoutError):
        pass  # answers that break off are part of the play; the ledger shows them
