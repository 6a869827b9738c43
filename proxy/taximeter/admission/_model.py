"""What admission can be told: limits, tiers, queues, retries, breakers, budgets. Plain data.

The fields have the names of the configuration. Settings are read and checked elsewhere and
mapped on to these; here a value that makes no sense is refused again, with `ValueError`.

None is "no such limit". Zero is a limit: nothing may pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

RETRY_STATUSES = frozenset({408, 429, 500, 502, 503, 504, 529})
"""Answers after which another attempt may do better. 529 is Anthropic's `overloaded_error`."""
DEFAULT_TIER = "default"
"""A tier that is always there: without limits, unless it is configured."""


def _check(good: bool, what: str) -> None:
    if not good:
        raise ValueError(what)


def _check_least(least: float, **values: float | None) -> None:
    for name, value in values.items():
        _check(value is None or value >= least, f"{name} must be at least {least}")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may pass. Each field is a limit of its own; all that are set must hold."""

    concurrency: int | None = None
    """Calls under way at once, from admission to the last byte."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Input and output together: reserved at admission, settled with the true number."""
    burst_seconds: float = 60.0
    """How much of the rate may be used at once. 60 is a whole minute's worth."""

    def __post_init__(self) -> None:
        _check_least(
            0,
            concurrency=self.concurrency,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
        )
        _check(self.burst_seconds > 0, "burst_seconds must be above 0")


@dataclass(frozen=True, slots=True)
class Adaptive:
    """Bounds of a concurrency limit that is found rather than set."""

    initial: int = 20
    least: int = 1
    most: int = 10_000

    def __post_init__(self) -> None:
        _check(1 <= self.least <= self.initial <= self.most, "1 <= least <= initial <= most")


@dataclass(frozen=True, slots=True)
class Queue:
    """Bounds of one upstream's queue."""

    size: int = 1000
    """Calls that may wait at once."""
    wait_seconds_max: float = 30.0

    def __post_init__(self) -> None:
        _check_least(0, size=self.size, wait_seconds_max=self.wait_seconds_max)


@dataclass(frozen=True, slots=True)
class Retry:
    """When to try again, and how much of that there may be."""

    attempts_max: int = 3
    """Attempts of one call, the first included."""
    budget_ratio: float = 0.2
    """Retries for each call, of a user and of an upstream alike."""
    budget_floor: int = 10
    """Retries a minute that are there whatever the number of calls."""
    backoff_seconds: float = 0.5
    backoff_seconds_max: float = 8.0
    retry_after_seconds_max: float = 20.0
    """An upstream that asks for a longer wait gets no retry: its answer is passed on."""
    statuses: frozenset[int] = RETRY_STATUSES

    def __post_init__(self) -> None:
        _check_least(1, attempts_max=self.attempts_max)
        _check_least(
            0,
            budget_ratio=self.budget_ratio,
            budget_floor=self.budget_floor,
            backoff_seconds=self.backoff_seconds,
            backoff_seconds_max=self.backoff_seconds_max,
            retry_after_seconds_max=self.retry_after_seconds_max,
        )


@dataclass(frozen=True, slots=True)
class Breaker:
    """When an upstream's model is left alone for a while."""

    failure_ratio: float = 0.5
    window_seconds: float = 30.0
    calls_min: int = 10
    """Fewer results than this in the window open nothing."""
    open_seconds: float = 10.0
    open_seconds_max: float = 60.0
    """Failed probes double the open time, up to here."""
    probes: int = 2
    """Probes in a row that must succeed before it closes. They go one at a time."""

    def __post_init__(self) -> None:
        _check(0 < self.failure_ratio <= 1, "failure_ratio must be above 0 and at most 1")
        _check(self.window_seconds > 0, "window_seconds must be above 0")
        _check_least(1, calls_min=self.calls_min, probes=self.probes)
        _check(0 < self.open_seconds <= self.open_seconds_max, "open_seconds <= open_seconds_max")


Per = Literal["hour", "day", "month"]


@dataclass(frozen=True, slots=True)
class Budget:
    """An amount for each calendar window (UTC), in pico-dollars or in tokens."""

    pico: int | None = None
    tokens: int | None = None
    per: Per = "day"
    hard: bool = True
    """A hard budget refuses what would pass it; a soft one lets it go and says so."""
    unpriced: Literal["allow", "refuse"] = "allow"
    """What becomes of a call whose price is not known, under a hard budget of money."""

    def __post_init__(self) -> None:
        _check((self.pico is None) != (self.tokens is None), "give either pico or tokens")
        _check_least(0, pico=self.pico, tokens=self.tokens)


@dataclass(frozen=True, slots=True)
class Tier:
    """What each user of a tier may do, and what all of them may do together."""

    weight: float = 1.0
    """Share of a busy upstream, relative to other users'."""
    limits: Limits = Limits()
    """Of each user."""
    limits_shared: Limits = Limits()
    """Of all users of the tier together."""
    input_tokens_max: int | None = None
    output_tokens_max: int | None = None
    output_over: Literal["clamp", "refuse"] = "clamp"
    """What becomes of a call that asks for more output than `output_tokens_max`."""
    budgets: tuple[Budget, ...] = ()
    """Of each user."""
    budgets_shared: tuple[Budget, ...] = ()
    """Of all users of the tier together."""

    def __post_init__(self) -> None:
        _check(0.001 <= self.weight <= 1000, "weight must be from 0.001 to 1000")
        _check_least(0, input_tokens_max=self.input_tokens_max)
        _check_least(1, output_tokens_max=self.output_tokens_max)


@dataclass(frozen=True, slots=True)
class User:
    """A user known by name."""

    tier: str | None = None
    """None: the default tier."""
    terms: Tier | None = None
    """What holds for this user in place of the tier's; what all of the tier share is the tier's."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """What may go to one upstream, and how."""

    limits: Limits = Limits()
    models: Mapping[str, Limits] = field(default_factory=dict)
    """Limits by model, or by a pattern of models (`gpt-*`); they hold beside the upstream's own.
    The first that fits holds, and the models of a pattern share its limits."""
    adaptive: Adaptive | None = Adaptive()
    """Used where `limits.concurrency` is not set. None: concurrency is not limited."""
    heeds: bool = True
    """Hold calls back while its own answers say that its limits are reached."""
    queue: Queue = Queue()
    retry: Retry = Retry()
    breaker: Breaker | None = Breaker()


@dataclass(frozen=True, slots=True)
class Policy:
    """All of it, as one immutable snapshot."""

    upstreams: Mapping[str, Upstream] = field(default_factory=dict)
    tiers: Mapping[str, Tier] = field(default_factory=dict)
    users: Mapping[str, User] = field(default_factory=dict)
    teams: Mapping[str, tuple[Budget, ...]] = field(default_factory=dict)
    keys: Mapping[str, tuple[Budget, ...]] = field(default_factory=dict)
    """Budgets of single keys, by the name that requests give them."""
    default_tier: str = DEFAULT_TIER
    """Tier of users without one; one that is not in `tiers` has no limits."""

    def __post_init__(self) -> None:
        known = self.tier_names()
        for name, user in self.users.items():
            _check(
                user.tier is None or user.tier in known,
                f"user {name!r} is in a tier that is not there",
            )

    def tier_names(self) -> frozenset[str]:
        """Give the names of all tiers there are; `default` is there unconfigured, too."""
        return frozenset((DEFAULT_TIER, self.default_tier, *self.tiers))
