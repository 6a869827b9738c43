"""The schema's versions: which one a database has, and how it gets the newest.

Migrations only ever add, so a program one version back goes on working beside a new one.
All that are due run in one transaction: both engines roll changes of tables back, so a
migration that is killed leaves the ledger as it was, and running it again is all it takes.
On PostgreSQL an advisory lock keeps two that start at once apart; on SQLite the write lock.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from sqlalchemy import column, inspect, select, table, text

from taximeter.ledger._engine import Store
from taximeter.ledger._errors import LedgerSchemaError

REVISIONS = ("0001", "0002", "0003")
"""Every version of the schema, oldest first. A test holds them against the migrations."""

_SCRIPTS = Path(__file__).parent / "_migrations"
# Any number, as long as it is ours and stays the same: the letters 'taxi' in ASCII.
_ADVISORY_LOCK = 0x74617869
_LOCK_SECONDS_MAX = 600
"""A migration of a large ledger may take minutes; one that waits for it waits as long."""

_version = table("alembic_version", column("version_num"))

MigrateProgress = Callable[[str], object]
"""Is told each version that has been reached."""


class SchemaState(StrEnum):
    """How a database's schema stands to this program."""

    EMPTY = "empty"
    """There is none yet."""
    OLD = "old"
    """It lacks migrations this program has."""
    CURRENT = "current"
    NEWER = "newer"
    """It has migrations this program does not know."""


def schema_state(store: Store) -> SchemaState:
    """Tell how the database stands. Changes nothing, and makes no file."""
    if not store.exists():
        return SchemaState.EMPTY
    with store.reading() as connection:
        if not inspect(connection).has_table(_version.name):
            return SchemaState.EMPTY
        version = connection.execute(select(_version.c.version_num)).scalar_one_or_none()
    if version is None:
        return SchemaState.EMPTY
    if version == REVISIONS[-1]:
        return SchemaState.CURRENT
    return SchemaState.OLD if version in REVISIONS else SchemaState.NEWER


def require_current(store: Store) -> None:
    """Check that this program can work with the database.

    Raises:
        LedgerSchemaError: if it cannot; the hint says what to do.
    """
    state = schema_state(store)
    if state is SchemaState.NEWER:
        raise LedgerSchemaError(
            f"The ledger {store.place} was made by a newer Taximeter.",
            "Install that version or a later one, or set `ledger` to another database.",
        )
    if state is not SchemaState.CURRENT:
        said = "has no tables yet" if state is SchemaState.EMPTY else "is of an older version"
        raise LedgerSchemaError(
            f"The ledger {store.place} {said}.", "Run `taximeter ledger migrate`."
        )


def migrate(store: Store, progress: MigrateProgress | None = None) -> None:
    """Bring the schema up to date. See `Ledger.migrate`."""
    # Alembic takes a third of a second to import, and most starts need no migration.
    from alembic import command
    from alembic.config import Config

    if schema_state(store) is SchemaState.NEWER:
        require_current(store)
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with store.altering() as connection:
        if not store.is_sqlite:
            connection.execute(text(f"SET LOCAL statement_timeout = '{_LOCK_SECONDS_MAX}s'"))
            connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS_MAX}s'"))
            connection.execute(
                text("SELECT pg_advisory_xact_lock(:number)"), {"number": _ADVISORY_LOCK}
            )
        config.attributes["connection"] = connection
        config.attributes["progress"] = progress
        command.upgrade(config, "head")
