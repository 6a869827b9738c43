"""What can go wrong with a ledger, said in our own words.

Errors of SQLAlchemy, sqlite3 and psycopg are told apart here and nowhere else. The question
that matters is whose fault it was:

* the *database's* (down, locked, full, too slow): `LedgerUnavailable`. Nothing was written;
  the same call may be made again later.
* the *schema's* (not made yet, older, newer): `LedgerSchemaError`. A person must act.
* the *row's* (a value the database cannot hold): `fault_of_data` names it, and the commit
  sets that row aside. Elsewhere than in a row it is a fault of ours,
  a plain `LedgerError`.

A driver's message can quote the values of a row, so messages are passed on only for faults
of the first two kinds, one line of them, and the chain of causes is cut.
"""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import StatementError

_MESSAGE_CHARACTERS_MAX = 200

# Primary result codes of SQLite (https://www.sqlite.org/rescode.html).
_SQLITE_DATA = frozenset(
    {sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH}
)
_SQLITE_HINTS = {
    sqlite3.SQLITE_BUSY: "Another process holds the write lock; it is tried again.",
    sqlite3.SQLITE_LOCKED: "Another connection holds the table; it is tried again.",
    sqlite3.SQLITE_READONLY: "Taximeter's user needs the right to write this file and its folder.",
    sqlite3.SQLITE_IOERR: "The disk failed to read or write; look at the system's log.",
    sqlite3.SQLITE_CORRUPT: "The file is damaged: try `sqlite3 FILE .recover`, or restore a copy.",
    sqlite3.SQLITE_NOTADB: "The file is not an SQLite database: point `ledger` somewhere else.",
    sqlite3.SQLITE_FULL: "The disk is full; the journal keeps the calls until there is room.",
    sqlite3.SQLITE_CANTOPEN: "The folder must exist, and Taximeter's user may write to it.",
}

# Classes of SQLSTATE (PostgreSQL manual, appendix A).
_POSTGRES_DATA = frozenset({"22", "23", "54"})
_POSTGRES_SCHEMA = frozenset({"42", "3F"})
_POSTGRES_HINTS = {
    "42501": "Grant the ledger's role the right to use its schema and tables.",
    "57014": "A statement took longer than the limit; look for locks and load on the server.",
    "55P03": "A lock was not had in time; look for long transactions on the server.",
    "53100": "The server's disk is full; the journal keeps the calls until there is room.",
    "3D000": "Create the database, or correct its name in `ledger`.",
}
_MIGRATE_HINT = "Run `taximeter ledger migrate`."


class LedgerError(Exception):
    """A ledger could not do what was asked.

    `hint` says what the person who reads it can do; it is part of the message, too.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message} {hint}" if hint else message)
        self.hint = hint


class LedgerUnavailable(LedgerError):
    """The database is down, locked, full or too slow. Nothing was written; try again later."""


class LedgerSchemaError(LedgerError):
    """The schema is missing, older than this program needs, or newer than it knows."""


class LeaseLost(LedgerError):
    """Another recorder has taken the lead. Nothing was written; this one must stop writing."""

    def __init__(self, held: int, current: int) -> None:
        super().__init__(
            f"The lease {held} to write this ledger has passed on; the present one is {current}.",
            "Another recorder leads: this one must wait or end.",
        )
        self.held = held
        self.current = current


def fault_of_data(error: BaseException) -> str | None:
    """Name the fault if it lies in the values of a row, as a short code; else None."""
    cause = error.orig if isinstance(error, StatementError) else error
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in _SQLITE_DATA:
            return str(cause.sqlite_errorname).lower()
        # A value of a type that cannot be bound has no code of SQLite's.
        if code is None and isinstance(cause, sqlite3.InterfaceError | sqlite3.ProgrammingError):
            return "unbindable"
        return None
    if isinstance(cause, OverflowError | ValueError | TypeError):
        return type(cause).__name__.lower()
    state = getattr(cause, "sqlstate", None)
    if state is not None and state[:2] in _POSTGRES_DATA:
        return f"sqlstate_{state}"
    if state is None and type(cause).__name__ == "DataError":
        return "unbindable"  # refused by psycopg before it was sent
    return None


def translate(error: Exception, place: str) -> LedgerError:
    """Turn a foreign error into one of ours. `place` names the database, without password."""
    cause = getattr(error, "orig", None) or error
    message = str(cause).strip().splitlines()[0][:_MESSAGE_CHARACTERS_MAX] if str(cause) else ""
    said = message.rstrip(".") or type(cause).__name__
    fault = fault_of_data(error)
    if fault is not None:
        # Rows are set aside where they are inserted, so no value should fail elsewhere.
        return LedgerError(
            f"The ledger {place} refused a value ({fault}).", "This is a fault of Taximeter's."
        )
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_ERROR and said.startswith("no such "):
            return LedgerSchemaError(f"The ledger {place} lacks a part: {said}.", _MIGRATE_HINT)
        hint = _SQLITE_HINTS.get((code or 0) & 0xFF, "")
        return LedgerUnavailable(f"The ledger {place} cannot be used: {said}.", hint)
    state = getattr(cause, "sqlstate", None) or ""
    if state[:2] in _POSTGRES_SCHEMA and state != "42501":
        return LedgerSchemaError(f"The ledger {place} lacks a part: {said}.", _MIGRATE_HINT)
    hint = _POSTGRES_HINTS.get(state, "Check that the server runs and that `ledger` is right.")
    return LedgerUnavailable(f"The ledger {place} cannot be used: {said}.", hint)
