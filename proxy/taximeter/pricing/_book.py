"""The price book: whose word on a call's cost is taken, and the cache that makes it cheap.

Order of trust: a cost the provider itself stated; a price of one's own; the built-in table;
nobody. Nobody is None, never 0.

What depends on names only is looked up once per (provider, model) and kept, misses too, in a
cache bounded by its number of entries: names come from outside, and an invented one must cost
neither memory nor time. What depends on time and context besides is kept below that, bounded
by what the table holds.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import msgspec

from taximeter.call import Usage
from taximeter.pricing._card import COST_PICO_MAX, NamedCard
from taximeter.pricing._own import OwnHistories, OwnPrice, OwnPrices

if TYPE_CHECKING:
    from taximeter.pricing._catalogue import Catalogue, CatalogueModel

MODEL_NAME_CHARS_MAX = 128
"""Longer names than any provider gives are not looked up."""
PRICE_NAME_CHARS_MAX = 160
CARDS_PER_MODEL_MAX = 256
"""Resolved cards kept for one model; the table gives no model a tenth of that."""

_NANOSECONDS_PER_DAY = 86_400 * 10**9

_STANDARD = frozenset(
    {"", "default", "standard", "auto", "on_demand", "global", "not_available", "unspecified"}
)
"""Words of contexts that mean the standard price (OpenAI, Anthropic, Groq, Gemini)."""

_TIERS = {
    "on_demand_flex": "flex",
    "on_demand_priority": "priority",
}
"""Words of service tiers that mean the same as another: Vertex AI's traffic types."""

_OTHER = "?"
"""Stands in a context for any word that no price of the model depends on."""

_Context = tuple[tuple[str, str], ...]


@cache
def catalogue_models() -> frozenset[str]:
    """Give the names that the built-in table has, as they stand there. It may have to be loaded."""
    from taximeter.pricing._catalogue import model_names

    return model_names()


def newest_price_ns(now_ns: int) -> int | None:
    """Give when the newest price of the built-in table began to hold, of those that do by now.

    None while nothing has needed the table: this is no reason to load it.
    """
    module = sys.modules.get("taximeter.pricing._catalogue")
    # Absent, too, for as long as another thread is importing it: it comes last in its module.
    price_days = getattr(module, "price_days", None)
    if price_days is None:
        return None
    days: tuple[int, ...] = price_days()
    place = bisect_right(days, now_ns // _NANOSECONDS_PER_DAY)
    return days[place - 1] * _NANOSECONDS_PER_DAY if place else None


class Price(msgspec.Struct, frozen=True):
    """What a call cost, and by whose word."""

    cost_pico: int | None
    """Pico-dollars, rounded half up once on the total; None is unknown, 0 is nothing."""
    name: str
    """Names the price it was made with, or after `unpriced: ` the reason why there is none;
    at most 160 characters, and nothing in it is a model name that only the client knows."""
    rates: str = "{}"
    """The rates used as a JSON object of USD decimal strings, under their source's names."""
    assumed: tuple[str, ...] = ()
    """What had to be assumed: `cached_audio_tokens=0`, `clamped`, `service_tier_not_matched`."""


class _Entry:
    """All that is known of one (provider, model, model that serves it)."""

    __slots__ = ("cards", "catalogue", "own")

    def __init__(self, own: OwnHistories) -> None:
        self.own = own
        self.catalogue: CatalogueModel | NamedCard | None = None
        """The table's model, or why it has none; None while it was not asked."""
        self.cards: dict[tuple[_Context, tuple[int, int]], NamedCard] = {}


class PriceBook:
    """Prices usages. Synchronous, no I/O; not to be shared between threads.

    Args:
        own: prices of one's own, in the order of the settings; they win.
        models: deployment name -> the model it serves, for names no table can know.
        cache_entries_max: how many (provider, model) pairs are kept at most.
    """

    def __init__(
        self,
        own: Sequence[OwnPrice] = (),
        models: Mapping[str, str] | None = None,
        cache_entries_max: int = 4096,
    ) -> None:
        if cache_entries_max < 1:
            raise ValueError("cache_entries_max must be at least 1")
        self._own = OwnPrices(own)
        self._models = dict(models or {})
        self._entries_max = cache_entries_max
        self._entries: OrderedDict[tuple[str, str, str], _Entry] = OrderedDict()
        self._catalogue: Catalogue | None = None

    def price(
        self,
        usage: Usage | None,
        *,
        provider: str | None,
        model: str | None,
        at_ns: int,
        service_tier: str | None = None,
        variant: Mapping[str, str] | None = None,
        batch: bool = False,
        free: bool = False,
        served: str | None = None,
    ) -> Price:
        """Price one generation.

        Args:
            usage: what it used; None if nobody knows.
            provider: whose prices (genai-prices' provider id).
            model: the model that answered.
            at_ns: when the call started, wall clock, nanoseconds since the epoch.
            service_tier: as answered.
            variant: further context, such as {"speed": "fast"}.
            batch: batch prices apply.
            free: its provider does not charge for it.
            served: the model behind a deployment's name, where `model` is one. A price of one's
                own for the deployment comes first, then one that fits either, then the table.
        """
        assumed: tuple[str, ...] = ()
        if usage is not None and usage.cost_pico is not None:
            if 0 <= usage.cost_pico <= COST_PICO_MAX:
                return Price(usage.cost_pico, "provider")
            assumed = ("stated_cost_ignored",)
        if free:
            return Price(0, "free", assumed=assumed)
        if usage is None:
            return Price(None, "unpriced: no usage")
        if not model:
            return Price(None, "unpriced: no model", assumed=assumed)
        if len(model) > MODEL_NAME_CHARS_MAX or len(provider or "") > MODEL_NAME_CHARS_MAX:
            return Price(None, "unpriced: no such model", assumed=assumed)
        served = served or self._models.get(model, model)
        entry = self._entry(provider or "", model, served)
        resolved = self._resolve(entry, provider, served, at_ns, service_tier, variant, batch)
        if resolved.card is None:
            return Price(None, resolved.name, assumed=assumed)
        cost, missing, guesses, rates = resolved.card.charge(usage)
        if cost is None:
            return Price(None, f"unpriced: {missing} unknown", rates, assumed)
        return Price(cost, resolved.name, rates, resolved.assumed + guesses + assumed)

    def _entry(self, provider: str, model: str, served: str) -> _Entry:
        key = (provider, model, served)
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
            return entry
        own = self._own.histories(provider or None, model, served)
        entry = self._entries[key] = _Entry(own)
        if len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)
        return entry

    def _resolve(
        self,
        entry: _Entry,
        provider: str | None,
        model: str,
        at_ns: int,
        service_tier: str | None,
        variant: Mapping[str, str] | None,
        batch: bool,
    ) -> NamedCard:
        """Find the card that holds for a call; `model` is the one that serves it."""
        if entry.own:
            day = at_ns // _NANOSECONDS_PER_DAY
            found = entry.own.on(day)
            if found is not None:
                return found
        served = entry.catalogue
        if served is None:
            served = entry.catalogue = self._look_up(provider, model)
        if isinstance(served, NamedCard):
            return served
        context: _Context = ()
        if service_tier is not None or batch or variant:
            context = _context(served, service_tier, variant, batch)
        key = (context, served.period(at_ns))
        resolved = entry.cards.get(key)
        if resolved is None:
            if len(entry.cards) >= CARDS_PER_MODEL_MAX:
                entry.cards.clear()
            resolved = entry.cards[key] = _from_catalogue(served, at_ns, context)
        return resolved

    def _look_up(self, provider: str | None, model: str) -> CatalogueModel | NamedCard:
        """Ask the table for a model."""
        # Imported on first need: it takes 0.4 s, and who has prices of his own needs it never.
        from taximeter.pricing._catalogue import Catalogue, NoPriceError

        if provider is None:
            return _no_price("no provider")
        if self._catalogue is None:
            self._catalogue = Catalogue()
        try:
            return self._catalogue.find(provider, model) or _no_price("no such model")
        except NoPriceError as error:
            return _no_price(str(error))


def _context(
    served: CatalogueModel, service_tier: str | None, variant: Mapping[str, str] | None, batch: bool
) -> _Context:
    """Give the context of a price: keys and words as genai-prices has them.

    Words that mean the standard price are left out where the table does not name them, and
    others that it does not name are all one, so that what upstreams invent fills no cache.
    """
    items: list[tuple[str, str]] = []
    if service_tier is not None:
        tier = service_tier.lower()
        if tier == "batch":
            batch = True
        else:
            items.append(("service_tier", _TIERS.get(tier, tier)))
    if batch:
        items.append(("processing", "batch"))
    if variant:
        items += [item for item in variant.items() if item[0] not in ("service_tier", "processing")]
    return tuple(
        item if item in served.contexts else (item[0], _OTHER)
        for item in items
        if item in served.contexts or item[1] not in _STANDARD
    )


def _from_catalogue(served: CatalogueModel, at_ns: int, context: _Context) -> NamedCard:
    """Resolve a card in a context, and flag what of the context the table has no price for."""
    from taximeter.pricing._catalogue import NoPriceError

    words = dict(context)
    try:
        card = served.card(at_ns, words)
    except NoPriceError as error:
        return _no_price(str(error))
    matched = served.matched(at_ns, words)
    name = served.name
    assumed: list[str] = []
    for key, value in context:
        if value in _STANDARD:
            continue
        if key in matched:
            name += f" {value}" if key in ("service_tier", "processing") else f" {key}={value}"
        else:
            assumed.append(f"{key}_not_matched")
    return NamedCard(card, name[:PRICE_NAME_CHARS_MAX], tuple(assumed))


def _no_price(reason: str) -> NamedCard:
    return NamedCard(None, f"unpriced: {reason}"[:PRICE_NAME_CHARS_MAX])
