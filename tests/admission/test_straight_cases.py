"""O1, O5: which calls go the straight way and which do not, one by one."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import pytest

from taximeter.admission import (
    Adaptive,
    Admission,
    Again,
    Breaker,
    Budget,
    Limits,
    Spent,
    Ticket,
    Tier,
    Upstream,
    User,
)
from tests.admission.graph import all_of
from tests.admission.rig import LateStore, Rig


def enter(rig: Rig) -> Ticket | None:
    """Let a call like the rig's go the straight way."""
    plan = rig.admission.plan("up", "", "u", "", "", "", False, "")
    return rig.admission.straight.enter(plan, 10, 10, rig.now_ns)


def used(upstream: Upstream | None = None, **policy: object) -> Rig:
    """Give an admission that one call has gone through."""
    rig = Rig(upstream, **policy)
    ticket = rig.go()
    rig.hear(ticket, 200)
    rig.settle(ticket)
    return rig


def elsewhere() -> Rig:
    """The store is not in this process."""
    rig = used()
    late = LateStore(random.Random(1))
    rig.admission = Admission(rig.admission.policy, random.Random(1).random, late)
    rig.arrive()
    late.flush(rig.admission, rig.now_ns)
    return rig


def closed() -> Rig:
    """This process is short of memory."""
    rig = used()
    rig.admission.read_pressure({"memory": 0.99}, rig.now_ns)
    return rig


def waited_for() -> Rig:
    """Somebody waits, for a limit that is that one's own."""
    rig = used(tiers={"default": Tier(limits=Limits(concurrency=1))})
    rig.go("v")
    rig.wait("v")
    return rig


def tripped(seconds: float = 0.0) -> Rig:
    """The breaker has opened so long ago; it is open for one second to one and a half."""
    breaker = Breaker(calls_min=1, failure_ratio=0.3, open_seconds=1)
    rig = used(Upstream(adaptive=None, breaker=breaker))
    rig.hear(rig.go(), 500, replayable=False)
    rig.tick(seconds)
    return rig


def half_open() -> Rig:
    """The breaker tries one call."""
    rig = tripped(2)
    rig.go("v")
    return rig


def held(seconds: float = 0.0) -> Rig:
    """The upstream has asked so long ago, with two calls under way, to wait for a second."""
    rig = used()
    tickets = rig.go(), rig.go()
    rig.hear(tickets[0], 429, headers={"retry-after": "1"}, replayable=False)
    rig.tick(seconds)
    return rig


def told(remaining: int = 0) -> Rig:
    """The upstream has said that so many requests are left."""
    rig = used()
    headers = {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": str(remaining),
        "x-ratelimit-reset-requests": "60s",
    }
    rig.hear(rig.go(), 200, headers=headers)
    return rig


def full(begun: bool = False, **policy: object) -> Rig:
    """Three are at an upstream that is thought to take one; their answers may have begun."""
    rig = used(Upstream(adaptive=Adaptive(initial=3, most=40)), **policy)
    for ticket in [rig.go(), rig.go(), rig.go()]:
        if begun:
            rig.hear(ticket, 200)
    (gate,) = rig.admission.gates().values()
    assert gate.adaptive is not None
    gate.adaptive.limit = 1
    return rig


def limited(limits: Limits) -> Rig:
    """One call is under way, and its user may have so much."""
    rig = used(tiers={"default": Tier(limits=limits)})
    rig.go()
    return rig


KEPT: Final[dict[str, Callable[[], Rig]]] = {
    "no route yet": Rig,
    "a store elsewhere": elsewhere,
    "a budget": lambda: used(tiers={"default": Tier(budgets=(Budget(tokens=10**9),))}),
    "a bound on the input": lambda: used(tiers={"default": Tier(input_tokens_max=99)}),
    "a bound on the output": lambda: used(tiers={"default": Tier(output_tokens_max=99)}),
    "no memory left": closed,
    "somebody waits": waited_for,
    "an open breaker": tripped,
    "an open breaker whose time is over": lambda: tripped(2),
    "a breaker that tries": half_open,
    "a door that is held": held,
    "a door that opens by and by": lambda: held(1.5),
    "a ceiling": told,
    "a full gate": full,
    "a full gate that may be stretched": lambda: full(begun=True),
    "a full gate that may be stretched, and no slot": lambda: full(
        begun=True, tiers={"default": Tier(limits=Limits(concurrency=3))}
    ),
    "no slot": lambda: limited(Limits(concurrency=1)),
    "no slot at all": lambda: used_by_another(Limits(concurrency=0)),
    "too many requests": lambda: limited(Limits(requests_per_minute=2, tokens_per_minute=10**6)),
    "too many tokens": lambda: limited(Limits(requests_per_minute=99, tokens_per_minute=50)),
    "too many tokens for ever": lambda: used_by_another(Limits(tokens_per_minute=6)),
}


def used_by_another(limits: Limits) -> Rig:
    """A call of a user without such limits has gone through."""
    gold = {"default": Tier(limits=limits), "gold": Tier()}
    rig = Rig(tiers=gold, users={"v": User("gold")})
    ticket = rig.go("v")
    rig.hear(ticket, 200)
    rig.settle(ticket)
    return rig


@pytest.mark.parametrize("make", KEPT.values(), ids=KEPT.keys())
def test_o5_a_call_that_something_keeps_is_left_as_it_was(make: Callable[[], Rig]) -> None:
    """O1, O5: where anything is to be decided `enter` gives no ticket and has taken nothing: the
    call arrives as if it had not been asked for, and passes nobody who waits.
    """
    usual, other = make(), make()
    before = all_of(other.admission)
    assert enter(other) is None
    assert all_of(other.admission) == before
    assert all_of(usual.arrive()) == all_of(other.arrive())
    assert all_of(usual.admission) == all_of(other.admission)


def roomy() -> Rig:
    """There is room in every limit, the breaker is closed, and the process is just busy."""
    limits = Limits(concurrency=2, requests_per_minute=9, tokens_per_minute=10**6)
    rig = used(Upstream(limits=limits), tiers={"default": Tier(limits=limits)})
    rig.admission.read_pressure({"memory": 0.85}, rig.now_ns)
    return rig


def recovered() -> Rig:
    """The breaker has opened, and has closed again."""
    rig = tripped(2)
    for _ in range(2):
        ticket = rig.go()
        rig.hear(ticket, 200)
        rig.settle(ticket)
    return rig


def away() -> Rig:
    """One call is between two attempts, and one is at the upstream."""
    rig = used(Upstream(adaptive=Adaptive(initial=9)))
    rig.hear(rig.go(), 500)
    rig.go()
    return rig


def opening() -> Rig:
    """The upstream has asked to wait; three calls may be under way by now, and one is."""
    rig = used()
    tickets = [rig.go() for _ in range(6)]
    rig.hear(tickets[0], 429, headers={"retry-after": "1"}, replayable=False)
    for ticket in tickets[1:]:
        rig.settle(ticket)
    rig.tick(1.5)
    return rig


GOING: Final[dict[str, Callable[[], Rig]]] = {
    "no limits": used,
    "limits with room": roomy,
    "a breaker that has closed again": recovered,
    "a call between two attempts": away,
    "a door that opens by and by": opening,
    "a ceiling with room": lambda: told(remaining=5),
}


@pytest.mark.parametrize("make", GOING.values(), ids=GOING.keys())
def test_o5_a_call_that_nothing_keeps_goes_straight(make: Callable[[], Rig]) -> None:
    """O5: what has room keeps no call, and has all that it took back when it has ended."""
    usual, other = make(), make()
    ticket = enter(other)
    assert ticket is not None
    twin = usual.go()
    assert all_of(other.admission, ticket) == all_of(usual.admission, twin)
    for each in (usual, other):
        each.tick(0.02)
    assert other.admission.straight.leave(ticket, 15, 5, other.now_ns, other.now_ns)
    usual.hear(twin, 200)
    assert usual.settle(twin, Spent(tokens=15, output_tokens=5)) == []
    assert all_of(other.admission, ticket) == all_of(usual.admission, twin)


@pytest.mark.parametrize("make", GOING.values(), ids=GOING.keys())
def test_o5_an_answer_that_takes_its_time_is_heard_straight(make: Callable[[], Rig]) -> None:
    """O5: told to `hear`, the head of a good answer leaves every count as `heard` leaves it, once;
    and so does the end of its call.
    """
    usual, other = make(), make()
    ticket = enter(other)
    assert ticket is not None
    twin = usual.go()
    for each in (usual, other):
        each.tick(0.02)
    assert other.admission.straight.hear(ticket, other.now_ns)
    usual.hear(twin, 200)
    before = all_of(other.admission, ticket)
    assert before == all_of(usual.admission, twin)
    assert not other.admission.straight.hear(ticket, other.now_ns)
    assert not other.admission.straight.leave(ticket, 15, 5, other.now_ns, other.now_ns)
    assert all_of(other.admission, ticket) == before
    assert other.admission.straight.end(ticket, 15, 5, other.now_ns)
    assert usual.settle(twin, Spent(tokens=15, output_tokens=5)) == []
    before = all_of(other.admission, ticket)
    assert before == all_of(usual.admission, twin)
    assert not other.admission.straight.end(ticket, 15, 5, other.now_ns)
    assert all_of(other.admission, ticket) == before


def test_o5_a_call_without_an_answer_does_not_end_straight() -> None:
    """O5: `end` does nothing for a call that waits, or has had no good answer, or tries again."""
    rig = used(Upstream(limits=Limits(concurrency=1)))
    ticket = rig.go()
    waiting = rig.wait("v")
    before = all_of(rig.admission, ticket, waiting)
    for each in (ticket, waiting):
        assert not rig.admission.straight.end(each, 0, None, rig.now_ns)
    assert all_of(rig.admission, ticket, waiting) == before
    rig = used()
    ticket = rig.go()
    assert isinstance(rig.hear(ticket, 500), Again)
    before = all_of(rig.admission, ticket)
    assert not rig.admission.straight.end(ticket, 0, None, rig.now_ns)
    assert all_of(rig.admission, ticket) == before


@pytest.mark.parametrize("is_heard", [False, True])
def test_o5_a_straight_call_gives_back_once(is_heard: bool) -> None:
    """O5: `leave` does nothing for a call that has ended, or whose answer was told to `heard`."""
    rig = roomy()
    ticket = enter(rig)
    assert ticket is not None
    if is_heard:
        rig.hear(ticket, 200)
    else:
        assert rig.admission.straight.leave(ticket, 20, 10, rig.now_ns, rig.now_ns)
    before = all_of(rig.admission, ticket)
    assert not rig.admission.straight.leave(ticket, 20, 10, rig.now_ns, rig.now_ns)
    assert all_of(rig.admission, ticket) == before
    rig.settle(ticket)
    assert rig.admission.counters.settled == 2


@pytest.mark.parametrize("where", ["up", "another"])
def test_o5_what_a_straight_call_gives_back_is_for_those_who_wait(where: str) -> None:
    """O5: where calls wait, at whichever upstream, `leave` has done nothing: the call's end is told
    as any other's, and lets the next one go.
    """
    shared = Tier(limits_shared=Limits(concurrency=1))
    rig = used(tiers={"default": shared})
    ticket = enter(rig)
    assert ticket is not None
    waiting = rig.wait("v", upstream=where)
    before = all_of(rig.admission, ticket)
    assert not rig.admission.straight.leave(ticket, 20, 10, rig.now_ns, rig.now_ns)
    assert not rig.admission.straight.hear(ticket, rig.now_ns)
    assert all_of(rig.admission, ticket) == before
    rig.hear(ticket, 200)
    assert rig.settle(ticket) == [waiting]
