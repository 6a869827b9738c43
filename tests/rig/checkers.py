"""What must hold after any workload, whatever went wrong in it.

Apart from the workloads on purpose: a load remembers what its clients saw, a fault does harm, and
neither knows what is right. Each checker is given facts and raises AssertionError with what is
wrong; none of them waits for anything but `at_rest`, which waits for the books.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.rig.exposition import Exposition

REST_SECONDS = 1.5
"""Without a further row for so long, the ledger has come to rest: parked calls and counts are
looked after more often."""
REST_SECONDS_MAX = 30.0
POLL_SECONDS = 0.1
TRACES = "7ac3700000000000"
"""What traces begin with that tell a call's number."""

Row = Mapping[str, Any]
OUTCOMES_OF_GOOD_CALLS = frozenset(
    {"completed", "interrupted", "cancelled", "abandoned", "upstream_error"}
)
"""Where every upstream answers well, and anything else may go wrong."""
OUTCOMES = OUTCOMES_OF_GOOD_CALLS | {"truncated"}
"""Where upstreams break off, too."""


class Answer(Protocol):
    """What a client saw of a call."""

    number: int
    call_id: str | None
    whole: bool


class Books(Protocol):
    """Where rows come from."""

    def rows(self) -> list[dict[str, Any]]: ...

    def log_text(self) -> str: ...


def at_rest(
    books: Books,
    rows_min: int,
    seconds: float = REST_SECONDS_MAX,
    ids: Collection[str | None] = (),
) -> list[dict[str, Any]]:
    """Wait until no more rows come; give them.

    A recorder that has just been killed says nothing for longer than a rest lasts: who knows which
    calls have to be among the rows says so by their `ids`.

    Raises:
        AssertionError: if there are fewer than `rows_min`, if one of `ids` is not among them, or
            if still more are coming, after `seconds`.
    """
    missing: set[str | None] = set(ids)
    deadline = time.monotonic() + seconds
    before, since = -1, time.monotonic()
    while time.monotonic() < deadline:
        rows = books.rows()
        if len(rows) != before:
            before, since = len(rows), time.monotonic()
            missing -= {row["id"] for row in rows}
        if len(rows) >= rows_min and not missing and time.monotonic() - since > REST_SECONDS:
            return rows
        time.sleep(POLL_SECONDS)
    raise AssertionError(
        f"no rest: {before} rows, {rows_min} at least; missing: {missing}\n{books.log_text()}"
    )


def number_of(row: Row) -> str | None:
    """Give the number that its client gave a call: in the tag `n`, or by its trace (`trace_of`)."""
    tags = row["tags"] or {}
    if "n" in tags:
        return str(tags["n"])
    trace_id = str(row["trace_id"] or "")
    return str(int(trace_id[16:], 16)) if trace_id.startswith(TRACES) else None


def trace_of(number: int) -> str:
    """Give the `traceparent` of a call that is known by nothing else that its head says."""
    return f"00-{TRACES}{number:016x}-00f067aa0ba902b7-01"


def closes_once(rows: Sequence[Row]) -> None:
    """No call has two rows, by its id or by the number that its client gave it."""
    twice = [each for each, n in Counter(row["id"] for row in rows).items() if n > 1]
    assert twice == [], f"booked twice: {twice}"
    numbers = Counter(filter(None, map(number_of, rows)))
    twice = [each for each, n in numbers.items() if n > 1]
    assert twice == [], f"a request is booked twice: {twice}"


def booked_as_seen(seen: Iterable[Answer], rows: Sequence[Row], *, arrived: int) -> None:
    """As sets, what clients saw, what the upstream saw, and what is booked, are the same.

    Args:
        seen: what clients saw; whole answers must be booked as such.
        rows: what is booked, each with its client's number (see `number_of`).
        arrived: how many requests the upstream saw: so many rows there must be at least.
    """
    known = {str(each.number): each for each in seen}
    invented = {number_of(row) for row in rows} - known.keys()
    assert not invented, f"calls nobody made are booked: {invented}"
    by_id = {row["id"]: row for row in rows}
    for each in known.values():
        if each.whole:
            row = by_id.get(each.call_id)
            assert row is not None, f"call {each} was answered and is not booked"
            assert row["outcome"] == "completed", f"{each}: {row['outcome']}"
            assert row["cost_pico"] is not None, f"{each} has no cost"
    assert len(rows) >= arrived, f"{arrived} calls reached the upstream, {len(rows)} are booked"


def outcomes_within(rows: Sequence[Row], allowed: frozenset[str] = OUTCOMES_OF_GOOD_CALLS) -> None:
    """No call ended in a way that nothing here can have brought about."""
    strange = Counter(row["outcome"] for row in rows if row["outcome"] not in allowed)
    assert not strange, f"no call should have ended so: {dict(strange)}"


def sums_agree(ledger: Path) -> None:
    """The hourly sums of an SQLite ledger are the sums of its rows."""
    with contextlib.closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as base:
        (rows,) = base.execute(
            "SELECT count(*), total(output_tokens), total(cost_pico / 1000000),"
            " total(cost_pico % 1000000) FROM calls"
        )
        (sums,) = base.execute(
            "SELECT total(calls), total(output_tokens), total(cost_micro_usd),"
            " total(cost_rest_pico) FROM hourly"
        )
    # A sum of rests is carried over now and then: dollars are compared as one figure.
    rows, sums = (
        (int(calls), int(tokens), int(micro) * 10**6 + int(rest))
        for calls, tokens, micro, rest in (rows, sums)
    )
    assert rows == sums, f"rows add up to {rows}, the hours to {sums}"


def ledger_is_metrics(rows: Sequence[Row], shown: Exposition) -> None:
    """Calls, tokens and costs of `/metrics` are what the rows add up to."""
    assert shown.total("taximeter_calls_total") == len(rows)
    for kind in ("input", "output"):
        booked = sum(row[f"{kind}_tokens"] or 0 for row in rows)
        assert shown.total("taximeter_tokens_total", type=kind) == booked, kind
    cost = shown.total("taximeter_cost_usd_total")
    booked_usd = sum(row["cost_pico"] or 0 for row in rows) / 1e12
    assert cost is not None
    assert abs(cost - booked_usd) < 1e-12, f"{cost} shown, {booked_usd} booked"


def nothing_under_way(shown: Exposition) -> None:
    """With all calls over, no slot, place in a queue or call is still taken."""
    for name in ("taximeter_in_flight", "taximeter_queue_depth"):
        busy = [(labels, value) for labels, value in shown.samples(name) if value]
        assert busy == [], f"{name}: {busy}"


def series_bounded(shown: Exposition, series_max: int) -> None:
    """There are no more samples than were allowed for."""
    assert shown.series <= series_max, f"{shown.series} samples, {series_max} allowed"


def no_secret_bytes(written: Mapping[str, bytes], secrets: Iterable[bytes]) -> None:
    """None of these bytes, in any case, stands in anything written.

    Args:
        written: what was written, by where.
        secrets: what must not be there.
    """
    leaks = {
        f"{where}: {leak.decode('utf-8', 'replace')}"
        for secret in secrets
        for where, data in written.items()
        for leak in re.findall(
            rb"(?i)[^\s\"']{0,40}" + re.escape(secret) + rb"[^\s\"']{0,40}", data
        )
    }
    assert leaks == set()
