"""What calls cost, as far as budgets must know it while they are under way."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable

from taximeter.call import Closed, Usage
from taximeter.keys import KeyStore
from taximeter.pricing import UpstreamPrices
from taximeter.settings import Budget, Settings

MANY_TOKENS = 1_000_000
"""Rates are taken from a usage of so many: where long inputs cost more, it is a long one."""
KEPT_MAX = 4096
_DAY_NS = 86_400 * 1_000_000_000


class PricesOnDemand:
    """Prices that nobody may ever ask for: read on first need, in a thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._task: asyncio.Task[None] | None = None
        self.found: Money | None = None
        """None until they have been asked for, and read."""

    def ask(self) -> None:
        """Have them read, if they are not."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        self.found = await asyncio.to_thread(Money, self._settings)


class Money:
    """Prices of a configuration, for one worker."""

    def __init__(self, settings: Settings) -> None:
        self._prices = UpstreamPrices(settings)
        self._dearest: OrderedDict[tuple[str, str | None, int], tuple[int, int] | None]
        self._dearest = OrderedDict()
        # The price table is read on first need, which takes a third of a second: better now than
        # in the middle of a call.
        self.dearest("", "gpt-4o", 0)

    def dearest(self, upstream: str, model: str | None, at_ns: int) -> tuple[int, int] | None:
        """Give what a token of input and one of output cost at most, in pico-dollars.

        None if the model has no price.
        """
        key = (upstream, model, at_ns // _DAY_NS)
        if key in self._dearest:
            return self._dearest[key]
        inputs = self._rate(Usage(input_tokens=MANY_TOKENS, output_tokens=0), key, at_ns)
        outputs = self._rate(Usage(input_tokens=0, output_tokens=MANY_TOKENS), key, at_ns)
        found = None if inputs is None or outputs is None else (inputs, outputs)
        if len(self._dearest) >= KEPT_MAX:
            self._dearest.popitem(last=False)
        self._dearest[key] = found
        return found

    def _rate(self, usage: Usage, key: tuple[str, str | None, int], at_ns: int) -> int | None:
        upstream, model, _ = key
        price = self._prices.price(
            usage, upstream=upstream, provider=None, model=model, at_ns=at_ns
        )
        return None if price.cost_pico is None else -(-price.cost_pico // MANY_TOKENS)

    def cost(self, record: Closed, usage: Usage | None) -> int | None:
        """Give what a call with that usage costs, as the ledger will have it; None if unknown."""
        return self._prices.price_of(record, usage).cost_pico


def counts_money(settings: Settings, keys: KeyStore | None) -> bool:
    """Tell whether any budget counts money."""
    tiers = settings.tiers.values()
    holders: Iterable[Iterable[Budget]] = (
        *(tier.budget for tier in tiers),
        *(tier.shared.budget for tier in tiers),
        *(user.budget or () for user in settings.users.values()),
        *(team.budget for team in settings.teams.values()),
    )
    if any(budget.usd is not None for budgets in holders for budget in budgets):
        return True
    return keys is not None and keys.any_counts_money
