"""Many calls at once, as users make them, and what became of each."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.rig._script import Script, write_script

PRICES = [
    {
        "provider": "openai",
        "model": "fake-*",
        "input_usd_per_million": 1,
        "output_usd_per_million": 2,
    }
]
CALL_SECONDS_MAX = 20.0
INPUT_TOKENS, OUTPUT_TOKENS = 10, 20
SAID = json.dumps(
    {
        "id": "x",
        "model": "fake-1",
        "usage": {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS},
    }
)
"""An answer of known size: its input is less than what a request's length makes of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One call."""

    user: str
    script: Script | None = None
    body: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Got:
    """What became of it. `status` is 0 if there was no answer."""

    user: str
    status: int
    seconds: float
    fields: dict[str, str]
    body: bytes

    @property
    def code(self) -> str | None:
        """The error's code, of an answer that has one."""
        try:
            return str(json.loads(self.body)["error"]["code"])
        except (ValueError, KeyError, TypeError):
            return None

    def stage_seconds(self, name: str) -> float:
        """Give a stage as the answer's `Server-Timing` has it."""
        found = re.search(rf"{name};dur=([0-9.]+)", self.fields.get("server-timing", ""))
        assert found is not None, self.fields
        return float(found[1]) / 1000


async def one(session: aiohttp.ClientSession, url: str, ask: Ask) -> Got:
    """Make one call, to its last byte."""
    fields = {"x-taximeter-user": ask.user, "authorization": "Bearer sk-test", **ask.fields}
    if ask.script is not None:
        fields["x-rig"] = write_script(ask.script)
    body = {"model": "fake-1", "messages": [{"role": "user", "content": "hello"}], **ask.body}
    began = time.monotonic()
    status, told, data = 0, {}, b""
    try:
        async with session.post(f"{url}/v1/chat/completions", json=body, headers=fields) as answer:
            status, told = answer.status, {k.lower(): v for k, v in answer.headers.items()}
            data = await answer.read()
    except (aiohttp.ClientError, TimeoutError):
        pass  # a status of 0, or a body that is not whole, says so
    return Got(ask.user, status, time.monotonic() - began, told, data)


def session() -> aiohttp.ClientSession:
    """Give a client that opens as many connections as there are calls."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=CALL_SECONDS_MAX),
    )


async def at_once(url: str, asks: Iterable[Ask]) -> list[Got]:
    """Make calls all at once."""
    async with session() as client:
        return await asyncio.gather(*(one(client, url, ask) for ask in asks))


def spent(rows: list[dict[str, Any]], column: str | None = None) -> int:
    """Add up what rows of the ledger came to: a column, or tokens."""
    if column is not None:
        return sum(row[column] or 0 for row in rows)
    return sum((row["input_tokens"] or 0) + (row["output_tokens"] or 0) for row in rows)
