"""The page about the ledger is true of the ledger."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import text

from taximeter.ledger import ENTRIES_MAX, Ledger, _engine, _report
from taximeter.ledger._page import with_tables
from taximeter.ledger._schema import metadata
from tests.ledger.make import commit, entry

PAGE = Path(__file__).parents[2] / "docs" / "ledger.md"


def test_the_page_describes_the_tables_as_they_are() -> None:
    """A column that is new, gone or changed makes the page stale: run `make docs`."""
    page = PAGE.read_text(encoding="utf-8")
    assert with_tables(page) == page
    for table in metadata.tables.values():
        assert f"### `{table.name}`" in page
        assert all(column.doc for column in table.columns)


def test_the_pages_query_gives_what_it_says(ledger: Ledger) -> None:
    """The SQL on the page runs on both engines and tells each user's cost."""
    (query,) = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    november = 1_793_491_200 * 1_000_000_000
    commit(
        ledger,
        entry(at_ns=november, cost_pico=2_500_000_000_000),
        entry(at_ns=november, cost_pico=None),
        entry(at_ns=november - 1, cost_pico=7),
    )
    with ledger._store.reading() as connection:
        (row,) = connection.execute(text(query)).mappings()
    assert (row["user_name"], int(row["calls"]), float(row["usd"])) == ("ann", 2, 2.5)
    assert (int(row["without_price"]), int(row["counted_by_us"])) == (1, 0)


def test_the_pages_limits_are_those_of_the_code() -> None:
    """Each number in the table of limits is the constant it stands for."""
    page = PAGE.read_text(encoding="utf-8")
    for line in (
        f"| connecting to PostgreSQL | {_engine.CONNECT_SECONDS_MAX} s |",
        f"| a statement | {_engine.STATEMENT_SECONDS_MAX} s |",
        f"| waiting for the write lock | {_engine.LOCK_SECONDS_MAX} s |",
        f"(PostgreSQL) | {_engine.IDLE_IN_TRANSACTION_SECONDS_MAX} s |",
        f"| entries in a batch | {ENTRIES_MAX:,} |",
        f"| rows of a report | {_report.ROWS_MAX:,} |",
        f"| connections of a process | {_engine._CONNECTIONS_MAX} |",
    ):
        assert line in page
