"""What a simulation came to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


def percentile(values: list[float], share: float) -> float | None:
    """Give the value that `share` of all values do not pass; None of none."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(slots=True)
class UserReport:
    """One user's calls."""

    calls: int = 0
    completed: int = 0
    failed: int = 0
    """Ended with an error of the upstream's."""
    refused: Counter[str] = field(default_factory=Counter)
    """By reason."""
    wait_seconds: list[float] = field(default_factory=list)
    """Of each call that was let go: time in our queue."""
    refusal_seconds: list[float] = field(default_factory=list)
    """Of each call that was refused: time until it was told."""
    tokens: int = 0
    """Of completed calls."""
    spent_pico: int = 0

    def wait_seconds_p(self, share: float) -> float | None:
        """Give a percentile of the waits."""
        return percentile(self.wait_seconds, share)


@dataclass(slots=True)
class Report:
    """A whole run, without its beginning (`Scenario.settle_seconds`)."""

    seconds: float
    seed: int
    users: dict[str, UserReport]
    attempts: int = 0
    """Attempts that reached the server."""
    retries: int = 0
    server_refusals: int = 0
    breaker_opened: int = 0
    in_flight: list[tuple[float, int]] = field(default_factory=list)
    """(second, calls under way), at each second."""
    limits: list[tuple[float, int]] = field(default_factory=list)
    """(second, concurrency limit found), at each second, where one is sought."""
    waiting: list[tuple[float, int]] = field(default_factory=list)
    arrivals_by_second: Counter[int] = field(default_factory=Counter)
    """Attempts that reached the server, by second."""

    @property
    def completed(self) -> int:
        """Calls completed."""
        return sum(user.completed for user in self.users.values())

    @property
    def goodput_tokens_per_second(self) -> float:
        """Tokens of completed calls, per second."""
        return sum(user.tokens for user in self.users.values()) / self.seconds

    @property
    def retry_amplification(self) -> float | None:
        """Attempts for each call that was let go; None when none was."""
        first = self.attempts - self.retries
        return self.attempts / first if first else None

    def jain(self, weights: dict[str, float] | None = None) -> float | None:
        """Give Jain's index of fairness of tokens by weight: 1 is equal, 1/n is all to one."""
        shares = [user.tokens / (weights or {}).get(name, 1.0) for name, user in self.users.items()]
        squares = sum(share * share for share in shares)
        return sum(shares) ** 2 / (len(shares) * squares) if squares else None
