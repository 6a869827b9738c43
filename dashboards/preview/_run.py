"""A live run to draw: two Taximeters between people and upstreams, and everything around them.

The ledger is in a real PostgreSQL, shared counts in a real Redis; a real Prometheus evaluates the
shipped rules, with every span of time a hundredth of what ships, and tells a real Alertmanager.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from dashboards.preview import _history
from dashboards.preview._crowd import Crowd
from dashboards.preview._setting import beside_settings, main_settings, main_upstreams
from dashboards.preview._troubles import Stage, happen
from tests.alerts._stack import Stack, wait
from tests.rig import Script
from tests.rig.taximeter import Taximeter
from tests.rig.upstream import Upstream
from tests.support.postgres import PostgresServer
from tests.support.redis import RedisServer
from tests.traces.collector import HttpCollector

PEOPLE, GUESTS = 12, 3
"""Who call `main` and `beside`, each one call after the other."""
_START_SECONDS_MAX = 20.0
_CATCH_UP_SECONDS_MAX = 15.0


@dataclass(frozen=True, slots=True)
class Run:
    """What a run leaves to be asked, while it lasts."""

    prometheus_url: str
    ledger: psycopg.Connection[dict[str, Any]]
    stack: Stack
    collector: HttpCollector
    since: int
    until: int


@contextlib.contextmanager
def live_run(folder: Path, seconds: float, seed: int = 7) -> Iterator[Run]:
    """Run for so many seconds, then give what was seen; everything ends with the block.

    People go on calling while it is asked.
    """
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(PostgresServer())
        redis = stack.enter_context(contextlib.closing(RedisServer()))
        collector = stack.enter_context(HttpCollector())
        openai, anthropic, azure, house = (stack.enter_context(Upstream()) for _ in range(4))
        azure.default = Script(first_byte_seconds=0.1)
        url = postgres.make_database()
        _history.fill(url, seed)
        meters = []
        places = main_upstreams(openai.url, anthropic.url, azure.url, house.url)
        for name, upstreams, settings in (
            ("main", places, main_settings(collector.url)),
            ("beside", {"openai": places["openai"]}, beside_settings(redis.url())),
        ):
            (folder / name).mkdir()
            meter = Taximeter(folder / name, upstreams, ledger=url, **settings)
            meters.append(stack.enter_context(meter))
        main, beside = meters
        (folder / "stack").mkdir()
        consoles = (main.console_port, beside.console_port)
        watched = Stack(folder / "stack", consoles[0], also=consoles[1:], scrape_seconds=1)
        stack.enter_context(watched)
        if not wait(lambda: len(watched.query("up == 1")) == len(consoles), _START_SECONDS_MAX):
            raise RuntimeError("Prometheus does not scrape")
        since = _now()
        stack.enter_context(Crowd(main.port, PEOPLE, seed))
        stack.enter_context(Crowd(beside.port, GUESTS, seed + PEOPLE, guests=True))
        happen(Stage(main, beside, azure, postgres, redis, collector), seconds)
        wait(lambda: _is_caught_up(watched), _CATCH_UP_SECONDS_MAX)
        plain = url.replace("postgresql+psycopg:", "postgresql:")
        ledger = stack.enter_context(
            psycopg.connect(plain, row_factory=psycopg.rows.dict_row, autocommit=True)
        )
        prometheus_url = f"http://127.0.0.1:{watched.prometheus_port}"
        yield Run(prometheus_url, ledger, watched, collector, since, _now())


def _is_caught_up(stack: Stack) -> bool:
    return all(lag < 1 for _, lag in stack.query("taximeter_ledger_lag_seconds"))


def _now() -> int:
    return time.time_ns() // 10**9
