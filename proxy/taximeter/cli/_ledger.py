"""`taximeter ledger`: upkeep of the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from taximeter.cli import _words
from taximeter.cli._options import (
    Config,
    Since,
    Until,
    moment_ns,
    name_of,
    open_ledger,
    read_settings,
)

ledger = typer.Typer(
    name="ledger",
    help="Upkeep of the ledger: migrate, prune, reprice.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@ledger.command()
def migrate(config: Config = None) -> None:
    """Bring the ledger's tables up to date; make them if there are none.

    Safe to run again, and while the proxy runs: migrations only add.

    \b
    Example:
      taximeter ledger migrate
    """
    settings = read_settings(config)
    with open_ledger(settings) as opened:
        before = opened.schema_state()
        opened.migrate(lambda version: typer.echo(f"now at {version}", err=True))
        typer.echo(f"{opened.place}: was {before}, is {opened.schema_state()}")


@ledger.command()
def prune(
    older_than: Annotated[
        str, typer.Option(metavar="TIME", help="Calls older than: 90d, or before 2026-01-01.")
    ],
    config: Config = None,
) -> None:
    """Delete old calls. The hourly sums stay, so reports by user and model still answer.

    \b
    Example:
      taximeter ledger prune --older-than 90d
    """
    before_ns = moment_ns(older_than, "--older-than")
    with open_ledger(read_settings(config)) as opened, _progress("pruning") as tell:
        deleted = opened.prune(before_ns, tell)
    typer.echo(f"{deleted:,} calls deleted, started before {_words.clock(before_ns)} UTC")


@ledger.command()
def reprice(
    config: Config = None,
    since: Since = None,
    until: Until = None,
    model: Annotated[
        str | None, typer.Option(help="Only of this model, as asked for.", show_default=False)
    ] = None,
    unpriced: Annotated[
        bool, typer.Option("--unpriced", help="Only those whose cost is unknown.")
    ] = False,
) -> None:
    """Price calls again with the prices of now: your own first, then the built-in table.

    Rows and sums change together, in pieces; stopped at any point it can simply be run again.

    \b
    Examples:
      taximeter ledger reprice --unpriced
      taximeter ledger reprice --since 2026-11-01 --model my-model
    """
    from taximeter.ledger import CallFilter
    from taximeter.recorder import Bookkeeping

    settings = read_settings(config)
    wanted = CallFilter(
        since_ns=moment_ns(since, "--since"),
        until_ns=moment_ns(until, "--until"),
        model=name_of(model, "--model"),
        unpriced=unpriced,
    )
    with open_ledger(settings) as opened, _progress("pricing") as tell:
        summary = opened.reprice(Bookkeeping(settings).price_again, wanted, tell)
    delta = _words.money(abs(summary.delta_pico))
    moved = "fell" if summary.delta_pico < 0 else "rose"
    typer.echo(
        f"{summary.examined:,} calls examined, {summary.changed:,} changed: "
        f"{summary.priced:,} have a cost now, {summary.unpriced:,} have none any more; the sum "
        + (f"{moved} by {delta}" if summary.delta_pico else "is the same")
    )


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int], object]]:
    """Show how many calls have been dealt with, on a terminal only."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}: {task.completed:,.0f} calls"),
        TimeElapsedColumn(),
    )
    console = _words.console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done: bar.update(task, completed=done)
