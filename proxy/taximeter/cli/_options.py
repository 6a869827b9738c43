"""What several commands take, and what they all begin with: the settings and the ledger."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, overload

import typer

from taximeter.cli._errors import MISUSED, CommandError, translated

if TYPE_CHECKING:
    from taximeter.ledger import Ledger
    from taximeter.settings import Settings

NS_PER_SECOND = 1_000_000_000

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Configuration file. Default: $TAXIMETER_CONFIG, else ./taximeter.yaml if any.",
        show_default=False,
    ),
]
Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Started since: 90s, 30m, 1h, 7d, 2w ago, or 2026-11-30, or 2026-11-30T14:00 (UTC).",
        show_default=False,
    ),
]
Until = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Started before; as --since.", show_default=False),
]

_AGO = re.compile(r"([0-9]{1,9})\s*([smhdw])")
_LAST_NS = 2**63 - 1
"""In the year 2262; later times fit nowhere."""
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@overload
def moment_ns(text: str, option: str, now_ns: int | None = None) -> int: ...
@overload
def moment_ns(text: str | None, option: str, now_ns: int | None = None) -> int | None: ...
def moment_ns(text: str | None, option: str, now_ns: int | None = None) -> int | None:
    """Read a time: so long ago, or a date with or without a time, UTC unless it says otherwise.

    Raises:
        CommandError: if it is neither, or is too late to be counted.
    """
    if text is None:
        return None
    span = _span_ns(text)
    if span is not None:
        return max(0, (time.time_ns() if now_ns is None else now_ns) - span)
    moment = _date_ns(text)
    if moment is None:
        raise CommandError(
            f"{option}: give a time as 30m, 1h or 7d ago, or as 2026-11-30 or 2026-11-30T14:00",
            MISUSED,
        )
    if moment > _LAST_NS:
        raise CommandError(f"{option}: give a date before the year 2262", MISUSED)
    return moment


def deadline_ns(text: str | None, option: str, now_ns: int) -> int | None:
    """Read a time to come: in so long, or a date as `moment_ns` takes it.

    Raises:
        CommandError: if it is neither, or is over.
    """
    if text is None:
        return None
    span = _span_ns(text)
    moment = now_ns + span if span is not None else _date_ns(text)
    if moment is None or moment > _LAST_NS:
        raise CommandError(
            f"{option}: give a time as in 12h, 30d or 8w, or as 2027-01-31 or 2027-01-31T14:00",
            MISUSED,
        )
    if moment <= now_ns:
        raise CommandError(f"{option}: give a time that is still to come", MISUSED)
    return moment


def _span_ns(text: str) -> int | None:
    span = _AGO.fullmatch(text.strip())
    return int(span[1]) * _SECONDS[span[2]] * NS_PER_SECOND if span else None


def _date_ns(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return max(0, int(moment.timestamp()) * NS_PER_SECOND + moment.microsecond * 1000)


def name_of(text: str | None, option: str) -> str | None:
    """Give a name to look for.

    Raises:
        CommandError: if it has bytes that are no text: no name in the ledger has.
    """
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        raise CommandError(f"{option}: give a name in UTF-8", MISUSED) from None
    return text


def read_settings(config: Path | None, overrides: dict[str, Any] | None = None) -> Settings:
    """Read the configuration.

    Raises:
        CommandError: with every problem, and exit code 2.
    """
    from taximeter.settings import SettingsError, load

    try:
        return load(config, overrides)
    except SettingsError as error:
        raise CommandError(f"the configuration cannot be used\n{error}", MISUSED) from None


@contextmanager
def open_ledger(settings: Settings) -> Iterator[Ledger]:
    """Open the ledger that the settings name, and close it again.

    Raises:
        CommandError: for whatever is wrong with it, here or within the block.
    """
    from taximeter.ledger import Ledger

    with translated():
        opened = Ledger.open(settings.ledger_url)
        try:
            yield opened
        finally:
            opened.close()
