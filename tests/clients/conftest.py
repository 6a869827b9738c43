"""Every test here runs over each way, and must not be able to tell which."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.clients._ways import Way
from tests.rig import Script
from tests.rig.taximeter import Taximeter
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
    upstreams = {name: {"url": running.url, "dialect": name} for name in dialects}
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
