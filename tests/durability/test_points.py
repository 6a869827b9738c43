"""D1, D2, D5: a process dies at every named fault point, and the books are whole."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from taximeter.fault_points import FAULT_POINTS, FaultPoint, Room
from tests.durability._load import PRICES
from tests.rig import Script, checkers, write_script
from tests.rig.length import pick
from tests.rig.nursery import Nursery
from tests.rig.tally import Tally
from tests.rig.taximeter import read_rows
from tests.rig.upstream import Upstream

ONCE = {"journal.begin", "journal.segment", "migrate", "lead", "load", "step"}
"""Places that a process comes by once."""
TIMES: tuple[int, ...] = pick((2,), (1, 2, 3, 4))
CALLS = 8
POINTS = [(point, nth) for point in FAULT_POINTS for nth in ((1,) if point.name in ONCE else TIMES)]


def points_of(room: Room) -> pytest.MarkDecorator:
    """Have a test run for each point that a process comes by."""
    return pytest.mark.parametrize(
        "point", [point for point in FAULT_POINTS if point.room is room], ids=str
    )


def times_of(point: FaultPoint) -> tuple[int, ...]:
    """Give at which of the times that it is come by the process is to die."""
    return (1,) if point.name in ONCE else TIMES


@dataclass(slots=True)
class Seen:
    """What a client saw of one call."""

    number: int
    call_id: str | None = None
    whole: bool = False


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """One upstream for all."""
    with Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """One nursery for all."""
    with Nursery(tmp_path_factory.mktemp("nursery")) as running:
        yield running


def settings_of(folder: Path, upstream: Upstream) -> dict[str, Any]:
    """Give a configuration under which all places are come by soon."""
    return {
        "data_dir": str(folder),
        "upstreams": {"openai": {"url": upstream.url, "dialect": "openai"}},
        "prices": PRICES,
        "journal": {"sync": "always"},
        "recorder": {"batch_rows_max": 1},
    }


def call(port: int, number: int, script: Script | None = None) -> Seen:
    """Make a call; give what came of it."""
    seen = Seen(number)
    stream = number % 2 == 0
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"x-taximeter-tags": f"n={number}"}
    if script is not None:
        headers["x-rig"] = write_script(script)
    body = {"model": "fake-large", "stream": stream, "messages": [{"role": "user", "content": "a"}]}
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        seen.call_id = answer.headers["x-taximeter-call-id"]
        text = answer.read()
        seen.whole = answer.status == 200 and (not stream or text.endswith(b"data: [DONE]\n\n"))
    return seen


def held_to_the_books(folder: Path, seen: list[Seen], arrived: int) -> None:
    """Hold the ledger to what clients and the upstream saw."""
    rows = read_rows(folder / "ledger.db")
    checkers.closes_once(rows)
    checkers.booked_as_seen(seen, rows, arrived=arrived)
    checkers.outcomes_within(rows, checkers.OUTCOMES)
    checkers.sums_agree(folder / "ledger.db")
    assert list((folder / "journal").glob("*/*.journal")) == [], "a journal was left behind"


@points_of(Room.RELAY)
def test_a_relay_may_die_at_any_point(
    point: FaultPoint, tmp_path: Path, upstream: Upstream, nursery: Nursery, tally: Tally
) -> None:
    """D1: killed before or after every step of a call, each answered call is booked once."""
    upstream.reset()
    settings = settings_of(tmp_path, upstream)
    seen: list[Seen] = []
    for nth in times_of(point):
        relay = nursery.relay(settings, point=str(point), nth=nth)
        if relay.port:
            seen += [call(relay.port, len(seen) + n) for n in range(CALLS)]
        assert nursery.wait(relay) == -signal.SIGKILL, f"nobody comes by {point}"
        tally.add("kills")
    again = nursery.relay(settings)
    seen += [call(again.port, len(seen) + n) for n in range(2)]
    assert all(each.whole for each in seen[-2:])
    os.kill(again.pid, signal.SIGTERM)
    assert nursery.wait(again) == 0
    assert nursery.wait(nursery.recorder(settings)) == 0, nursery.log_text()
    held_to_the_books(tmp_path, seen, len(upstream.log))


@dataclass(frozen=True)
class Dead:
    """The folder of a relay that was killed with calls under way, and what was seen of it."""

    folder: Path
    seen: list[Seen]
    arrived: int


@pytest.fixture(scope="module")
def dead(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream, nursery: Nursery) -> Dead:
    """Four journals to be booked, of whole calls and broken ones: each takes a commit."""
    upstream.reset()
    folder = tmp_path_factory.mktemp("dead")
    seen: list[Seen] = []
    for _ in range(4):
        relay = nursery.relay(settings_of(folder, upstream))
        seen += [call(relay.port, len(seen) + n) for n in range(3)]
        seen.append(call(relay.port, len(seen), Script(cut_after_events=1)))
        nursery.kill(relay)
    return Dead(folder, seen, len(upstream.log))


@points_of(Room.RECORDER)
def test_a_recorder_may_die_at_any_point(
    point: FaultPoint,
    dead: Dead,
    tmp_path: Path,
    upstream: Upstream,
    nursery: Nursery,
    tally: Tally,
) -> None:
    """D2, D5: killed before or after every step of booking, the next one books the rest, once."""
    for nth in times_of(point):
        folder = tmp_path / str(nth)
        shutil.copytree(dead.folder, folder)
        settings = settings_of(folder, upstream)
        first = nursery.recorder(settings, point=str(point), nth=nth)
        assert nursery.wait(first) == -signal.SIGKILL, f"nobody comes by {point}"
        tally.add("kills")
        for _ in range(min(nth, 2)):  # whoever has nothing left to do doubles nothing
            assert nursery.wait(nursery.recorder(settings)) == 0, nursery.log_text()
        held_to_the_books(folder, dead.seen, dead.arrived)
