"""Prices as a configuration has them: whose apply to an upstream, and under which model's name."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from taximeter.call import Closed, Fact, Outcome, Usage
from taximeter.pricing._book import Price, PriceBook
from taximeter.pricing._own import OwnPrice
from taximeter.pricing._provider import provider_of_url
from taximeter.settings import Settings

_DIALECT_PROVIDERS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "gemini": "google",
    "ollama": "ollama",
}
"""Whose prices apply where neither the settings nor the upstream's URL say."""

_NOTHING_STATED = Usage()
_NO_USAGE = Price(None, "unpriced: no usage")
_BILLED_ELSEWHERE = frozenset({Fact.DEFERRED, Fact.FETCHED, Fact.REPLAYED})
"""Of such calls one bears the cost, and not for having been answered: see `taximeter.ledger`."""


class UpstreamPrices:
    """Prices usages of a configuration's upstreams. Not to be shared between threads."""

    def __init__(self, settings: Settings) -> None:
        self._book = PriceBook(
            [
                OwnPrice.from_rates(
                    provider=own.provider,
                    model=own.model,
                    valid_from=own.valid_from,
                    **own.rates(),
                )
                for own in settings.prices
            ]
        )
        self._models: dict[str, Mapping[str, str]] = {}
        self._providers: dict[str, str] = {}
        for name, upstream in settings.upstreams.items():
            self._providers[name] = (
                upstream.provider
                or provider_of_url(upstream.url)
                or _DIALECT_PROVIDERS[upstream.dialect]
            )
            self._models[name] = upstream.models

    def provider(self, upstream: str, otherwise: str | None = None) -> str | None:
        """Give whose prices apply to an upstream; `otherwise` for one that is not configured."""
        return self._providers.get(upstream, otherwise)

    def price_of(self, closed: Closed, usage: Usage | None) -> Price:
        """Price what a call used: `usage` is the record's own, or has what was counted in it."""
        opened = closed.opened
        return self.price(
            usage,
            upstream=opened.upstream or "",
            provider=opened.provider,
            model=closed.response_model or opened.model,
            at_ns=opened.started_at_ns,
            service_tier=closed.service_tier,
            variant=closed.price_variant,
            facts=closed.facts,
            outcome=closed.outcome,
        )

    def price(
        self,
        usage: Usage | None,
        *,
        upstream: str,
        provider: str | None,
        model: str | None,
        at_ns: int,
        service_tier: str | None = None,
        variant: Mapping[str, str] | None = None,
        facts: Collection[str] = (),
        outcome: str | None = None,
    ) -> Price:
        """Price one generation.

        A call that was completed and of which no usage is known costs what its price says without
        any figure, if that says anything: so much per request.

        Args:
            usage: what it used; None if nobody knows.
            upstream: the name of who made it.
            provider: whose prices apply, for an upstream that is not configured.
            model: the model that answered.
            at_ns: when the call started, wall clock, nanoseconds since the epoch.
            service_tier: as answered.
            variant: further context of the price.
            facts: what was noted of the call.
            outcome: how it ended, where it has.
        """
        # A ledger's row does not tell the two apart, and it is priced again from there.
        nothing = usage is None or usage == _NOTHING_STATED
        if nothing:
            answered = outcome == Outcome.COMPLETED and _BILLED_ELSEWHERE.isdisjoint(facts)
            usage = _NOTHING_STATED if answered else None
        found = self._book.price(
            usage,
            provider=self._providers.get(upstream, provider),
            model=model,
            served=None if model is None else self._models.get(upstream, {}).get(model),
            at_ns=at_ns,
            service_tier=service_tier,
            variant=variant,
            batch=Fact.BATCH in facts,
            free=Fact.FREE in facts,
        )
        return _NO_USAGE if nothing and found.cost_pico is None else found
