"""How a demo is told to end: Ctrl-C and SIGTERM cancel its work, and never break into it.

Python's own way is an exception wherever the main thread happens to be. In an event loop that may
be a callback of another task: asyncio then says that a task died, and whatever it was doing is
left half done. So a signal only asks the loop to cancel the work. It asks once: what was started
is being ended then, within a bound, and a second Ctrl-C must not leave a proxy behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """While entered, SIGINT and SIGTERM end what `or_done` runs. Main thread only."""

    def __init__(self) -> None:
        self._told = False
        self._tell: Callable[[], object] | None = None

    def __enter__(self) -> Self:
        # Who started us with SIGINT ignored (a shell's `&`) does not want Ctrl-C to reach us.
        taken = (n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN)
        self._before = {number: signal.signal(number, self._hear) for number in taken}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    async def or_done(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Wait for `work` to end, by itself or because a signal cancelled it.

        Raises:
            whatever `work` raises by itself.
        """
        if self._told:
            return
        task = asyncio.create_task(work())
        loop = asyncio.get_running_loop()
        self._tell = lambda: loop.call_soon_threadsafe(task.cancel)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        finally:
            self._tell = None

    def _hear(self, number: int, frame: FrameType | None) -> None:
        told, self._told = self._told, True
        if not told and self._tell is not None:
            self._tell()
