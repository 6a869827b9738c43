"""A folder of a test's own for its spools, and collectors."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.traces import make
from tests.traces.collector import GrpcCollector, HttpCollector


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have tracers keep their spools in this test's folder."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(make, "DATA_DIR", folder)
    return folder


@pytest.fixture
def http() -> Iterator[HttpCollector]:
    """A collector over HTTP."""
    with HttpCollector() as started:
        yield started


@pytest.fixture
def over_grpc() -> Iterator[GrpcCollector]:
    """A collector over gRPC."""
    with GrpcCollector() as started:
        yield started


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    """Whatever happened, closing ends the exporter's thread."""
    yield
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        if not [each for each in threading.enumerate() if each.name == "traces"]:
            return
        time.sleep(0.01)
    raise AssertionError("an exporter's thread is left")
