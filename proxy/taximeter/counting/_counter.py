"""The relay's handle on counting: one other process, started on first need.

Jobs wait in a queue bounded by their number and by the bytes they hold, and are counted one by
one. A job that finds the queue full, that has waited too long, or whose process died is
answered at once by the rule of last resort (`bytes/4`): a count may be late or rough, but it
always comes. `Counter.refused`, `.late` and `.failed` say how often it was rough.

A process that died or hangs is replaced, at most once in `restart_seconds_min`. The job it
died on is not tried again: it may be what killed it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import msgspec

import taximeter
from taximeter.counting._job import LENGTH_BYTES, Answer, CountJob, Success, TokenCount, by_bytes

_BOOT = (
    "import sys; sys.argv[1] in sys.path or sys.path.insert(0, sys.argv[1]); "
    "from taximeter.counting._worker import main; main()"
)
"""The process needs no more of this one than where the package is."""

_END_SECONDS_MAX = 0.5
"""How long a process may take to end by itself before it is killed."""

_decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


class _ProcessLost(Exception):
    """There is no counting process, or it did not answer: ours to replace."""


class Counter:
    """Counts tokens in another process. Belongs to one event loop.

    Args:
        directory: where data may be kept; vocabularies are unpacked into a private folder
            below it, `vocabulary`.
        jobs_max: jobs waiting or under way at most; beyond, `bytes/4`.
        waiting_bytes_max: bytes they may hold together.
        job_bytes_max: bytes one of them may hold: some 10 ms of the loop's time to hand over.
        wait_seconds_max: how long a job may take in all, from `count` to its result.
        work_seconds_max: how long a process may work on one job before it is replaced.
        restart_seconds_min: time between two starts of a process at least.
        idle_seconds_max: how long a process is kept without a job; it holds some 130 MB.
    """

    def __init__(
        self,
        directory: Path,
        *,
        jobs_max: int = 64,
        waiting_bytes_max: int = 32 * 1024 * 1024,
        job_bytes_max: int = 8 * 1024 * 1024,
        wait_seconds_max: float = 20.0,
        work_seconds_max: float = 10.0,
        restart_seconds_min: float = 1.0,
        idle_seconds_max: float = 600.0,
    ) -> None:
        self.refused = 0
        """Jobs that went by `bytes/4` because too much was waiting, or they were too large."""
        self.late = 0
        """Jobs that went by `bytes/4` because their count did not come in time."""
        self.failed = 0
        """Jobs that went by `bytes/4` because the process died, hung or could not count them."""
        self.failure: str | None = None
        """The last failure's kind: the name of an error's class."""
        self._folder = directory / "vocabulary"
        self._jobs_max = jobs_max
        self._waiting_bytes_max = waiting_bytes_max
        self._job_bytes_max = job_bytes_max
        self._wait_seconds_max = wait_seconds_max
        self._work_seconds_max = work_seconds_max
        self._restart_seconds_min = restart_seconds_min
        self._idle_seconds_max = idle_seconds_max
        self._waiting: dict[asyncio.Future[TokenCount], CountJob] = {}
        """Jobs not begun, in their order."""
        self._came = asyncio.Event()
        self._jobs = 0
        self._bytes = 0
        self._process: asyncio.subprocess.Process | None = None
        self._started_at: float | None = None
        self._serving: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def process_id(self) -> int | None:
        """The counting process, if there is one."""
        return self._process.pid if self._process is not None else None

    @property
    def jobs(self) -> int:
        """Jobs waiting or under way."""
        return self._jobs

    async def count(self, job: CountJob) -> TokenCount:
        """Count a job's tokens, in another process; raises nothing of its own."""
        size = job.bytes_held
        if (
            self._closed
            or self._jobs >= self._jobs_max
            or size > self._job_bytes_max
            or self._bytes + size > self._waiting_bytes_max
        ):
            self.refused += 1
            return by_bytes(job)
        loop = asyncio.get_running_loop()
        if self._serving is None:
            self._serving = loop.create_task(self._serve(), name="counting")
        result: asyncio.Future[TokenCount] = loop.create_future()
        self._jobs += 1
        self._bytes += size
        self._waiting[result] = job
        self._came.set()
        try:
            async with asyncio.timeout(self._wait_seconds_max):
                return await result
        except TimeoutError:
            self.late += 1
            return by_bytes(job)
        finally:
            self._waiting.pop(result, None)
            self._bytes -= size
            self._jobs -= 1

    async def close(self) -> None:
        """End the process; jobs still waiting go by `bytes/4`. May be called more than once."""
        self._closed = True
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
            self._serving = None
        while self._waiting:
            self._fail(*self._waiting.popitem(), "Closed")
        await self._end_process()

    async def _serve(self) -> None:
        """Count one job after the other, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._idle_seconds_max if self._process else None):
                    await self._came.wait()
            except TimeoutError:
                await self._end_process()
            while self._waiting:
                result = next(iter(self._waiting))
                await self._serve_one(result, self._waiting.pop(result))
            self._came.clear()

    async def _serve_one(self, result: asyncio.Future[TokenCount], job: CountJob) -> None:
        try:
            answer = await self._ask(job)
        except asyncio.CancelledError:
            self._fail(result, job, "Closed")
            raise
        except _ProcessLost as error:
            self._fail(result, job, str(error))
            await self._end_process()
        else:
            if not isinstance(answer, Success):
                self._fail(result, job, answer.kind)
            elif not result.done():
                result.set_result(answer.count)

    def _fail(self, result: asyncio.Future[TokenCount], job: CountJob, kind: str) -> None:
        self.failed += 1
        self.failure = kind
        if not result.done():
            result.set_result(by_bytes(job))

    async def _ask(self, job: CountJob) -> Answer:
        """Have the process answer a job.

        Raises:
            _ProcessLost: if it cannot.
        """
        try:
            async with asyncio.timeout(self._work_seconds_max):
                process = await self._running()
                source, sink = process.stdout, process.stdin
                if source is None or sink is None:
                    raise _ProcessLost("NoPipe")
                await _write_frame(sink, msgspec.msgpack.encode(job))
                length = await source.readexactly(LENGTH_BYTES)
                data = await source.readexactly(int.from_bytes(length, "big"))
                return _decoder.decode(data)
        except (OSError, EOFError, msgspec.MsgspecError) as error:
            # A TimeoutError is an OSError, an IncompleteReadError an EOFError.
            raise _ProcessLost(type(error).__name__) from error

    async def _running(self) -> asyncio.subprocess.Process:
        """Give the process, started if need be.

        Raises:
            _ProcessLost: if the last one was started too short a while ago.
            OSError: if it cannot be started.
        """
        if self._process is not None and self._process.returncode is None:
            return self._process
        now = asyncio.get_running_loop().time()
        if self._started_at is not None and now - self._started_at < self._restart_seconds_min:
            raise _ProcessLost("RestartedTooSoon")
        self._started_at = now
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # nothing is imported from the working directory
            "-c",
            _BOOT,
            str(Path(taximeter.__file__).parent.parent),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            # Of its own session: a terminal's Ctrl-C is for us to act on, not for it.
            start_new_session=True,
        )
        if process.stdin is not None:
            await _write_frame(process.stdin, os.fsencode(self._folder))
        return process

    async def _end_process(self) -> None:
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()  # it ends by itself at the end of its input
        try:
            async with asyncio.timeout(_END_SECONDS_MAX):
                await process.wait()
        except TimeoutError:
            # Only now: `kill` looks first whether it is dead, and a death noticed there is
            # one that the event loop then misses.
            try:
                process.kill()
            except ProcessLookupError:
                pass  # it was quicker
            await process.wait()
        self._process = None  # not before: if cancelled here, `close` has it to end


async def _write_frame(sink: asyncio.StreamWriter, data: bytes) -> None:
    sink.write(len(data).to_bytes(LENGTH_BYTES, "big"))
    sink.write(data)
    await sink.drain()
