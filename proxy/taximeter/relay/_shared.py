"""The counts that a worker shares with others, if it does: made from the settings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping

from taximeter.admission import (
    Admitted,
    CircuitBreaker,
    Limits,
    Over,
    Policy,
    Short,
    Ticket,
    budget_periods,
)
from taximeter.settings import Settings
from taximeter.shared_state import Line, RedisStore, SharedStats

log = logging.getLogger("taximeter.relay")

Breakers = Callable[[], Mapping[tuple[str, str], CircuitBreaker]]
Tell = Callable[[Ticket, Admitted | Over | Short | None], None]


class Shared:
    """A store in Redis, and the line to it."""

    def __init__(self, url: str, settings: Settings) -> None:
        redis = settings.redis
        share = redis.local_share if redis.local_share is not None else 1 / settings.workers
        self.store = RedisStore(share)
        self._line = Line(
            url,
            self.store,
            prefix=redis.key_prefix,
            deadline_seconds=redis.deadline_milliseconds / 1000,
        )

    @classmethod
    def of(cls, settings: Settings) -> Shared | None:
        """Give what the settings ask for; None where counts stay in this process."""
        url = settings.state_url
        return None if url is None else cls(url, settings)

    @property
    def stats(self) -> SharedStats:
        """How it goes."""
        return self.store.stats

    async def begin(self, tell: Tell, breakers: Breakers, came_up: Callable[[], None]) -> None:
        """Begin; `tell` takes what Redis says of a call, `breakers` gives those there are.

        `came_up` is called whenever there is a line to Redis that was not there before.
        """
        self.store.tell = tell
        self.store.came_up = came_up
        self.store.breakers = breakers
        await self._line.begin()

    async def end(self) -> None:
        """Tell Redis the last of it, and end."""
        await self._line.end()


def warn_if_apart(settings: Settings, policy: Policy) -> None:
    """Say so if each of several workers counts, or keeps, for itself what is meant for all."""
    if settings.workers > 1 and settings.replay.enabled:
        log.warning(
            "Each of the %d workers keeps answers for itself (`replay`): a call that is made again "
            "on another connection may come to another worker, and goes upstream then.",
            settings.workers,
        )
    if settings.workers > 1 and settings.state_url is None and _has_counts(policy):
        log.warning(
            "Each of the %d workers counts limits and budgets for itself, so up to %d times as "
            "much gets through. Set `state: redis://...`, and they count together.",
            settings.workers,
            settings.workers,
        )


def _has_counts(policy: Policy) -> bool:
    return bool(budget_periods(policy)) or any(
        limit is not None
        for limits in _limits_of(policy)
        for limit in (limits.concurrency, limits.requests_per_minute, limits.tokens_per_minute)
    )


def _limits_of(policy: Policy) -> Iterator[Limits]:
    for upstream in policy.upstreams.values():
        yield upstream.limits
        yield from upstream.models.values()
    for tier in policy.tiers.values():
        yield tier.limits
        yield tier.limits_shared
    for user in policy.users.values():
        if user.terms is not None:
            yield user.terms.limits
