"""One scripted run that a real Prometheus watches, and that every test here asks about."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.rig import Exchange
from tests.rig.taximeter import PLAIN, Taximeter
from tests.rig.upstream import Upstream
from tests.signals._prometheus import Prometheus
from tests.signals._run import PRICES, Seen, run


@dataclass(frozen=True)
class Watched:
    """A Taximeter after the scripted run, with all of it booked and scraped."""

    meter: Taximeter
    prometheus: Prometheus
    seen: list[Seen]
    rows: list[dict[str, Any]]
    served: list[Exchange]
    """What the upstream saw."""
    began_seconds: float


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    """The one scripted upstream of this folder."""
    with Upstream() as started:
        yield started


def taximeter(folder: Path, upstream: Upstream, **settings: Any) -> Taximeter:
    """Give a Taximeter before the upstream, one of either dialect, with prices."""
    upstreams = {
        name: {"url": upstream.url, "dialect": name, "provider": "fake", **PLAIN}
        for name in ("openai", "anthropic")
    }
    return Taximeter(folder, upstreams, prices=PRICES, **settings)


@pytest.fixture(scope="session")
def watched(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """The run, made once."""
    folder = tmp_path_factory.mktemp("watched")
    began = time.time()
    with (
        taximeter(folder, upstream, workers=2) as meter,
        Prometheus(folder, meter.console_port) as prometheus,
    ):
        upstream.reset()
        seen = run(meter.port)
        served = list(upstream.log)
        rows = meter.booked(len(seen))
        prometheus.wait_until("sum(taximeter_calls_total)", len(seen))
        yield Watched(meter, prometheus, seen, rows, served, began)
