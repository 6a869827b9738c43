"""A call as it is read back: figures, attempts, and the JSON that others build on."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any

import msgspec
from sqlalchemy import RowMapping

from taximeter.call import Attempt, Stage, Usage, UsageSource, usd_text
from taximeter.ledger._rows import FIGURES
from taximeter.ledger._schema import STAGE_COLUMNS

_EXACT = Context(prec=60)
_NS_PER_SECOND = 1_000_000_000


def usd(pico: int) -> Decimal:
    """Give pico-dollars as dollars, exact."""
    return Decimal(pico).scaleb(-12, _EXACT)


def utc_text(ns: int) -> str:
    """Give a time in nanoseconds since the epoch as ISO 8601, to the microsecond, UTC."""
    seconds, rest = divmod(ns, _NS_PER_SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"


class CallView(msgspec.Struct, frozen=True, kw_only=True):
    """One call of the ledger. Fields are described in docs/ledger.md, table `calls`."""

    id: str
    started_at_ns: int
    user: str | None
    team: str | None
    session: str | None
    tags: dict[str, str]
    user_source: str | None
    key_hash: str | None
    upstream: str | None
    provider: str | None
    dialect: str | None
    method: str
    path: str
    operation: str
    model: str | None
    response_model: str | None
    service_tier: str | None
    stream: bool
    status: int | None
    outcome: str
    error: str | None
    finish_reason: str | None
    response_id: str | None
    usage: Usage | None
    """None where nobody knows; see `usage_source`."""
    usage_source: UsageSource
    count_rule: str | None
    raw_usage: str | None
    cost_pico: int | None
    price: str | None
    price_rates: str | None
    price_variant: dict[str, str]
    booked_on: str | None
    fetched: bool
    attempt_count: int
    stages: dict[Stage, int]
    """Nanoseconds; a stage that was not reached has no entry."""
    duration_ns: int | None
    time_to_first_token_ns: int | None
    gaps: dict[str, Any] | None
    events: int
    request_bytes: int
    response_bytes: int
    facts: tuple[str, ...]
    trace_id: str | None
    parent_span_id: str | None
    client_request_id: str | None
    client_retry: int | None
    retry_of: str | None
    service_tier_asked: str | None
    attempts: tuple[Attempt, ...] | None = None
    """None where they have not been read (lists)."""

    @property
    def cost_usd(self) -> Decimal | None:
        """Cost in dollars, exact; None if unknown."""
        return None if self.cost_pico is None else usd(self.cost_pico)

    def to_json(self) -> dict[str, Any]:
        """Give the call as plain values for JSON.

        Times are in seconds, `started_at` is ISO 8601 in UTC, and `cost_usd` is a decimal
        string, or None if the cost is unknown. `attempts` is their number; what is known of
        each is in `attempt_details`, present where it has been read.
        """
        usage = self.usage or Usage()
        view: dict[str, Any] = {
            "id": self.id,
            "started_at": utc_text(self.started_at_ns),
            "user": self.user,
            "team": self.team,
            "session": self.session,
            "tags": self.tags,
            "upstream": self.upstream,
            "provider": self.provider,
            "operation": self.operation,
            "model": self.model,
            "response_model": self.response_model,
            "stream": self.stream,
            "status": self.status,
            "outcome": self.outcome,
            "error": self.error,
            "finish_reason": self.finish_reason,
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cached_tokens": usage.cached_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
            "usage": msgspec.to_builtins(usage),
            "usage_source": str(self.usage_source),
            "count_rule": self.count_rule,
            "cost_usd": None if self.cost_pico is None else usd_text(self.cost_pico),
            "price": self.price,
            "booked_on": self.booked_on,
            "attempts": self.attempt_count,
            "stages": {str(stage): ns / _NS_PER_SECOND for stage, ns in self.stages.items()},
            "duration": _seconds(self.duration_ns),
            "time_to_first_token": _seconds(self.time_to_first_token_ns),
            "events": self.events,
            "request_bytes": self.request_bytes,
            "response_bytes": self.response_bytes,
            "method": self.method,
            "path": self.path,
            "dialect": self.dialect,
            "service_tier": self.service_tier,
            "service_tier_asked": self.service_tier_asked,
            "response_id": self.response_id,
            "user_source": self.user_source,
            "key_hash": self.key_hash,
            "facts": list(self.facts),
            "trace_id": self.trace_id,
            "parent_span_id": self.parent_span_id,
            "client_request_id": self.client_request_id,
            "client_retry": self.client_retry,
            "retry_of": self.retry_of,
        }
        if self.gaps is not None:
            view["gaps"] = {
                "count": self.gaps["count"],
                "sum": self.gaps["sum_ns"] / _NS_PER_SECOND,
                "max": self.gaps["max_ns"] / _NS_PER_SECOND,
                "buckets": self.gaps["buckets"],
            }
        if self.attempts is not None:
            view["attempt_details"] = [_attempt_json(attempt) for attempt in self.attempts]
        return view


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / _NS_PER_SECOND


def _attempt_json(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "upstream": attempt.upstream,
        "started": _seconds(attempt.started_ns),
        "connected": _seconds(attempt.connected_ns),
        "sent": _seconds(attempt.sent_ns),
        "first_byte": _seconds(attempt.first_byte_ns),
        "ended": _seconds(attempt.ended_ns),
        "reused": attempt.reused,
        "status": attempt.status,
        "error": attempt.error,
    }


_USAGE = frozenset(Usage.__struct_fields__)
_PLAIN = tuple(
    name
    for name in CallView.__struct_fields__
    if name
    not in {
        "user",
        "tags",
        "usage",
        "usage_source",
        "price_variant",
        "stages",
        "facts",
        "attempts",
    }
)
"""Fields that are columns of the same name."""


def view_of(row: RowMapping, tries: tuple[Attempt, ...] | None = None) -> CallView:
    """Make a view of a row of `calls`, given all of its columns by name."""
    figures = {name: row[name] for name in FIGURES if row[name] is not None}
    more = row["usage_more"] or {}
    # A newer program may have booked figures that have no name here.
    figures.update({name: value for name, value in more.items() if name in _USAGE})
    return CallView(
        user=row["user_name"],
        tags=row["tags"] or {},
        usage=Usage(**figures) if figures else None,
        usage_source=UsageSource(row["usage_source"]),
        price_variant=row["price_variant"] or {},
        stages={
            stage: row[column] for stage, column in STAGE_COLUMNS.items() if row[column] is not None
        },
        facts=tuple(row["facts"] or ()),
        attempts=tries,
        **{name: row[name] for name in _PLAIN},
    )


def attempt_of(row: RowMapping) -> Attempt:
    """Make an attempt of a row of `attempts`."""
    return Attempt(**{name: row[name] for name in Attempt.__struct_fields__})
