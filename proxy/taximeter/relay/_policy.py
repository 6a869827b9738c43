"""From the settings to what admission goes by. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from taximeter import admission, settings
from taximeter.keys import KeyBudget, KeyStore
from taximeter.settings import Settings


class KeyBudgets(Mapping[str, tuple[admission.Budget, ...]]):
    """The budgets of virtual keys, by the key's id: a view of the keys as they are now."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store

    def __getitem__(self, key_id: str) -> tuple[admission.Budget, ...]:
        key = self._store.key(key_id)
        if key is None or key.budget is None:
            raise KeyError(key_id)
        return (_key_budget(key.budget),)

    def __iter__(self) -> Iterator[str]:
        return iter(self._store.ids())

    def __len__(self) -> int:
        return len(self._store)


def policy_of(found: Settings, keys: KeyStore | None = None) -> admission.Policy:
    """Give what admission goes by under a configuration, and the virtual keys there are."""
    tiers = {name: tier_of(tier) for name, tier in found.tiers.items()}
    return admission.Policy(
        upstreams={name: _upstream(each) for name, each in found.upstreams.items()},
        tiers=tiers,
        users={
            name: admission.User(tier=user.tier, terms=tier_of(found.tier_of(name)))
            for name, user in found.users.items()
        },
        teams={name: _budgets(team.budget) for name, team in found.teams.items()},
        keys=KeyBudgets(keys) if keys is not None else {},
        default_tier=found.default_tier,
    )


def tier_of(tier: settings.Tier) -> admission.Tier:
    """Give a tier, or what holds for one user in its place."""
    return admission.Tier(
        weight=tier.weight,
        limits=_limits(tier, tier.burst_seconds),
        limits_shared=_limits(tier.shared, tier.burst_seconds),
        input_tokens_max=tier.input_tokens_max,
        output_tokens_max=tier.output_tokens_max,
        output_over=tier.output_over,
        budgets=_budgets(tier.budget),
        budgets_shared=_budgets(tier.shared.budget),
    )


def _limits(rates: settings.Rates, burst_seconds: float) -> admission.Limits:
    return admission.Limits(
        concurrency=rates.concurrency,
        requests_per_minute=rates.requests_per_minute,
        tokens_per_minute=rates.tokens_per_minute,
        burst_seconds=burst_seconds,
    )


def _budgets(budgets: tuple[settings.Budget, ...]) -> tuple[admission.Budget, ...]:
    return tuple(
        admission.Budget(
            pico=each.pico,
            tokens=each.tokens,
            per=each.per,
            hard=each.hard,
            unpriced=each.unpriced,
        )
        for each in budgets
    )


def _key_budget(budget: KeyBudget) -> admission.Budget:
    return admission.Budget(pico=budget.pico, tokens=budget.tokens, per=budget.per, hard=True)


def _upstream(each: settings.Upstream) -> admission.Upstream:
    limits, retry, breaker = each.limits, each.retry, each.breaker
    adaptive = admission.Adaptive(
        initial=limits.adaptive_concurrency_first,
        least=limits.adaptive_concurrency_min,
        most=limits.adaptive_concurrency_max,
    )
    return admission.Upstream(
        limits=_limits(limits, limits.burst_seconds),
        models={
            pattern: _limits(rates, limits.burst_seconds)
            for pattern, rates in limits.models.items()
        },
        adaptive=adaptive if limits.adaptive else None,
        heeds=limits.heed_upstream,
        queue=admission.Queue(size=each.queue.size, wait_seconds_max=each.queue.wait_seconds_max),
        retry=admission.Retry(
            attempts_max=retry.attempts_max,
            budget_ratio=retry.budget_ratio,
            budget_floor=retry.budget_floor_per_minute,
            backoff_seconds=retry.backoff_seconds_first,
            backoff_seconds_max=retry.backoff_seconds_max,
            retry_after_seconds_max=retry.retry_after_seconds_max,
        ),
        breaker=(
            admission.Breaker(
                failure_ratio=breaker.failure_ratio,
                window_seconds=breaker.window_seconds,
                calls_min=breaker.calls_min,
                open_seconds=breaker.open_seconds,
                open_seconds_max=breaker.open_seconds_max,
                probes=breaker.probes,
            )
            if breaker.enabled
            else None
        ),
    )
