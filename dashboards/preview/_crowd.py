"""People who call, each one call after the other, and what an upstream does with their calls."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dashboards.preview._history import (
    MODEL_WEIGHTS,
    MODELS,
    PEOPLE,
    PEOPLE_WEIGHTS,
    upstream_of,
)
from tests.rig import Script, write_script

CALL_SECONDS_MAX = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One call."""

    method: str = "POST"
    path: str = "/v1/chat/completions"
    model: str = "gpt-5.4-mini"
    stream: bool = False
    words: str = "hello"
    user: str = ""
    team: str = ""
    script: Script | None = None
    """What the upstream does with it; None is what it does by default."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    """Instead of a chat's."""
    leave_after_bytes: int | None = None
    """The client leaves when it has read so many; 0 is before the first."""
    patience_seconds: float = CALL_SECONDS_MAX


def call(port: int, ask: Ask) -> bytes:
    """Make a call; give its answer's body, or as much of it as its client wanted."""
    body = ask.body or {
        "model": ask.model,
        "stream": ask.stream,
        "max_tokens": 400,
        "messages": [{"role": "user", "content": ask.words}],
    }
    headers = {"content-type": "application/json", **ask.headers}
    if ask.script is not None:
        headers["x-rig"] = write_script(ask.script)
    if ask.user:
        headers["x-taximeter-user"], headers["x-taximeter-team"] = ask.user, ask.team
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ask.patience_seconds)
    with contextlib.closing(connection):
        connection.request(ask.method, ask.path, json.dumps(body), headers)
        if ask.leave_after_bytes == 0:
            time.sleep(0.05)
            return b""
        return connection.getresponse().read(ask.leave_after_bytes)


def try_call(port: int, ask: Ask) -> None:
    """Make a call whose end is of no interest here: what it does is seen on the boards."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        call(port, ask)


class Crowd:
    """Some people who call for as long as the block lasts."""

    def __init__(self, port: int, people: int, seed: int, guests: bool = False) -> None:
        """Make it. `guests` are people whom nobody knows, with many names."""
        self._port = port
        self._guests = guests
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(seed + number),))
            for number in range(people)
        ]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, dice: random.Random) -> None:
        while not self._stop.wait(dice.expovariate(3)):
            try_call(self._port, self._ask(dice))

    def _ask(self, dice: random.Random) -> Ask:
        if self._guests:
            user, team, model = f"guest-{dice.randrange(40)}", "guests", dice.choice(MODELS[:2])
        else:
            user, team = dice.choices(PEOPLE, PEOPLE_WEIGHTS)[0]
            model = dice.choices(MODELS, MODEL_WEIGHTS)[0]
            if dice.random() < 0.12:
                return _small_ask(dice, user, team)
        stream = dice.random() < 0.75
        headers = {}
        if user:
            headers["x-taximeter-session"] = f"{user}-{dice.randrange(4)}"
        if dice.random() < 0.05:
            headers["x-stainless-retry-count"] = "1"
        upstream = upstream_of(model)
        return Ask(
            path="/v1/messages" if upstream == "anthropic" else f"/{upstream}/v1/chat/completions",
            model=model,
            stream=stream,
            words="lorem " * dice.choice([20, 60, 200, 900]),
            user=user,
            team=team,
            script=_script(dice, stream),
            headers=headers,
            leave_after_bytes=_leaves(dice, stream),
        )


def _small_ask(dice: random.Random, user: str, team: str) -> Ask:
    """Embeddings; and calls to the upstream whose health the run itself decides."""
    if dice.random() < 0.3:
        body = {"model": "text-embedding-3-small", "input": "some words"}
        return Ask(path="/v1/embeddings", body=body, user=user, team=team)
    return Ask(path="/azure/v1/chat/completions", model="gpt-5.4", user=user, team=team)


def _leaves(dice: random.Random, stream: bool) -> int | None:
    luck = dice.random()
    if luck < 0.01:
        return 0
    return 200 if stream and luck < 0.06 else None


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
    if stream and luck < 0.09:
        return Script(cut_after_events=6, first_byte_seconds=first, delta_seconds=0.02)
    if stream and luck < 0.10:
        return Script(stall_after_events=8, stall_seconds=3.0, headers=limits)
    return Script(
        tokens=dice.choice([12, 30, 60]),
        first_byte_seconds=first,
        delta_seconds=dice.uniform(0.004, 0.05) if stream else 0.0,
        usage_missing=dice.random() < 0.03,
        headers=limits,
    )
