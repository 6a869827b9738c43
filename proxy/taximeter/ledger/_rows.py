"""From an entry to the rows that hold it. Pure.

Text comes from strangers and a row must go in whatever they wrote, so every text passes
through `fit`: PostgreSQL refuses NUL, UTF-8 has no lone surrogates, and an index entry of
PostgreSQL has at most 2,704 bytes. What is too long is cut, and ends in a digest of the
whole, so that two names that differ stay two.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Any

import msgspec

from taximeter.call import FIGURE_MAX, Attempt, Closed, Fact, Gaps, Stage, Usage, UsageSource
from taximeter.records import encode_record

NAME_CHARACTERS_MAX = 256
"""Names, ids and codes. Four bytes each, three to an index, and PostgreSQL still takes it."""
TEXT_CHARACTERS_MAX = 4096
"""Texts that are not indexed: rates, the upstream's usage object."""
INTEGER_MAX = 2**63 - 1

PRICE_DEFERRED = "deferred"
"""Price of a call whose usage a later fetch will bring."""

FIGURES = (
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
"""Usage that has columns of its own; the rest is one JSON object, `usage_more`."""

_CALL_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MORE = tuple(name for name in Usage.__struct_fields__ if name not in FIGURES)
_DIGEST_HEX = 32
_json = msgspec.json.Encoder()


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A call that is ready to be booked: how it ended, what it used, what it cost."""

    closed: Closed
    usage: Usage | None = None
    """The usage to book; None where nobody knows."""
    usage_source: UsageSource = UsageSource.ABSENT
    cost_pico: int | None = None
    """Cost in pico-dollars; None is unknown."""
    price: str | None = None
    """Name of the price, or why there is none."""
    price_rates: str | None = None
    """The rates of that price, as JSON."""
    count_rule: str | None = None
    """How tokens were counted, where they were."""

    @property
    def call_id(self) -> str:
        return self.closed.opened.call_id


class Unfit(ValueError):
    """An entry no table can hold. `args[0]` is the code of the fault."""


def fit(value: str | None, characters_max: int = NAME_CHARACTERS_MAX) -> str | None:
    """Give a text as both engines can hold it: no NUL, no lone surrogate, not too long."""
    if value is None:
        return None
    if not value.isascii():
        value = value.encode("utf-8", "replace").decode("utf-8")
    if "\0" in value:
        value = value.replace("\0", "")
    if len(value) <= characters_max:
        return value
    digest = blake2b(value.encode("utf-8"), digest_size=_DIGEST_HEX // 2).hexdigest()
    return f"{value[: characters_max - _DIGEST_HEX - 1]}#{digest}"


def _fit_name(value: str | None) -> str | None:
    """Fit a name; an empty one names nothing."""
    return fit(value) or None


def _fit_id(value: str | None) -> str | None:
    """Drop what can be no call's id rather than refuse the row for it."""
    return value if value is not None and is_call_id(value) else None


def _names(value: dict[str, str]) -> str | None:
    """Give a small object of texts as JSON."""
    if not value:
        return None
    return _json.encode({fit(key): fit(text) for key, text in value.items()}).decode()


def usage_more(usage: Usage | None) -> str | None:
    """Give the figures that have no column as JSON; None if there are none."""
    if usage is None:
        return None
    more = {name: value for name in _MORE if (value := getattr(usage, name)) is not None}
    return _json.encode(more).decode() if more else None


def _gaps(gaps: Gaps | None) -> str | None:
    if gaps is None or not gaps.count:
        return None
    return _json.encode(
        {
            "count": gaps.count,
            "sum_ns": gaps.sum_ns,
            "max_ns": gaps.max_ns,
            "buckets": gaps.buckets,
        }
    ).decode()


def _small_or_none(value: int | None) -> int | None:
    """Drop a count that only its client vouches for rather than refuse the row for it."""
    return value if value is not None and 0 <= value <= INTEGER_MAX else None


_RECEIVE, _QUEUE, _CONNECT, _FIRST_BYTE, _FIRST_TOKEN, _STREAM, _SETTLE = Stage
_TO_FIRST_TOKEN = (_RECEIVE, _QUEUE, _CONNECT, _FIRST_BYTE, _FIRST_TOKEN)
_NO_USAGE = Usage()


def call_row(entry: Entry) -> tuple[Any, ...]:
    """Give an entry's row of `calls`, in the order of `CALL_COLUMNS`.

    Raises:
        Unfit: if a figure is negative or passes 63 bits, or the id is not a UUID.
    """
    closed = entry.closed
    opened = closed.opened
    if _CALL_ID.fullmatch(opened.call_id) is None:
        raise Unfit("bad_call_id")
    usage = entry.usage or _NO_USAGE
    facts = closed.facts
    fetched = Fact.FETCHED in facts
    price = entry.price
    if Fact.DEFERRED in facts and not fetched and entry.usage is None and entry.cost_pico is None:
        price = PRICE_DEFERRED
    stages = closed.stages
    stage = stages.get
    duration = sum(stages.values()) if stages else None
    first = sum(stage(each, 0) for each in _TO_FIRST_TOKEN) if _FIRST_TOKEN in stages else None
    row = (
        opened.call_id,
        opened.started_at_ns,
        _fit_name(opened.user),
        _fit_name(opened.team),
        _fit_name(opened.session),
        _names(opened.tags),
        fit(opened.user_source),
        fit(opened.key_hash),
        _fit_name(opened.upstream),
        _fit_name(opened.provider),
        fit(opened.dialect),
        fit(opened.method),
        fit(opened.path),
        fit(opened.operation),
        _fit_name(opened.model) or _fit_name(closed.response_model),
        _fit_name(closed.response_model),
        fit(closed.service_tier),
        opened.stream,
        closed.status,
        str(closed.outcome),
        fit(closed.error),
        fit(closed.finish_reason),
        _fit_name(closed.response_id),
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
        usage_more(entry.usage),
        str(entry.usage_source),
        fit(entry.count_rule),
        fit(closed.raw_usage, TEXT_CHARACTERS_MAX),
        entry.cost_pico,
        fit(price),
        fit(entry.price_rates, TEXT_CHARACTERS_MAX),
        _names(closed.price_variant),
        _fit_id(opened.retry_of) if Fact.REPLAYED in facts else None,
        fetched,
        len(closed.attempts),
        stage(_RECEIVE),
        stage(_QUEUE),
        stage(_CONNECT),
        stage(_FIRST_BYTE),
        stage(_FIRST_TOKEN),
        stage(_STREAM),
        stage(_SETTLE),
        duration,
        first,
        _gaps(closed.gaps),
        closed.events,
        closed.request_bytes,
        closed.response_bytes,
        _json.encode(facts).decode() if facts else None,
        fit(opened.trace_id),
        fit(opened.parent_span_id),
        fit(opened.client_request_id),
        _small_or_none(opened.client_retry),
        _fit_id(opened.retry_of),
        fit(opened.service_tier),
    )
    _check_figures(row)
    # Sums stay within 63 bits: SQLite would go over to floating point there, and PostgreSQL refuse
    # the whole batch. The recorder books no such count; this is for whoever else books.
    for name in FIGURES:
        if (getattr(usage, name) or 0) > FIGURE_MAX:
            raise Unfit("tokens_out_of_range")
    return row


def attempt_row(call_id: str, attempt: Attempt) -> tuple[Any, ...]:
    """Give an attempt's row, in the order of `ATTEMPT_COLUMNS`."""
    row = (
        call_id,
        attempt.number,
        fit(attempt.upstream),
        attempt.started_ns,
        attempt.connected_ns,
        attempt.sent_ns,
        attempt.first_byte_ns,
        attempt.ended_ns,
        attempt.reused,
        attempt.status,
        fit(attempt.error),
    )
    _check_figures(row)
    return row


def _check_figures(row: tuple[Any, ...]) -> None:
    for value in row:
        if value.__class__ is int and not 0 <= value <= INTEGER_MAX:
            raise Unfit("figure_out_of_range")


def is_call_id(value: str) -> bool:
    """Tell whether a text can be the id of a call: a UUID in lower case."""
    return _CALL_ID.fullmatch(value) is not None


def record_bytes(entry: Entry) -> bytes | None:
    """Give an entry's record for the table of rejects; None if it cannot be encoded."""
    try:
        return encode_record(entry.closed)
    except (OverflowError, ValueError, TypeError):
        return None
