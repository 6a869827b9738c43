"""O1, O2, O3, O4 and the found limit, in virtual time: the code that serves, users in numbers.

A failing case names its seed; the same seed gives the same run.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import mean

import pytest

from taximeter.admission import (
    Adaptive,
    Breaker,
    Budget,
    Limits,
    Policy,
    Queue,
    Retry,
    Tier,
    Upstream,
    User,
)
from taximeter.admission.simulation import Load, Outage, Report, Scenario, Server, simulate

SLOTS = 16
SERVER = Server(capacity=SLOTS)
SERVICE_SECONDS = 3.3
"""0.3 s to the head and 300 tokens at 100 a second."""
CALLS_PER_SECOND = SLOTS / SERVICE_SECONDS
POLICY = Policy(upstreams={"sim": Upstream(limits=Limits(concurrency=SLOTS))})


def crowd(count: int, load: float, **more: object) -> tuple[Load, ...]:
    """Give users that offer `load` times what the server can do."""
    each = CALLS_PER_SECOND * load / count
    return tuple(Load(f"u{number}", each, **more) for number in range(count))  # type: ignore[arg-type]


def waits(report: Report, users: str) -> list[float]:
    """Give the waits of the users whose names begin so, in order."""
    found = [
        wait
        for name, user in report.users.items()
        if name.startswith(users)
        for wait in user.wait_seconds
    ]
    return sorted(found)


@pytest.mark.parametrize("seed", range(3))
def test_o1_a_neighbour_at_a_hundred_times_the_rate_costs_one_service_time_at_most(
    seed: int,
) -> None:
    """O1: the others' p99 wait goes up by no more than one service time, none of them is refused,
    and the server has as much to do as it can.
    """
    polite = tuple(Load(f"p{number}", 0.5) for number in range(4))
    quiet = simulate(Scenario(polite, POLICY, SERVER, seconds=200, seed=seed))
    noisy = simulate(
        Scenario((*polite, Load("noisy", 50.0)), POLICY, SERVER, seconds=200, seed=seed)
    )
    before, after = waits(quiet, "p"), waits(noisy, "p")
    assert after[int(len(after) * 0.99)] - before[int(len(before) * 0.99)] <= SERVICE_SECONDS
    assert all(not user.refused for name, user in noisy.users.items() if name != "noisy")
    assert noisy.completed / 200 >= 0.9 * CALLS_PER_SECOND


def test_o1_users_who_ask_for_more_than_there_is_get_equal_shares_of_tokens() -> None:
    """O1: Jain's index of tokens is near 1, though calls of some are ten times as long."""
    loads = tuple(
        Load(f"u{number}", 2.0, output_tokens=(60, 600)[number % 2]) for number in range(6)
    )
    report = simulate(Scenario(loads, POLICY, SERVER, seconds=300))
    fairness = report.jain()
    assert fairness is not None
    assert fairness >= 0.99


def test_o1_shares_follow_the_tiers_weights() -> None:
    """O1: weight 4 gets four times the tokens of weight 1 while both ask for more."""
    policy = replace(
        POLICY,
        tiers={"gold": Tier(weight=4), "free": Tier(weight=1)},
        users={"g0": User("gold"), "g1": User("gold"), "f0": User("free"), "f1": User("free")},
    )
    loads = tuple(Load(user, 4.0) for user in policy.users)
    report = simulate(Scenario(loads, policy, SERVER, seconds=300))
    fairness = report.jain({"g0": 4, "g1": 4, "f0": 1, "f1": 1})
    assert fairness is not None
    assert fairness >= 0.99


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("count", [1, 20, 500])
def test_o2_five_times_overload_keeps_goodput(count: int, seed: int) -> None:
    """O2: within 10 % of the peak, be it one user or five hundred; waits stay within the bound,
    and most refusals are told at once.
    """
    peak = simulate(Scenario(crowd(count, 1.2), POLICY, SERVER, seconds=200, seed=seed))
    over = simulate(Scenario(crowd(count, 5), POLICY, SERVER, seconds=200, seed=seed))
    assert over.goodput_tokens_per_second >= 0.9 * peak.goodput_tokens_per_second
    assert waits(over, "u")[-1] <= 30
    told = sorted(wait for user in over.users.values() for wait in user.refusal_seconds)
    assert max(told) <= 30
    assert told[int(0.8 * len(told))] <= 0.010


def test_o2_impatient_clients_are_served_or_told_not_left() -> None:
    """O2: clients that wait 5 s at most: the server's time goes to calls that still matter."""
    loads = crowd(20, 5, patience_seconds=5.0)
    report = simulate(Scenario(loads, POLICY, SERVER, seconds=200))
    assert report.completed / 200 >= 0.9 * CALLS_PER_SECOND
    assert waits(report, "u")[-1] <= 5


def test_o2_a_small_queue_drops_from_the_front_and_keeps_waits_short() -> None:
    """O2: at 5 x overload a queue of 50 gives waits of some 50 arrivals, not of 50 services."""
    upstream = Upstream(limits=Limits(concurrency=SLOTS), queue=Queue(size=50))
    policy = Policy(upstreams={"sim": upstream})
    report = simulate(Scenario(crowd(20, 5), policy, SERVER, seconds=200))
    assert report.completed / 200 >= 0.9 * CALLS_PER_SECOND
    found = waits(report, "u")
    assert found[len(found) // 2] <= 1.5 * 50 / (5 * CALLS_PER_SECOND)


def test_o3_at_a_dead_upstream_attempts_stay_within_the_budget() -> None:
    """O3: everything fails: attempts <= (1 + ratio) x calls + floor, a minute's floor a minute."""
    upstream = Upstream(adaptive=None, breaker=None, retry=Retry(budget_ratio=0.2, budget_floor=10))
    server = Server(capacity=10_000, outages=(Outage(0, 1e9, 500),))
    for seed in range(5):
        report = simulate(
            Scenario(
                crowd(10, 4), Policy(upstreams={"sim": upstream}), server, seconds=60, seed=seed
            )
        )
        calls = report.attempts - report.retries
        assert calls > 500
        assert report.attempts <= 1.2 * calls + 10 * (1 + 1), seed
        assert report.retries >= 0.19 * calls, "the budget is there to be used"


def test_o4_a_flapping_upstream_sees_no_thundering_return() -> None:
    """O4: it opens; while it is down little is sent; when it is back, probes come first and the
    crowd behind them is no more than the usual rate.
    """
    breaker = Breaker(open_seconds=5, open_seconds_max=10)
    upstream = Upstream(adaptive=None, breaker=breaker, limits=Limits(concurrency=SLOTS))
    server = replace(SERVER, outages=(Outage(20, 60, None),))
    report = simulate(
        Scenario(crowd(10, 0.8), Policy(upstreams={"sim": upstream}), server, seconds=120)
    )
    by_second = report.arrivals_by_second
    assert report.breaker_opened >= 3
    down = [by_second[second] for second in range(30, 60)]
    assert sum(down) <= 15
    back = next(second for second in range(60, 120) if by_second[second] > 2)
    assert back <= 80
    assert max(by_second[second] for second in range(60, 120)) <= 3 * CALLS_PER_SECOND
    served = sum(by_second[second] for second in range(90, 120))
    assert served >= 0.6 * 30 * CALLS_PER_SECOND


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("full", ["queue", "refuse"])
@pytest.mark.parametrize("capacity", [16, 64])
def test_the_limit_found_is_the_servers_capacity(capacity: int, full: str, seed: int) -> None:
    """Adaptive concurrency: within 10 % of the places on average, whether the server lets calls
    wait or refuses them; and nine tenths of the best goodput.
    """
    server = Server(capacity=capacity, full=full)  # type: ignore[arg-type]
    rate = 1.5 * capacity / SERVICE_SECONDS
    loads = tuple(Load(f"u{number}", rate / 10) for number in range(10))
    report = simulate(Scenario(loads, server=server, seconds=500, settle_seconds=250, seed=seed))
    found = mean(limit for second, limit in report.limits if second >= 250)
    assert 0.9 * capacity <= found <= 1.1 * capacity + 1, seed
    assert report.goodput_tokens_per_second >= 0.9 * capacity / SERVICE_SECONDS * 800


def test_the_limit_found_follows_a_capacity_that_changes() -> None:
    """Half of the places go: the limit is halved within minutes, and the server is not flooded."""
    server = Server(capacity=40, capacity_later=20, capacity_changes_at=250)
    loads = tuple(Load(f"u{number}", 2.0) for number in range(10))
    report = simulate(Scenario(loads, server=server, seconds=600))
    limits = dict(report.limits)
    assert 36 <= mean(limits[float(second)] for second in range(200, 250)) <= 45
    assert 18 <= mean(limits[float(second)] for second in range(500, 600)) <= 24


@pytest.mark.parametrize("first", [20, 100])
@pytest.mark.parametrize("capacity", [8, 20, 64])
def test_a_server_that_refuses_is_used_and_not_tried_over_and_over(
    capacity: int, first: int
) -> None:
    """Wherever the search begins: after seconds, nine tenths of capacity and more, hardly an
    attempt above one a call, and no client sees a 429.
    """
    server = Server(capacity, first_byte_seconds=0.2, full="refuse")
    policy = Policy(upstreams={"sim": Upstream(adaptive=Adaptive(initial=first))})
    loads = tuple(
        Load(f"u{number}", capacity / 20, output_tokens=80, output_tokens_max=160)
        for number in range(40)
    )
    report = simulate(Scenario(loads, policy, server, seconds=65, settle_seconds=5))
    assert report.completed / report.seconds >= 0.9 * capacity
    assert report.retry_amplification is not None
    assert report.retry_amplification <= 1.05
    assert sum(user.failed for user in report.users.values()) == 0


def test_errors_that_do_not_come_of_load_lower_nothing_much() -> None:
    """An API that answers one call in ten with 503, however few come, is not throttled for it."""
    server = Server(20, first_byte_seconds=0.2, outages=(Outage(0, 120, share=0.1),))
    loads = tuple(
        Load(f"u{number}", 1.0, output_tokens=80, output_tokens_max=160) for number in range(40)
    )
    report = simulate(Scenario(loads, server=server, seconds=120))
    assert report.completed / 120 >= 0.6 * 20


def test_what_an_outage_took_off_the_limit_comes_back_with_it() -> None:
    """Half a minute after all calls were refused, most of the places are in use again."""
    server = Server(20, first_byte_seconds=0.2, outages=(Outage(20, 40, status=429),))
    loads = tuple(
        Load(f"u{number}", 1.0, output_tokens=80, output_tokens_max=160) for number in range(40)
    )
    report = simulate(Scenario(loads, server=server, seconds=120))
    in_flight = dict(report.in_flight)
    assert min(in_flight[float(second)] for second in range(30, 40)) <= 5
    assert mean(in_flight[float(second)] for second in range(70, 120)) >= 16


def test_a_minute_limit_of_the_upstream_is_found_from_its_headers() -> None:
    """No limit of ours, one of theirs: what it tells keeps us from running into it."""
    server = Server(capacity=1000, requests_per_minute=120)
    loads = tuple(Load(f"u{number}", 0.5, output_tokens=50) for number in range(10))
    report = simulate(Scenario(loads, server=server, seconds=300))
    assert report.completed >= 0.9 * 120 * 5
    assert report.server_refusals <= 0.05 * report.attempts


def test_budgets_end_what_users_may_spend() -> None:
    """O5: with every call priced and capped, nobody spends more than the budget, to the pico."""
    limit = 50 * 10**9
    policy = replace(POLICY, tiers={"default": Tier(budgets=(Budget(pico=limit),))})
    report = simulate(Scenario(crowd(4, 2), policy, SERVER, seconds=200))
    for user in report.users.values():
        assert 0.8 * limit <= user.spent_pico <= limit
        assert user.refused["budget_exceeded"] > 0


def test_the_same_seed_gives_the_same_run() -> None:
    """And another gives another."""
    scenario = Scenario(crowd(5, 2), POLICY, SERVER, seconds=60)
    assert simulate(scenario) == simulate(scenario)
    assert simulate(scenario) != simulate(replace(scenario, seed=2))
