"""Which limits and budgets stand over a call: the policy, resolved for one kind of call.

A `Plan` is made once for each (upstream, model, user, team, key, credential) and kept while that
is in use. It is plain data with a key for each count, so that a store can keep the counts in
this process or elsewhere: the keys and numbers of a plan are all that a script needs.

Two rates of the same scope differ in their unit alone. `own` says that a limit is the caller's
own: it holds up nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from taximeter.admission._model import (
    Budget,
    Limits,
    Per,
    Policy,
    Tier,
    Upstream,
    User,
)
from taximeter.admission._words import SECOND_NS, Request

_MINUTE_NS = 60 * SECOND_NS
_SEPARATOR = "\x1f"
"""Between the parts of a key. Names are not trusted to be without a colon or a slash."""


def key_of(*parts: str) -> str:
    """Give the key of a count. Different parts give different keys."""
    return _SEPARATOR.join(part.replace(_SEPARATOR, "\x1e") for part in parts)


def key_parts(key: str) -> list[str]:
    """Give the parts that a key was made of."""
    return key.split(_SEPARATOR)


@dataclass(frozen=True, slots=True)
class Rate:
    """A number of requests or of tokens in a period. See `_rate` for how it is kept."""

    key: str
    name: str
    """What it is called in answers and labels, such as `user.requests_per_minute`."""
    own: bool
    of_tokens: bool
    limit: int
    period_ns: int
    burst: int
    tolerance_ns: int
    one_ns: int
    """What a single one takes."""

    @classmethod
    def make(
        cls, key: str, name: str, limit: int, burst_seconds: float, *, own: bool, of_tokens: bool
    ) -> Rate:
        """Make a rate of `limit` a minute."""
        burst = max(1, int(limit * burst_seconds / 60)) if limit else 0
        # Rounded up where charges are rounded down: a burst of many small ones fits as well.
        tolerance = -(-burst * _MINUTE_NS // limit) if limit else 0
        one = _MINUTE_NS // limit if limit else 0
        return cls(key, name, own, of_tokens, limit, _MINUTE_NS, burst, tolerance, one)


@dataclass(frozen=True, slots=True)
class Slots:
    """A number of calls under way at once."""

    key: str
    name: str
    own: bool
    limit: int


@dataclass(frozen=True, slots=True)
class Purse:
    """A budget of one holder."""

    key: str
    name: str
    per: Per
    limit: int
    of_tokens: bool
    hard: bool
    refuse_unpriced: bool

    @property
    def scope(self) -> str:
        """Whose kind of budget it is: `user`, `tier`, `team` or `key`."""
        return self.name.partition(".")[0]

    @property
    def holder(self) -> str:
        """Whose it is, by name."""
        return key_parts(self.key)[-1]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """All that stands over one kind of call."""

    key: str
    policy: Policy = field(repr=False)
    """What it was made from. Wherever one is kept, it holds as long as this is the policy."""
    model: str
    user: str
    tier_name: str
    tier: Tier
    upstream_name: str
    upstream: Upstream
    rates: tuple[Rate, ...]
    slots: tuple[Slots, ...]
    purses: tuple[Purse, ...]
    keys: tuple[str, ...]
    """Of all rates and slots: what it may have to wait for, beside its route."""
    own_keys: frozenset[str]
    route_key: str
    ask_key: str
    """What its calls wait on while a store elsewhere is asked."""
    priced: bool
    """Whether some purse counts money."""
    straight: bool = False
    """Whether it holds no budget and no bound on length: limits alone, or nothing."""


def _rates(scope: str, names: tuple[str, ...], limits: Limits, own: bool) -> list[Rate]:
    found = []
    for of_tokens, limit in (
        (False, limits.requests_per_minute),
        (True, limits.tokens_per_minute),
    ):
        if limit is not None:
            unit = "tokens_per_minute" if of_tokens else "requests_per_minute"
            found.append(
                Rate.make(
                    key_of("rate", scope, unit, *names),
                    f"{scope}.{unit}",
                    limit,
                    limits.burst_seconds,
                    own=own,
                    of_tokens=of_tokens,
                )
            )
    return found


def _slots(scope: str, names: tuple[str, ...], limits: Limits, own: bool) -> list[Slots]:
    if limits.concurrency is None:
        return []
    key = key_of("slots", scope, *names)
    return [Slots(key, f"{scope}.concurrency", own, limits.concurrency)]


def _purses(scope: str, name: str, budgets: tuple[Budget, ...]) -> list[Purse]:
    found = []
    for budget in budgets:
        of_tokens = budget.tokens is not None
        limit = budget.tokens if budget.tokens is not None else budget.pico
        assert limit is not None
        unit = "tokens" if of_tokens else "usd"
        found.append(
            Purse(
                key_of("purse", scope, unit, budget.per, name),
                f"{scope}.{unit}_per_{budget.per}",
                budget.per,
                limit,
                of_tokens,
                budget.hard,
                budget.unpriced == "refuse" and not of_tokens and budget.hard,
            )
        )
    return found


def resolve(policy: Policy, request: Request) -> Plan:
    """Find what stands over a call. An upstream not in the policy has the defaults."""
    upstream = policy.upstreams.get(request.upstream) or Upstream()
    user = (None if request.is_claimed else policy.users.get(request.user)) or User()
    tier_name = request.tier or user.tier or policy.default_tier
    shared = policy.tiers.get(tier_name) or Tier()
    tier = user.terms if user.terms is not None and not request.tier else shared

    where = (request.upstream,)
    rates = _rates("user", (request.user,), tier.limits, True)
    slots = _slots("user", (request.user,), tier.limits, True)
    rates += _rates("tier", (tier_name,), shared.limits_shared, False)
    slots += _slots("tier", (tier_name,), shared.limits_shared, False)
    for pattern, limits in upstream.models.items():
        if fnmatchcase(request.model, pattern):
            rates += _rates("model", (*where, pattern), limits, False)
            slots += _slots("model", (*where, pattern), limits, False)
            break
    rates += _rates("upstream", where, upstream.limits, False)
    slots += _slots("upstream", where, upstream.limits, False)

    purses = _purses("user", request.user, tier.budgets)
    purses += _purses("tier", tier_name, shared.budgets_shared)
    if request.team:
        purses += _purses("team", request.team, policy.teams.get(request.team, ()))
    if request.key:
        purses += _purses("key", request.key, policy.keys.get(request.key, ()))

    key = key_of(
        request.upstream,
        request.model,
        request.user,
        request.team,
        request.key,
        request.tier,
        "claimed" if request.is_claimed else "",
        request.credential,
    )
    ask_key = key_of("ask", key)
    return Plan(
        key=key,
        policy=policy,
        model=request.model,
        user=request.user,
        tier_name=tier_name,
        tier=tier,
        upstream_name=request.upstream,
        upstream=upstream,
        rates=tuple(rates),
        slots=tuple(slots),
        purses=tuple(purses),
        keys=(*(slot.key for slot in slots), *(rate.key for rate in rates)),
        own_keys=frozenset(
            [rate.key for rate in rates if rate.own]
            + [slot.key for slot in slots if slot.own]
            + [ask_key]
        ),
        ask_key=ask_key,
        route_key=key_of(request.upstream, request.model, request.credential),
        priced=any(not purse.of_tokens for purse in purses),
        straight=not purses and tier.input_tokens_max is None and tier.output_tokens_max is None,
    )
