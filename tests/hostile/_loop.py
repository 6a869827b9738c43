"""A loop of its own in a thread of its own, so that plain tests can share what runs in it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

T = TypeVar("T")

DONE_SECONDS_MAX = 20.0


class Loop:
    """Runs coroutines; what `begin` starts is ended with it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._stack = contextlib.AsyncExitStack()
        self._stuck = False

    async def begin(self, stack: contextlib.AsyncExitStack) -> None:
        """Start what is to run in the loop."""

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the loop.

        Raises:
            RuntimeError: if something that was done before has not ended.
        """
        if self._stuck:
            work.close()
            raise RuntimeError("what was done before has not ended")
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result(DONE_SECONDS_MAX)
        except TimeoutError:
            self._stuck = True
            raise

    def __enter__(self) -> Self:
        self._thread.start()
        self.do(self.begin(self._stack))
        return self

    def __exit__(self, *_: object) -> None:
        self._stuck = False
        try:
            self.do(self._stack.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
