"""A steady load of calls from many clients, each remembering exactly what it saw."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.rig import Script, checkers, write_script

CALL_SECONDS_MAX = 10.0
"""A client's patience. A call that is not over by then counts as failed."""


PRICES = [
    {
        "provider": "openai",
        "model": "fake-*",
        "input_usd_per_million": 1,
        "output_usd_per_million": 2,
    }
]
"""Of every model that is asked for."""


REPEATED = 0.5
"""Share of the calls that are no streams whose head is the same each time, but for its trace: the
relay knows it, and takes them the plain way."""


@dataclass(slots=True)
class Seen:
    """What a client saw of one call."""

    number: int
    stream: bool
    call_id: str | None = None
    status: int | None = None
    whole: bool = False
    """The answer was read to its end: for a stream, with its `[DONE]`."""
    error: str | None = None
    seconds: float = 0.0


class Load:
    """Clients that call one after the other, until told to stop. Runs in a thread of its own."""

    def __init__(
        self, url: str, *, clients: int, pause_seconds: float, seed: int, scripted: float = 1.0
    ) -> None:
        """Make it; a share `scripted` of calls says itself how it is to be answered, in time and
        whole, and the others take what the upstream was told.
        """
        self._url = f"{url}/v1/chat/completions"
        self._clients = clients
        self._pause_seconds = pause_seconds
        self._random = random.Random(seed)
        self._scripted = scripted
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self.seen: list[Seen] = []

    def start(self) -> None:
        """Begin to call."""
        self._thread.start()

    def stop(self) -> list[Seen]:
        """Let every client finish the call it is in; give all that was seen."""
        self._stop.set()
        self._thread.join(CALL_SECONDS_MAX * 2)
        assert not self._thread.is_alive(), "a client hangs"
        return self.seen

    async def _main(self) -> None:
        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS_MAX)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            await asyncio.gather(*(self._client(session) for _ in range(self._clients)))

    async def _client(self, session: aiohttp.ClientSession) -> None:
        while not self._stop.is_set():
            seen = Seen(len(self.seen), self._random.random() < 0.6)
            self.seen.append(seen)
            started = time.monotonic()
            try:
                await self._call(session, seen)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                seen.error = type(error).__name__
            seen.seconds = time.monotonic() - started
            await asyncio.sleep(self._pause_seconds)

    async def _call(self, session: aiohttp.ClientSession, seen: Seen) -> None:
        tokens = self._random.randint(3, 12)
        pause = self._random.choice((0.0, 0.005, 0.02))
        script = Script(tokens=tokens, delta_seconds=pause, first_byte_seconds=pause)
        body: dict[str, Any] = {
            "model": "fake-large",
            "messages": [{"role": "user", "content": f"Number {seen.number}"}],
            "stream": seen.stream,
        }
        headers = {
            "x-taximeter-user": f"user-{seen.number % 7}",
            "x-taximeter-tags": f"n={seen.number}",
        }
        if self._random.random() < self._scripted:
            headers["x-rig"] = write_script(script)
        if not seen.stream and self._random.random() < REPEATED:
            headers = {
                "x-rig": write_script(Script(tokens=5, head_waits=True)),
                "traceparent": checkers.trace_of(seen.number),
            }
        async with session.post(self._url, json=body, headers=headers) as answer:
            seen.call_id = answer.headers.get("x-taximeter-call-id")
            seen.status = answer.status
            text = await answer.read()
            seen.whole = answer.status == 200 and (
                not seen.stream or text.endswith(b"data: [DONE]\n\n")
            )
