"""A data folder for each test, with an SQLite ledger of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from taximeter.ledger import Ledger
from tests.recorder.make import World


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with tables and no rows, to be copied: migrating takes a while."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    ledger = Ledger.open(f"sqlite:///{path}")
    ledger.migrate()
    ledger.close()
    return path


@pytest.fixture
def world(empty_ledger: Path, tmp_path: Path) -> Iterator[World]:
    """A data folder with an empty ledger and no journals."""
    shutil.copyfile(empty_ledger, tmp_path / "ledger.db")
    made = World(tmp_path)
    yield made
    made.ledger.close()
