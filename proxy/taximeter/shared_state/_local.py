"""This process' share of limits and budgets: what it goes by while Redis does not answer.

A share of a limit is at least 1, so that no worker stands still: with a limit below the number
of workers, an outage lets more through. A call whose input alone is more than the share of a burst
goes, and owes the rest: an outage must not refuse what would never be refused without one. Of a
budget, the share is taken of what was left when Redis was last heard.

Rates begin with a full burst of the share. What was let go before is not known here.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace
from functools import lru_cache

from taximeter.admission import (
    Admitted,
    Hold,
    MemoryStore,
    Need,
    Over,
    Plan,
    Purse,
    Rate,
    Short,
    Spent,
)
from taximeter.shared_state._steps import POLL_NS, Ask

_SECOND_NS = 1_000_000_000
_PERIOD_SECONDS = 60
_PLANS_MAX = 4096


class Local:
    """A share of everything, kept in this process."""

    def __init__(self, share: float) -> None:
        self.share = share
        self._memory = MemoryStore()
        self._nothing = Hold([])

        @lru_cache(maxsize=_PLANS_MAX)
        def shared(plan: Plan) -> Plan:
            return share_of(plan, share)

        self._share_of = shared

    def decide(
        self, ask: Ask, in_use: Mapping[str, int], now_ns: int, held: Container[str] = ()
    ) -> Decided:
        """Decide about a call; `in_use` says how many slots calls of this worker hold.

        `held` are keys of slots that the call gives back as soon as it has these.
        """
        plan = self._share_of(ask.plan)
        hold = self._nothing
        if ask.is_admit and plan.purses:
            book = self._memory.book
            found = book.reserve(plan.purses, ask.worst_tokens, ask.worst_pico, now_ns, ask.wall_ns)
            if isinstance(found, Over):
                return Decided(found)
            hold = found
        if not ask.passing:
            return Decided(Admitted(hold, False, ask.short))
        need = Need(0, ask.need.tokens)
        short = self._take(plan, need, in_use, now_ns, held)
        taken = need if short is None else None
        return Decided(Admitted(hold, short is None, short) if ask.is_admit else short, taken)

    def _take(
        self,
        plan: Plan,
        need: Need,
        in_use: Mapping[str, int],
        now_ns: int,
        held: Container[str],
    ) -> Short | None:
        for slot in plan.slots:
            count = in_use.get(slot.key, 0)
            if count >= slot.limit and (count > slot.limit or slot.key not in held):
                never = not slot.limit
                return Short(slot.key, slot.name, slot.own, None if never else POLL_NS, never=never)
        return self._memory.rates.take(plan.rates, need, now_ns)

    def settle_rates(self, plan: Plan, need: Need, spent: Spent, now_ns: int) -> None:
        """Correct what was taken here by what it came to."""
        tokens = spent.tokens if spent.sent else 0
        rates = self._share_of(plan).rates
        self._memory.rates.settle(rates, need, tokens, int(spent.sent), now_ns)

    def charge(self, plan: Plan, now_ns: int) -> None:
        """Count one more request."""
        self._memory.rates.charge(self._share_of(plan).rates, now_ns)

    def heard(self, purse: Purse, start_seconds: int, spent: int) -> None:
        """Take in what all workers together have spent of a purse."""
        self._memory.book.load(
            purse.key, purse.name, purse.per, start_seconds * _SECOND_NS, int(spent * self.share)
        )

    def sweep(self, now_ns: int, wall_ns: int) -> int:
        """Forget what is the same as if it had never been."""
        return self._memory.sweep(now_ns, wall_ns)


class Decided:
    """What was decided here, and what was taken of rates for it."""

    __slots__ = ("found", "taken")

    def __init__(self, found: Admitted | Over | Short | None, taken: Need | None = None) -> None:
        self.found = found
        self.taken = taken


def share_of(plan: Plan, share: float) -> Plan:
    """Give a plan with a share of each of its limits. Pure."""
    return replace(
        plan,
        rates=tuple(_rate(rate, share) for rate in plan.rates),
        slots=tuple(replace(slot, limit=_part(slot.limit, share)) for slot in plan.slots),
        purses=tuple(replace(purse, limit=int(purse.limit * share)) for purse in plan.purses),
    )


def _rate(rate: Rate, share: float) -> Rate:
    if not rate.limit:
        return rate
    burst_seconds = rate.burst * _PERIOD_SECONDS / rate.limit
    limit = _part(rate.limit, share)
    return Rate.make(
        rate.key, rate.name, limit, burst_seconds, own=rate.own, of_tokens=rate.of_tokens
    )


def _part(limit: int, share: float) -> int:
    return max(1, int(limit * share)) if limit else 0
