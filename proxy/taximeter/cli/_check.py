"""`taximeter check`: is this configuration right, and what does it come to?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taximeter.cli._errors import MISUSED, CommandError
from taximeter.cli._options import read_settings


def check(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="Configuration file. Default: the one that `serve` would read.",
            show_default=False,
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print problems only.")] = False,
) -> None:
    """Check a configuration.

    Prints what is in effect, with the environment and the defaults.

    Exit code 2 says that it cannot be used; every problem is printed, with its line and a hint.

    \b
    Examples:
      taximeter check taximeter.yaml
      taximeter check --quiet && systemctl reload taximeter
    """
    from taximeter.settings import SettingsError

    settings = read_settings(file)
    try:
        settings.otlp.check()
    except SettingsError as error:
        raise CommandError(f"the configuration cannot be used\n{error}", MISUSED) from None
    if not quiet:
        typer.echo(settings.dump(), nl=False)
