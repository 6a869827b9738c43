"""A child that cannot be started now is started later."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest

from taximeter.serve import _children
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
