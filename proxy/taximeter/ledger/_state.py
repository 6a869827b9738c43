"""What a recorder keeps in the ledger for itself: its lease, and where it left off.

A *scope* is a folder of journals. Recorders on several machines, each with its own journals,
share a ledger: each has the lead of its own scope, and sees no other's positions, calls under
way or notes. All of it changes in the transaction that books calls, or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, CursorResult, Table, bindparam, delete, or_, select

from taximeter.ledger._engine import Store
from taximeter.ledger._errors import LeaseLost
from taximeter.ledger._rows import fit, is_call_id
from taximeter.ledger._schema import leases, notes, parked, positions
from taximeter.ledger._statements import inserting


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


@dataclass(frozen=True)
class RecorderState:
    """Where the recorder left off."""

    positions: dict[str, Position]
    parked: dict[str, Parked]
    """By call id."""
    notes: dict[str, bytes]


def take_lead(store: Store, owner: str, scope: str) -> int:
    """Become the one who books a scope. See `Ledger.take_lead`."""
    with store.writing() as connection:
        number = _lease(connection, scope) + 1
        taken = {"number": number, "owner": fit(owner), "taken_at_ns": time.time_ns()}
        insert = inserting(connection, leases).values(scope=scope, **taken)
        connection.execute(insert.on_conflict_do_update(index_elements=["scope"], set_=taken))
    return number


def _lease(connection: Connection, scope: str) -> int:
    """Give the number of a scope's present lease; 0 if it never had one."""
    query = select(leases.c.number).where(leases.c.scope == scope)
    return connection.execute(query).scalar_one_or_none() or 0


def check_lease(connection: Connection, scope: str, number: int) -> None:
    """See that a lease is the present one, which it stays until this transaction ends.

    Raises:
        LeaseLost: if it is not.
    """
    present = _lease(connection, scope)
    if present != number:
        raise LeaseLost(number, present)


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


def keep_state(
    connection: Connection,
    scope: str,
    *,
    forget: Sequence[str],
    further: Mapping[str, Position],
    park: Sequence[Parked],
    unpark: Sequence[str],
) -> None:
    """Keep how far journals are booked and which calls are under way. The words are `Batch`'s."""
    if forget:
        gone = positions.c.journal.in_(forget) & (positions.c.scope == scope)
        connection.execute(delete(positions).where(gone))
    if further:
        insert = inserting(connection, positions)
        new = insert.excluded
        is_further = or_(
            positions.c.segment < new.segment,
            (positions.c.segment == new.segment) & (positions.c.byte_offset < new.byte_offset),
        )
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=["journal"],
                set_={"segment": new.segment, "byte_offset": new.byte_offset},
                where=is_further,
            ),
            [
                {
                    "journal": name,
                    "scope": scope,
                    "segment": each.segment,
                    "byte_offset": each.offset,
                }
                for name, each in further.items()
            ],
        )
    opened = [
        {
            "call_id": each.call_id,
            "scope": scope,
            "journal": each.journal,
            "record": each.record,
        }
        for each in park
        if is_call_id(each.call_id)
    ]
    if opened:
        connection.execute(inserting(connection, parked).on_conflict_do_nothing(), opened)
    ended = [{"gone": call_id} for call_id in unpark if is_call_id(call_id)]
    if ended:
        connection.execute(delete(parked).where(parked.c.call_id == bindparam("gone")), ended)
