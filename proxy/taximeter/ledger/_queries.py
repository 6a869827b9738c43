"""Reading calls: a filter, and an iterator that goes through them page by page."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from sqlalchemy import ColumnElement, select, tuple_

from taximeter.ledger._engine import Store
from taximeter.ledger._rows import is_call_id
from taximeter.ledger._schema import attempts, calls
from taximeter.ledger._views import CallView, attempt_of, view_of

PAGE_CALLS_MAX = 500


class CallFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls are wanted. What is None does not matter."""

    since_ns: int | None = None
    """Started at or after, nanoseconds since the epoch."""
    until_ns: int | None = None
    """Started before."""
    user: str | None = None
    team: str | None = None
    session: str | None = None
    upstream: str | None = None
    model: str | None = None
    """As asked for."""
    operation: str | None = None
    outcome: str | None = None
    unpriced: bool = False
    """Only those whose cost is unknown."""
    limit: int | None = None
    """At most so many, the newest first."""

    def conditions(self) -> list[ColumnElement[bool]]:
        """Give the filter as conditions on `calls`."""
        wanted = [
            column == value
            for column, value in (
                (calls.c.user_name, self.user),
                (calls.c.team, self.team),
                (calls.c.session, self.session),
                (calls.c.upstream, self.upstream),
                (calls.c.model, self.model),
                (calls.c.operation, self.operation),
                (calls.c.outcome, self.outcome),
            )
            if value is not None
        ]
        if self.since_ns is not None:
            wanted.append(calls.c.started_at_ns >= self.since_ns)
        if self.until_ns is not None:
            wanted.append(calls.c.started_at_ns < self.until_ns)
        if self.unpriced:
            wanted.append(calls.c.cost_pico.is_(None))
        return wanted


def read_calls(store: Store, wanted: CallFilter) -> Iterator[CallView]:
    """Go through the calls of a filter, the newest first.

    Each page is a transaction of its own and begins where the last one ended, so a slow
    reader holds nothing up, and calls that come in meanwhile neither shift nor repeat any.
    """
    conditions = wanted.conditions()
    left = wanted.limit
    last: tuple[int, str] | None = None
    order = tuple_(calls.c.started_at_ns, calls.c.id)
    while left is None or left > 0:
        size = PAGE_CALLS_MAX if left is None else min(left, PAGE_CALLS_MAX)
        query = select(calls).where(*conditions)
        if last is not None:
            query = query.where(order < last)
        query = query.order_by(calls.c.started_at_ns.desc(), calls.c.id.desc()).limit(size)
        with store.reading() as connection:
            page = [view_of(row) for row in connection.execute(query).mappings()]
        yield from page
        if len(page) < size:
            return
        last = (page[-1].started_at_ns, page[-1].id)
        if left is not None:
            left -= size


def read_call(store: Store, call_id: str) -> CallView | None:
    """Read one call with its attempts; None if the ledger does not have it."""
    call_id = call_id.strip().lower()
    if not is_call_id(call_id):
        return None
    with store.reading() as connection:
        row = connection.execute(select(calls).where(calls.c.id == call_id)).mappings().first()
        if row is None:
            return None
        tries = connection.execute(
            select(attempts).where(attempts.c.call_id == call_id).order_by(attempts.c.number)
        ).mappings()
        return view_of(row, tuple(attempt_of(each) for each in tries))
