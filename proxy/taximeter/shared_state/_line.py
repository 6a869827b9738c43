"""The line to Redis: batches of steps, each answered within a deadline, or the line is down.

One connection, one batch under way at a time; what comes meanwhile makes the next one. A batch has
until the deadline of the call in it that has waited longest. When it is not answered by then the
line is *down*: every call that waits is decided by the store itself, at once, and so is every
call that comes, until Redis has shown that it answers in time again. Nothing is sent twice on the
chance that it was not heard, but for what counts once (see `_store`).

Trying again takes a new connection each time, a growing wait between tries, and no call waits for
it. An address, a user or a password have no way into what is logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from taximeter.shared_state._scripts import Script, Scripts
from taximeter.shared_state._steps import Ask, Opened, Raise, Settle, Step
from taximeter.shared_state._store import RedisStore

log = logging.getLogger("taximeter.shared_state")

BATCH_STEPS_MAX = 256
"""Some 5 ms of the server's time."""
LEASE_SECONDS = 10.0
"""How long what a worker held is kept for it when it no longer says so."""
BEAT_SECONDS = 2.0
CONNECT_SECONDS_MAX = 2.0
"""No call waits for it."""
BACKOFF_SECONDS_FIRST = 0.1
BACKOFF_SECONDS_MAX = 5.0
QUIET_SECONDS = 10.0
"""A line that goes up and down says so this often."""
BEGIN_SECONDS_MAX = 1.0
END_SECONDS_MAX = 1.0

_now = time.monotonic_ns
_TROUBLE = (RedisError, OSError, TimeoutError, EOFError, ValueError)
"""ValueError: what a client makes of an address that is none, or of an answer that is no answer."""


class Line:
    """Serves one store."""

    def __init__(
        self,
        url: str,
        store: RedisStore,
        *,
        prefix: str,
        deadline_seconds: float,
        lease_seconds: float = LEASE_SECONDS,
        beat_seconds: float = BEAT_SECONDS,
        scripts: Scripts | None = None,
    ) -> None:
        self._url = url
        self._store = store
        self._prefix = prefix + ":"
        self._deadline_seconds = deadline_seconds
        self._lease_us = int(lease_seconds * 1e6)
        self._beat_seconds = beat_seconds
        self._scripts = Scripts.of() if scripts is None else scripts
        self._work = asyncio.Event()
        self._is_up = asyncio.Event()
        self.is_busy = False
        """Whether a batch is under way."""
        self._ending = False
        self._task: asyncio.Task[None] | None = None
        self._said_seconds = -QUIET_SECONDS
        store.wake = self._work.set

    async def begin(self) -> None:
        """Begin; give Redis a moment, so that the first calls are asked of it too."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BEGIN_SECONDS_MAX):
                await self._is_up.wait()

    async def end(self) -> None:
        """Send what waits, if Redis takes it, and end."""
        self._ending = True
        self._work.set()
        if self._task is not None:
            _, late = await asyncio.wait([self._task], timeout=END_SECONDS_MAX)
            for task in late:
                task.cancel()
                await asyncio.wait([task])
        self._store.down((), _now())
        self._store.lose_bookings()
        if self._store.stats.bookings_lost:
            log.warning(
                "%d bookings of budgets did not reach Redis; the ledger has them.",
                self._store.stats.bookings_lost,
            )

    async def _run(self) -> None:
        wait = 0.0
        while not self._ending:
            client = self._client()
            try:
                await self._connect(client)
                wait = 0.0
                await self._serve(client)
            except _TROUBLE as trouble:
                self._has_failed(trouble)
            except Exception:
                # A fault of ours must not leave calls waiting for an answer that never comes.
                self._store.down((), _now())
                log.exception("The line to Redis has a fault; it is begun anew.")
            finally:
                self._is_up.clear()
                await _drop(client)
            if self._ending:
                return
            wait = min(max(BACKOFF_SECONDS_FIRST, wait * 2), BACKOFF_SECONDS_MAX)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait * random.uniform(0.5, 1.0)):
                    await self._until_ending()

    async def _until_ending(self) -> None:
        while not self._ending:
            self._work.clear()
            await self._work.wait()

    def _client(self) -> Redis:
        return Redis.from_url(
            self._url,
            max_connections=1,
            socket_connect_timeout=CONNECT_SECONDS_MAX,
            socket_timeout=CONNECT_SECONDS_MAX,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            client_name="taximeter",
        )

    async def _connect(self, client: Redis) -> None:
        """Make a line, see that it is fast enough, and put right what is believed there."""
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            await client.ping()
            for script in self._scripts.all:
                await client.script_load(script.text)
        async with asyncio.timeout(self._deadline_seconds):
            await client.ping()
        while steps := self._store.owed_steps():
            while steps:
                await self._exchange(client, steps[:BATCH_STEPS_MAX], steps[BATCH_STEPS_MAX:])
                del steps[:BATCH_STEPS_MAX]
        self._store.up()
        self._is_up.set()
        log.info("Limits and budgets are counted in Redis.")

    async def _serve(self, client: Redis) -> None:
        loop = asyncio.get_running_loop()
        beat_at = loop.time() + self._beat_seconds
        while True:
            if loop.time() >= beat_at:
                beat_at = loop.time() + self._beat_seconds
                for step in (*self._store.beats(), *self._store.opened(_now())):
                    await self._exchange(client, [step])
            if not self._store.has_work:
                if self._ending:
                    return
                self._work.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(beat_at):
                        await self._work.wait()
                continue
            await self._exchange(client, self._store.next_steps(BATCH_STEPS_MAX))

    async def _exchange(
        self, client: Redis, steps: Sequence[Step], behind: Sequence[Step] = ()
    ) -> None:
        """Send steps and take their answers in; those without one, and all behind, have failed."""
        store = self._store
        first_ns = min((step.asked_ns for step in steps if isinstance(step, Ask)), default=_now())
        waited = (_now() - first_ns) / 1e9
        self.is_busy = True
        left, failed = deque(steps), list[Step]()
        trouble: Exception | None = None
        try:
            async with asyncio.timeout(max(0.0, self._deadline_seconds - waited)):
                answers = await self._send(client, steps)
            store.stats.round_trips += 1
            for answer in answers:
                step = left.popleft()
                if isinstance(answer, Exception):
                    failed.append(step)
                    trouble = trouble or answer
                else:
                    store.done(step, answer, _now())
        finally:
            self.is_busy = False
            # However it ended, cancelled too: everyone who waits gets an answer.
            if failed or left:
                store.down([*failed, *left, *behind], _now())
        if trouble is not None:
            raise trouble

    async def _send(self, client: Redis, steps: Sequence[Step]) -> list[Any]:
        answers = await self._pipe(client, steps)
        unknown = [at for at, each in enumerate(answers) if isinstance(each, NoScriptError)]
        if unknown:
            # Redis was started anew, or told to forget scripts: nothing of these was done.
            for script in self._scripts.all:
                await client.script_load(script.text)
            again = await self._pipe(client, [steps[at] for at in unknown])
            for at, answer in zip(unknown, again, strict=True):
                answers[at] = answer
            self._store.renewed()
        return answers

    async def _pipe(self, client: Redis, steps: Sequence[Step]) -> list[Any]:
        # Between two commands of a pipeline Redis may come by a script, or by room to write. Were a
        # later booking made and an earlier one not, the earlier, sent again under its lower number,
        # would be taken for one that was made. So several are made together, or none.
        bookings = sum(isinstance(step, Settle) and step.booking > 0 for step in steps)
        pipe = client.pipeline(transaction=bookings > 1)
        for step in steps:
            script, keys, said = self._call(step)
            pipe.evalsha(script.digest, len(keys), *keys, *said)
        return await pipe.execute(raise_on_error=False)

    def _call(self, step: Step) -> tuple[Script, list[str], list[str | int]]:
        scripts, prefix, me = self._scripts, self._prefix, self._store.me
        if isinstance(step, Ask):
            return scripts.admit, *step.arguments(prefix, me, self._lease_us)
        if isinstance(step, Settle):
            return scripts.settle, *step.arguments(prefix, me)
        if isinstance(step, Opened):
            return scripts.breakers, *step.arguments(prefix)
        if isinstance(step, Raise):
            return scripts.raise_spent, *step.arguments(prefix)
        return scripts.beat, *step.arguments(prefix, me, self._lease_us)

    def _has_failed(self, trouble: BaseException) -> None:
        self._store.down((), _now())
        seconds = time.monotonic()
        if seconds - self._said_seconds >= QUIET_SECONDS:
            self._said_seconds = seconds
            log.error(
                "Redis does not answer in time (%s). Until it does, this worker goes by its own "
                "share of limits and budgets.",
                type(trouble).__name__,
            )


async def _drop(client: Redis) -> None:
    """Close a connection without waiting for the other side."""
    with contextlib.suppress(*_TROUBLE):
        await client.connection_pool.disconnect(inuse_connections=True)
