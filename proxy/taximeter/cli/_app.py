"""The command `taximeter` itself: its subcommands, and what becomes of their errors.

A command's module is imported with this one, so none of them imports anything slow at its top:
the settings, the ledger and the proxy are imported by the commands that use them, when they run.
"""

from __future__ import annotations

import typer

from taximeter.cli._call import call
from taximeter.cli._calls import calls
from taximeter.cli._check import check
from taximeter.cli._demo import demo
from taximeter.cli._errors import CommandError
from taximeter.cli._keys import keys
from taximeter.cli._ledger import ledger
from taximeter.cli._report import report
from taximeter.cli._serve import serve
from taximeter.cli._simulate import simulate

application = typer.Typer(
    name="taximeter",
    help="A sidecar proxy that puts a meter on every LLM call.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def version() -> None:
    """Print the version."""
    from taximeter import __version__

    typer.echo(f"taximeter {__version__}")


for _command in (serve, calls, call, report, check, simulate, demo, version):
    application.command()(_command)
application.add_typer(keys)
application.add_typer(ledger)


def main() -> int:
    """Run the command line and give its exit code."""
    try:
        application()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except CommandError as error:
        typer.echo(f"taximeter: {error}", err=True)
        return error.exit_code
    return 0
