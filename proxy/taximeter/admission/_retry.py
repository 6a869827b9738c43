"""Whether to try again, and when.

Another attempt is made only while the client has seen nothing, after a failure that another
attempt may mend, while attempts and the retry budget last, and if the wait it takes is short
enough. The upstream's word comes first: `x-should-retry` overrules the list of statuses, and
`Retry-After` is waited out in full. An account without money (`insufficient_quota` and its
kin) comes as a 429 and is never tried again, whatever the headers say: no wait mends it.

The wait is exponential backoff with full jitter: anything from 0 to a bound that doubles. After a
`Retry-After` the jitter comes on top, so that those told the same time do not come together.

The *retry budget* keeps retries from becoming the load: for each call `ratio` of a retry is put
in, each retry takes one out, and a floor of so many a minute is there for those with few calls.
Over any time, retries are at most

    ratio x calls + floor x (1 + minutes)        (and what was saved up, at most SAVED_MAX)

One budget stands over each user and one over each upstream: a user's broken calls cannot use up
what is there for all, and all users together cannot multiply the load of a failing upstream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from taximeter.admission._model import Retry
from taximeter.admission._words import SECOND_NS
from taximeter.call import Word

NO_MONEY = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_error",
        "billing_hard_limit_reached",
    }
)
"""Error codes of an account that cannot pay, whatever status they come with."""

PAID_TWICE = frozenset({500, 502, 504})
"""Statuses after which the model may have done its work: a retry may be paid for twice."""

SAVED_MAX = 20
"""Retries that a busy time may leave for a bad one, above the floor."""

_MICRO = 1_000_000
_MINUTE_NS = 60 * SECOND_NS


class Stop(Word):
    """Why there is no further attempt."""

    PASSED_ON = "passed_on"
    """The client has seen something of the answer."""
    NOT_MENDED = "not_mended"
    """Another attempt would come to the same."""
    NO_MONEY = "no_money"
    ATTEMPTS_SPENT = "attempts_spent"
    WAIT_TOO_LONG = "wait_too_long"
    USER_BUDGET_SPENT = "user_budget_spent"
    UPSTREAM_BUDGET_SPENT = "upstream_budget_spent"
    BREAKER_OPEN = "breaker_open"


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt failed, as far as it matters here."""

    status: int | None = None
    """None when there was no answer: no connection, a time-out, a broken connection."""
    code: str | None = None
    sent: bool = True
    """Whether the request was written: False for a connection that was never made."""
    passed_on: bool = False
    replayable: bool = True
    """Whether the request's body is still whole."""
    retry_after_ns: int | None = None
    should_retry: bool | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """Try again after a wait."""

    wait_ns: int
    maybe_paid_twice: bool = False


class RetryBudget:
    """The retries that one user or one upstream has left. Counted in millionths."""

    __slots__ = ("_at_ns", "_floor", "_most", "left_micro")

    def __init__(self, floor: int, now_ns: int) -> None:
        self._floor = floor * _MICRO
        self._most = (floor + SAVED_MAX) * _MICRO
        self.left_micro = self._floor
        """Each call adds its part; cut to what may be saved when it is next asked for."""
        self._at_ns = now_ns

    def has(self, now_ns: int) -> bool:
        """Tell whether a retry is left."""
        self._refill(now_ns)
        return self.left_micro >= _MICRO

    def share_left(self, now_ns: int) -> float:
        """Give what is left as a share of what is there at a start: from 0 to 1, no more."""
        self._refill(now_ns)
        return max(0.0, min(1.0, self.left_micro / (self._floor or SAVED_MAX * _MICRO)))

    def take(self) -> None:
        """Take one retry out. Ask `has` first."""
        self.left_micro -= _MICRO

    def is_idle(self, now_ns: int) -> bool:
        """Tell whether this is as good as new: nothing is lost with it but what was saved."""
        return (
            now_ns - self._at_ns > _MINUTE_NS
            and self.left_micro + self._gained(now_ns) >= self._floor
        )

    def _gained(self, now_ns: int) -> int:
        return self._floor * max(0, now_ns - self._at_ns) // _MINUTE_NS

    def _refill(self, now_ns: int) -> None:
        # The floor comes back by the minute, up to the floor; what calls put in stays above it.
        if self.left_micro < self._floor:
            self.left_micro = min(self.left_micro + self._gained(now_ns), self._floor)
        self.left_micro = min(self.left_micro, self._most)
        self._at_ns = now_ns


def worth_retrying(config: Retry, failure: Failure, attempts: int) -> Stop | None:
    """Say why a failure is final, budgets aside; None if another attempt may mend it."""
    if failure.passed_on:
        return Stop.PASSED_ON
    if failure.code in NO_MONEY:
        return Stop.NO_MONEY
    if not failure.replayable or failure.should_retry is False:
        return Stop.NOT_MENDED
    told_to = failure.should_retry is True or failure.status is None
    if not told_to and failure.status not in config.statuses:
        return Stop.NOT_MENDED
    if attempts >= config.attempts_max:
        return Stop.ATTEMPTS_SPENT
    longest_ns = int(config.retry_after_seconds_max * SECOND_NS)
    if failure.retry_after_ns is not None and failure.retry_after_ns > longest_ns:
        return Stop.WAIT_TOO_LONG
    return None


def backoff_ns(config: Retry, attempts: int, uniform: Callable[[], float]) -> int:
    """Give the wait after so many attempts: full jitter under a bound that doubles."""
    bound = min(config.backoff_seconds * 2.0 ** min(attempts - 1, 30), config.backoff_seconds_max)
    return int(bound * SECOND_NS * uniform())


def again(
    config: Retry,
    failure: Failure,
    attempts: int,
    budgets: tuple[RetryBudget, RetryBudget],
    now_ns: int,
    uniform: Callable[[], float],
) -> Again | Stop:
    """Decide about another attempt, and take it out of the user's and the upstream's budget."""
    stop = worth_retrying(config, failure, attempts)
    if stop is not None:
        return stop
    of_user, of_upstream = budgets
    if not of_user.has(now_ns):
        return Stop.USER_BUDGET_SPENT
    if not of_upstream.has(now_ns):
        return Stop.UPSTREAM_BUDGET_SPENT
    of_user.take()
    of_upstream.take()
    wait_ns = (failure.retry_after_ns or 0) + backoff_ns(config, attempts, uniform)
    paid = failure.status in PAID_TWICE if failure.status is not None else failure.sent
    return Again(wait_ns, maybe_paid_twice=paid)
