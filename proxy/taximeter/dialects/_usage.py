"""Figures of use, made safe: what every family's usage object goes through.

Rules (the same for all families): a later figure replaces an earlier one and is never added
to it; what was not stated is None and never 0; a negative number, a fraction or one beyond
2**53 is no number; a part that is larger than its whole is cut to it, a count that is larger than
any call's can be is dropped, and either is noted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

import msgspec

from taximeter.call import PICO_PER_USD, Usage, believed
from taximeter.dialects._contract import AnswerFacts

COUNT_MAX: Final = 1 << 53
"""Largest count read: beyond it JSON numbers are not exact for most who write them. What a call is
believed to have used has a bound of its own (`taximeter.call.FIGURE_MAX`)."""

RAW_USAGE_CHARACTERS_MAX: Final = 4096
"""Longest usage object kept beside its figures (`taximeter.call.Closed.raw_usage`)."""

_COST_USD_MAX: Final = 9_000_000
"""Pico-dollars up to here fit into a signed 64-bit integer."""

_RAW_DEPTH_MAX: Final = 6
_RAW_WORD: Final = re.compile(r"[A-Za-z0-9_.\-]{1,32}")
_RAW_KEY: Final = re.compile(r"[A-Za-z0-9_.\-]{1,64}")

_RAW_HARMLESS: Final = re.compile(
    rb'\{(?:"[A-Za-z0-9_.\-]{1,32}"(?::(?:[0-9]{1,15}(?![0-9])|null|true|false)?)?|[{},])+\}'
)
"""An object of short words and counts alone: nothing would be taken out of it."""

_raw_encoder: Final = msgspec.json.Encoder(decimal_format="number")

_INPUT_PARTS: Final = (
    "cached_tokens",
    "cache_write_tokens",
    "input_audio_tokens",
    "input_image_tokens",
    "input_video_tokens",
)
_OUTPUT_PARTS: Final = (
    "reasoning_tokens",
    "output_audio_tokens",
    "output_image_tokens",
    "output_video_tokens",
)


def count(value: object) -> int | None:
    """Give `value` if it is a whole number from 0 to `COUNT_MAX`, else None."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= COUNT_MAX:
        return value
    return None


def first(*values: object) -> int | None:
    """Give the first of `values` that is a count."""
    for value in values:
        if (found := count(value)) is not None:
            return found
    return None


def total(*values: int | None) -> int | None:
    """Add what is known; None if nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def milliseconds(seconds: object) -> int | None:
    """Give a length in seconds as whole milliseconds, rounded half to even."""
    scaled = _scaled(seconds, 1000)
    return scaled if scaled is not None and scaled <= COUNT_MAX else None


def cost_pico(usd: object) -> int | None:
    """Give an amount in US dollars, as read from its own digits, in pico-dollars.

    Exact down to a pico-dollar; a finer amount is rounded half to even.
    """
    return _scaled(usd, PICO_PER_USD, _COST_USD_MAX)


def _scaled(value: object, factor: int, value_max: int = COUNT_MAX) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    # The comparison comes first: it keeps a huge exponent from becoming a huge integer.
    if not 0 <= value <= value_max:
        return None
    number = Decimal(value)
    if number.adjusted() < -30:
        return 0
    return int((number * factor).to_integral_value(rounding=ROUND_HALF_EVEN))


def overlay(before: Usage | None, after: Usage) -> Usage:
    """Lay later figures over earlier ones: what `after` states replaces, the rest stays."""
    if before is None:
        return after
    figures = msgspec.structs.asdict(after)
    stated = {field: value for field, value in figures.items() if value is not None}
    return msgspec.structs.replace(before, **stated)


def clamp(usage: Usage) -> tuple[Usage, bool]:
    """Cut every part to its whole, drop what is beyond belief; tell whether there was either."""
    cuts: dict[str, int] = {}
    _cut(cuts, usage, usage.input_tokens, _INPUT_PARTS)
    _cut(cuts, usage, usage.output_tokens, _OUTPUT_PARTS)
    cached = cuts.get("cached_tokens", usage.cached_tokens)
    written = cuts.get("cache_write_tokens", usage.cache_write_tokens)
    if usage.input_tokens is not None and cached is not None and written is not None:
        room = usage.input_tokens - cached
        if written > room:
            written = cuts["cache_write_tokens"] = room
    _cut(cuts, usage, cached, ("cached_audio_tokens",))
    split = total(usage.cache_write_5m_tokens, usage.cache_write_1h_tokens)
    if split is not None and written is not None and split > written:
        long = min(usage.cache_write_1h_tokens or 0, written)
        cuts["cache_write_1h_tokens"] = long
        cuts["cache_write_5m_tokens"] = written - long
    merged = believed(msgspec.structs.replace(usage, **cuts) if cuts else usage)
    return merged, merged is not usage


def _cut(cuts: dict[str, int], usage: Usage, whole: int | None, parts: Iterable[str]) -> None:
    if whole is None:
        return
    for part in parts:
        value = getattr(usage, part)
        if value is not None and value > whole:
            cuts[part] = whole


def note(facts: AnswerFacts, usage: Usage, raw: object) -> None:
    """Lay `usage` over what the answer's facts hold, with `raw` as the object it came from.

    A usage that states nothing (no figure could be read) leaves the facts as they are.
    """
    if usage == Usage():
        return
    merged, cut = clamp(overlay(facts.usage, usage))
    facts.usage = merged
    facts.clamped = facts.clamped or cut
    facts.raw_usage = raw_usage(raw)


def raw_usage(value: object) -> str | None:
    """Give a usage object as compact JSON in which no text can stand.

    Left in are numbers, booleans, nulls and single short words; taken out are all other
    strings, strings in lists, members whose key is not a plain name, and whatever is nested
    deeper than six levels. None if it is still longer than 4,096 characters.
    """
    if (text := _harmless(value)) is not None:
        return text
    kept = _plain(value, _RAW_DEPTH_MAX)
    if not isinstance(kept, dict) or not kept:
        return None
    encoded = _raw_encoder.encode(kept)
    return encoded.decode() if len(encoded) <= RAW_USAGE_CHARACTERS_MAX else None


def _harmless(value: object) -> str | None:
    """Give `value` as compact JSON if it can be told at a glance that all of it may be kept."""
    try:
        encoded = _raw_encoder.encode(value)
    except RecursionError:  # more levels than are kept
        return None
    if (
        len(encoded) > RAW_USAGE_CHARACTERS_MAX
        or encoded.count(b"{") > _RAW_DEPTH_MAX
        or _RAW_HARMLESS.fullmatch(encoded) is None
    ):
        return None
    return encoded.decode()


def _plain(value: object, depth: int) -> object:
    """Give what may be kept of `value`; `...` for nothing."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= COUNT_MAX else ...
    if isinstance(value, Decimal):
        # copy_abs: it rounds nothing, so no exponent is too large for it.
        return value if value.copy_abs() <= COUNT_MAX and len(str(value)) <= 64 else ...
    if isinstance(value, str):
        return value if _RAW_WORD.fullmatch(value) else ...
    if depth == 0:
        return ...
    if isinstance(value, dict):
        members = {
            key: kept
            for key, item in value.items()
            if _RAW_KEY.fullmatch(key) and (kept := _plain(item, depth - 1)) is not ...
        }
        return members
    if isinstance(value, list):
        return [
            kept
            for item in value
            if not isinstance(item, str) and (kept := _plain(item, depth - 1)) is not ...
        ]
    return ...
