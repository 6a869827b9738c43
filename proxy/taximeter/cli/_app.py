"""The command `taximeter` itself: its subcommands, and what becomes of their errors."""

from __future__ import annotations

import typer

app = typer.Typer(name="taximeter", no_args_is_help=True, add_completion=False)


@app.callback()
def taximeter() -> None:
    """A sidecar proxy that puts a meter on every LLM call."""


@app.command()
def version() -> None:
    """Print the version."""
    from taximeter import __version__

    typer.echo(f"taximeter {__version__}")


def main() -> int:
    """Run the command line and give its exit code."""
    result = app(standalone_mode=False)
    return result if isinstance(result, int) else 0
