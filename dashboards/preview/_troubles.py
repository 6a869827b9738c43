"""What goes wrong in a live run, in the order of time: each trouble for real, none of them faked.

An upstream that fails and comes back (tries again, breaker, fallback), a crowd that meets a queue,
limits and budgets, a slow upstream with few connections, a Redis and a PostgreSQL that are away for
a moment, a collector that takes nothing, a relay that is killed, a configuration that cannot be
taken, clients that hold connections or speak no HTTP.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from dashboards.preview._crowd import Ask, call, try_call
from dashboards.preview._setting import BESIDE_CONNECTIONS_MAX
from tests.alerts._stack import wait
from tests.rig import Script
from tests.rig.taximeter import Taximeter
from tests.rig.upstream import Upstream
from tests.support.postgres import PostgresServer
from tests.support.redis import RedisServer
from tests.traces.collector import Answer, HttpCollector

_BEGIN, _END = 0.15, 0.85
"""Of the run: what was before, and what comes after, is plain traffic."""
_APART_SECONDS = 1.5
"""Between two of a kind: the first makes a series, which begins at 1; the second moves it."""
_COUNTER_SECONDS_MAX = 10.0
_STRANGER_SECONDS_MAX = 5.0
_REST_SECONDS = 3.0
"""From the last of them until all have been told of: relays do it once a second."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that can be put into trouble."""

    main: Taximeter
    beside: Taximeter
    azure: Upstream
    postgres: PostgresServer
    redis: RedisServer
    collector: HttpCollector


def happen(stage: Stage, seconds: float) -> None:
    """Let all troubles happen within so many seconds; each has its own moment.

    What one of them raises is raised when all are over.
    """
    began = time.monotonic()
    with ThreadPoolExecutor(len(_TROUBLES)) as threads:
        under_way = []
        for at, trouble in _moments(seconds):
            time.sleep(max(0.0, began + at - time.monotonic()))
            under_way.append(threads.submit(trouble, stage))
    for each in under_way:
        each.result()
    time.sleep(max(_REST_SECONDS, began + seconds - time.monotonic()))


def _moments(seconds: float) -> Iterator[tuple[float, Callable[[Stage], None]]]:
    step = seconds * (_END - _BEGIN) / len(_TROUBLES)
    for number, trouble in enumerate(_TROUBLES):
        yield seconds * _BEGIN + number * step, trouble


def _upstream_fails(stage: Stage) -> None:
    """Azure fails until its breaker has opened, and for a while more; then it is well again."""
    stage.azure.default = Script(status=503, first_byte_seconds=0.02)
    ask = Ask(path="/azure/v1/chat/completions", model="gpt-5.4", user="ann", team="search")
    until = time.monotonic() + 4
    while time.monotonic() < until:
        _at_once(stage.main, [ask] * 3)
        time.sleep(0.15)
    stage.azure.default = Script(first_byte_seconds=0.1)
    for _ in range(20):
        try_call(stage.main.port, ask)
        time.sleep(0.2)


def _upstream_says_wait(stage: Stage) -> None:
    """Azure answers 429 and names a time, twice."""
    for _ in range(2):
        stage.azure.queue(Script(status=429, headers=[("retry-after", "1")]))
        try_call(stage.main.port, Ask(path="/azure/v1/chat/completions", model="gpt-5.4-mini"))


def _limits_are_met(stage: Stage) -> None:
    """Budgets end, a tier's calls a minute are used up, inputs are too long, outputs cut down."""
    slow = Script(tokens=60, first_byte_seconds=0.05)
    for number in range(12):
        asks = [
            Ask(model="gpt-5.4", user="bob", team="search", script=slow),
            Ask(model="gpt-5.4", user="cho", team="support", script=slow),
            Ask(user="eve", team="labs", script=slow, words="lorem " * 300),
            Ask(user="fay", team="interns", words="lorem " * (900 if number == 3 else 5)),
        ]
        _at_once(stage.main, asks)


def _queue_fills(stage: Stage) -> None:
    """Five times as many calls as may go or wait: some wait, some in vain, some are refused."""
    slow = Script(first_byte_seconds=0.9)
    asks = [
        Ask(user=f"batch-{number % 5}", team="support", script=slow, stream=number % 2 == 0)
        for number in range(40)
    ]
    _at_once(stage.main, asks)


def _connections_are_short(stage: Stage) -> None:
    """More calls than connections to the house's own server; then it breaks."""
    _at_once(stage.main, [_house(Script(first_byte_seconds=0.6))] * 12)
    for _ in range(60):  # far more than went well in the breaker's window
        try_call(stage.main.port, _house(Script(status=503)))


def _house(script: Script) -> Ask:
    path = "/house/v1/chat/completions"
    return Ask(path=path, model="house-7b", user="dee", team="support", script=script)


def _answer_is_fetched_elsewhere(stage: Stage) -> None:
    """A run in the background is fetched through one Taximeter before the other has booked it."""
    recorder = _process(stage.beside, b"recorder")
    body = {"model": "gpt-5.4", "input": "hello", "background": True}
    ask = Ask(path="/v1/responses", body=body, user="ann", team="search")
    os.kill(recorder, signal.SIGSTOP)
    try:
        made = json.loads(call(stage.beside.port, ask))
        path = f"/v1/responses/{made['id']}"
        for _ in range(2):
            call(stage.main.port, Ask(method="GET", path=path, user="dee", team="support"))
        time.sleep(1.0)
    finally:
        os.kill(recorder, signal.SIGCONT)


def _answer_is_late(stage: Stage) -> None:
    """Azure does not begin in time, again and again; its fallback takes as long, and may."""
    late = Script(first_byte_seconds=2.7)
    ask = Ask(path="/azure/v1/chat/completions", model="gpt-5.4", stream=True, script=late)
    threads = []
    for _ in range(3):  # on a busy machine two of them may be told of as one
        threads += _start(stage.main, [ask])
        time.sleep(_APART_SECONDS)
    for thread in threads:
        thread.join()


def _streams_end_early(stage: Stage) -> None:
    """Upstreams are slow, break off, fall silent, say an error; clients leave, or come again."""
    scripts = (
        Script(cut_after_events=6, delta_seconds=0.02),
        Script(cut_after_events=3, cut="rst"),
        Script(error_after_events=4),
        Script(stall_after_events=5),
    )
    claude = Ask(path="/v1/messages", model="claude-sonnet-4-5", stream=True, user="ann")
    asks = [replace(claude, script=script) for script in scripts]
    asks += [Ask(stream=True, user="dee", script=script) for script in scripts[:3]]
    slow = Script(tokens=60, first_byte_seconds=0.3, delta_seconds=0.02)
    asks += [replace(claude, script=slow, leave_after_bytes=300)] * 2
    asks += [Ask(stream=True, user="dee", script=slow, leave_after_bytes=size) for size in (0, 300)]
    late = [Script(first_byte_seconds=seconds) for seconds in (2.7, 3.2, 3.9)]
    asks += [Ask(stream=True, user="dee", script=script) for script in late]
    asks += [Ask(user="dee", headers={"x-stainless-retry-count": "1"})] * 2
    asks += [Ask(user="dee", script=Script(status=400))] * 2
    _at_once(stage.main, asks)
    again = {"authorization": "Bearer sk-dee", "idempotency-key": "the-same"}
    for _ in range(3):
        try_call(stage.main.port, Ask(user="dee", headers=again))


def _usage_is_not_told(stage: Stage) -> None:
    """Tokens are counted here where nobody tells them, by a process that dies over the last."""
    ask = _house(Script(usage_missing=True))
    relay = _process(stage.main, b"relay")
    try_call(stage.main.port, ask)
    if not wait(lambda: bool(_children(relay)), _COUNTER_SECONDS_MAX):
        raise RuntimeError("nothing counts tokens")
    (counter,) = _children(relay)
    os.kill(counter, signal.SIGSTOP)
    try_call(stage.main.port, ask)
    time.sleep(0.3)
    os.kill(counter, signal.SIGKILL)


def _collector_takes_nothing(stage: Stage) -> None:
    """The collector fails, then says what it did not keep and what it never will."""
    stage.collector.default = Answer(status=503)
    time.sleep(2.5)
    stage.collector.say(Answer(status=400), Answer(rejected=3))
    stage.collector.default = Answer()


def _redis_hangs(stage: Stage) -> None:
    stage.redis.signal(signal.SIGSTOP)
    time.sleep(3)
    stage.redis.signal(signal.SIGCONT)


def _ledger_is_away(stage: Stage) -> None:
    stage.postgres.stop(kill=True)
    time.sleep(2)
    stage.postgres.start()


def _relay_dies(stage: Stage) -> None:
    """With streams under way, which are booked as interrupted."""
    script = Script(tokens=60, delta_seconds=0.1)
    asks = [Ask(stream=True, user="guest", team="guests", script=script) for _ in range(3)]
    threads = _start(stage.beside, asks)
    time.sleep(1.0)
    os.kill(_process(stage.beside, b"relay"), signal.SIGKILL)
    for thread in threads:
        thread.join()


def _configuration_is_broken(stage: Stage) -> None:
    assert stage.beside.process is not None
    text = stage.beside.configuration.read_text()
    stage.beside.configuration.write_text(text.replace('"listen"', '"lisen"'))
    stage.beside.process.send_signal(signal.SIGHUP)


def _strangers_knock(stage: Stage) -> None:
    """One speaks no HTTP; many hold connections, until there is no room for more."""
    for port in (stage.main.port, stage.beside.port):
        for _ in range(3):
            with contextlib.suppress(OSError), _connected(port) as one:
                one.sendall(b"\x16\x03\x01 hello\r\n\r\n")
                one.recv(100)
    with contextlib.ExitStack() as stack:
        for _ in range(BESIDE_CONNECTIONS_MAX + 4):
            with contextlib.suppress(OSError):
                stack.enter_context(_connected(stage.beside.port))
        time.sleep(2.5)


def _connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=_STRANGER_SECONDS_MAX)


_TROUBLES: Sequence[Callable[[Stage], None]] = (
    _answer_is_late,
    _usage_is_not_told,
    _redis_hangs,
    _limits_are_met,
    _upstream_fails,
    _answer_is_fetched_elsewhere,
    _collector_takes_nothing,
    _streams_end_early,
    _queue_fills,
    _relay_dies,
    _connections_are_short,
    _upstream_says_wait,
    _ledger_is_away,
    _strangers_knock,
    _configuration_is_broken,
)


def _at_once(meter: Taximeter, asks: Sequence[Ask]) -> None:
    for thread in _start(meter, asks):
        thread.join()


def _start(meter: Taximeter, asks: Sequence[Ask]) -> list[threading.Thread]:
    threads = [threading.Thread(target=try_call, args=(meter.port, ask)) for ask in asks]
    for thread in threads:
        thread.start()
    return threads


def _process(meter: Taximeter, kind: bytes) -> int:
    """Give the id of a Taximeter's process of a kind."""
    assert meter.process is not None
    for pid in _children(meter.process.pid):
        if kind in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            return pid
    raise RuntimeError(f"there is no {kind.decode()}")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
