"""The built-in price table: a door to genai-prices, which is data and matching rules.

Its own calculation takes a tenth of a millisecond, and its lookup keeps every model name it is
ever asked for. So here a model is looked up once without its caches, and its rates are resolved
once for each combination of context (tier, batch, ...) and period of validity into a `Card`.
Which rates hold is decided by genai-prices itself, at the very time of the call.

Nothing here updates prices, opens a connection or starts a thread.
"""

from __future__ import annotations

import datetime
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import cache
from importlib.metadata import version

from genai_prices.data_snapshot import find_provider_by_id, get_snapshot
from genai_prices.data_units import unit_data
from genai_prices.types import (
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)
from genai_prices.units import UnitDef, UnitRegistry

from taximeter.pricing._card import Card, Rate, per_unit

NANOSECONDS_PER_DAY = 86_400 * 10**9

_FIGURES = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cached_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "cache_write_5m_tokens": "cache_write_5m_tokens",
    "cache_write_1h_tokens": "cache_write_1h_tokens",
    "output_reasoning_tokens": "reasoning_tokens",
    "input_audio_tokens": "input_audio_tokens",
    "input_image_tokens": "input_image_tokens",
    "input_video_tokens": "input_video_tokens",
    "cache_audio_read_tokens": "cached_audio_tokens",
    "output_audio_tokens": "output_audio_tokens",
    "output_image_tokens": "output_image_tokens",
    "output_video_tokens": "output_video_tokens",
    "audio_seconds": "audio_milliseconds",
    "input_audio_seconds": "audio_milliseconds",
    "input_characters": "input_characters",
    "web_searches": "web_searches",
    "requests": "requests",
}
"""genai-prices' usage key -> the figure of `Usage` that it is."""

_ALIASES = {
    "xai": "x-ai",
    "gemini": "google",
    "vertex": "google",
    "vertexai": "google",
    "google-vertex": "google",
    "bedrock": "aws",
    "azure-openai": "azure",
    "together-ai": "together",
}
"""Other names of providers. genai-prices takes any name that contains `openai` for OpenAI: a
local server called `vllm-openai` would be booked at its prices. Here a name is what it says."""

_MILLISECONDS_PER_SECOND = 1000

_MILLISECONDS_MIN = {
    ("groq", "whisper-large-v3"): 10_000,
    ("groq", "whisper-large-v3-turbo"): 10_000,
}
"""Groq charges at least ten seconds; genai-prices has this in code, not in its data."""


class NoPriceError(Exception):
    """The table has a model but no rates for it, or of a kind not known here."""


class CatalogueModel:
    """One model of the table, as one provider serves it."""

    def __init__(self, provider: Provider, owner: Provider, model: ModelInfo) -> None:
        self._provider = provider
        self._model = model
        self._variants = (model.price_variants or ()) if owner is provider else ()
        served = "" if owner is provider else f" (as {owner.id})"
        self.name = f"{CATALOGUE} {provider.id}/{model.id}{served}"
        self.contexts = frozenset(item for v in self._variants for item in v.when.items())
        """Every (key, value) of a context that can make a difference."""
        constraints = [v.constraint for v in self._variants]
        if not isinstance(model.prices, ModelPrice):
            constraints += [conditional.constraint for conditional in model.prices]
        days: set[int] = set()
        times: set[int] = set()
        for constraint in constraints:
            if isinstance(constraint, StartDateConstraint):
                days.add(_day(constraint))
            elif isinstance(constraint, TimeOfDateConstraint):
                times |= {_of_day(constraint.start_time), _of_day(constraint.end_time)}
            elif constraint is not None:
                raise NoPriceError(f"a constraint of type {type(constraint).__name__}")
        self._days = sorted(days)
        self._times = sorted(times)

    def period(self, at_ns: int) -> tuple[int, int]:
        """Give a key such that the same rates hold at all times that share it."""
        if not self._days and not self._times:
            return 0, 0
        day, rest = divmod(at_ns, NANOSECONDS_PER_DAY)
        return bisect_right(self._days, day), bisect_right(self._times, rest)

    def matched(self, at_ns: int, context: Mapping[str, str]) -> frozenset[str]:
        """Give the keys of `context` that chose a price of their own."""
        at = _moment(at_ns)
        return frozenset(
            key
            for variant in self._variants
            if variant.constraint is None or variant.constraint.active(at)
            if all(context.get(key) == value for key, value in variant.when.items())
            for key in variant.when
        )

    def card(self, at_ns: int, context: Mapping[str, str]) -> Card:
        """Resolve the rates that hold at a time in a context.

        Raises:
            NoPriceError: if they are of a kind not known here, or there are none.
        """
        # Variants belong to the provider that owns the model: served by another, they are not
        # its prices.
        prices = self._model.get_prices(_moment(at_ns), dict(context) if self._variants else None)
        stated = {key: value for key, value in vars(prices).items() if value is not None}
        if not stated and not self._model.id.endswith(":free"):
            # Some are free, of some the rates are not known: the table does not say which.
            raise NoPriceError("no rates listed")
        return _card(stated, _MILLISECONDS_MIN.get((self._provider.id, self._model.id), 0))


class Catalogue:
    """The whole table. Making it takes about half a second and 40 MB, once a process."""

    def __init__(self) -> None:
        self._providers = get_snapshot().providers
        self._by_id = {provider.id: provider for provider in self._providers}

    def find(self, provider_id: str, model_name: str) -> CatalogueModel | None:
        """Find a model as a provider serves it; None if the table does not have it.

        Raises:
            NoPriceError: if it has it in a form not known here.
        """
        name = model_name.lower()
        called = provider_id.strip().lower()
        provider = self._by_id.get(_ALIASES.get(called, called))
        if called == "litellm":
            provider, name = self._behind_litellm(name)
        if provider is None:
            return None
        model = provider.find_model(name, all_providers=self._providers)
        if model is None:
            return None
        for owner in (provider, *self._fallbacks(provider)):
            if any(model is one for one in owner.models):
                return CatalogueModel(provider, owner, model)
        raise NoPriceError("a model of no provider")

    def _behind_litellm(self, name: str) -> tuple[Provider | None, str]:
        """Tell whom LiteLLM had answer: by its prefix (`bedrock/`), else by the model's name."""
        first, slash, rest = name.partition("/")
        if slash:
            return (find_provider_by_id(self._providers, first) if first else None), rest
        for provider in self._providers:
            if provider.model_match is not None and provider.model_match.is_match(name):
                return provider, name
        return None, name

    def _fallbacks(self, provider: Provider) -> Iterator[Provider]:
        for provider_id in provider.fallback_model_providers or ():
            if provider_id in self._by_id:
                yield self._by_id[provider_id]


def model_names() -> frozenset[str]:
    """Give the table's own names of its models. What else it would match is not among them."""
    return frozenset(model.id for provider in get_snapshot().providers for model in provider.models)


CATALOGUE = f"genai-prices {version('genai-prices')}"
"""Name and version of the table."""

_units = UnitRegistry(unit_data)


def _card(stated: Mapping[str, object], milliseconds_min: int) -> Card:
    units: dict[str, tuple[UnitDef, object]] = {}
    for price_key, price in stated.items():
        try:
            unit = _units.unit_for_price_key(price_key)
        except KeyError:
            raise NoPriceError(f"the price key {price_key}") from None
        units[unit.usage_key] = (unit, price)
    rates: dict[str, Rate] = {}
    foreign: list[UnitDef] = []
    for usage_key, (unit, price) in units.items():
        figure = _FIGURES.get(usage_key)
        if figure is None:
            foreign.append(unit)
        elif usage_key == "audio_seconds" and "input_audio_seconds" in units:
            continue  # all audio we know of is input, and that has its own rate
        else:
            rates[figure] = _rate(figure, unit, price)
    known = [unit for unit, _ in units.values() if unit.usage_key in _FIGURES]
    return Card(
        list(rates.values()),
        milliseconds_min=milliseconds_min,
        needs=_need(foreign, known),
        unseen_joins=[
            (unit.usage_key, _FIGURES[one.usage_key], _FIGURES[two.usage_key])
            for unit in foreign
            for place, one in enumerate(known)
            for two in known[place + 1 :]
            if _units.find_join(one, two) is unit and not _nested(one, two)
        ],
    )


def _need(foreign: list[UnitDef], known: list[UnitDef]) -> str | None:
    """Give the figure that a call is priced by in the first place and that `Usage` lacks.

    Parts of tokens are not: unseen, they are charged with their whole. Tool calls are not:
    they are add-ons, charged where they are stated. Nor is anything beside a price of tokens.
    """
    if any(unit.dimensions["family"] == "tokens" for unit in known):
        return None
    for unit in foreign:
        if unit.dimensions["family"] != "tool_calls":
            return unit.usage_key
    return None


def _rate(figure: str, unit: UnitDef, price: object) -> Rate:
    per = unit.per * (_MILLISECONDS_PER_SECOND if figure == "audio_milliseconds" else 1)
    if isinstance(price, Decimal):
        return Rate(figure, per_unit(price, per), stated=str(price), key=unit.price_key)
    if isinstance(price, TieredPrices):
        return Rate(
            figure,
            per_unit(price.base, per),
            tuple((tier.start, per_unit(tier.price, per)) for tier in price.tiers),
            str(price.base),
            tuple(str(tier.price) for tier in price.tiers),
            unit.price_key,
        )
    raise NoPriceError(f"a price of type {type(price).__name__}")


def _nested(one: UnitDef, two: UnitDef) -> bool:
    first, second = one.dimensions.items(), two.dimensions.items()
    return first <= second or second <= first


def _moment(at_ns: int) -> datetime.datetime:
    """Give a time in UTC; beyond what a datetime holds, the nearest that it does."""
    latest = 253_402_300_799 * 10**9  # the end of the year 9999
    return datetime.datetime.fromtimestamp(min(max(at_ns, 0), latest) // 10**9, tz=datetime.UTC)


def _day(constraint: StartDateConstraint) -> int:
    """Give the day from which on a price holds, since the epoch."""
    return (constraint.start_date - datetime.date(1970, 1, 1)).days


def _of_day(edge: datetime.time) -> int:
    """Give a time of day as nanoseconds after midnight UTC. A naive one is UTC."""
    if edge.tzinfo is not None:
        day = datetime.datetime.combine(datetime.date(1970, 1, 2), edge)
        edge = day.astimezone(datetime.UTC).time()
    seconds = edge.hour * 3600 + edge.minute * 60 + edge.second
    return seconds * 10**9 + edge.microsecond * 1000


@cache
def price_days() -> tuple[int, ...]:
    """Give the days, since the epoch, from which on any price of the table holds, in order."""
    conditional = [
        prices.constraint
        for provider in get_snapshot().providers
        for model in provider.models
        if not isinstance(model.prices, ModelPrice)
        for prices in model.prices
    ]
    return tuple(
        sorted({_day(each) for each in conditional if isinstance(each, StartDateConstraint)})
    )
