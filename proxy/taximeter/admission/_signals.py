"""What an upstream's headers say about limits: parsers, pure and forgiving.

Header names are taken in lower case. What cannot be read says nothing: an upstream's odd header
must not stop a call. Waits are nanoseconds from now, and never more than a day.

Three families are read: `retry-after` (seconds or an HTTP date), `retry-after-ms` and
`x-should-retry` as OpenAI's and Anthropic's clients know them; `x-ratelimit-*-requests|tokens` as
OpenAI and those like it send them, with durations as Go writes them (`6m0s`, `12ms`), bare seconds
or an RFC 3339 date; `anthropic-ratelimit-*` with RFC 3339 dates. A *reset* is the time until the
limit is full again, not the time to wait.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from taximeter.admission._words import SECOND_NS

_DAY_NS: Final = 86_400 * SECOND_NS
_TEXT_MAX: Final = 64
"""Characters of a value that is looked at; an HTTP date has 29."""

_NUMBER: Final = re.compile(r"\d{1,12}(?:\.\d{1,12})?", re.ASCII)
_COUNT: Final = re.compile(r"\d{1,15}", re.ASCII)
_PART: Final = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(ms|d|h|m|s)", re.ASCII)
_UNIT_NS: Final = {
    "d": _DAY_NS,
    "h": 3_600 * SECOND_NS,
    "m": 60 * SECOND_NS,
    "s": SECOND_NS,
    "ms": SECOND_NS // 1000,
}


def _bounded(wait_ns: float) -> int:
    return min(max(0, int(wait_ns)), _DAY_NS)


def duration_ns(text: str) -> int | None:
    """Read `1h0m5s`, `17.958s`, `12ms`, or a bare number of seconds."""
    if _NUMBER.fullmatch(text):
        return _bounded(float(text) * SECOND_NS)
    total, at = 0.0, 0
    for part in _PART.finditer(text):
        if part.start() != at:
            return None
        total += float(part[1]) * _UNIT_NS[part[2]]
        at = part.end()
    return _bounded(total) if text and at == len(text) else None


def _date_ns(text: str, wall_ns: int) -> int | None:
    """Read an RFC 3339 or an HTTP date; give the time until then."""
    try:
        if "," in text or text[:1].isalpha():
            moment = parsedate_to_datetime(text)
        else:
            moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return _bounded(moment.timestamp() * SECOND_NS - wall_ns)
    except (ValueError, OverflowError):
        return None  # Not a date: it says nothing.


def retry_after_ns(headers: Mapping[str, str], wall_ns: int) -> int | None:
    """Give how long the upstream asks to wait, if it does."""
    text = headers.get("retry-after-ms", "").strip()
    if text and len(text) <= _TEXT_MAX and _NUMBER.fullmatch(text):
        return _bounded(float(text) * SECOND_NS / 1000)
    text = headers.get("retry-after", "").strip()
    if not text or len(text) > _TEXT_MAX:
        return None
    if _NUMBER.fullmatch(text):
        return _bounded(float(text) * SECOND_NS)
    return _date_ns(text, wall_ns)


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """Give the upstream's own word on retrying, if it has one."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())


@dataclass(frozen=True, slots=True)
class Told:
    """What an upstream says it has left of one limit."""

    of_tokens: bool
    limit: int
    remaining: int
    reset_ns: int
    """Time until it is full again."""


_FAMILIES: Final = (
    (False, "x-ratelimit-{}-requests"),
    (True, "x-ratelimit-{}-tokens"),
    (True, "x-ratelimit-{}-project-tokens"),
    (False, "anthropic-ratelimit-requests-{}"),
    (True, "anthropic-ratelimit-tokens-{}"),
)
_NAMES: Final = tuple(
    (of_tokens, name.format("remaining"), name.format("limit"), name.format("reset"))
    for of_tokens, name in _FAMILIES
)


def told(headers: Mapping[str, str], wall_ns: int) -> list[Told]:
    """Give what the upstream says of limits that are half used up, or more.

    One not told in full is left out. More than half left needs no heed, and no time: every
    answer tells again.
    """
    found = []
    for of_tokens, remaining_name, limit_name, reset_name in _NAMES:
        remaining = headers.get(remaining_name)
        if remaining is None or not _COUNT.fullmatch(remaining):
            continue
        limit = headers.get(limit_name, "")
        if not _COUNT.fullmatch(limit) or 2 * int(remaining) > int(limit):
            continue
        reset = headers.get(reset_name, "").strip()
        if len(reset) > _TEXT_MAX:
            continue
        reset_ns = duration_ns(reset)
        if reset_ns is None:
            reset_ns = _date_ns(reset, wall_ns)
        if reset_ns is not None:
            found.append(Told(of_tokens, int(limit), int(remaining), reset_ns))
    return found
