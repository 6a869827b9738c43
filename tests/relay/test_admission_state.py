"""How a worker's admission stands, once a second: what whoever watches is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from taximeter.admission import (
    Admission,
    Answer,
    Breaker,
    Budget,
    Go,
    Limits,
    Policy,
    PurseWatch,
    Queue,
    Request,
    Retry,
    Spent,
    Tier,
    Upstream,
    Wait,
    resolve,
)
from taximeter.live import AdmissionState
from taximeter.relay._admission_state import BREAKERS_MAX, admission_state
from taximeter.shared_state import RedisStore

SECOND = 1_000_000_000
WALL = 1_800_000_000 * SECOND


def make(**upstream: Any) -> Admission:
    """Make an admission of one upstream, under a tier with budgets of a dollar and of tokens."""
    values: dict[str, Any] = {"limits": Limits(concurrency=2), "queue": Queue(size=5)}
    tier = Tier(budgets=(Budget(pico=10**12, per="day"), Budget(tokens=1000, per="hour")))
    return Admission(
        Policy(upstreams={"up": Upstream(**{**values, **upstream})}, tiers={"default": tier}),
        lambda: 0.5,
    )


def request(user: str = "alice", **more: Any) -> Request:
    """Make a call of ten tokens, at most, that costs a tenth of a dollar."""
    values: dict[str, Any] = {
        "upstream": "up", "model": "m", "user": user, "input_tokens": 5, "output_tokens_max": 5,
        "input_pico": 10**10, "output_pico": 10**10,
    }  # fmt: skip
    return Request(**{**values, **more})


def state(
    admission: Admission, now_ns: int = SECOND, *, tiers: Iterator[str] | tuple[str, ...] = ()
) -> AdmissionState:
    """Give how it stands."""
    return admission_state(admission, PurseWatch(), tiers, now_ns, WALL + now_ns)


def test_a_queue_tells_how_long_it_is_and_since_when() -> None:
    """Two are let go, two wait: the head has waited since it came."""
    admission = make()
    verdicts = [admission.arrive(request(f"u{at}"), at * SECOND, WALL) for at in range(4)]
    assert [type(each) for each in verdicts] == [Go, Go, Wait, Wait]
    queue = state(admission, 7 * SECOND, tiers=("default", "default")).queues["up"]
    assert (queue.waiting, queue.size, queue.oldest_seconds) == (2, 5, 5.0)
    assert (queue.slots_in_use, queue.slots) == (2, 2)
    for each in verdicts[:2]:
        assert isinstance(each, Go)
        admission.settle(each.ticket, Spent(tokens=1, pico=1), 8 * SECOND)
    queue = state(admission, 9 * SECOND).queues["up"]
    assert (queue.waiting, queue.oldest_seconds, queue.slots_in_use) == (0, 0.0, 2)


def test_calls_are_told_by_tier() -> None:
    """Each call that was let go counts for its tier."""
    assert state(make(), tiers=("free", "gold", "free")).tiers == {"free": 2, "gold": 1}


def test_a_limit_that_is_found_is_that_of_the_credentials_in_use() -> None:
    """A credential that is idle adds nothing to what may be let go."""
    admission = make(limits=Limits())
    first = admission.arrive(request(credential="a"), 0, WALL)
    assert isinstance(first, Go)
    one = state(admission).queues["up"].slots
    assert one is not None
    admission.arrive(request(credential="b"), 0, WALL)
    assert state(admission).queues["up"].slots == 2 * one
    admission.settle(first.ticket, Spent(tokens=1, pico=1), 1)
    assert state(admission).queues["up"].slots == one


def test_an_upstream_without_a_limit_has_none() -> None:
    """Missing is not 0."""
    admission = make(limits=Limits(), adaptive=None)
    admission.arrive(request(), 0, WALL)
    assert state(admission).queues["up"].slots is None


def test_a_breaker_tells_its_state_and_how_it_came_there() -> None:
    """Closed with nothing behind it; after failures open, once."""
    admission = make(breaker=Breaker(calls_min=1, failure_ratio=1.0), retry=Retry(attempts_max=1))
    go = admission.arrive(request(), 0, WALL)
    assert isinstance(go, Go)
    (before,) = state(admission).breakers
    assert (before.upstream, before.model, before.state) == ("up", "m", "closed")
    assert before.moves == {"closed": 0, "open": 0, "half_open": 0}
    admission.heard(go.ticket, Answer(status=500), 1, WALL)
    (after,) = state(admission).breakers
    assert (after.state, after.moves["open"]) == ("open", 1)


def test_breakers_are_bounded_and_those_in_trouble_are_told_of() -> None:
    """H8: however many models are made up, so many breakers are shown, and the open one is."""
    admission = make(
        limits=Limits(),
        adaptive=None,
        breaker=Breaker(calls_min=1, failure_ratio=1.0),
        retry=Retry(attempts_max=1),
    )
    for number in range(BREAKERS_MAX + 50):
        go = admission.arrive(request(f"u{number}", model=f"m{number}"), 0, WALL)
        assert isinstance(go, Go)
        status = 500 if number == BREAKERS_MAX + 40 else 200
        admission.heard(go.ticket, Answer(status=status), 1, WALL)
    shown = state(admission).breakers
    assert len(shown) == BREAKERS_MAX
    assert [each.model for each in shown if each.state == "open"] == [f"m{BREAKERS_MAX + 40}"]


def test_a_retry_budget_tells_what_is_left_and_what_was_refused() -> None:
    """Half of it taken is half left; at nothing, each retry that is not made is counted."""
    admission = make(
        limits=Limits(), adaptive=None, breaker=None, retry=Retry(budget_ratio=0.0, budget_floor=2)
    )
    refused = []
    for number in range(3):
        go = admission.arrive(request(f"u{number}"), 0, WALL)
        assert isinstance(go, Go)
        refused.append(admission.heard(go.ticket, Answer(status=503), 0, WALL).again is None)
        assert state(admission, 0).queues["up"].retry_budget_ratio == max(0.0, 1 - (number + 1) / 2)
    assert refused == [False, False, True]
    assert state(admission, 0).queues["up"].retries_refused == {"user": 0, "upstream": 1}


def test_an_answer_that_holds_calls_back_is_counted() -> None:
    """A 429 with a time to wait is a hold of its upstream."""
    admission = make()
    go = admission.arrive(request(), 0, WALL)
    assert isinstance(go, Go)
    assert state(admission).queues["up"].holds == 0
    admission.heard(go.ticket, Answer(status=429, headers={"retry-after": "2"}), 1, WALL)
    assert state(admission).queues["up"].holds == 1


def test_a_budget_tells_spent_reserved_and_refused() -> None:
    """A call under way is reserved, an ended one is spent, one that does not fit is refused."""
    admission = make()
    go = admission.arrive(request(), 0, WALL)
    assert isinstance(go, Go)
    by_unit = {each.of_tokens: each for each in state(admission).budgets}
    money, tokens = by_unit[False], by_unit[True]
    assert (money.scope, money.holder, money.per) == ("user", "alice", "day")
    assert (money.limit, money.spent, money.reserved) == (10**12, 0, 10**11)
    assert (tokens.per, tokens.limit, tokens.reserved) == ("hour", 1000, 10)
    assert 0 < tokens.seconds_left <= 3600 < money.seconds_left <= 86400
    admission.settle(go.ticket, Spent(tokens=7, pico=6 * 10**10), 1)
    admission.arrive(request(input_tokens=990), 2, WALL)
    money = next(each for each in state(admission).budgets if not each.of_tokens)
    assert (money.spent, money.reserved, money.refused) == (6 * 10**10, 0, 1)


def test_a_budget_that_is_kept_in_redis_is_told_of_as_it_was_heard() -> None:
    """What all workers have spent is shown; a budget that nothing was heard of is not."""
    policy = Policy(tiers={"default": Tier(budgets=(Budget(pico=10**12, per="day"),))})
    store = RedisStore(0.5)
    admission = Admission(policy, lambda: 0.5, store)
    assert state(admission).budgets == []
    (purse,) = resolve(policy, request()).purses
    store.book.hear(purse, store.book.standing(purse, SECOND, WALL + SECOND).start_ns, 700)
    (money,) = state(admission).budgets
    assert (money.scope, money.holder, money.limit, money.spent) == ("user", "alice", 10**12, 700)


def test_pressure_is_told_by_its_level() -> None:
    """Nothing, lean, closed: 0, 1, 2."""
    admission = make()
    assert state(admission).pressure == 0
    admission.read_pressure({"memory": 0.9}, 0)
    assert state(admission).pressure == 1
    admission.read_pressure({"memory": 0.99}, 1)
    assert state(admission).pressure == 2
