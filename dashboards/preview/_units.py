"""Numbers as people read them, by the unit of a panel."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

_PER_SECOND = {"reqps": " req/s", "ops": " ops/s", "recps": " rec/s"}
_TIMES = [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")]
_LONG_TIMES = [(86_400.0 * 7, "weeks"), (86_400.0, "days"), (3_600.0, "hours"), (60.0, "min")]


def text_of(value: Any, unit: str, decimals: int | None = None) -> str:
    """Give a value as text."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, str):
        return value
    number = float(value)
    if not math.isfinite(number):
        return ""
    if unit == "percentunit":
        return f"{_plain(number * 100, decimals)}%"
    if unit == "currencyUSD":
        scaled, suffix = _scaled(number, 1000, ["", "K", "M", "B"])
        return f"${_plain(scaled, decimals)}{suffix}"
    if unit == "s":
        return _seconds(number, decimals)
    if unit in ("bytes", "Bps"):
        scaled, suffix = _scaled(number, 1024, [" B", " KiB", " MiB", " GiB", " TiB"])
        return f"{_plain(scaled, decimals)}{suffix}{'/s' if unit == 'Bps' else ''}"
    if unit == "none":
        return _plain(number, decimals)
    scaled, suffix = _scaled(number, 1000, ["", "K", "M", "B"])
    ending = _PER_SECOND.get(unit, f" {unit[6:]}" if unit.startswith("count:") else "")
    return f"{_plain(scaled, decimals)}{suffix}{ending}"


def _scaled(number: float, base: int, suffixes: list[str]) -> tuple[float, str]:
    for suffix in suffixes[:-1]:
        if abs(number) < base:
            return number, suffix
        number /= base
    return number, suffixes[-1]


def _seconds(number: float, decimals: int | None) -> str:
    for size, word in _LONG_TIMES:
        if abs(number) >= size:
            return f"{_plain(number / size, decimals)} {word}"
    for size, word in _TIMES:
        if abs(number) >= size or word == "ns":
            return f"{_plain(number / size, decimals)} {word}" if number else "0 s"
    return ""


def _plain(number: float, decimals: int | None) -> str:
    if decimals is not None:
        return f"{number:.{decimals}f}"
    if number == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(number))))
    text = f"{number:.{min(places, 6)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
