"""What a run came to, in the figures that a person sets limits by. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from taximeter.admission.simulation import Report, UserReport


@dataclass(slots=True)
class Figures:
    """Of some users together. None is unknown: nothing to take it from."""

    users: int
    calls: int = 0
    completed: int = 0
    failed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    wait_seconds: list[float] = field(default_factory=list)
    """Sorted."""
    refusal_seconds: list[float] = field(default_factory=list)
    """Sorted."""
    tokens: int = 0
    spent_pico: int | None = None

    @classmethod
    def of(cls, users: list[UserReport], *, priced: bool) -> Figures:
        """Add users up."""
        made = cls(len(users), spent_pico=0 if priced else None)
        for user in users:
            made.calls += user.calls
            made.completed += user.completed
            made.failed += user.failed
            made.refused.update(user.refused)
            made.wait_seconds += user.wait_seconds
            made.refusal_seconds += user.refusal_seconds
            made.tokens += user.tokens
            if made.spent_pico is not None:
                made.spent_pico += user.spent_pico
        made.wait_seconds.sort()
        made.refusal_seconds.sort()
        return made

    @property
    def refused_in_all(self) -> int:
        """Calls that were refused, for whatever reason."""
        return self.refused.total()

    def wait(self, share: float) -> float | None:
        """Give the wait that `share` of the admitted calls do not pass, in seconds."""
        return _at(self.wait_seconds, share)

    def refusal(self, share: float) -> float | None:
        """Give the time to a refusal that `share` of the refused do not pass, in seconds."""
        return _at(self.refusal_seconds, share)

    def to_json(self, seconds: float) -> dict[str, Any]:
        """Give plain values: waits in seconds, money as decimal text."""
        spent = self.spent_pico
        return {
            "users": self.users,
            "calls": self.calls,
            "completed": self.completed,
            "failed": self.failed,
            "refused": dict(sorted(self.refused.items())),
            "wait_seconds_p50": self.wait(0.5),
            "wait_seconds_p95": self.wait(0.95),
            "wait_seconds_p99": self.wait(0.99),
            "refusal_seconds_p99": self.refusal(0.99),
            "tokens": self.tokens,
            "tokens_per_second": self.tokens / seconds,
            "spent_usd": None if spent is None else f"{Decimal(spent).scaleb(-12):f}",
        }


def _at(ordered: list[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


@dataclass(frozen=True, slots=True)
class Summary:
    """A whole run."""

    seed: int
    seconds: float
    """That the figures are of."""
    groups: dict[str, Figures]
    total: Figures
    capacity: int
    in_flight_mean: float | None
    waiting_most: int
    limit_found: int | None
    """Concurrency limit at the end, where one was sought."""
    attempts: int
    amplification: float | None
    server_refusals: int
    breaker_opened: int
    jain: float | None

    @classmethod
    def of(
        cls,
        report: Report,
        members: dict[str, list[str]],
        weights: dict[str, float],
        *,
        capacity: int,
        priced: bool,
        settle_seconds: float,
    ) -> Summary:
        """Sum a report up, by group of users."""
        groups = {
            name: Figures.of([report.users[user] for user in users], priced=priced)
            for name, users in members.items()
        }
        in_flight = [count for second, count in report.in_flight if second >= settle_seconds]
        return cls(
            seed=report.seed,
            seconds=report.seconds,
            groups=groups,
            total=Figures.of(list(report.users.values()), priced=priced),
            capacity=capacity,
            in_flight_mean=sum(in_flight) / len(in_flight) if in_flight else None,
            waiting_most=max((count for _, count in report.waiting), default=0),
            limit_found=report.limits[-1][1] if report.limits else None,
            attempts=report.attempts,
            amplification=report.retry_amplification,
            server_refusals=report.server_refusals,
            breaker_opened=report.breaker_opened,
            jain=report.jain(weights),
        )

    def to_json(self) -> dict[str, Any]:
        """Give plain values."""
        return {
            "seed": self.seed,
            "seconds": self.seconds,
            "groups": {
                name: figures.to_json(self.seconds) for name, figures in self.groups.items()
            },
            "total": self.total.to_json(self.seconds),
            "server": {
                "capacity": self.capacity,
                "in_flight_mean": self.in_flight_mean,
                "attempts": self.attempts,
                "refusals": self.server_refusals,
                "retry_amplification": self.amplification,
            },
            "waiting_most": self.waiting_most,
            "concurrency_found": self.limit_found,
            "breaker_opened": self.breaker_opened,
            "jain": self.jain,
        }
