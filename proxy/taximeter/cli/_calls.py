"""`taximeter calls`: the calls of the ledger, the newest first."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from taximeter.cli import _words
from taximeter.cli._errors import MISUSED, CommandError
from taximeter.cli._options import (
    Config,
    Since,
    Until,
    moment_ns,
    name_of,
    open_ledger,
    read_settings,
)

if TYPE_CHECKING:
    from taximeter.ledger import CallView

LIMIT_OF_TABLES = 50
LIMIT_MAX = 1_000_000_000


class Format(StrEnum):
    """How calls are written."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"


CSV_COLUMNS = (
    "id", "started_at", "user", "team", "session", "upstream", "provider", "operation", "model",
    "response_model", "stream", "status", "outcome", "error", "input_tokens", "output_tokens",
    "cached_tokens", "reasoning_tokens", "usage_source", "cost_usd", "price", "attempts",
    "duration", "time_to_first_token", "request_bytes", "response_bytes", "response_id", "trace_id",
)  # fmt: skip


def calls(
    config: Config = None,
    since: Since = None,
    until: Until = None,
    user: Annotated[str | None, typer.Option(help="Only this user's.", show_default=False)] = None,
    team: Annotated[str | None, typer.Option(help="Only this team's.", show_default=False)] = None,
    session: Annotated[
        str | None, typer.Option(help="Only this session's.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Only of this model, as asked for.", show_default=False)
    ] = None,
    upstream: Annotated[
        str | None, typer.Option(help="Only to this upstream.", show_default=False)
    ] = None,
    outcome: Annotated[
        str | None,
        typer.Option(
            help="Only with this outcome: completed, upstream_error, truncated, cancelled, "
            "abandoned, rejected, interrupted.",
            show_default=False,
        ),
    ] = None,
    unpriced: Annotated[
        bool, typer.Option("--unpriced", help="Only those whose cost is unknown.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=LIMIT_MAX,
            help=f"At most so many. Default: {LIMIT_OF_TABLES} in a table, else all.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[Format, typer.Option("--format", "-f", help="How to write.")] = Format.TABLE,
) -> None:
    """List calls, the newest first.

    Each with who, what, how it ended, tokens, cost and time.

    JSON lines hold all that is known of a call; costs are exact decimal strings, or null where
    the cost is unknown. Times of day are UTC.

    \b
    Examples:
      taximeter calls --since 1h
      taximeter calls --user alice --outcome truncated
      taximeter calls --since 2026-11-01 --format csv > november.csv
      taximeter calls --format jsonl | jq 'select(.cost_usd == null) | .model'
    """
    from taximeter.call import Outcome
    from taximeter.ledger import CallFilter

    if outcome is not None and outcome not in list(Outcome):
        raise CommandError(f"--outcome: one of {', '.join(Outcome)}", MISUSED)
    wanted = CallFilter(
        since_ns=moment_ns(since, "--since"),
        until_ns=moment_ns(until, "--until"),
        user=name_of(user, "--user"),
        team=name_of(team, "--team"),
        session=name_of(session, "--session"),
        model=name_of(model, "--model"),
        upstream=name_of(upstream, "--upstream"),
        outcome=outcome,
        unpriced=unpriced,
        # One more than is shown tells whether there are more.
        limit=(limit or LIMIT_OF_TABLES) + 1 if format is Format.TABLE else limit,
    )
    with open_ledger(read_settings(config)) as ledger:
        found = ledger.calls(wanted)
        match format:
            case Format.TABLE:
                _write_table(found, limit or LIMIT_OF_TABLES)
            case Format.JSONL:
                _write_lines(found)
            case Format.CSV:
                _write_csv(found)


def _write_lines(found: Iterable[CallView]) -> None:
    import msgspec

    for view in found:
        sys.stdout.write(msgspec.json.encode(view.to_json()).decode() + "\n")


def _write_csv(found: Iterable[CallView]) -> None:
    writer = csv.DictWriter(sys.stdout, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for view in found:
        writer.writerow({name: _words.cell(value) for name, value in view.to_json().items()})


def _write_table(found: Iterator[CallView], limit: int) -> None:
    from taximeter.cli._table import Column, draw

    shown = list(islice(found, limit))
    if not shown:
        _words.console(stderr=True).print("No calls.")
        return
    columns = (
        Column("started (UTC)"),
        Column("user", name=True),
        Column("model", rank=1, name=True),
        Column("outcome"),
        Column("in", rank=4),
        Column("out", rank=4),
        Column("cost", rank=2),
        Column("first token", rank=5),
        Column("total", rank=3),
        Column("id"),
    )
    draw(_words.console(), columns, map(row_of, shown))
    if next(found, None) is not None:
        _words.console(stderr=True).print(f"The newest {limit}; see --limit.")


def row_of(view: CallView) -> tuple[str, ...]:
    """Give a call as a row: started, user, model, outcome, tokens, cost, times, id."""
    usage = view.usage
    return (
        _words.clock(view.started_at_ns),
        _words.plain(view.user or view.key_hash),
        _words.plain(view.response_model or view.model or view.operation),
        view.outcome if view.status in (None, 200) else f"{view.outcome} {view.status}",
        _words.number(usage.input_tokens if usage else None),
        _words.number(usage.output_tokens if usage else None),
        _words.money(view.cost_pico),
        _words.nanoseconds(view.time_to_first_token_ns),
        _words.nanoseconds(view.duration_ns),
        view.id,
    )
