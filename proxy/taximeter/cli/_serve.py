"""`taximeter serve`: the proxy, in the foreground."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from taximeter.cli._options import Config, read_settings


def serve(
    config: Config = None,
    upstream: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Pass calls on to this API instead of the one of its family: one flag for a "
            "server of one's own.",
            show_default=False,
        ),
    ] = None,
    dialect: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Family of --upstream: openai, anthropic, gemini, ollama. Default: told from "
            "the URL, else openai.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", help="Processes that relay.", show_default=False),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where the proxy listens. Default: 127.0.0.1:8400.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run the proxy until it is told to stop. SIGTERM drains: calls under way may finish.

    \b
    Examples:
      taximeter serve
      taximeter serve --upstream http://127.0.0.1:8000/v1
      taximeter serve --config taximeter.yaml --workers 2
    """
    overrides: dict[str, Any] = {"workers": workers, "listen": listen}
    if upstream is not None:
        overrides |= upstream_overrides(upstream, dialect)
    settings = read_settings(config, overrides)
    from taximeter.serve import run

    raise typer.Exit(
        run(settings, config, overrides, say=lambda words: typer.echo(words, err=True))
    )


def upstream_overrides(url: str, dialect: str | None) -> dict[str, Any]:
    """Give the settings that make `url` the upstream of its family.

    It takes the family's own name, and so its paths; a URL that ends in `/v1` is meant for the
    base URL of a client, whose calls bring `/v1` themselves.
    """
    from taximeter.settings import guess_dialect

    try:
        family = dialect or guess_dialect("", url)
    except ValueError:
        family = "openai"  # the settings are about to say what is wrong with the URL
    if family in ("openai", "anthropic"):
        url = url.rstrip("/").removesuffix("/v1")
    return {f"upstreams.{family}.url": url, f"upstreams.{family}.dialect": family}
