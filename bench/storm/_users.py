"""The users of the storm: the `openai` package as it comes, two retries of its own.

    python -m bench.storm._users '{"port": 8400, "path": "/v1", ...}'

prints what they met as JSON. Each user makes one call after the other, streamed, with a breath in
between. At the end no new ones are begun, and those under way are waited for: a call that still
waits somewhere has made no attempt yet, and would make the way look better than it is.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
import openai
import uvloop

BREATH_SECONDS = (0.05, 0.15)
CALL_SECONDS_MAX = 60.0
SDK_RETRIES = 2


class Job(msgspec.Struct, kw_only=True, frozen=True):
    """What the users do."""

    port: int
    users: int = 100
    warm_up_seconds: float = 4.0
    """Left out of all figures by the second; counts of calls and attempts are of the whole run."""
    seconds: float = 20.0
    seed: int = 1


@dataclass
class Met:
    """What they met."""

    begin: float = 0.0
    """Monotonic seconds at which the figures begin, and end."""
    end: float = 0.0
    calls: int = 0
    failed: int = 0
    refused_429: int = 0
    """Answers of 429 that came to a user's client, whatever its retries made of them."""
    errors: dict[str, int] = field(default_factory=dict)
    first_token_seconds: list[float] = field(default_factory=list)
    """Of calls that ended well between `begin` and `end`: from the call to its first token."""
    completed_by_user: list[int] = field(default_factory=list)


class Crowd:
    """All users."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.met = Met(completed_by_user=[0] * job.users)

    async def run(self) -> Met:
        """Let them loose."""
        job, met = self._job, self.met
        met.begin = time.monotonic() + job.warm_up_seconds
        met.end = met.begin + job.seconds
        http = openai.DefaultAsyncHttpxClient(event_hooks={"response": [self._heard]})
        async with (
            openai.AsyncOpenAI(
                base_url=f"http://127.0.0.1:{job.port}/v1",
                api_key="sk-storm",
                max_retries=SDK_RETRIES,
                timeout=CALL_SECONDS_MAX,
                http_client=http,
            ) as client,
            asyncio.TaskGroup() as users,
        ):
            for number in range(job.users):
                users.create_task(self._use(client, number))
        return met

    async def _heard(self, response: Any) -> None:
        if response.status_code == 429:
            self.met.refused_429 += 1

    async def _use(self, client: openai.AsyncOpenAI, number: int) -> None:
        chance = random.Random(f"{self._job.seed}/{number}")
        await asyncio.sleep(chance.uniform(0, 0.2))
        while time.monotonic() < self.met.end:
            await self._call(client, number)
            await asyncio.sleep(chance.uniform(*BREATH_SECONDS))

    async def _call(self, client: openai.AsyncOpenAI, number: int) -> None:
        met, began = self.met, time.monotonic()
        met.calls += 1
        first = None
        is_whole = False
        try:
            stream = await client.chat.completions.create(
                model="storm",
                messages=[{"role": "user", "content": "How far is it to the harbour?"}],
                max_tokens=50,
                stream=True,
                extra_headers={"x-taximeter-user": f"user-{number}"},
            )
            async for chunk in stream:
                if first is None and chunk.choices and chunk.choices[0].delta.content:
                    first = time.monotonic() - began
                is_whole |= bool(chunk.choices) and chunk.choices[0].finish_reason is not None
        except openai.APIError as error:
            code = f"{type(error).__name__} {getattr(error, 'code', None) or ''}".strip()
            met.errors[code] = met.errors.get(code, 0) + 1
        if first is None or not is_whole:
            met.failed += 1
        elif met.begin <= time.monotonic() < met.end:
            met.first_token_seconds.append(first)
            met.completed_by_user[number] += 1


if __name__ == "__main__":
    described = msgspec.json.decode(sys.argv[1], type=Job)
    print(json.dumps(asdict(uvloop.run(Crowd(described).run()))))
