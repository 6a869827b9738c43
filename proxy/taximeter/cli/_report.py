"""`taximeter report`: what calls add up to, by whatever one asks."""

from __future__ import annotations

import csv
import sys
from enum import StrEnum
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
    from taximeter.ledger import ReportRow


class Format(StrEnum):
    """How a report is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def report(
    by: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            help="Group by: user, team, upstream, provider, model, operation, outcome, hour, "
            "day, session, tag:NAME.",
        ),
    ] = "user",
    config: Config = None,
    since: Since = None,
    until: Until = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Only calls with this value; may be repeated.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[Format, typer.Option("--format", "-f", help="How to write.")] = Format.TABLE,
) -> None:
    """Add calls up by user, model, day and more; the dearest first.

    A cost is the sum of those known; `unpriced` says how many calls are not in it.

    \b
    Examples:
      taximeter report --by user --since 7d
      taximeter report --by day,model --since 2026-11-01 --format csv
      taximeter report --by model --where user=alice
    """
    name_of(by, "--by")
    names = [name.strip() for name in by.split(",") if name.strip()]
    only: dict[str, str] = {}
    for pair in where or ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise CommandError("--where: give NAME=VALUE, such as user=alice", MISUSED)
        only[name.strip()] = value
        name_of(pair, "--where")
    since_ns, until_ns = moment_ns(since, "--since"), moment_ns(until, "--until")
    with open_ledger(read_settings(config)) as ledger:
        try:
            rows = ledger.report(names, since_ns=since_ns, until_ns=until_ns, only=only)
        except ValueError as error:
            raise CommandError(str(error), MISUSED) from None
    match format:
        case Format.TABLE:
            _write_table(names, rows)
        case Format.JSON:
            import msgspec

            encoded = msgspec.json.encode([row.to_json() for row in rows])
            typer.echo(msgspec.json.format(encoded, indent=2).decode())
        case Format.CSV:
            _write_csv(names, rows)


def _write_csv(names: list[str], rows: list[ReportRow]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    figures = [*FIGURES, "cost_usd"]
    writer.writerow([*names, *figures])
    for row in rows:
        plain = row.to_json()
        cells = (*(row.key[name] for name in names), *(plain[name] for name in figures))
        writer.writerow(map(_words.cell, cells))


FIGURES = (
    "calls", "errors", "attempts", "input_tokens", "output_tokens", "cached_tokens",
    "reasoning_tokens", "unpriced", "estimated", "partial", "absent", "duration_seconds_mean",
    "first_token_seconds_mean",
)  # fmt: skip


def _write_table(names: list[str], rows: list[ReportRow]) -> None:
    from taximeter.cli._table import Column, draw

    if not rows:
        _words.console(stderr=True).print("No calls.")
        return
    columns = (
        *(Column(name, name=True) for name in names),
        Column("calls", rank=1),
        Column("errors", rank=4),
        Column("in", rank=5),
        Column("out", rank=5),
        Column("cost", rank=2),
        Column("unpriced", rank=3),
        Column("first token", rank=6),
        Column("mean time", rank=7),
    )
    total = (
        *("total" if place == 0 else "" for place in range(len(names))),
        _words.number(sum(row.calls for row in rows)),
        _words.number(sum(row.errors for row in rows)),
        _words.number(sum(row.input_tokens for row in rows)),
        _words.number(sum(row.output_tokens for row in rows)),
        _words.money(sum(row.cost_pico for row in rows)),
        _words.number(sum(row.unpriced for row in rows)),
        "",
        "",
    )
    lines = (
        (
            *(_words.plain(row.key[name]) for name in names),
            _words.number(row.calls),
            _words.number(row.errors),
            _words.number(row.input_tokens),
            _words.number(row.output_tokens),
            _words.money(row.cost_pico),
            _words.number(row.unpriced),
            _words.seconds(row.first_token_seconds_mean),
            _words.seconds(row.duration_seconds_mean),
        )
        for row in rows
    )
    draw(_words.console(), columns, lines, total if names and len(rows) > 1 else None)
