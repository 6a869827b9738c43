"""The rim: connections, transactions, time limits. Nothing here knows what is stored.

Two engines are spoken to. They differ in how one writer is kept from another:

* **SQLite**: WAL, so that readers never wait for the writer. A writing transaction begins
  with `BEGIN IMMEDIATE`, that is with the write lock. `synchronous=FULL`: a commit has
  reached the disk when it returns. NORMAL would be faster and may lose the last commits in
  a power cut, and by then the journal may already have deleted what they held.
* **PostgreSQL**: a writing transaction begins by locking one certain row of `leases`, which
  gives the same order. Every wait has a limit on the server's side, and TCP notices a
  server that has vanished.

So all writing to a ledger is one transaction after another, whoever writes: the recorders (one
for each folder of journals, on one machine or many), a re-pricing, a pruning.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from taximeter.ledger._errors import LedgerSchemaError, LedgerUnavailable, translate
from taximeter.ledger._schema import leases

CONNECT_SECONDS_MAX = 5
STATEMENT_SECONDS_MAX = 30
LOCK_SECONDS_MAX = 10
"""How long a transaction waits for another; on SQLite the busy timeout."""
IDLE_IN_TRANSACTION_SECONDS_MAX = 60
"""After this the server ends a transaction whose client has stopped: it holds the lock."""
_CONNECTIONS_MAX = 4
_WAL_PAGES_CHECKPOINT = 1000

LOCK_SCOPE = ""
"""Names the row of `leases` that is the lock. It is there from the first migration on."""


class Store:
    """A database and how to speak to it."""

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError:
            # The text may hold a password, so it is not repeated.
            raise LedgerSchemaError(
                "The ledger's URL cannot be read.",
                "Use sqlite:////path/ledger.db or postgresql+psycopg://user@host/database.",
            ) from None
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        self.place = parsed.render_as_string(hide_password=True)
        if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
            self.path: Path | None = _sqlite_path(parsed)
            self.engine = _sqlite_engine(parsed)
        elif parsed.drivername == "postgresql+psycopg":
            self.path = None
            self.engine = _postgres_engine(parsed)
        else:
            raise LedgerSchemaError(
                f"A ledger cannot be kept in {parsed.get_backend_name()}.",
                "Use sqlite:////path/ledger.db or postgresql+psycopg://user@host/database.",
            )

    @property
    def is_sqlite(self) -> bool:
        return self.path is not None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that sees one state of the ledger.

        Raises:
            LedgerUnavailable, LedgerSchemaError: as translated.
        """
        with self._translated(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that holds the write lock.

        Raises:
            LedgerUnavailable: also when the lock is not had in time.
            LedgerSchemaError: if the schema is not there.
        """
        with self._translated(), self.engine.connect() as connection:
            connection = connection.execution_options(taximeter_writes=True)
            with connection.begin():
                lock = select(leases.c.scope).where(leases.c.scope == LOCK_SCOPE)
                if connection.execute(lock.with_for_update()).first() is None:
                    raise LedgerSchemaError(
                        f"The ledger {self.place} lacks its lock.",
                        "Run `taximeter ledger migrate`.",
                    )
                yield connection

    @contextmanager
    def altering(self) -> Iterator[Connection]:
        """Open a transaction for changes of the schema; makes the SQLite file if need be."""
        if self.path is not None:
            _make_private_file(self.path)
        with self._translated(), self.engine.connect() as connection:
            connection = connection.execution_options(taximeter_writes=True)
            with connection.begin():
                yield connection

    def give_pages_back(self, pages_max: int) -> None:
        """Give free pages of an SQLite file back to the disk; on a server its vacuum does."""
        if self.path is None:
            return
        with self._translated():
            raw = self.engine.raw_connection()
            try:
                # A script, for that runs to its end. A cursor would stop after one page: the
                # statement yields a row without columns for each.
                raw.cursor().executescript(f"PRAGMA incremental_vacuum({pages_max})")
            finally:
                raw.close()

    def exists(self) -> bool:
        """Tell whether there is a database at all; True for one on a server."""
        return self.path is None or self.path.exists()

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        if not self.exists():
            # Connecting would make an empty file, which then looks like a ledger gone wrong.
            raise LedgerSchemaError(
                f"There is no ledger at {self.path}.",
                "It is made by `taximeter serve`, or by `taximeter ledger migrate`.",
            )
        driver = self.engine.dialect.loaded_dbapi
        try:
            yield
        except (DBAPIError, PoolTimeout, driver.Error) as error:
            raise translate(error, self.place) from None


def _sqlite_path(url: URL) -> Path:
    database = url.database
    if not database or database == ":memory:" or database.startswith("file:"):
        raise LedgerSchemaError(
            "An SQLite ledger must be a file.", "Use sqlite:////absolute/path/ledger.db."
        )
    return Path(database)


def _make_private_file(path: Path) -> None:
    """Make an empty file only its owner may read; SQLite's side files take after it.

    One that is there is not touched. To close any handle of a file takes from the process all the
    locks it has on that file (POSIX wants it so), those of SQLite's open connections too: the next
    process to close the ledger would think itself the last, and delete the log that this one
    goes on writing to.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise LedgerUnavailable(
            f"The ledger {path} cannot be made: {error.strerror}.",
            "Its folder must be one that Taximeter's user may write to.",
        ) from error


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=_CONNECTIONS_MAX,
        max_overflow=0,
        pool_timeout=LOCK_SECONDS_MAX,
        # isolation_level None: BEGIN is said by us, below, and not guessed by the driver.
        connect_args={"timeout": LOCK_SECONDS_MAX, "isolation_level": None},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        # Only a new database takes this; it lets pruning give space back to the disk.
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES_CHECKPOINT}")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("taximeter_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgres_engine(url: URL) -> Engine:
    arguments: dict[str, Any] = {
        "application_name": "taximeter",
        "connect_timeout": CONNECT_SECONDS_MAX,
        # A server that vanished without a word is noticed within half a minute.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": STATEMENT_SECONDS_MAX * 1000,
        "options": " ".join(
            f"-c {name}={value}"
            for name, value in (
                ("statement_timeout", f"{STATEMENT_SECONDS_MAX}s"),
                ("lock_timeout", f"{LOCK_SECONDS_MAX}s"),
                (
                    "idle_in_transaction_session_timeout",
                    f"{IDLE_IN_TRANSACTION_SECONDS_MAX}s",
                ),
                # Once a commit has been answered the journal lets go of what it held. So on a
                # server that was told to answer early, for speed, ours still wait for the disk.
                ("synchronous_commit", "on"),
            )
        ),
    }
    for name in url.query:
        arguments.pop(name, None)  # what the URL says wins
    return create_engine(
        url,
        hide_parameters=True,
        pool_size=_CONNECTIONS_MAX,
        max_overflow=0,
        pool_timeout=LOCK_SECONDS_MAX,
        pool_pre_ping=True,
        connect_args=arguments,
    )
