"""Reports: what calls add up to, by whatever one asks.

A report reads the hourly sums where it can, so its time does not grow with the number of
calls. It reads `calls` where it must: for the pieces of an hour at the two ends of its time,
and for all of it when it groups by something the sums do not keep apart (a session, a tag).
Both ways give the same figures as long as the calls are still there; of hours whose calls
were pruned only the sums are left.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, case, func, literal, select
from sqlalchemy.sql.functions import coalesce

from taximeter.call import Outcome, UsageSource, usd_text
from taximeter.ledger._engine import Store
from taximeter.ledger._rollup import HOUR_NS, KEY_COLUMNS, PICO_PER_MICRO_USD, SUM_COLUMNS, Sums
from taximeter.ledger._schema import calls, hourly
from taximeter.ledger._views import usd

ROWS_MAX = 100_000
"""Rows of one report. More are no report; read the calls."""

ERRORS = (Outcome.UPSTREAM_ERROR, Outcome.TRUNCATED, Outcome.REJECTED, Outcome.INTERRUPTED)
"""Outcomes counted as errors. A client that leaves has not met one."""

_NAMES = {
    "user": "user_name",
    **{name: name for name in KEY_COLUMNS if name != "user_name"},
}
_TIMES = {"hour": 3600, "day": 86_400}
_TAG = re.compile(r"tag:([A-Za-z0-9_.-]{1,64})")

DIMENSIONS = (*_NAMES, *_TIMES, "session")
"""What a report can be grouped by, besides `tag:NAME`."""


class ReportRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the calls of one group add up to."""

    key: dict[str, str | None]
    """By dimension; None is unknown. A day is 2026-11-30, an hour 2026-11-30T14:00Z."""
    calls: int
    errors: int
    """Calls with one of the outcomes `ERRORS`."""
    attempts: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost_pico: int
    """Sum of the known costs, pico-dollars, exact. See `unpriced`."""
    unpriced: int
    """Calls whose cost is unknown: the true cost is higher by theirs."""
    estimated: int
    """Calls whose tokens were counted by us."""
    partial: int
    """Calls whose usage stops where their stream broke off."""
    absent: int
    """Calls whose usage nobody knows."""
    duration_seconds_mean: float | None
    first_token_seconds_mean: float | None

    @property
    def cost_usd(self) -> Decimal:
        """Sum of the known costs in dollars, exact."""
        return usd(self.cost_pico)

    def to_json(self) -> dict[str, Any]:
        """Give the row as plain values for JSON; `cost_usd` is a decimal string."""
        figures = {
            name: getattr(self, name)
            for name in self.__struct_fields__
            if name not in ("key", "cost_pico")
        }
        return {**self.key, **figures, "cost_usd": usd_text(self.cost_pico)}


def report(
    store: Store,
    by: Sequence[str],
    since_ns: int | None,
    until_ns: int | None,
    only: Mapping[str, str],
) -> list[ReportRow]:
    """Make a report. See `Ledger.report`."""
    for name in (*by, *only):
        if name not in DIMENSIONS and not _TAG.fullmatch(name):
            raise ValueError(f"cannot report by {name!r}: use {', '.join(DIMENSIONS)} or tag:NAME")
    for name in only:
        if name in _TIMES:
            raise ValueError(f"{name} cannot be held fixed: use since and until")
    summed = all(name in _NAMES or name in _TIMES for name in (*by, *only))
    groups: dict[tuple[Any, ...], list[int]] = {}
    with store.reading() as connection:
        for query in _queries(by, since_ns, until_ns, only, summed):
            for row in connection.execute(query.limit(ROWS_MAX + 1)):
                key, figures = tuple(row[: len(by)]), row[len(by) :]
                sums = groups.setdefault(key, [0] * len(figures))
                for place, figure in enumerate(figures):
                    sums[place] += int(figure or 0)
                if len(groups) > ROWS_MAX:
                    raise ValueError(
                        f"more than {ROWS_MAX} rows: narrow the time, or group by less"
                    )
    rows = [_row(by, key, sums) for key, sums in groups.items() if sums[0]]
    rows.sort(
        key=lambda row: (-row.cost_pico, -row.calls, [value or "" for value in row.key.values()])
    )
    return rows


def _queries(
    by: Sequence[str],
    since_ns: int | None,
    until_ns: int | None,
    only: Mapping[str, str],
    summed: bool,
) -> Iterable[Select[Any]]:
    """Give the queries whose groups, added up, are the report. Their times do not overlap."""
    first = None if since_ns is None else -(-since_ns // HOUR_NS)
    end = None if until_ns is None else until_ns // HOUR_NS
    if not summed or (first is not None and end is not None and first >= end):
        yield _from_calls(by, since_ns, until_ns, only)
        return
    if first is not None and since_ns is not None and since_ns < first * HOUR_NS:
        yield _from_calls(by, since_ns, first * HOUR_NS, only)
    yield _from_hourly(by, first, end, only)
    if end is not None and until_ns is not None and end * HOUR_NS < until_ns:
        yield _from_calls(by, end * HOUR_NS, until_ns, only)


def _from_hourly(
    by: Sequence[str], first: int | None, end: int | None, only: Mapping[str, str]
) -> Select[Any]:
    keys: list[ColumnElement[Any]] = [
        hourly.c[_NAMES[name]] if name in _NAMES else hourly.c.hour - hourly.c.hour % _TIMES[name]
        for name in by
    ]
    conditions = [hourly.c[_NAMES[name]] == value for name, value in only.items()]
    if first is not None:
        conditions.append(hourly.c.hour >= first * 3600)
    if end is not None:
        conditions.append(hourly.c.hour < end * 3600)
    errors = func.sum(case((hourly.c.outcome.in_(ERRORS), hourly.c.calls), else_=0))
    sums = [func.sum(hourly.c[name]) for name in SUM_COLUMNS]
    return _grouped(keys, [*sums, errors]).where(*conditions)


def _from_calls(
    by: Sequence[str], since_ns: int | None, until_ns: int | None, only: Mapping[str, str]
) -> Select[Any]:
    conditions = [_name_in_calls(name) == value for name, value in only.items()]
    if since_ns is not None:
        conditions.append(calls.c.started_at_ns >= since_ns)
    if until_ns is not None:
        conditions.append(calls.c.started_at_ns < until_ns)
    errors = func.sum(case((calls.c.outcome.in_(ERRORS), 1), else_=0))
    keys = [_name_in_calls(name) for name in by]
    return _grouped(keys, [*sums_of_calls(), errors]).where(*conditions)


def _grouped(keys: list[ColumnElement[Any]], figures: list[ColumnElement[Any]]) -> Select[Any]:
    query = select(*keys, *figures)
    # Grouped by place: PostgreSQL does not see that two equal expressions with parameters are one.
    return query.group_by(*(literal(place + 1, literal_execute=True) for place in range(len(keys))))


def _name_in_calls(name: str) -> ColumnElement[Any]:
    if name in _TIMES:
        seconds = _TIMES[name]
        return calls.c.started_at_ns // (seconds * 1_000_000_000) * seconds
    tag = _TAG.fullmatch(name)
    if tag is not None:
        return coalesce(calls.c.tags[tag[1]].as_string(), "")
    return coalesce(calls.c[_NAMES.get(name, name)], "")


def sums_of_calls() -> list[ColumnElement[Any]]:
    """Give the sums of `hourly`, in its order, as expressions over `calls`."""
    c = calls.c

    def count(condition: ColumnElement[bool]) -> ColumnElement[Any]:
        return func.sum(case((condition, 1), else_=0))

    sums: dict[str, ColumnElement[Any]] = {
        "calls": func.count(),
        "attempts": func.sum(c.attempt_count),
        "input_tokens": func.sum(c.input_tokens),
        "output_tokens": func.sum(c.output_tokens),
        "cached_tokens": func.sum(c.cached_tokens),
        "reasoning_tokens": func.sum(c.reasoning_tokens),
        "cost_micro_usd": func.sum(c.cost_pico // PICO_PER_MICRO_USD),
        "cost_rest_pico": func.sum(c.cost_pico % PICO_PER_MICRO_USD),
        "unpriced": count(c.cost_pico.is_(None)),
        "estimated": count(c.usage_source == str(UsageSource.ESTIMATED)),
        "partial": count(c.usage_source == str(UsageSource.PARTIAL)),
        "absent": count(c.usage_source == str(UsageSource.ABSENT)),
        "duration_us": func.sum(c.duration_ns // 1000),
        "duration_count": func.count(c.duration_ns),
        "first_token_us": func.sum(c.time_to_first_token_ns // 1000),
        "first_token_count": func.count(c.time_to_first_token_ns),
    }
    return [sums[name] for name in SUM_COLUMNS]


def _row(by: Sequence[str], key: tuple[Any, ...], figures: list[int]) -> ReportRow:
    sums = Sums(*figures[:-1])
    return ReportRow(
        key={name: _value(name, value) for name, value in zip(by, key, strict=True)},
        calls=sums.calls,
        errors=figures[-1],
        attempts=sums.attempts,
        input_tokens=sums.input_tokens,
        output_tokens=sums.output_tokens,
        cached_tokens=sums.cached_tokens,
        reasoning_tokens=sums.reasoning_tokens,
        cost_pico=sums.cost_pico,
        unpriced=sums.unpriced,
        estimated=sums.estimated,
        partial=sums.partial,
        absent=sums.absent,
        duration_seconds_mean=_mean(sums.duration_us, sums.duration_count),
        first_token_seconds_mean=_mean(sums.first_token_us, sums.first_token_count),
    )


def _value(name: str, value: Any) -> str | None:
    if name == "day":
        return f"{datetime.fromtimestamp(int(value), UTC):%Y-%m-%d}"
    if name == "hour":
        return f"{datetime.fromtimestamp(int(value), UTC):%Y-%m-%dT%H:%MZ}"
    return str(value) if value else None


def _mean(microseconds: int, count: int) -> float | None:
    return microseconds / count / 1_000_000 if count else None
