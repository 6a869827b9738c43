"""A child over its lives: started when it can be, told what is so, ended when nobody hears it."""

from __future__ import annotations

import asyncio
import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from taximeter.serve import _child, _children
from taximeter.serve._channel import Frame, ToChild, settings_frame
from taximeter.serve._children import Child
from taximeter.settings import Settings


def handles() -> int:
    """Count this process's open files."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_a_start_that_fails_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """O6: with no handles left a child is not given up, and no handle is lost in trying."""
    monkeypatch.setattr(_children, "RESTART_SECONDS_FIRST", 0.01)
    tries = 0

    async def fail(*words: str, **options: Any) -> None:
        nonlocal tries
        tries += 1
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", fail)
    before = handles()
    child = Child("recorder", ["recorder"], None)
    child.begin(Settings)
    async with asyncio.timeout(10):
        while tries < 4:
            await asyncio.sleep(0.01)
    child.stopping = True
    assert await child.stop(5)
    assert handles() == before
    assert "not started: Too many open files" in caplog.text


class Started:
    """Stands in for a child's process: keeps what it is told, and ends with its input."""

    pid = 1

    def __init__(self) -> None:
        self.told = b""
        self.stdin = self
        self._ended = asyncio.get_running_loop().create_future()

    def write(self, data: bytes) -> None:
        self.told += data

    def is_closing(self) -> bool:
        return bool(self._ended.done())

    def close(self) -> None:
        if not self._ended.done():
            self._ended.set_result(0)

    async def wait(self) -> int:
        await asyncio.wait([self._ended])
        return 0


async def test_settings_read_while_a_child_starts_are_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """H11: a reload that falls into a child's start is not lost on it."""
    now: list[Settings] = [Settings()]
    made: list[Started] = []

    async def start(*words: str, **options: Any) -> Started:
        await asyncio.sleep(0)
        now[0] = Settings.model_validate({"listen": "127.0.0.1:1"})
        child.send(now[0])  # as a reload does: there is nobody to hear it
        made.append(Started())
        return made[0]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    child = Child("recorder", ["recorder"], None)
    child.begin(lambda: now[0])
    async with asyncio.timeout(10):
        while not (made and made[0].told):
            await asyncio.sleep(0.01)
    assert made[0].told == settings_frame(now[0])
    assert await child.stop(5)


async def test_a_child_told_to_stop_while_it_starts_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """L1: it finishes as soon as it is there."""

    async def start(*words: str, **options: Any) -> Started:
        await asyncio.sleep(0.05)
        return Started()

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    child = Child("recorder", ["recorder"], None)
    child.begin(Settings)
    await asyncio.sleep(0.01)
    assert child.process is None
    assert await child.stop(5)


def test_a_process_that_nobody_hears_any_more_finishes(monkeypatch: pytest.MonkeyPatch) -> None:
    """L1, L3: the supervisor is gone while it is answered: the end is told, and nothing locked."""
    said = [Frame(ToChild.METRICS, b"\0")]
    monkeypatch.setattr(_child, "receive", lambda source: said.pop() if said else None)
    ended = threading.Event()

    def answer(asked: bytes) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    _child._listen_to_supervisor(lambda settings: None, ended.set, answer)
    assert ended.wait(5)
