"""A batch of entries into the ledger: all of it in one transaction, or none.

Exactly once rests on three things here. Rows go in together with the position up to which
the journal has been read, so a recorder that dies comes back to where its rows end. A row
whose id is there already is left alone, and adds nothing to any sum, so reading the same
records again changes nothing. And every commit carries a lease number that must still be
the present one of its scope, looked at under the write lock, so a recorder that was thought
dead and wakes up cannot write behind its successor's back (`_state`).

A row the database will not take must not stop all others (it would be the same row at the
next try, and the next). So when an insert fails for the sake of its values, it is halved
until the one row is found; that one goes to `rejects`, and the rest go in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from taximeter.call import Fact
from taximeter.ledger._booking import settle
from taximeter.ledger._engine import Store
from taximeter.ledger._errors import fault_of_data
from taximeter.ledger._rollup import SumKey, Sums, Tally, add, summed_of_row
from taximeter.ledger._rows import (
    Entry,
    Unfit,
    attempt_row,
    call_row,
    fit,
    is_call_id,
    record_bytes,
)
from taximeter.ledger._schema import CALL_COLUMNS, calls, rejects
from taximeter.ledger._state import Parked, Position, check_lease, keep_state
from taximeter.ledger._statements import Statements, inserting

ENTRIES_MAX = 5_000
"""Entries in a batch: bounds the time the write lock is held, and parameters of a statement."""

_RESPONSE_ID = CALL_COLUMNS.index("response_id")


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
    set_aside: Sequence[bytes] = ()
    """Records that could not be read, for `rejects`."""


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


Note = Callable[[Committed], Mapping[str, bytes]]
"""Gives the recorder's own state as it is after this commit, to be kept with it."""


def commit(
    store: Store, statements: Statements, batch: Batch, note: Note | None = None
) -> Committed:
    """Write a batch. See `Ledger.commit`."""
    if len(batch.entries) > ENTRIES_MAX:
        raise ValueError(f"a batch has at most {ENTRIES_MAX} entries, not {len(batch.entries)}")
    pending = _Pending(batch.entries)
    for each in batch.park:
        if not is_call_id(each.call_id):
            pending.refuse(each.call_id, each.record, "bad_call_id")
    for record in batch.set_aside:
        # The same one may come again, and two of one call must not pass for one another.
        digest = blake2b(record, digest_size=16).hexdigest()
        pending.refuse(f"unreadable#{digest}", record, "unreadable_record")
    with store.writing() as connection:
        check_lease(connection, batch.scope, batch.lease)
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
        keep_state(
            connection,
            batch.scope,
            forget=batch.forget,
            further=batch.positions,
            park=batch.park,
            unpark=batch.unpark,
        )
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

    def refuse(self, call_id: str, record: bytes, reason: str) -> None:
        """Set a record aside: of a call under way whose id is none, or one that is unreadable."""
        self.rejected[call_id] = reason
        self._records[call_id] = record

    def record(self, call_id: str) -> bytes | None:
        return self._records.get(call_id) or record_bytes(self._entries[call_id])


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
    connection.execute(inserting(connection, rejects).on_conflict_do_nothing(), rows)
