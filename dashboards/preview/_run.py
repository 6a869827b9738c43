"""A live run to draw: Taximeter between users and a scripted upstream, PostgreSQL, Prometheus."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import psycopg

from taximeter.call import Outcome, Usage
from taximeter.ledger import Entry, Ledger
from tests.ledger.make import HOUR, commit, entry
from tests.rig import Script, write_script
from tests.rig.taximeter import Taximeter, free_port
from tests.rig.upstream import Upstream
from tests.support.postgres import PostgresServer

RULES = Path(__file__).resolve().parent.parent.parent / "alerts" / "generated" / "rules"
USERS_AT_ONCE = 12
HISTORY_DAYS = 14
_START_SECONDS_MAX = 20.0
_SCRAPE = """\
global: {{scrape_interval: 1s, evaluation_interval: 5s}}
rule_files: ['{rules}/*.yml']
scrape_configs:
- job_name: taximeter
  static_configs: [{{targets: ['127.0.0.1:{port}']}}]
"""

_MODELS = ["gpt-5.4-mini", "gpt-5.4", "claude-sonnet-4-5", "house-7b"]
_PEOPLE = [
    ("ann", "search"),
    ("bob", "search"),
    ("cho", "support"),
    ("dee", "support"),
    ("eve", "labs"),
    ("", ""),
]
_PRICES = [
    {"provider": "*", "model": "gpt-5.4-mini*", "input_usd_per_million": 0.4,
     "cached_usd_per_million": 0.04, "output_usd_per_million": 1.6},
    {"provider": "*", "model": "gpt-5.4*", "input_usd_per_million": 2.5,
     "cached_usd_per_million": 0.25, "output_usd_per_million": 10},
    {"provider": "*", "model": "claude-*", "input_usd_per_million": 3,
     "cached_usd_per_million": 0.3, "output_usd_per_million": 15},
]  # fmt: skip

_TERMS = {
    "teams": {"search": {"budget": {"usd": 5, "per": "day"}}},
    "tiers": {"labs": {"weight": 0.5, "budget": {"tokens": 9_000, "per": "hour"}}},
    "users": {"eve": {"tier": "labs"}},
}
"""What people may: a team's budget that lasts, and one user's that soon does not."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a run leaves to be asked, while it lasts."""

    prometheus_url: str
    ledger: psycopg.Connection[dict[str, Any]]
    since: int
    until: int


@contextlib.contextmanager
def live_run(folder: Path, seconds: float, seed: int = 7) -> Iterator[Run]:
    """Run for so many seconds, then give what was seen; everything ends with the block."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(PostgresServer())
        url = server.make_database()
        _history(url, seed)
        one, two = stack.enter_context(Upstream()), stack.enter_context(Upstream())
        upstreams: dict[str, dict[str, Any]] = {
            "openai": {
                "url": one.url, "dialect": "openai", "provider": "openai",
                "limits": {"concurrency": 6},
            },
            "anthropic": {"url": two.url, "dialect": "anthropic", "provider": "anthropic"},
        }  # fmt: skip
        taximeter = Taximeter(folder, upstreams, ledger=url, prices=_PRICES, **_TERMS)
        stack.enter_context(taximeter)
        prometheus_url = stack.enter_context(_prometheus(folder, taximeter.console_port))
        since = int(time.time_ns() // 10**9)
        _drive(taximeter.port, seconds, seed)
        # One more scrape, and the recorder's last batch.
        time.sleep(3)
        plain = url.replace("postgresql+psycopg:", "postgresql:")
        ledger = stack.enter_context(
            psycopg.connect(plain, row_factory=psycopg.rows.dict_row, autocommit=True)
        )
        yield Run(prometheus_url, ledger, since, int(time.time_ns() // 10**9))


def _history(url: str, seed: int) -> None:
    """Put two weeks of calls into a new ledger, fewer at night and at weekends."""
    dice = random.Random(seed)
    ledger = Ledger.open(url)
    ledger.migrate()
    now = time.time_ns() // HOUR * HOUR
    for day in range(HISTORY_DAYS):
        midnight = now - (HISTORY_DAYS - day) * 24 * HOUR
        made = [_made_up(midnight + dice.randrange(24 * HOUR), dice) for _ in range(150)]
        commit(ledger, *[each for each in made if _is_likely(each, dice)])
    ledger.close()


def _is_likely(made: Entry, dice: random.Random) -> bool:
    at = datetime.fromtimestamp(made.closed.opened.started_at_ns / 10**9, UTC)
    busy = 0.2 if at.hour < 7 or at.hour > 20 else 1.0
    return dice.random() < busy * (0.3 if at.weekday() > 4 else 1.0)


def _made_up(at_ns: int, dice: random.Random) -> Entry:
    user, team = dice.choices(_PEOPLE, [5, 3, 3, 2, 2, 1])[0]
    model = dice.choices(_MODELS, [6, 3, 3, 1])[0]
    price = next((each for each in _PRICES if fnmatch(model, str(each["model"]))), None)
    done = dice.random() < 0.96
    usage = Usage(
        input_tokens=dice.choice([900, 2_400, 9_000]),
        output_tokens=dice.choice([120, 400, 900]),
        cached_tokens=dice.choice([0, 512]),
    )
    return entry(
        at_ns=at_ns,
        user=user or None,
        team=team or None,
        session=f"{user}-{at_ns // (24 * HOUR) % 7}" if user else None,
        upstream="anthropic" if model.startswith("claude") else "openai",
        model=model,
        outcome=Outcome.COMPLETED if done else Outcome.TRUNCATED,
        usage=usage,
        cost_pico=None if price is None else _cost(usage, price),
        price="unpriced: no such model" if price is None else "own",
    )


def _cost(usage: Usage, price: dict[str, Any]) -> int:
    rates = (price["input_usd_per_million"], price["output_usd_per_million"])
    tokens = (usage.input_tokens or 0, usage.output_tokens or 0)
    return sum(each * round(rate * 1_000_000) for each, rate in zip(tokens, rates, strict=True))


def _drive(port: int, seconds: float, seed: int) -> None:
    """Let some users call for a while, each one call after the other."""
    until = time.monotonic() + seconds
    users = [
        threading.Thread(target=_user, args=(port, until, random.Random(seed + number)))
        for number in range(USERS_AT_ONCE)
    ]
    for user in users:
        user.start()
    for user in users:
        user.join()


def _user(port: int, until: float, dice: random.Random) -> None:
    while time.monotonic() < until:
        # What a client sees of a bad call is not what is drawn here.
        with contextlib.suppress(OSError, http.client.HTTPException):
            _call(port, dice)
        time.sleep(dice.expovariate(3))


def _call(port: int, dice: random.Random) -> None:
    user, team = dice.choices(_PEOPLE, [5, 3, 3, 2, 2, 1])[0]
    model = dice.choices(_MODELS, [6, 3, 3, 1])[0]
    family = "anthropic" if model.startswith("claude") else "openai"
    stream = dice.random() < 0.75
    words = "lorem " * dice.choice([20, 60, 200, 900])
    said = {
        "model": model,
        "stream": stream,
        "max_tokens": 400,
        "messages": [{"role": "user", "content": words}],
    }
    headers = {"content-type": "application/json", "x-rig": write_script(_script(dice, stream))}
    if user:
        headers["x-taximeter-user"], headers["x-taximeter-team"] = user, team
        headers["x-taximeter-session"] = f"{user}-{dice.randrange(4)}"
    path = "/v1/messages" if family == "anthropic" else "/v1/chat/completions"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", path, json.dumps(said), headers)
        answer = connection.getresponse()
        if stream and dice.random() < 0.05:
            answer.read(200)  # leaves in the middle
        else:
            answer.read()


def _script(dice: random.Random, stream: bool) -> Script:
    """Mostly well, sometimes not: errors, limits, cut streams, stalls."""
    luck = dice.random()
    first = dice.lognormvariate(-1.6, 0.7)
    limits = [
        ("x-ratelimit-limit-requests", "500"),
        ("x-ratelimit-remaining-requests", str(dice.randrange(60, 400))),
        ("x-ratelimit-limit-tokens", "200000"),
        ("x-ratelimit-remaining-tokens", str(dice.randrange(9_000, 90_000))),
    ]
    if luck < 0.02:
        return Script(status=429, headers=limits, first_byte_seconds=0.02)
    if luck < 0.04:
        return Script(status=503, first_byte_seconds=first)
    if luck < 0.05:
        return Script(status=400)
    if stream and luck < 0.08:
        return Script(cut_after_events=6, first_byte_seconds=first, delta_seconds=0.02)
    if stream and luck < 0.09:
        return Script(stall_after_events=8, stall_seconds=3.0, headers=limits)
    return Script(
        tokens=dice.choice([12, 30, 60]),
        first_byte_seconds=first,
        delta_seconds=dice.uniform(0.004, 0.05) if stream else 0.0,
        usage_missing=dice.random() < 0.03,
        headers=limits,
    )


@contextlib.contextmanager
def _prometheus(folder: Path, target_port: int) -> Iterator[str]:
    port = free_port()
    configuration = folder / "prometheus.yml"
    configuration.write_text(_SCRAPE.format(port=target_port, rules=RULES))
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--enable-feature=exemplar-storage",
                "--log.level=warn",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        _wait_ready(f"http://127.0.0.1:{port}", process, folder / "prometheus.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _wait_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS_MAX
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/-/ready", timeout=1):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"Prometheus did not start:\n{log.read_text()}")
        time.sleep(0.1)
