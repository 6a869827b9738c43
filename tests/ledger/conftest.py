"""Every test of the ledger runs on both engines, each time in a database of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from taximeter.ledger import Ledger
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests; each test has a database of its own in it."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    """The two engines, one after the other."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def migrated(
    engine: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The URL of a ledger with tables and no rows, to be copied: migrating takes a while."""
    if engine == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db"
    else:
        url = request.getfixturevalue("postgres").make_database()
    ledger = Ledger.open(url)
    ledger.migrate()
    ledger.close()
    return url


@pytest.fixture
def empty_url(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with nothing in it."""
    if engine == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.make_database()
    yield url
    server.drop_database(url)


@pytest.fixture
def url(
    engine: str, migrated: str, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[str]:
    """The URL of a ledger with tables and no rows."""
    if engine == "sqlite":
        shutil.copyfile(migrated.removeprefix("sqlite:///"), tmp_path / "ledger.db")
        yield f"sqlite:///{tmp_path}/ledger.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.make_database(like=migrated)
    yield url
    server.drop_database(url)


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """A ledger with its tables, and no rows."""
    ledger = Ledger.open(url)
    yield ledger
    ledger.close()
