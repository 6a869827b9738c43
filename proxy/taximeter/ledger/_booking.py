"""One generation is billed once, however often its answer is fetched.

Some answers outlive the call that made them. `POST /responses` with `background: true` is
answered before there is any usage; the client then polls `GET /responses/{id}`, and each poll
after the run's end tells the usage again. Batches are the same. So a *fetch* (a call with
`Fact.FETCHED`) never bears a cost of its own if the ledger knows who made the answer:

| the fetch's answer | the maker's row | what is booked |
| --- | --- | --- |
| not finished, failed, no usage | any | the fetch: cost 0, price `fetch` |
| final | has reported usage | the fetch: cost 0, price `repeat of ID` |
| final | has none, or an estimate | the maker takes the figures; the fetch: `booked on ID` |
| final | not known here | the fetch bears them itself; later fetches repeat *it* |
| final, but names no response | - | cost NULL: nobody can tell whether it was booked |

The maker is the earliest call that was not a fetch, on the same upstream, with the same
response id. Journals of several workers are read in any order, so a maker may come in after
its fetch: then the fetch hands over what it bears. `settle` does both, on rows already in
the ledger.

Only fetches are ever set to nought. Two calls that *made* something are both billed, even if
a careless upstream gives every answer the same id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, bindparam, select, text, update

from taximeter.call import Fact, UsageSource
from taximeter.ledger._rollup import SUMMED_COLUMNS, Tally
from taximeter.ledger._schema import calls

PRICE_FETCH = "fetch"
PRICE_NAMELESS = "fetch without a response id"

_FIGURE_COLUMNS = (
    "response_model",
    "service_tier",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "usage_more",
    "usage_source",
    "count_rule",
    "raw_usage",
    "cost_pico",
    "price",
    "price_rates",
    "price_variant",
)
"""What goes over to the maker: the figures, and all that pricing them again needs."""

_NO_FIGURES: dict[str, Any] = {
    "input_tokens": None,
    "output_tokens": None,
    "cached_tokens": None,
    "cache_write_tokens": None,
    "reasoning_tokens": None,
    "usage_more": None,
    "usage_source": str(UsageSource.ABSENT),
    "count_rule": None,
    "cost_pico": 0,
    "price_rates": None,
}

_NEEDED = [
    calls.c[name]
    for name in dict.fromkeys(
        ("id", "response_id", "fetched", "facts", *_FIGURE_COLUMNS, *SUMMED_COLUMNS)
    )
]

_EARLY = select(calls.c.id).where(
    calls.c.fetched,
    calls.c.usage_source == bindparam("source"),
    calls.c.response_id.in_(bindparam("response_ids", expanding=True)),
)
_EARLY_SQLITE = text(
    "SELECT id FROM calls INDEXED BY calls_by_fetched_response "
    "WHERE fetched AND usage_source = :source AND response_id IN :response_ids"
).bindparams(bindparam("response_ids", expanding=True))
"""Fetches that came in before the calls that made their answers.

Few rows are fetches, and they have an index of their own. SQLite must be told to use it: by itself
it walks all rows of an upstream that gives every answer the same id. It takes the index only for
the very words that the index was made with, and SQLAlchemy has no way to say either.
"""


def settle(
    connection: Connection, fetches: Iterable[str], response_ids: Sequence[str], tally: Tally
) -> None:
    """Put right who bears the cost, after rows have been inserted.

    Args:
        connection: the transaction that has inserted them.
        fetches: ids of the fetches among them.
        response_ids: response ids of the others, whose fetches may have come in before them.
        tally: takes the difference this makes to the sums.
    """
    unsettled = set(fetches)
    if response_ids:
        early = _EARLY_SQLITE if connection.dialect.name == "sqlite" else _EARLY
        known = {"source": str(UsageSource.REPORTED), "response_ids": list(response_ids)}
        unsettled.update(connection.execute(early, known).scalars())
    for call_id in sorted(unsettled):
        fetch = connection.execute(select(*_NEEDED).where(calls.c.id == call_id)).mappings().one()
        _settle_fetch(connection, fetch, tally)


def _settle_fetch(connection: Connection, fetch: RowMapping, tally: Tally) -> None:
    final = fetch["usage_source"] == UsageSource.REPORTED
    if not final or Fact.DEFERRED in (fetch["facts"] or ()):
        _edit(connection, fetch, {**_NO_FIGURES, "price": PRICE_FETCH}, tally)
        return
    if fetch["response_id"] is None:
        unknown = {**_NO_FIGURES, "cost_pico": None, "price": PRICE_NAMELESS}
        _edit(connection, fetch, unknown, tally)
        return
    bearer = _bearer(connection, fetch)
    if bearer is None:
        return
    word = "repeat of"
    if not bearer["fetched"] and bearer["usage_source"] != UsageSource.REPORTED:
        word = "booked on"
        figures = {name: fetch[name] for name in _FIGURE_COLUMNS}
        if Fact.BATCH in (fetch["facts"] or ()) and Fact.BATCH not in (bearer["facts"] or ()):
            figures["facts"] = [*(bearer["facts"] or ()), str(Fact.BATCH)]
        _edit(connection, bearer, figures, tally)
    nothing = {**_NO_FIGURES, "price": f"{word} {bearer['id']}", "booked_on": bearer["id"]}
    _edit(connection, fetch, nothing, tally)


def _bearer(connection: Connection, fetch: RowMapping) -> RowMapping | None:
    """Find who made the answer; else the first fetch that bears its cost."""
    same = and_(
        calls.c.response_id == fetch["response_id"],
        calls.c.upstream.is_not_distinct_from(fetch["upstream"]),
        calls.c.id != fetch["id"],
    )
    maker = select(*_NEEDED).where(same, calls.c.fetched.is_(False))
    earlier = select(*_NEEDED).where(
        same, calls.c.fetched, calls.c.usage_source == str(UsageSource.REPORTED)
    )
    for query in (maker, earlier):
        row = connection.execute(query.order_by(calls.c.id).limit(1)).mappings().first()
        if row is not None:
            return row
    return None


def _edit(
    connection: Connection, row: RowMapping, changes: Mapping[str, Any], tally: Tally
) -> None:
    tally.count([row[name] for name in SUMMED_COLUMNS], -1)
    connection.execute(update(calls).where(calls.c.id == row["id"]).values(changes))
    tally.count([changes.get(name, row[name]) for name in SUMMED_COLUMNS])
