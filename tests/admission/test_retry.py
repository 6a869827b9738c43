"""O3: what is tried again, when, and how much of that there may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.admission._model import RETRY_STATUSES, Retry
from taximeter.admission._retry import (
    NO_MONEY,
    SAVED_MAX,
    Again,
    Failure,
    RetryBudget,
    Stop,
    again,
    backoff_ns,
    worth_retrying,
)

SECOND_NS = 10**9
MINUTE_NS = 60 * SECOND_NS
CONFIG = Retry()


@pytest.mark.parametrize("status", range(400, 600))
def test_o3_the_statuses_that_are_tried_again_are_the_stated_ones(status: int) -> None:
    """O3: 408, 429, 500, 502, 503, 504 and 529, and no other."""
    stop = worth_retrying(CONFIG, Failure(status=status), 1)
    assert (stop is None) == (status in {408, 429, 500, 502, 503, 504, 529})
    assert (stop is None) == (status in RETRY_STATUSES)


@pytest.mark.parametrize(
    ("failure", "attempts", "stop"),
    [
        (Failure(), 1, None),
        (Failure(sent=False), 2, None),
        (Failure(), 3, Stop.ATTEMPTS_SPENT),
        (Failure(status=503, passed_on=True), 1, Stop.PASSED_ON),
        (Failure(status=503, replayable=False), 1, Stop.NOT_MENDED),
        (Failure(status=503, should_retry=False), 1, Stop.NOT_MENDED),
        (Failure(should_retry=False), 1, Stop.NOT_MENDED),
        (Failure(status=409, should_retry=True), 1, None),
        (Failure(status=429, retry_after_ns=20 * SECOND_NS), 1, None),
        (Failure(status=429, retry_after_ns=20 * SECOND_NS + 1), 1, Stop.WAIT_TOO_LONG),
        *(
            (Failure(status=429, code=code, should_retry=True, retry_after_ns=0), 1, Stop.NO_MONEY)
            for code in sorted(NO_MONEY)
        ),
    ],
)
def test_o3_what_is_final_is_said_to_be_so(
    failure: Failure, attempts: int, stop: Stop | None
) -> None:
    """O3: only before the first byte; the upstream's word wins; no money is never tried again."""
    assert worth_retrying(CONFIG, failure, attempts) is stop


@given(st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_the_backoff_is_full_jitter_under_a_bound_that_doubles(
    attempts: int, chance: float
) -> None:
    """From 0 to min(0.5 x 2^n, 8) seconds."""
    bound = min(0.5 * 2 ** (attempts - 1), 8.0)
    assert backoff_ns(CONFIG, attempts, lambda: chance) == int(bound * SECOND_NS * chance)


def test_a_stated_wait_is_waited_out_in_full() -> None:
    """Retry-After, and jitter on top of it."""
    budgets = (RetryBudget(10, 0), RetryBudget(10, 0))
    failure = Failure(status=429, retry_after_ns=7 * SECOND_NS)
    decision = again(CONFIG, failure, 1, budgets, 0, lambda: 0.5)
    assert decision == Again(7 * SECOND_NS + SECOND_NS // 4)


@pytest.mark.parametrize(
    ("failure", "paid"),
    [
        (Failure(status=500), True),
        (Failure(status=504), True),
        (Failure(status=429), False),
        (Failure(status=503), False),
        (Failure(), True),
        (Failure(sent=False), False),
    ],
)
def test_a_retry_that_may_be_paid_twice_says_so(failure: Failure, paid: bool) -> None:
    """What may have reached the model is not the same as what has not."""
    budgets = (RetryBudget(10, 0), RetryBudget(10, 0))
    decision = again(CONFIG, failure, 1, budgets, 0, lambda: 0.0)
    assert isinstance(decision, Again)
    assert decision.maybe_paid_twice is paid


@given(
    st.sampled_from([0.0, 0.1, 0.2, 1.0]),
    st.integers(0, 20),
    st.lists(st.tuples(st.integers(0, 20 * SECOND_NS), st.booleans()), max_size=300),
)
def test_o3_retries_stay_within_the_budget_over_any_time(
    ratio: float, floor: int, steps: list[tuple[int, bool]]
) -> None:
    """O3: in every stretch of time, at most ratio x calls + floor x (1 + minutes) + what was
    saved; from the start, without what was saved.
    """
    budget, now_ns = RetryBudget(floor, 0), 0
    events: list[tuple[int, int, int]] = []
    for gap_ns, is_call in steps:
        now_ns += gap_ns
        if is_call:
            budget.left_micro += int(ratio * 1_000_000)
            events.append((now_ns, 1, 0))
        while budget.has(now_ns):
            budget.take()
            events.append((now_ns, 0, 1))
    for first in range(0, len(events), 7):
        calls = retries = 0
        for at_ns, call, retry in events[first:]:
            calls += call
            retries += retry
            minutes = (at_ns - (events[first][0] if first else 0)) / MINUTE_NS
            saved = SAVED_MAX if first else 0
            assert retries <= ratio * calls + floor * (1 + minutes) + saved + 1e-3


def test_o3_good_times_save_up_only_so_much() -> None:
    """O3: a day of good calls does not pay for a storm."""
    budget = RetryBudget(10, 0)
    for _ in range(10_000):
        budget.left_micro += 200_000
    taken = 0
    while budget.has(0):
        budget.take()
        taken += 1
    assert taken == 10 + SAVED_MAX


def test_one_user_cannot_use_up_what_is_there_for_all() -> None:
    """The user's budget is asked first, and a refusal takes nothing of the upstream's."""
    mine, others, upstream = RetryBudget(2, 0), RetryBudget(2, 0), RetryBudget(4, 0)
    failure = Failure(status=503)
    results = [again(CONFIG, failure, 1, (mine, upstream), 0, lambda: 0.0) for _ in range(5)]
    assert results[2:] == [Stop.USER_BUDGET_SPENT] * 3
    results = [again(CONFIG, failure, 1, (others, upstream), 0, lambda: 0.0) for _ in range(2)]
    assert all(isinstance(each, Again) for each in results)
    last = again(CONFIG, failure, 1, (RetryBudget(2, 0), upstream), 0, lambda: 0.0)
    assert last is Stop.UPSTREAM_BUDGET_SPENT


def test_a_budget_that_was_not_asked_for_long_is_as_good_as_new() -> None:
    """Memory follows who retries now."""
    budget = RetryBudget(3, 0)
    assert budget.has(0)
    budget.take()
    assert not budget.is_idle(MINUTE_NS)
    assert budget.is_idle(MINUTE_NS + 1)
