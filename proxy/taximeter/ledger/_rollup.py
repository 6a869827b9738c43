"""The hourly sums: what a row adds to them, and how they are added to. Pure but for `add`.

A report over ten million calls must not read ten million rows, so what reports ask for is
summed by the hour and by the names they group by. Whatever changes a row (its insertion, a
cost booked later, a new price) adds the difference to its hour in the same transaction; so
`hourly` equals what `calls` adds up to, always, and a test says so after each kind of change.

Every column only ever has numbers added to it. That is why money has two of them: one sum of
pico-dollars would pass 63 bits at nine million dollars, while whole micro-dollars and rests,
each summed for itself, last to nine trillion dollars and nine trillion calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Dialect
from sqlalchemy.dialects import postgresql, sqlite

from taximeter.call import UsageSource
from taximeter.ledger._schema import CALL_COLUMNS, hourly

PICO_PER_MICRO_USD = 1_000_000
HOUR_NS = 3600 * 1_000_000_000
_DIGEST_CACHE_ENTRIES_MAX = 8192


class SumKey(NamedTuple):
    """What calls are summed by. A name that is unknown is ''."""

    hour: int
    """Start of the hour, seconds since the epoch."""
    user: str
    team: str
    upstream: str
    provider: str
    model: str
    operation: str
    outcome: str


class Sums(NamedTuple):
    """What the calls of one key add up to; a difference where rows were changed."""

    calls: int
    attempts: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost_micro_usd: int
    cost_rest_pico: int
    unpriced: int
    estimated: int
    partial: int
    absent: int
    duration_us: int
    duration_count: int
    first_token_us: int
    first_token_count: int

    @property
    def cost_pico(self) -> int:
        """Sum of the known costs, pico-dollars."""
        return self.cost_micro_usd * PICO_PER_MICRO_USD + self.cost_rest_pico


SUM_COLUMNS = Sums._fields
KEY_COLUMNS = ("user_name", "team", "upstream", "provider", "model", "operation", "outcome")

SUMMED_COLUMNS = (
    "started_at_ns",
    *KEY_COLUMNS,
    "usage_source",
    "attempt_count",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "cost_pico",
    "duration_ns",
    "time_to_first_token_ns",
    "cache_write_tokens",
)
"""The columns of `calls` that the sums are made from."""

summed_of_row = itemgetter(*(CALL_COLUMNS.index(name) for name in SUMMED_COLUMNS))
"""Takes those columns from a row that `_rows.call_row` has built."""


class Tally:
    """Sums by key, to be added to the ledger at the end of a transaction."""

    def __init__(self) -> None:
        self._sums: dict[SumKey, list[int]] = {}
        self._cache_writes: dict[SumKey, int] = {}

    def count(self, summed: Iterable[Any], times: int = 1) -> None:
        """Count a row, given its `SUMMED_COLUMNS`; with `times` -1 take it out again."""
        (
            started_at_ns,
            user,
            team,
            upstream,
            provider,
            model,
            operation,
            outcome,
            source,
            attempts,
            input_tokens,
            output_tokens,
            cached_tokens,
            reasoning_tokens,
            cost_pico,
            duration_ns,
            first_token_ns,
            cache_write_tokens,
        ) = summed
        key = SumKey(
            started_at_ns // HOUR_NS * 3600,
            user or "",
            team or "",
            upstream or "",
            provider or "",
            model or "",
            operation,
            outcome,
        )
        sums = self._sums.get(key)
        if sums is None:
            sums = self._sums[key] = [0] * len(SUM_COLUMNS)
        sums[0] += times
        sums[1] += times * attempts
        if input_tokens:
            sums[2] += times * input_tokens
        if output_tokens:
            sums[3] += times * output_tokens
        if cached_tokens:
            sums[4] += times * cached_tokens
        if reasoning_tokens:
            sums[5] += times * reasoning_tokens
        if cost_pico is None:
            sums[8] += times
        else:
            sums[6] += times * (cost_pico // PICO_PER_MICRO_USD)
            sums[7] += times * (cost_pico % PICO_PER_MICRO_USD)
        if source != UsageSource.REPORTED:
            if source == UsageSource.ESTIMATED:
                sums[9] += times
            elif source == UsageSource.PARTIAL:
                sums[10] += times
            else:
                sums[11] += times
        if duration_ns is not None:
            sums[12] += times * (duration_ns // 1000)
            sums[13] += times
        if first_token_ns is not None:
            sums[14] += times * (first_token_ns // 1000)
            sums[15] += times
        if cache_write_tokens:
            written = self._cache_writes.get(key, 0)
            self._cache_writes[key] = written + times * cache_write_tokens

    def sums(self) -> dict[SumKey, Sums]:
        """Give what has been counted; keys whose sums came out at nought are left out."""
        return {key: Sums(*sums) for key, sums in self._sums.items() if any(sums)}

    def cache_writes(self) -> dict[SumKey, int]:
        """Give the cache-write tokens counted, which no hourly sum has a column for."""
        return {key: tokens for key, tokens in self._cache_writes.items() if tokens}


@lru_cache(maxsize=_DIGEST_CACHE_ENTRIES_MAX)
def _digest(names: tuple[str, ...]) -> bytes:
    # Names hold no NUL, see `_rows.fit`.
    return blake2b("\0".join(names).encode(), digest_size=16).digest()


def upsert_text(dialect: Dialect) -> str:
    """Compile the statement of `add` for an engine; its parameters stand in column order."""
    make = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
    statement = make(hourly)
    statement = statement.on_conflict_do_update(
        index_elements=["hour", "digest"],
        set_={name: hourly.c[name] + statement.excluded[name] for name in SUM_COLUMNS},
    )
    compiled = statement.compile(
        dialect=dialect, column_keys=["hour", "digest", *KEY_COLUMNS, *SUM_COLUMNS]
    )
    return str(compiled)


def add(connection: Connection, upsert: str, sums: Mapping[SumKey, Sums]) -> None:
    """Add sums to the ledger's."""
    rows = [(key.hour, _digest(key[1:]), *key[1:], *each) for key, each in sums.items()]
    if rows:
        connection.exec_driver_sql(upsert, rows)
