"""Every ledger panel asks real PostgreSQL, and its figures are exact."""

from __future__ import annotations

import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from dashboards.preview._values import Choice, Span, fill_sql
from taximeter.call import Outcome, Stage, Usage
from taximeter.ledger import Ledger
from tests.ledger.make import HOUR, T0, commit, entry
from tests.support.postgres import PostgresServer

Boards = dict[str, dict[str, Any]]
Row = dict[str, Any]

_HOSTILE = "o'brien'); DROP TABLE calls; --"
_USERS = ["ann", "bob", None, _HOSTILE]
_RATES = '{"input_mtok": "2.5", "cache_read_mtok": "0.25", "output_mtok": "10"}'
_SPAN = Span(since=(T0 - 2 * HOUR) // 10**9, until=(T0 + 24 * HOUR) // 10**9)


@pytest.fixture(scope="module")
def entries() -> list[Any]:
    """Calls of some users, models and hours, the same each time."""
    dice = random.Random(7)
    made = []
    for number in range(300):
        done = dice.random() < 0.8
        made.append(
            entry(
                at_ns=T0 + dice.randrange(20 * HOUR),
                user=dice.choice(_USERS),
                team=dice.choice(["red", None]),
                session=dice.choice(["s1", "s2", None]),
                model=dice.choice(["gpt-5.4-mini", "large"]),
                outcome=Outcome.COMPLETED if done else Outcome.TRUNCATED,
                usage=Usage(input_tokens=1_000, output_tokens=50, cached_tokens=400),
                cost_pico=None if number % 10 == 0 else dice.randrange(1, 3_000_000_000),
                price="unpriced: no such model" if number % 10 == 0 else "list",
                error=None if done else "upstream_truncated",
                stages={Stage.RECEIVE: 1_000_000, Stage.STREAM: dice.randrange(10**10)},
            )
        )
    return made


@pytest.fixture(scope="module")
def database(entries: list[Any]) -> Iterator[psycopg.Connection[Row]]:
    """A ledger in PostgreSQL with those calls, read as Grafana would."""
    with PostgresServer() as server:
        url = server.make_database()
        ledger = Ledger.open(url)
        ledger.migrate()
        commit(ledger, *entries)
        ledger.close()
        plain = url.replace("postgresql+psycopg:", "postgresql:")
        with psycopg.connect(plain, row_factory=psycopg.rows.dict_row, autocommit=True) as found:
            found.execute("UPDATE calls SET price_rates = %s WHERE cost_pico > 0", [_RATES])
            found.execute("UPDATE calls SET stream = true")
            found.execute("SET default_transaction_read_only = on")
            yield found


def _panels(boards: Boards) -> list[tuple[dict[str, Any], dict[str, Any], str]]:
    return [
        (board, panel, target["rawSql"])
        for board in boards.values()
        for top in board["panels"]
        for panel in (top, *top.get("panels", []))
        for target in panel.get("targets", [])
        if "rawSql" in target
    ]


def _ask(
    database: psycopg.Connection[Row],
    board: dict[str, Any],
    query: str,
    **chosen: Choice,
) -> list[Row]:
    return database.execute(fill_sql(query, board, _SPAN, chosen).encode()).fetchall()


def _panel(boards: Boards, file: str, title: str) -> tuple[dict[str, Any], str]:
    (found,) = (
        (board, query)
        for board, panel, query in _panels({file: boards[file]})
        if panel["title"] == title
    )
    return found


def test_every_ledger_panel_gives_what_it_draws(
    boards: Boards, database: psycopg.Connection[Row]
) -> None:
    """Each query runs, gives rows, and has the columns that its panel needs."""
    asked = _panels(boards)
    assert len(asked) > 30
    drawn: set[str] = set()
    for board, panel, query in asked:
        rows = _ask(database, board, query)
        if not rows:
            continue
        drawn.add(panel["title"])
        if panel["type"] == "timeseries":
            assert isinstance(rows[0]["time"], int | Decimal), panel["title"]
        for step in panel.get("transformations", []):
            if step["id"] == "filterFieldsByName":
                assert set(step["options"]["include"]["names"]) == set(rows[0]), panel["title"]
    assert drawn == {panel["title"] for _, panel, _ in asked}


def test_every_ledger_panel_says_nothing_of_an_empty_time(
    boards: Boards, database: psycopg.Connection[Row]
) -> None:
    """With no calls in the time shown, no query fails."""
    empty = Span(since=1_000, until=2_000)
    for board, _, query in _panels(boards):
        database.execute(fill_sql(query, board, empty, {}).encode()).fetchall()


def test_every_ledger_variable_offers_names(
    boards: Boards, database: psycopg.Connection[Row]
) -> None:
    """Users, teams, models, sessions and outcomes can be chosen from what there is."""
    offered: dict[str, set[str]] = {}
    for board in boards.values():
        for variable in board["templating"]["list"]:
            if variable["type"] == "query" and isinstance(variable["query"], str):
                rows = _ask(database, board, variable["query"])
                offered[variable["name"]] = {str(next(iter(row.values()))) for row in rows}
    assert offered["user"] == {"ann", "bob", "", _HOSTILE}
    assert offered["outcome"] == {"completed", "truncated"}
    assert offered.keys() == {"user", "team", "upstream", "model", "session", "outcome"}


def test_spend_is_exact_to_the_last_pico_dollar(
    boards: Boards, database: psycopg.Connection[Row], entries: list[Any]
) -> None:
    """The board's sum is the sum of the calls' costs, with no float on the way."""
    pico = sum(each.cost_pico or 0 for each in entries)
    (row,) = _ask(database, *_panel(boards, "cost.json", "Spend"))
    assert row["usd"] == Decimal(pico) / 10**12
    (row,) = _ask(database, *_panel(boards, "calls.json", "Cost"))
    assert row["usd"] == Decimal(pico) / 10**12


@pytest.mark.parametrize("user", ["ann", _HOSTILE, "", "nobody"])
def test_a_user_is_chosen_by_name_whatever_it_contains(
    boards: Boards, database: psycopg.Connection[Row], entries: list[Any], user: str
) -> None:
    """A name chosen on a board is a value, never SQL; nobody's calls are those of ''."""
    mine = [each for each in entries if (each.closed.opened.user or "") == user]
    pico = sum(each.cost_pico or 0 for each in mine)
    (row,) = _ask(database, *_panel(boards, "cost.json", "Spend"), user=[user])
    assert (row["usd"] or 0) == Decimal(pico) / 10**12
    (row,) = _ask(database, *_panel(boards, "calls.json", "Calls"), user=[user])
    assert row["calls"] == len(mine)


def test_what_caches_saved_is_what_the_rates_say(
    boards: Boards, database: psycopg.Connection[Row], entries: list[Any]
) -> None:
    """Cached tokens times the gap between the plain and the cached rate of each call's price."""
    priced = sum(each.cost_pico is not None for each in entries)
    (row,) = _ask(database, *_panel(boards, "cost.json", "Saved by caches"))
    assert row["usd"] == Decimal(priced * 400) * (Decimal("2.5") - Decimal("0.25")) / 1_000_000


def test_names_in_sql_are_always_quoted(boards: Boards) -> None:
    """A variable that holds names stands in SQL only in the form that quotes them."""
    for board, panel, query in _panels(boards):
        fill_sql(query, board, _SPAN, {"user": ["x"]})
        assert "$user" not in query, panel["title"]
        assert "$model" not in query, panel["title"]
