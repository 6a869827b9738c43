"""Statements that SQLAlchemy alone does not make, or not fast enough. Made from the tables only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Dialect, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from taximeter.ledger._rollup import upsert_text
from taximeter.ledger._schema import attempts, calls, notes


class Statements:
    """The hot statements of a commit, compiled once for an engine.

    SQLAlchemy's own executemany spends more time on a row's parameters than SQLite spends
    on the row, and PostgreSQL more on a statement a row than on the row: COPY takes a tenth
    of it. So rows go to the drivers as tuples, with statements made from the tables and
    never from data. Those in a batch that are there already have been taken out before.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._copies = dialect.name == "postgresql"
        if self._copies:
            # Parameters by place, so that rows are tuples here as they are on SQLite.
            dialect = PGDialect_psycopg(paramstyle="format")  # type: ignore[no-untyped-call]
        make = _copy_text if self._copies else _insert_text
        self._calls = make(calls, dialect)
        self._attempts = make(attempts, dialect)
        self.add_sums = upsert_text(dialect)
        self._keep_notes = _notes_text(dialect)

    def insert(
        self, connection: Connection, rows: list[tuple[Any, ...]], tries: list[tuple[Any, ...]]
    ) -> None:
        """Insert rows of `calls` and of `attempts`, in the order of their columns."""
        for statement, some in ((self._calls, rows), (self._attempts, tries)):
            if self._copies:
                cursor: Any = connection.connection.cursor()  # psycopg's: DB-API has no COPY
                with cursor, cursor.copy(statement) as copy:
                    for row in some:
                        copy.write_row(row)
            elif some:
                connection.exec_driver_sql(statement, some)

    def keep_notes(self, connection: Connection, scope: str, kept: Mapping[str, bytes]) -> None:
        """Put notes in the place of those of the same names."""
        if kept:
            rows = [(scope, name, value) for name, value in kept.items()]
            connection.exec_driver_sql(self._keep_notes, rows)


def _copy_text(table: Table, dialect: Dialect) -> str:
    quote = dialect.identifier_preparer.quote
    columns = ", ".join(quote(column.name) for column in table.columns)
    return f"COPY {quote(table.name)} ({columns}) FROM STDIN"


def _insert_text(table: Table, dialect: Dialect) -> str:
    columns = [column.name for column in table.columns]
    return str(sqlite.insert(table).compile(dialect=dialect, column_keys=columns))


def _notes_text(dialect: Dialect) -> str:
    make = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
    insert = make(notes)
    upsert = insert.on_conflict_do_update(
        index_elements=["scope", "name"], set_={"value": insert.excluded.value}
    )
    columns = [column.name for column in notes.columns]
    return str(upsert.compile(dialect=dialect, column_keys=columns))


def inserting(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Begin an INSERT that can say what to do with a row that is there already."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)
