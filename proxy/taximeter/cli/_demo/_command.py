"""The command: puts the parts together, shows the board, and ends all it started."""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

CALLS_PER_SECOND_MAX = 20.0


def demo(
    seconds: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=3600,
            metavar="N",
            help="Stop after so long. Default: at Ctrl-C.",
            show_default=False,
        ),
    ] = None,
    rate: Annotated[
        float,
        typer.Option(
            min=0.1,
            max=CALLS_PER_SECOND_MAX,
            metavar="N",
            help="Calls a second, all users together.",
        ),
    ] = 4.0,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the ledger and the configuration where they are.")
    ] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of what users and upstream do.")] = 1,
) -> None:
    """Watch it work.

    Simulated users call a simulated API through a Taximeter of its own.

    Needs no key and no network, and changes nothing of yours. Some calls are refused, fail or
    break off, as they do in life; see how they are booked.

    \b
    Examples:
      taximeter demo
      taximeter demo --seconds 30 --keep
    """
    import asyncio

    from taximeter.cli import _words
    from taximeter.cli._demo._run import run
    from taximeter.cli._demo._stop import Stop

    with Stop() as stop:
        folder = Path(tempfile.mkdtemp(prefix="taximeter-demo-"))
        show = partial(run, folder, _words.console(), rate=rate, seconds=seconds, seed=seed)
        try:
            asyncio.run(stop.or_done(show))
        finally:
            if keep:
                config = folder / "taximeter.yaml"
                typer.echo(f"Kept. Look around with: taximeter calls -c {config}")
            else:
                shutil.rmtree(folder, ignore_errors=True)
