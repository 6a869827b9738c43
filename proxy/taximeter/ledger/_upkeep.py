"""Work on calls already booked: forget the old ones, price them again.

Both go in chunks, each a transaction of its own that leaves rows and sums in agreement. They
can be stopped at any moment and run again; between two chunks the recorder gets its turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, and_, bindparam, delete, not_, or_, select, tuple_, update

from taximeter.call import UsageSource
from taximeter.ledger._engine import Store
from taximeter.ledger._queries import CallFilter
from taximeter.ledger._rollup import SUMMED_COLUMNS, Tally, add
from taximeter.ledger._rows import (
    INTEGER_MAX,
    PRICE_DEFERRED,
    TEXT_CHARACTERS_MAX,
    fit,
)
from taximeter.ledger._schema import attempts, calls, rejects
from taximeter.ledger._statements import Statements
from taximeter.ledger._views import CallView, view_of

CHUNK_CALLS_MAX = 1_000
_PAUSE_SECONDS = 0.12
"""Between chunks on SQLite, whose lock has no queue: who waits for it looks again after at most
100 ms, and the recorder must have its turn. PostgreSQL's lock is fair."""
_VACUUM_PAGES_MAX = 1_000
"""Pages given back to the disk after each chunk."""

Progress = Callable[[int], object]
"""Is told the number of calls dealt with so far, after each chunk."""


class Repriced(NamedTuple):
    """The price a call should have."""

    cost_pico: int | None
    price: str | None
    price_rates: str | None


@dataclass(frozen=True)
class RepriceSummary:
    """What pricing again has changed."""

    examined: int
    changed: int
    """Rows whose cost, price or rates are different now."""
    priced: int
    """Rows whose cost was unknown and is known now."""
    unpriced: int
    """Rows whose cost was known and is unknown now."""
    delta_pico: int
    """How much the sum of the known costs has changed, pico-dollars."""


def prune(store: Store, before_ns: int, progress: Progress | None) -> int:
    """Delete calls started before a time. See `Ledger.prune`."""
    done = 0
    chunk = (
        select(calls.c.id)
        .where(calls.c.started_at_ns < before_ns)
        .order_by(calls.c.started_at_ns, calls.c.id)
        .limit(CHUNK_CALLS_MAX)
    )
    while True:
        with store.writing() as connection:
            call_ids = list(connection.execute(chunk).scalars())
            if call_ids:
                connection.execute(delete(attempts).where(attempts.c.call_id.in_(call_ids)))
                connection.execute(delete(calls).where(calls.c.id.in_(call_ids)))
            else:
                connection.execute(delete(rejects).where(rejects.c.rejected_at_ns < before_ns))
        store.give_pages_back(_VACUUM_PAGES_MAX)
        done += len(call_ids)
        if progress is not None and call_ids:
            progress(done)
        if not call_ids:
            return done
        _give_way(store)


def reprice(
    store: Store,
    statements: Statements,
    pricer: Callable[[CallView], Repriced],
    wanted: CallFilter,
    progress: Progress | None,
) -> RepriceSummary:
    """Price calls again. See `Ledger.reprice`."""
    examined = changed = priced = unpriced = delta = 0
    order = tuple_(calls.c.started_at_ns, calls.c.id)
    # Rows that bear no cost of their own keep it so: fetches, and makers not yet booked.
    bearing = and_(
        calls.c.booked_on.is_(None),
        not_(and_(calls.c.fetched, calls.c.usage_source == str(UsageSource.ABSENT))),
        or_(calls.c.price.is_(None), calls.c.price != PRICE_DEFERRED),
    )
    last: tuple[int, str] | None = None
    while True:
        query = select(calls).where(bearing, *wanted.conditions())
        if last is not None:
            query = query.where(order > last)
        query = query.order_by(calls.c.started_at_ns, calls.c.id).limit(CHUNK_CALLS_MAX)
        with store.writing() as connection:
            rows = connection.execute(query).mappings().all()
            tally = Tally()
            changes = []
            for row in rows:
                view = view_of(row)
                new = _checked(pricer(view))
                if new == (view.cost_pico, view.price, view.price_rates):
                    continue
                changes.append({"call": view.id, **new._asdict()})
                tally.count([row[name] for name in SUMMED_COLUMNS], -1)
                tally.count(
                    [new.cost_pico if name == "cost_pico" else row[name] for name in SUMMED_COLUMNS]
                )
                priced += view.cost_pico is None and new.cost_pico is not None
                unpriced += view.cost_pico is not None and new.cost_pico is None
                delta += (new.cost_pico or 0) - (view.cost_pico or 0)
            _apply(connection, changes)
            add(connection, statements.add_sums, tally.sums())
        examined += len(rows)
        changed += len(changes)
        if progress is not None and rows:
            progress(examined)
        if len(rows) < CHUNK_CALLS_MAX:
            return RepriceSummary(examined, changed, priced, unpriced, delta)
        last = (rows[-1]["started_at_ns"], rows[-1]["id"])
        _give_way(store)


def _give_way(store: Store) -> None:
    if store.is_sqlite:
        time.sleep(_PAUSE_SECONDS)


def _checked(new: Repriced) -> Repriced:
    if new.cost_pico is not None and not 0 <= new.cost_pico <= INTEGER_MAX:
        raise ValueError(f"a cost of {new.cost_pico} pico-dollars is out of range")
    return Repriced(new.cost_pico, fit(new.price), fit(new.price_rates, TEXT_CHARACTERS_MAX))


def _apply(connection: Connection, changes: list[dict[str, object]]) -> None:
    if changes:
        connection.execute(
            update(calls)
            .where(calls.c.id == bindparam("call"))
            .values({name: bindparam(name) for name in Repriced._fields}),
            changes,
        )
