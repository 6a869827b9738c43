"""How the admission of a relay stands, put into a picture. Pure."""

from __future__ import annotations

from taximeter.live import AdmissionState, BudgetState
from taximeter.metrics import _admitting as families
from taximeter.metrics._exposition import Picture
from taximeter.metrics._names import shown

STATES = ("closed", "half_open", "open")
"""All states of a breaker: each has a series, whichever it is in."""


def draw_admission(picture: Picture, process: str, state: AdmissionState) -> None:
    """Put in what one relay tells of its admission."""
    for upstream, queue in state.queues.items():
        for family, value in (
            (families.QUEUE_DEPTH, queue.waiting),
            (families.QUEUE_LIMIT, queue.size),
            (families.QUEUE_OLDEST, queue.oldest_seconds),
            (families.SLOTS_IN_USE, queue.slots_in_use),
            (families.IN_FLIGHT_LIMIT, queue.slots),
            (families.RETRY_BUDGET_RATIO, queue.retry_budget_ratio),
            (families.HOLDS, queue.holds),
        ):
            picture.set(family, value, process, upstream)
        for scope, count in queue.retries_refused.items():
            picture.set(families.RETRIES_REFUSED, count, process, upstream, scope)
    for tier, calls in state.tiers.items():
        picture.set(families.TIER_IN_FLIGHT, calls, process, tier)
    for breaker in state.breakers:
        labels = (process, breaker.upstream, shown(breaker.model))
        for each in STATES:
            picture.set(families.BREAKER_STATE, int(each == breaker.state), *labels, each)
            picture.set(families.BREAKER_MOVES, breaker.moves.get(each, 0), *labels, each)
    for budget in state.budgets:
        _draw_budget(picture, process, budget)
    picture.set(families.PRESSURE, state.pressure, process)
    for table, count in state.overflowed.items():
        picture.set(families.OVERFLOWED, count, process, table)
    if state.shared is not None:
        picture.set(families.SHARED_UP, int(state.shared.is_up), process)
        picture.set(families.SHARED_OUTAGES, state.shared.outages, process)
        picture.set(families.SHARED_LOCAL, state.shared.decided_locally, process)
        picture.set(families.SHARED_LOST, state.shared.bookings_lost, process)


def _draw_budget(picture: Picture, process: str, budget: BudgetState) -> None:
    labels = (process, budget.scope, shown(budget.holder), budget.per)
    if budget.of_tokens:
        unit = "tokens"
        limit, spent, reserved = (
            families.BUDGET_LIMIT_TOKENS,
            families.BUDGET_SPENT_TOKENS,
            families.BUDGET_RESERVED_TOKENS,
        )
    else:
        unit = "usd"
        limit, spent, reserved = (
            families.BUDGET_LIMIT_USD,
            families.BUDGET_SPENT_USD,
            families.BUDGET_RESERVED_USD,
        )
    picture.set(limit, budget.limit, *labels)
    picture.set(spent, budget.spent, *labels)
    picture.set(reserved, budget.reserved, *labels)
    picture.set(families.BUDGET_REFUSALS, budget.refused, *labels, unit)
    picture.set(families.BUDGET_SECONDS, budget.seconds_left, *labels, unit)
