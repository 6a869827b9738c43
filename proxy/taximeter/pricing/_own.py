"""Prices of one's own: they win over the built-in table.

An entry names a provider, a pattern of model names and the day from which it holds (UTC).
Entries for the same provider and pattern are one price with a history. Of several patterns
that fit a model, the one that stands first in the settings and holds at the call's start is
taken, and of its history the latest entry that holds: so put the specific before the general.

What is not given falls back, always to the dearer or the containing rate, never to nothing:
cached tokens to the input rate, one-hour cache writes to the rate of cache writes and these to
the input rate, reasoning to the output rate, audio and images to the rate of their direction,
and cached audio to the audio rate. A direction without any rate costs nothing: state input and
output, but for models that have no output (embeddings). A per-request amount is charged for
each answered call.
"""

from __future__ import annotations

import datetime
import fnmatch
import re
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from taximeter.pricing._card import Card, NamedCard, Rate, per_unit

_MILLION = 1_000_000
_MILLISECONDS_PER_MINUTE = 60_000
_EPOCH = datetime.date(1970, 1, 1)

_UNITS: dict[str, tuple[str, int]] = {
    "input_usd_per_million": ("input_tokens", _MILLION),
    "output_usd_per_million": ("output_tokens", _MILLION),
    "cached_usd_per_million": ("cached_tokens", _MILLION),
    "cache_write_usd_per_million": ("cache_write_tokens", _MILLION),
    "cache_write_1h_usd_per_million": ("cache_write_1h_tokens", _MILLION),
    "reasoning_usd_per_million": ("reasoning_tokens", _MILLION),
    "input_audio_usd_per_million": ("input_audio_tokens", _MILLION),
    "cached_audio_usd_per_million": ("cached_audio_tokens", _MILLION),
    "output_audio_usd_per_million": ("output_audio_tokens", _MILLION),
    "input_image_usd_per_million": ("input_image_tokens", _MILLION),
    "output_image_usd_per_million": ("output_image_tokens", _MILLION),
    "usd_per_request": ("requests", 1),
    "usd_per_image": ("images", 1),
    "usd_per_audio_minute": ("audio_milliseconds", _MILLISECONDS_PER_MINUTE),
    "usd_per_million_characters": ("input_characters", _MILLION),
    "usd_per_thousand_web_searches": ("web_searches", 1000),
}
"""Every rate an entry may state: the figure it is for, and how many units it buys."""

_CONTAINERS = {
    "cached_usd_per_million": "input_usd_per_million",
    "cache_write_usd_per_million": "input_usd_per_million",
    "cache_write_1h_usd_per_million": "input_usd_per_million",
    "input_audio_usd_per_million": "input_usd_per_million",
    "cached_audio_usd_per_million": "input_usd_per_million",
    "input_image_usd_per_million": "input_usd_per_million",
    "reasoning_usd_per_million": "output_usd_per_million",
    "output_audio_usd_per_million": "output_usd_per_million",
    "output_image_usd_per_million": "output_usd_per_million",
}
"""The rate of the whole that must be stated with a rate for its part."""


class OwnPrice(msgspec.Struct, frozen=True, kw_only=True):
    """One price of one's own. Make it with `OwnPrice.from_rates`."""

    provider: str
    """Provider id as in the upstream's settings, or `*` for all."""
    model: str
    """Pattern of model names (`*`, `?`, `[...]`), case-sensitive."""
    valid_from: datetime.date | None = None
    """First day, in UTC, on which it holds; None for always."""
    rates: tuple[tuple[str, Decimal], ...]
    """(name of the rate, USD), as stated."""

    @classmethod
    def from_rates(
        cls,
        *,
        provider: str,
        model: str,
        valid_from: datetime.date | None = None,
        **rates: Decimal | int | None,
    ) -> OwnPrice:
        """Make a price from rates in USD named as in the settings; None is 'not given'.

        Raises:
            ValueError: for an unknown rate, a negative or endless one, a rate for a part
                without the rate for its whole, or no rate at all.
            TypeError: for a float, which cannot hold most prices.
        """
        given: dict[str, Decimal] = {}
        for name, value in rates.items():
            if name not in _UNITS:
                raise ValueError(f"no such rate: {name}; known are {', '.join(_UNITS)}")
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, Decimal | int):
                raise TypeError(f"{name} must be a Decimal or an int, not {type(value).__name__}")
            exact = Decimal(value)
            if not exact.is_finite() or exact < 0:
                raise ValueError(f"{name} must be zero or more, not {exact}")
            given[name] = exact
        if not given:
            raise ValueError("a price needs at least one rate; zero is one")
        for name in given:
            container = _CONTAINERS.get(name)
            if container is not None and container not in given:
                raise ValueError(f"{name} needs {container} beside it")
        return cls(
            provider=provider, model=model, valid_from=valid_from, rates=tuple(given.items())
        )

    def card(self) -> Card:
        """Give the rates as a card."""
        given = dict(self.rates)
        if "cached_usd_per_million" in given and "input_audio_usd_per_million" in given:
            # A token that is both cached and audio is charged once; not stated, as audio.
            given.setdefault("cached_audio_usd_per_million", given["input_audio_usd_per_million"])
        return Card(
            [
                Rate(
                    figure=_UNITS[name][0],
                    base=per_unit(usd, _UNITS[name][1]),
                    stated=str(usd),
                    key=name,
                )
                for name, usd in given.items()
            ]
        )

    @property
    def name(self) -> str:
        """What a `Price` made with it is named after."""
        since = f" from {self.valid_from.isoformat()}" if self.valid_from else ""
        return f"own {self.model[:100]}{since}"


class _Dated(msgspec.Struct, frozen=True):
    day: int
    """Days since the epoch from which it holds."""
    price: NamedCard


class OwnPrices:
    """All prices of one's own, in the order of the settings."""

    def __init__(self, prices: Sequence[OwnPrice]) -> None:
        groups: dict[tuple[str, str], list[_Dated]] = {}
        for price in prices:
            # Days before the epoch are as good as always.
            day = max(0, (price.valid_from - _EPOCH).days) if price.valid_from else 0
            groups.setdefault((price.provider, price.model), []).append(
                _Dated(day, NamedCard(price.card(), price.name))
            )
        self._groups = [
            (
                provider,
                model,
                re.compile(fnmatch.translate(model)),
                tuple(sorted(dated, key=_by_day)),
            )
            for (provider, model), dated in groups.items()
        ]

    def histories(self, provider: str | None, model: str, served: str) -> OwnHistories:
        """Give all that may ever hold for a model, in the order in which it is asked.

        A deployment's name and that of the model it serves both count. What names the deployment
        to the letter comes before what fits either: a pattern for all must not hide the model's.
        """
        fitting = [
            (name, dated)
            for owner, name, pattern, dated in self._groups
            if owner in ("*", provider) and (pattern.match(model) or pattern.match(served))
        ]
        if served != model:
            fitting.sort(key=lambda each: each[0] != model)
        return OwnHistories(tuple(dated for _, dated in fitting))


class OwnHistories:
    """The histories of one's own prices that fit one model."""

    __slots__ = ("_histories",)

    def __init__(self, histories: tuple[tuple[_Dated, ...], ...]) -> None:
        self._histories = histories

    def __bool__(self) -> bool:
        return bool(self._histories)

    def on(self, day: int) -> NamedCard | None:
        """Give the price that holds on a day (since the epoch, UTC)."""
        for history in self._histories:
            for dated in reversed(history):
                if dated.day <= day:
                    return dated.price
        return None


def _by_day(dated: _Dated) -> int:
    return dated.day
