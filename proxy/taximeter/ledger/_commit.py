"""A batch of entries into the ledger: all of it in one transaction, or none.

Exactly once rests on three things here. Rows go in together with the position up to which
the journal has been read, so a recorder that dies comes back to where its rows end. A row
whose id is there already is left alone, and adds nothing to any sum, so reading the same
records again changes nothing. And every commit carries a lease number that must still be
the present one of its scope, looked at under the write lock, so a recorder that was thought
dead and wakes up cannot write behind its successor's back.

A *scope* is a folder of journals. Recorders on several machines, each with its own journals,
share a ledger: each has the lead of its own scope, and sees no other's positions, calls under
way or notes.

A row the database will not take must not stop all others (it would be the same row at the
next try, and the next). So when an insert fails for the sake of its values, it is halved
until the one row is found; that one goes to `rejects`, and the rest go in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Connection, CursorResult, Dialect, Table, bindparam, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from taximeter.call import Fact
from taximeter.ledger._booking import settle
from taximeter.ledger._engine import Store
from taximeter.ledger._errors import LeaseLost, fault_of_data
from taximeter.ledger._rollup import SumKey, Sums, Tally, add, summed_of_row, upsert_text
from taximeter.ledger._rows import (
    Entry,
    Unfit,
    attempt_row,
    call_row,
    fit,
    is_call_id,
    record_bytes,
)
from taximeter.ledger._schema import (
    CALL_COLUMNS,
    attempts,
    calls,
    leases,
    notes,
    parked,
    positions,
    rejects,
)

ENTRIES_MAX = 5_000
"""Entries in a batch: bounds the time the write lock is held, and parameters of a statement."""

_RESPONSE_ID = CALL_COLUMNS.index("response_id")


class Position(msgspec.Struct, frozen=True, order=True):
    """How far a journal has been booked."""

    segment: int
    offset: int
    """Bytes of that segment."""


class Parked(msgspec.Struct, frozen=True):
    """A call whose opening has been read and whose end has not."""

    call_id: str
    journal: str
    record: bytes
    """The encoded `Opened`."""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What one commit changes. Applied in the order of its fields."""

    lease: int
    """The number `take_lead` gave."""
    scope: str = ""
    """The scope it gave it for."""
    entries: Sequence[Entry] = ()
    """At most `ENTRIES_MAX`."""
    forget: Sequence[str] = ()
    """Journals that are gone, whose positions are dropped."""
    positions: Mapping[str, Position] = {}
    """By journal. A position never goes back: the further one stays."""
    park: Sequence[Parked] = ()
    unpark: Sequence[str] = ()
    """Ids of calls that are no longer open."""


@dataclass(frozen=True)
class Committed:
    """What a commit did."""

    inserted: frozenset[str]
    """Ids of the calls that are new in the ledger."""
    repeated: frozenset[str]
    """Ids that were there already, and were left as they are."""
    rejected: Mapping[str, str]
    """Codes of the faults of calls that were set aside, by id."""
    sums: Mapping[SumKey, Sums] = field(default_factory=dict)
    """What the commit added to the hourly sums: counters fed from this agree with the ledger.

    Where a fetch hands its cost to the call that made the answer, one key loses what
    another gains.
    """
    cache_write_tokens: Mapping[SumKey, int] = field(default_factory=dict)
    """The same of the tokens written to a prompt cache, which `hourly` has no column for."""


@dataclass(frozen=True)
class RecorderState:
    """Where the recorder left off."""

    positions: dict[str, Position]
    parked: dict[str, Parked]
    """By call id."""
    notes: dict[str, bytes]


Note = Callable[[Committed], Mapping[str, bytes]]
"""Gives the recorder's own state as it is after this commit, to be kept with it."""


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


def commit(
    store: Store, statements: Statements, batch: Batch, note: Note | None = None
) -> Committed:
    """Write a batch. See `Ledger.commit`."""
    if len(batch.entries) > ENTRIES_MAX:
        raise ValueError(f"a batch has at most {ENTRIES_MAX} entries, not {len(batch.entries)}")
    pending = _Pending(batch.entries)
    for each in batch.park:
        if not is_call_id(each.call_id):
            pending.refuse(each.call_id, each.record)
    with store.writing() as connection:
        number = _lease(connection, batch.scope)
        if number != batch.lease:
            raise LeaseLost(batch.lease, number)
        repeated = pending.drop(_present(connection, list(pending.rows)))
        tally = Tally()
        _insert(connection, statements, pending, list(pending.rows))
        fetches, response_ids = [], []
        for call_id, row in pending.rows.items():
            tally.count(summed_of_row(row))
            if call_id in pending.fetches:
                fetches.append(call_id)
            elif row[_RESPONSE_ID] is not None:
                response_ids.append(row[_RESPONSE_ID])
        settle(connection, fetches, response_ids, tally)
        sums = tally.sums()
        add(connection, statements.add_sums, sums)
        _set_aside(connection, pending)
        _keep_state(connection, batch)
        committed = Committed(
            inserted=frozenset(pending.rows),
            repeated=frozenset(repeated),
            rejected=pending.rejected,
            sums=sums,
            cache_write_tokens=tally.cache_writes(),
        )
        if note is not None:
            statements.keep_notes(connection, batch.scope, note(committed))
    return committed


def take_lead(store: Store, owner: str, scope: str) -> int:
    """Become the one who books a scope. See `Ledger.take_lead`."""
    with store.writing() as connection:
        number = _lease(connection, scope) + 1
        taken = {"number": number, "owner": fit(owner), "taken_at_ns": time.time_ns()}
        insert = _inserting(connection, leases).values(scope=scope, **taken)
        connection.execute(insert.on_conflict_do_update(index_elements=["scope"], set_=taken))
    return number


def _lease(connection: Connection, scope: str) -> int:
    """Give the number of a scope's present lease; 0 if it never had one."""
    query = select(leases.c.number).where(leases.c.scope == scope)
    return connection.execute(query).scalar_one_or_none() or 0


def load(store: Store, scope: str) -> RecorderState:
    """Read where a scope's recorder left off. See `Ledger.load`."""
    with store.reading() as connection:

        def all_of(table: Table) -> CursorResult[Any]:
            return connection.execute(select(table).where(table.c.scope == scope))

        return RecorderState(
            positions={
                row.journal: Position(row.segment, row.byte_offset) for row in all_of(positions)
            },
            parked={
                row.call_id: Parked(row.call_id, row.journal, bytes(row.record))
                for row in all_of(parked)
            },
            notes={row.name: bytes(row.value) for row in all_of(notes)},
        )


class _Pending:
    """The entries of a batch as rows, less those that turn out to be known or unfit."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.rows: dict[str, tuple[Any, ...]] = {}
        self.attempts: dict[str, list[tuple[Any, ...]]] = {}
        self.fetches: set[str] = set()
        self.rejected: dict[str, str] = {}
        self._entries: dict[str, Entry] = {}
        self._records: dict[str, bytes] = {}
        for entry in entries:
            call_id = entry.call_id
            if call_id in self._entries:
                continue  # the first of two in one batch counts, as it would in two batches
            self._entries[call_id] = entry
            try:
                row = call_row(entry)
                tries = {each.number: attempt_row(call_id, each) for each in entry.closed.attempts}
            except Unfit as unfit:
                self.rejected[call_id] = unfit.args[0]
                continue
            self.rows[call_id] = row
            self.attempts[call_id] = list(tries.values())
            if Fact.FETCHED in entry.closed.facts:
                self.fetches.add(call_id)

    def drop(self, known: set[str]) -> set[str]:
        for call_id in known:
            del self.rows[call_id]
        return known

    def reject(self, call_id: str, reason: str) -> None:
        del self.rows[call_id]
        self.rejected[call_id] = reason

    def refuse(self, call_id: str, record: bytes) -> None:
        """Set a call under way aside whose id is none."""
        self.rejected[call_id] = "bad_call_id"
        self._records[call_id] = record

    def record(self, call_id: str) -> bytes | None:
        return self._records.get(call_id) or record_bytes(self._entries[call_id])


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


def _present(connection: Connection, call_ids: list[str]) -> set[str]:
    """Tell which calls the ledger has. There is one writer, so it stays true until commit."""
    if not call_ids:
        return set()
    return set(connection.execute(select(calls.c.id).where(calls.c.id.in_(call_ids))).scalars())


def _insert(
    connection: Connection, statements: Statements, pending: _Pending, call_ids: list[str]
) -> None:
    """Insert calls with their attempts; set aside those the database will not take."""
    if not call_ids:
        return
    rows = [pending.rows[call_id] for call_id in call_ids]
    tries = [attempt for call_id in call_ids for attempt in pending.attempts[call_id]]
    try:
        with connection.begin_nested():
            statements.insert(connection, rows, tries)
    except Exception as error:  # of SQLAlchemy, of the driver or of a value: told apart here
        reason = fault_of_data(error)
        if reason is None:
            raise
        if len(call_ids) == 1:
            pending.reject(call_ids[0], reason)
            return
        middle = len(call_ids) // 2
        _insert(connection, statements, pending, call_ids[:middle])
        _insert(connection, statements, pending, call_ids[middle:])


def _set_aside(connection: Connection, pending: _Pending) -> None:
    if not pending.rejected:
        return
    now_ns = time.time_ns()
    rows = [
        {
            "call_id": fit(call_id),
            "rejected_at_ns": now_ns,
            "reason": reason,
            "record": pending.record(call_id),
        }
        for call_id, reason in pending.rejected.items()
    ]
    connection.execute(_inserting(connection, rejects).on_conflict_do_nothing(), rows)


def _keep_state(connection: Connection, batch: Batch) -> None:
    if batch.forget:
        gone = positions.c.journal.in_(batch.forget) & (positions.c.scope == batch.scope)
        connection.execute(delete(positions).where(gone))
    if batch.positions:
        insert = _inserting(connection, positions)
        new = insert.excluded
        further = or_(
            positions.c.segment < new.segment,
            (positions.c.segment == new.segment) & (positions.c.byte_offset < new.byte_offset),
        )
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=["journal"],
                set_={"segment": new.segment, "byte_offset": new.byte_offset},
                where=further,
            ),
            [
                {
                    "journal": name,
                    "scope": batch.scope,
                    "segment": each.segment,
                    "byte_offset": each.offset,
                }
                for name, each in batch.positions.items()
            ],
        )
    opened = [
        {
            "call_id": each.call_id,
            "scope": batch.scope,
            "journal": each.journal,
            "record": each.record,
        }
        for each in batch.park
        if is_call_id(each.call_id)
    ]
    if opened:
        connection.execute(_inserting(connection, parked).on_conflict_do_nothing(), opened)
    ended = [{"gone": call_id} for call_id in batch.unpark if is_call_id(call_id)]
    if ended:
        connection.execute(delete(parked).where(parked.c.call_id == bindparam("gone")), ended)


def _inserting(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Begin an INSERT that can say what to do with a row that is there already."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)
