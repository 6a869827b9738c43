"""Makes entries for tests, and looks at a ledger from outside its own code."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

from sqlalchemy import select, text

from taximeter.call import (
    Attempt,
    Closed,
    Fact,
    Gaps,
    Opened,
    Outcome,
    Stage,
    Usage,
    UsageSource,
)
from taximeter.ledger import Batch, Committed, Entry, Ledger
from taximeter.ledger._schema import metadata

T0 = 1_790_000_000_000_000_000 // 3_600_000_000_000 * 3_600_000_000_000
"""A full hour in 2026, nanoseconds since the epoch."""
HOUR = 3_600_000_000_000
_numbers = itertools.count(1)


def call_id(at_ns: int = T0) -> str:
    """Make an id as the relay would at that time, but one that a rerun makes again."""
    stamp, number = at_ns // 1_000_000, next(_numbers)
    return f"{stamp >> 16:08x}-{stamp & 0xFFFF:04x}-7000-8000-{number:012x}"


def entry(
    *,
    id: str | None = None,
    at_ns: int = T0,
    user: str | None = "ann",
    team: str | None = None,
    session: str | None = None,
    tags: dict[str, str] | None = None,
    upstream: str = "openai",
    model: str | None = "gpt-5.4-mini",
    outcome: Outcome = Outcome.COMPLETED,
    usage: Usage | None = None,
    source: UsageSource | None = None,
    cost_pico: int | None = 1_234_567,
    price: str | None = "list",
    response_id: str | None = None,
    facts: list[Fact] | None = None,
    stages: dict[Stage, int] | None = None,
    attempts: list[Attempt] | None = None,
    **more: Any,
) -> Entry:
    """Make an entry of a plain call; by default 10 tokens in, 5 out."""
    used = Usage(input_tokens=10, output_tokens=5) if usage is None else usage
    stated = UsageSource.REPORTED if source is None else source
    opened = Opened(
        call_id=id or call_id(at_ns),
        started_at_ns=at_ns,
        upstream=upstream,
        dialect="openai",
        provider="openai",
        method="POST",
        path="/chat/completions",
        operation="chat",
        model=model,
        user=user,
        team=team,
        session=session,
        tags=tags or {},
    )
    closed = Closed(
        opened=opened,
        outcome=outcome,
        status=200,
        stages={Stage.RECEIVE: 1_000_000, Stage.FIRST_TOKEN: 250_000_000, Stage.STREAM: 5_000}
        if stages is None
        else stages,
        attempts=[Attempt(number=1, upstream=upstream, started_ns=5, ended_ns=9, status=200)]
        if attempts is None
        else attempts,
        response_id=response_id,
        response_model=more.pop("response_model", model),
        gaps=Gaps(count=2, sum_ns=30, max_ns=20, buckets=[2]),
        facts=facts or [],
        **more,
    )
    known = stated is not UsageSource.ABSENT
    return Entry(
        closed=closed,
        usage=used if known else None,
        usage_source=stated,
        cost_pico=cost_pico,
        price=price,
    )


def deferred(response_id: str, **more: Any) -> Entry:
    """Make the entry of a call whose answer is finished later."""
    more = {"facts": [Fact.DEFERRED], "source": UsageSource.ABSENT, "cost_pico": None, **more}
    return entry(response_id=response_id, price="unpriced: no usage", **more)


def fetch(response_id: str | None, **more: Any) -> Entry:
    """Make the entry of a call that fetched a finished answer."""
    return entry(response_id=response_id, model=None, facts=[Fact.FETCHED], **more)


def commit(ledger: Ledger, *entries: Entry, lease: int | None = None, **more: Any) -> Committed:
    """Commit entries, taking the lead first unless a lease is given."""
    number = ledger.take_lead("test") if lease is None else lease
    return ledger.commit(Batch(lease=number, entries=entries, **more))


def rows(ledger: Ledger, table: str) -> list[dict[str, Any]]:
    """Give all rows of a table, in the order of its key."""
    found = metadata.tables[table]
    with ledger._store.reading() as connection:
        query = select(found).order_by(*found.primary_key)
        return [dict(row) for row in connection.execute(query).mappings()]


def everything(ledger: Ledger) -> dict[str, list[dict[str, Any]]]:
    """Give the whole state but who leads."""
    return {name: rows(ledger, name) for name in metadata.tables if name != "leases"}


def wipe(ledger: Ledger) -> None:
    """Empty all tables but the lease's."""
    with ledger._store.writing() as connection:
        for table in metadata.tables.values():
            if table.name != "leases":
                connection.execute(table.delete())


def execute(ledger: Ledger, statement: str, **parameters: Any) -> None:
    """Change the database behind the ledger's back."""
    with ledger._store.writing() as connection:
        connection.execute(text(statement), parameters)


def assert_sums_agree(ledger: Ledger) -> None:
    """Check the hourly sums against a plain addition of all rows, done here in Python."""
    wanted: dict[tuple[Any, ...], Counter[str]] = {}
    for call in ledger.calls():
        hour = call.started_at_ns // HOUR * 3600
        names = (call.user, call.team, call.upstream, call.provider, call.model)
        key = (hour, *(name or "" for name in (*names, call.operation, call.outcome)))
        sums = wanted.setdefault(key, Counter())
        usage = call.usage or Usage()
        sums.update(
            calls=1,
            attempts=call.attempt_count,
            input_tokens=usage.input_tokens or 0,
            output_tokens=usage.output_tokens or 0,
            cached_tokens=usage.cached_tokens or 0,
            reasoning_tokens=usage.reasoning_tokens or 0,
            cost=call.cost_pico or 0,
            unpriced=int(call.cost_pico is None),
            estimated=int(call.usage_source == "estimated"),
            partial=int(call.usage_source == "partial"),
            absent=int(call.usage_source == "absent"),
            duration_us=(call.duration_ns or 0) // 1000,
            duration_count=int(call.duration_ns is not None),
            first_token_us=(call.time_to_first_token_ns or 0) // 1000,
            first_token_count=int(call.time_to_first_token_ns is not None),
        )
    had = {}
    for row in rows(ledger, "hourly"):
        key = tuple(
            row[name]
            for name in (
                *("hour", "user_name", "team", "upstream", "provider", "model"),
                *("operation", "outcome"),
            )
        )
        row["cost"] = row["cost_micro_usd"] * 1_000_000 + row["cost_rest_pico"]
        assert key not in had, "one key, one row"
        had[key] = {name: row[name] for name in wanted.get(key, Counter())}
    assert had == {key: dict(sums) for key, sums in wanted.items()}
