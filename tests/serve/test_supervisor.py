"""The whole of it as an operator meets it: token, storms of collectors, a supervisor that stops."""

from __future__ import annotations

import os
import signal
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.rig.taximeter import Taximeter
from tests.rig.upstream import Upstream
from tests.signals._run import CHAT, call
from tests.signals.test_processes import scrape
from tests.support.ports import free_port

TOKEN = "a-token-of-32-characters-or-so-1"


def status(url: str, token: str | None = None) -> int:
    """Ask; give the status."""
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_off_loopback_the_console_asks_for_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H7: on all addresses, health is for anyone and metrics for who has the token."""
    monkeypatch.setenv("CONSOLE_TOKEN", TOKEN)
    everywhere = {"console": f"0.0.0.0:{free_port()}", "console_token_env": "CONSOLE_TOKEN"}
    meter = Taximeter(tmp_path, {}, **everywhere)
    meter.console_port = int(everywhere["console"].rpartition(":")[2])
    with meter:
        assert status(f"{meter.console_url}/healthz") == 200
        assert status(f"{meter.console_url}/metrics") == 401
        assert status(f"{meter.console_url}/metrics", TOKEN + "x") == 401
        assert status(f"{meter.console_url}/metrics", TOKEN) == 200
    assert TOKEN not in meter.log_text()


def test_without_its_token_it_does_not_start(tmp_path: Path) -> None:
    """H7: a variable that is not set is told at the start, with what to do."""
    meter = Taximeter(tmp_path, {}, console_token_env="CONSOLE_TOKEN")
    with pytest.raises(RuntimeError, match="openssl rand"):
        meter.start()


def test_a_relay_never_waits_for_its_supervisor(tmp_path: Path) -> None:
    """With the supervisor stopped, calls go on; awake again, it knows of all of them."""
    with Upstream() as upstream:
        upstreams = {"openai": {"url": upstream.url, "dialect": "openai"}}
        with Taximeter(tmp_path, upstreams) as meter:
            assert meter.process is not None
            os.kill(meter.process.pid, signal.SIGSTOP)
            try:
                for _ in range(4):
                    assert call(meter.port, "ann", "openai", dict(CHAT)).status == 200
                    time.sleep(0.5)
            finally:
                os.kill(meter.process.pid, signal.SIGCONT)
            meter.booked(4)
            deadline = time.monotonic() + 10
            while scrape(meter).total("taximeter_relay_ended_calls_total") != 4:
                assert time.monotonic() < deadline
                time.sleep(0.1)


def test_many_collectors_at_once_are_all_answered(tmp_path: Path) -> None:
    """A storm of scrapes is answered whole, and the recorder books on."""
    with Upstream() as upstream:
        upstreams = {"openai": {"url": upstream.url, "dialect": "openai"}}
        with Taximeter(tmp_path, upstreams) as meter:
            call(meter.port, "ann", "openai", dict(CHAT))
            meter.booked(1)
            failures: list[object] = []

            def collect() -> None:
                for _ in range(5):
                    found = scrape(meter).total("taximeter_calls_total")
                    if found is None or found < 1:
                        failures.append(found)

            threads = [threading.Thread(target=collect) for _ in range(12)]
            for thread in threads:
                thread.start()
            call(meter.port, "ann", "openai", dict(CHAT))
            meter.booked(2)
            for thread in threads:
                thread.join(20)
            assert failures == []
