"""Every test here runs over each way, and must not be able to tell which."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients._bench import Bench
from tests.clients._ways import Way
from tests.rig import Script
from tests.rig.taximeter import PLAIN, Taximeter
from tests.rig.upstream import Upstream

WAYS = ("direct", "through")


@pytest.fixture(scope="session")
def running() -> Iterator[Upstream]:
    """The one scripted upstream of this folder."""
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def meter(running: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Taximeter]:
    """The one Taximeter of this folder: an upstream of each dialect, and one left as it is."""
    dialects = ("openai", "anthropic", "gemini", "ollama")
    upstreams = {name: {"url": running.url, "dialect": name, **PLAIN} for name in dialects}
    upstreams["exact"] = {**upstreams["openai"], "usage": "observe"}
    with Taximeter(tmp_path_factory.mktemp("meter"), upstreams) as started:
        yield started


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, running: Upstream) -> Iterator[Way]:
    """A way to an upstream that has seen nothing yet."""
    running.reset()
    running.default = Script()
    if request.param == "direct":
        yield Way(running.url, running)
        return
    meter: Taximeter = request.getfixturevalue("meter")
    yield Way(meter.url, running, meter, time.time_ns())


@pytest.fixture
def bench(running: Upstream, meter: Taximeter) -> Bench:
    """The folder's upstream and Taximeter, with nothing seen yet."""
    running.reset()
    running.default = Script()
    return Bench(running, meter)


@pytest.fixture
def own(running: Upstream, tmp_path: Path) -> Iterator[Bench]:
    """A Taximeter of the test's own, to be killed or drained; it pings after a second."""
    running.reset()
    running.default = Script()
    upstreams = {"openai": {"url": running.url, "dialect": "openai"}}
    with Taximeter(tmp_path, upstreams, relay={"ping_seconds": 1}) as meter:
        yield Bench(running, meter)
