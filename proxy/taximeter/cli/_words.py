"""Figures and names as a person reads them. Unknown is a word of its own, never 0.

Names of users, models and errors come from outside: what a terminal would take for a command
of its own is shown as `?`, and what a spreadsheet would take for a formula gets a `'`.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal

from rich.console import Console

UNKNOWN = "-"
_WIDTH_OF_PIPES = 1000
_MICRO = Decimal("0.000001")


def console(stderr: bool = False) -> Console:
    """Make a console. Not a terminal, it is plain and wide: nobody wants cut lines in a file."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        file=stream,
        highlight=False,
        markup=False,
        emoji=False,
        width=None if stream.isatty() else _WIDTH_OF_PIPES,
    )


def plain(text: object) -> str:
    """Give a name as it may be sent to a terminal."""
    if text is None or text == "":
        return UNKNOWN
    return "".join(c if c.isprintable() else "?" for c in str(text))


def cell(value: object) -> object:
    """Give a name or a figure as it may stand in a CSV file."""
    # A spreadsheet takes such a text for a formula.
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    if isinstance(value, bool):
        return str(value).lower()
    return value


def money(pico: int | None) -> str:
    """Give pico-dollars as dollars to a millionth, which is for reading, not for adding up."""
    if pico is None:
        return "unknown"
    usd = Decimal(pico).scaleb(-12)
    if usd and abs(usd) < _MICRO:
        return "<$0.000001"
    return f"${usd.quantize(_MICRO, ROUND_HALF_EVEN):,f}"


def number(value: int | None) -> str:
    """Give a whole number with its thousands apart."""
    return UNKNOWN if value is None else f"{value:,}"


def seconds(value: float | None) -> str:
    """Give a length of time with three figures that matter."""
    if value is None:
        return UNKNOWN
    if value < 0.001:
        return f"{value * 1e6:.0f} us"
    if value < 1:
        return f"{value * 1e3:.0f} ms"
    return f"{value:.2f} s" if value < 100 else f"{value:,.0f} s"


def nanoseconds(value: int | None) -> str:
    """Give a length of time in nanoseconds as `seconds` does."""
    return seconds(None if value is None else value / 1e9)


def clock(ns: int) -> str:
    """Give a time since the epoch as date and time of day, UTC."""
    return f"{datetime.fromtimestamp(ns // 1_000_000_000, UTC):%Y-%m-%d %H:%M:%S}"
