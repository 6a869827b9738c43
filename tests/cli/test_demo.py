"""`taximeter demo`: it shows a ledger filling, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import taximeter
from taximeter.cli._demo import _upstream
from taximeter.cli._demo._upstream import SimulatedApi
from taximeter.cli._demo._users import USERS

ROOT = Path(taximeter.__file__).parent.parent


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start a demo that keeps its files below `folder`."""
    return subprocess.Popen(
        [sys.executable, "-m", "taximeter", "demo", *words],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes_of(folder: Path) -> list[int]:
    """Give the processes whose command line names something below `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if str(folder).encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue  # it ended while we looked
    return found


def test_a_demo_fills_a_ledger_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Calls of several users are booked with their costs; then processes and files are gone."""
    demo = start(tmp_path, "--seconds", "6", "--rate", "15")
    out, err = demo.communicate(timeout=45)
    assert demo.returncode == 0, err
    assert err == ""
    users = [line.split()[0] for line in out.splitlines() if line.split()]
    assert len(set(users) & {user.name for user in USERS}) >= 3
    (total,) = (line.split() for line in out.splitlines() if line.startswith("all "))
    assert int(total[1]) >= 5
    assert total[5].startswith("$0.")
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_told_to_stop_cleans_up(tmp_path: Path, sign: signal.Signals) -> None:
    """Ctrl-C and SIGTERM are how a demo ends: exit code 0, proxy and files gone."""
    demo = start(tmp_path, "--seconds", "50")
    end = time.monotonic() + 20
    while not list(tmp_path.glob("*/ledger.db")) and time.monotonic() < end:
        time.sleep(0.05)
    demo.send_signal(sign)
    _, err = demo.communicate(timeout=30)
    assert (demo.returncode, err) == (0, "")
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


def test_a_kept_demo_says_where_it_is(tmp_path: Path) -> None:
    """With --keep the ledger stays, and the words that are printed open it."""
    demo = start(tmp_path, "--seconds", "2", "--rate", "15", "--keep")
    out, err = demo.communicate(timeout=45)
    assert demo.returncode == 0, err
    words = out.splitlines()[-1].removeprefix("Kept. Look around with: taximeter ").split()
    shown = subprocess.run(
        [sys.executable, "-m", "taximeter", *words, "-f", "jsonl"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    views = [json.loads(line) for line in shown.stdout.splitlines()]
    assert views
    assert {view["upstream"] for view in views} <= {"openai", "anthropic"}


async def ask(api: SimulatedApi, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
    """Call the simulated API itself."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{api.port}{path}", json=body) as response,
    ):
        return response.status, await response.read()


CHAT = {"model": "demo-small", "messages": [{"role": "user", "content": "x" * 400}]}


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulated API that never refuses, fails or breaks off."""
    for name in ("REFUSED", "FAILED", "CUT"):
        monkeypatch.setattr(_upstream, name, 0.0)


@pytest.mark.usefixtures("calm")
async def test_the_simulated_api_states_its_usage_where_the_real_one_does() -> None:
    """Plain answers carry usage; streams of chat only if asked; messages always."""
    async with SimulatedApi(seed=1) as api:
        (_, plain), (_, silent), (_, asked), (_, messages) = await asyncio.gather(
            ask(api, "/v1/chat/completions", CHAT),
            ask(api, "/v1/chat/completions", {**CHAT, "stream": True}),
            ask(
                api,
                "/v1/chat/completions",
                {**CHAT, "stream": True, "stream_options": {"include_usage": True}},
            ),
            ask(api, "/v1/messages", {**CHAT, "stream": True}),
        )
    assert json.loads(plain)["usage"]["prompt_tokens"] > 100
    assert b'"usage"' not in silent
    assert silent.endswith(b"data: [DONE]\n\n")
    assert asked.count(b'"prompt_tokens"') == 1
    assert b'"choices":[]' in asked
    assert b"event: message_start" in messages
    assert messages.rstrip().endswith(b'data: {"type":"message_stop"}')


async def test_the_simulated_api_fails_as_the_real_ones_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A refusal is a 429 with Retry-After's shape of body, and a cut ends without an end."""
    async with SimulatedApi(seed=1) as api:
        monkeypatch.setattr(_upstream, "REFUSED", 1.0)
        status, body = await ask(api, "/v1/chat/completions", CHAT)
        assert status == 429
        assert json.loads(body)["error"]["code"] == "rate_limit_exceeded"
        monkeypatch.setattr(_upstream, "REFUSED", 0.0)
        monkeypatch.setattr(_upstream, "FAILED", 0.0)
        monkeypatch.setattr(_upstream, "CUT", 1.0)
        with pytest.raises(aiohttp.ClientPayloadError):
            await ask(api, "/v1/messages", {**CHAT, "stream": True})
