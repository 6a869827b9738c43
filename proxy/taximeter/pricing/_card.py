"""A rate card: the rates that hold for one model at one moment, and what a usage costs on it.

Subsets. Usage figures contain each other: cached tokens are a part of the input tokens, cached
audio is a part of both the cached and the audio tokens. A rate for a subset replaces the rate
of what contains it. So a card is worked from the most specific figure outwards: each figure,
less all that has been charged below it, is charged at its own rate. A subset that has no rate
stays in its container and is charged there; that is why cached tokens without a cached rate
cost what input costs.

Money. A rate becomes an exact fraction of pico-dollars for one unit of its figure, and all
fractions of a card share one denominator. A cost is then a sum of integer products, divided
once, and rounded half up once. Nothing here is ever a float.

Context windows are cliffs: above a threshold of input tokens *all* figures take the next
rates. A card therefore holds one complete `Step` for each threshold.

Missing is not 0. A figure the card cannot do without, and that nobody stated, makes the cost
unknown (`Charge.missing`), unless its rate is zero. The figures it can do without are the
subsets (not stated, they are a part of the whole) and the add-ons such as web searches (not
stated, none were made).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from math import lcm
from typing import NamedTuple

import msgspec

from taximeter.call import PICO_PER_USD, Usage

COST_PICO_MAX = 2**63 - 1
"""What a signed 64-bit column of pico-dollars holds: $9.2 million for one call."""

CLAMPED = "clamped"
"""A flag of `Charge.assumed`: parts were more than their whole; the whole was raised to them."""
REQUESTS = "requests"
"""The figure that is one for each call: it has no field in `Usage`."""

_FIGURES: dict[str, dict[str, str]] = {
    "input_tokens": {"family": "tokens", "way": "input"},
    "output_tokens": {"family": "tokens", "way": "output"},
    "cached_tokens": {"family": "tokens", "way": "input", "kind": "cached"},
    "cache_write_tokens": {"family": "tokens", "way": "input", "kind": "write"},
    "cache_write_5m_tokens": {"family": "tokens", "way": "input", "kind": "write", "ttl": "5m"},
    "cache_write_1h_tokens": {"family": "tokens", "way": "input", "kind": "write", "ttl": "1h"},
    "reasoning_tokens": {"family": "tokens", "way": "output", "kind": "reasoning"},
    "input_audio_tokens": {"family": "tokens", "way": "input", "modality": "audio"},
    "input_image_tokens": {"family": "tokens", "way": "input", "modality": "image"},
    "input_video_tokens": {"family": "tokens", "way": "input", "modality": "video"},
    "cached_audio_tokens": {
        "family": "tokens",
        "way": "input",
        "kind": "cached",
        "modality": "audio",
    },
    "output_audio_tokens": {"family": "tokens", "way": "output", "modality": "audio"},
    "output_image_tokens": {"family": "tokens", "way": "output", "modality": "image"},
    "output_video_tokens": {"family": "tokens", "way": "output", "modality": "video"},
    "audio_milliseconds": {"family": "duration"},
    "input_characters": {"family": "characters"},
    "images": {"family": "images"},
    "web_searches": {"family": "searches"},
    REQUESTS: {"family": "requests"},
}
"""The priced figures of `Usage`, by what they are. A figure contains every one that says more."""

_ADD_ONS = frozenset({"web_searches", REQUESTS})
"""Figures that come on top of a call's substance: not stated, none were made."""


class Rate(NamedTuple):
    """The price of one unit of a figure, in pico-dollars, exact."""

    figure: str
    base: Fraction
    tiers: tuple[tuple[int, Fraction], ...] = ()
    """(threshold, rate): above `threshold` input tokens this rate holds instead. Ascending."""
    stated: str = ""
    """The rate as its source words it, for `Price.rates`."""
    stated_tiers: tuple[str, ...] = ()
    key: str = ""
    """The name its source gives it, for `Price.rates`."""


class Charge(NamedTuple):
    """What a card makes of a usage."""

    cost_pico: int | None
    missing: str | None
    """The figure without which the cost is unknown; None when it is known."""
    assumed: tuple[str, ...]
    rates: str
    """The rates used, as a JSON object."""


class _Line(NamedTuple):
    figure: str
    weight: int
    """Rate times the step's denominator."""
    parts: tuple[int, ...]
    """Places, in the same step, of the figures this one contains."""
    required: bool


class _Step(NamedTuple):
    lines: tuple[_Line, ...]
    fixed: int
    """Weight of what every call costs."""
    denominator: int
    rates: str


class Card:
    """The rates that hold for one model at one moment."""

    __slots__ = (
        "_joins",
        "_milliseconds_min",
        "_needs",
        "_prices_searches",
        "_steps",
        "_thresholds",
    )

    def __init__(
        self,
        rates: Sequence[Rate],
        *,
        milliseconds_min: int = 0,
        needs: str | None = None,
        unseen_joins: Sequence[tuple[str, str, str]] = (),
    ) -> None:
        """Make a card of `rates`, each figure at most once.

        Args:
            rates: what is priced, in any order.
            milliseconds_min: the shortest audio that is charged for (0 for none).
            needs: a figure the model is priced by that `Usage` has no word for; then every
                cost on this card is unknown.
            unseen_joins: (name, first, second) of priced figures that are a part of both
                others and that `Usage` has no word for; taken as 0 and flagged.
        """
        self._milliseconds_min = milliseconds_min
        self._needs = needs
        self._prices_searches = any(rate.figure == "web_searches" for rate in rates)
        ordered = sorted(rates, key=lambda rate: (-len(_FIGURES[rate.figure]), rate.figure))
        self._thresholds = tuple(sorted({start for rate in ordered for start, _ in rate.tiers}))
        self._steps = tuple(_step(ordered, floor) for floor in (-1, *self._thresholds))
        priced = [rate.figure for rate in ordered]
        self._joins = (
            *unseen_joins,
            *(
                (join, first, second)
                for join in priced
                for place, first in enumerate(priced)
                for second in priced[place + 1 :]
                if _is_join(join, first, second)
            ),
        )

    def charge(self, usage: Usage) -> Charge:
        """Work out what `usage` costs. Takes a few microseconds and never raises."""
        step = self._steps[0]
        if self._thresholds and usage.input_tokens is not None:
            step = self._steps[bisect_left(self._thresholds, usage.input_tokens)]
        if self._needs is not None:
            return Charge(None, self._needs, (), step.rates)
        if usage.cache_write_tokens is None and (
            usage.cache_write_5m_tokens or usage.cache_write_1h_tokens
        ):
            written = (usage.cache_write_5m_tokens or 0) + (usage.cache_write_1h_tokens or 0)
            usage = msgspec.structs.replace(usage, cache_write_tokens=written)
        lines, total, denominator, rates = step
        assumed: tuple[str, ...] = ()
        charged: list[int] = []
        for figure, weight, parts, required in lines:
            count = getattr(usage, figure)
            if not count:
                if count is None and required:
                    return Charge(None, figure, (), rates)
                if not parts:
                    charged.append(0)
                    continue
                stated = count is not None
                count = 0
            else:
                stated = True
                if figure == "audio_milliseconds" and count < self._milliseconds_min:
                    count = self._milliseconds_min
            for part in parts:
                count -= charged[part]
            if count < 0:
                if stated and CLAMPED not in assumed:
                    assumed = (*assumed, CLAMPED)
                count = 0
            charged.append(count)
            total += count * weight
        for join, first, second in self._joins:
            both = getattr(usage, first) and getattr(usage, second)
            if both and getattr(usage, join, None) is None:
                assumed = (*assumed, f"{join}=0")
        if usage.web_searches and not self._prices_searches:
            assumed = (*assumed, "web_searches=0")
        cost = (2 * total + denominator) // (2 * denominator)
        if cost > COST_PICO_MAX:
            return Charge(None, "plausible figures", assumed, rates)
        return Charge(cost, None, assumed, rates)


class NamedCard(msgspec.Struct, frozen=True):
    """A card with the name of the price it is, or without a card the reason why there is none."""

    card: Card | None
    name: str
    assumed: tuple[str, ...] = ()


def per_unit(usd: Decimal, units: int) -> Fraction:
    """Give the pico-dollars for one unit where `units` of them cost `usd`."""
    return Fraction(usd) * PICO_PER_USD / units


def _step(rates: Sequence[Rate], floor: int) -> _Step:
    """Make the step for more than `floor` input tokens."""
    now = [(rate, *_at(rate, floor)) for rate in rates]
    denominator = lcm(*(price.denominator for _, price, _ in now)) if now else 1
    has_tokens = any(_FIGURES[rate.figure]["family"] == "tokens" for rate in rates)
    places = {
        rate.figure: place
        for place, rate in enumerate(rate for rate in rates if rate.figure != REQUESTS)
    }
    lines: list[_Line] = []
    fixed = 0
    for rate, price, _ in now:
        weight = int(price * denominator)
        if rate.figure == REQUESTS:
            fixed = weight
            continue
        what = _FIGURES[rate.figure]
        parts = tuple(
            places[other]
            for other in places
            if other != rate.figure and what.items() <= _FIGURES[other].items()
        )
        whole = not any(
            other != rate.figure and _FIGURES[other].items() < what.items() for other in places
        )
        substance = rate.figure not in _ADD_ONS and (what["family"] == "tokens" or not has_tokens)
        lines.append(_Line(rate.figure, weight, parts, whole and substance and weight > 0))
    stated = {rate.key or rate.figure: text for rate, _, text in now}
    return _Step(tuple(lines), fixed, denominator, msgspec.json.encode(stated).decode())


def _at(rate: Rate, floor: int) -> tuple[Fraction, str]:
    """Give the rate that holds above `floor` input tokens, and how its source words it."""
    price, text = rate.base, rate.stated
    for (start, tier), words in zip(rate.tiers, rate.stated_tiers, strict=True):
        if start <= floor:
            price, text = tier, words
    return price, text


def _is_join(join: str, first: str, second: str) -> bool:
    one, two = _FIGURES[first], _FIGURES[second]
    if one.items() <= two.items() or two.items() <= one.items():
        return False
    return _FIGURES[join] == {**one, **two} and {**one, **two} == {**two, **one}
