"""The facade: calls come, wait, are tried, end. O2, O3, O4, O5 and O7 where all parts meet."""

from __future__ import annotations

import gc
import random
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.admission import (
    PENDING,
    Adaptive,
    Admission,
    Admitted,
    Again,
    Answer,
    Breaker,
    Budget,
    Effect,
    Go,
    Level,
    Limits,
    MemoryStore,
    Need,
    Over,
    Pending,
    Plan,
    Policy,
    Queue,
    Reason,
    Refuse,
    Request,
    Retry,
    Short,
    Spent,
    State,
    Stop,
    Ticket,
    Tier,
    Upstream,
    User,
    Verdict,
    Wait,
)
from taximeter.admission._routes import ROUTES_MAX
from taximeter.admission._words import RETRIABLE, STATUS

SECOND_NS = 10**9
WALL_NS = 1_800_000_000 * SECOND_NS
SPENT = Spent(tokens=20, output_tokens=10, pico=20)


class Rig:
    """An admission with a clock of its own."""

    def __init__(self, upstream: Upstream | None = None, **policy: object) -> None:
        upstream = upstream or Upstream(adaptive=None)
        self.store = MemoryStore()
        self.admission = Admission(
            Policy(upstreams={"up": upstream}, **policy),  # type: ignore[arg-type]
            random.Random(1).random,
            self.store,
        )
        self.now_ns = 0

    @property
    def wall_ns(self) -> int:
        return WALL_NS + self.now_ns

    def arrive(self, user: str = "u", **more: object) -> Verdict:
        fields = {
            "upstream": "up",
            "input_tokens": 10,
            "output_tokens_max": 10,
            "input_pico": 1,
            "output_pico": 1,
        } | more
        return self.admission.arrive(
            Request(user=user, **fields),  # type: ignore[arg-type]
            self.now_ns,
            self.wall_ns,
        )

    def go(self, user: str = "u", **more: object) -> Ticket:
        verdict = self.arrive(user, **more)
        assert isinstance(verdict, Go)
        return verdict.ticket

    def wait(self, user: str = "u", **more: object) -> Ticket:
        verdict = self.arrive(user, **more)
        assert isinstance(verdict, Wait)
        return verdict.ticket

    def refuse(self, user: str = "u", **more: object) -> Refuse:
        verdict = self.arrive(user, **more)
        assert isinstance(verdict, Refuse)
        return verdict

    def hear(self, ticket: Ticket, status: int | None, **more: object) -> Again | Stop | None:
        answer = Answer(status=status, **more)  # type: ignore[arg-type]
        heard = self.admission.heard(ticket, answer, self.now_ns, self.wall_ns)
        return heard.again or heard.stop

    def settle(self, ticket: Ticket, spent: Spent = SPENT) -> list[Ticket]:
        effects = self.admission.settle(ticket, spent, self.now_ns)
        assert all(isinstance(effect, Go) for effect in effects)
        return [effect.ticket for effect in effects if effect.ticket is not None]

    def tick(self, seconds: float = 0.0) -> list[Go | Refuse]:
        self.now_ns += int(seconds * SECOND_NS)
        return self.admission.tick(self.now_ns, self.wall_ns)


def slots(count: int, **more: object) -> Upstream:
    """Give an upstream with so many slots and nothing found out."""
    return Upstream(limits=Limits(concurrency=count), **more)  # type: ignore[arg-type]


# Slots, limits, the queue ---------------------------------------------------------------------


def test_o7_a_slot_is_held_to_the_last_byte() -> None:
    """O7: ten streams on five slots: the sixth goes when the first has ended, not when its head
    is there.
    """
    rig = Rig(slots(5))
    going = [rig.go() for _ in range(5)]
    waiting = [rig.wait() for _ in range(5)]
    for ticket in going:
        assert rig.hear(ticket, 200) is None
    assert rig.tick(1) == []
    for ticket, expected in zip(going, waiting, strict=True):
        assert rig.settle(ticket) == [expected]
    for ticket in waiting:
        assert rig.settle(ticket) == []
    assert len(rig.store) == 0


def test_a_call_that_has_ended_is_freed_at_once() -> None:
    """No ring of references is left for the collector to find."""
    rig = Rig(slots(1))
    going, waiting = rig.go(), rig.wait()
    gone = [weakref.ref(going), weakref.ref(waiting)]
    gc.disable()
    try:
        assert rig.settle(going) == [waiting]
        rig.settle(waiting)
        del going, waiting
        assert [each() for each in gone] == [None, None]
    finally:
        gc.enable()


def test_a_users_limit_holds_it_up_and_nobody_else() -> None:
    """Requests a minute of one user's own: a wait for it, exact; others go on."""
    rig = Rig(tiers={"default": Tier(limits=Limits(requests_per_minute=2))})
    assert [rig.go() for _ in range(2)]
    verdict = rig.arrive()
    assert isinstance(verdict, Wait)
    assert verdict.wait_ns == 30 * SECOND_NS
    rig.go("other")
    assert rig.admission.wake_ns() == 30 * SECOND_NS
    assert [effect.ticket for effect in rig.tick(30)] == [verdict.ticket]


def test_a_models_limit_holds_up_that_model_alone() -> None:
    """A pattern's models share its limit; others do not wait for it."""
    rig = Rig(Upstream(adaptive=None, models={"big-*": Limits(concurrency=1)}))
    first = rig.go(model="big-1")
    second = rig.wait("other", model="big-2")
    rig.go("third", model="small")
    assert rig.settle(first) == [second]


def test_a_tiers_shared_limit_holds_for_all_its_users_together() -> None:
    """What all users of a tier share is one count."""
    tier = Tier(limits_shared=Limits(concurrency=1))
    rig = Rig(tiers={"free": tier}, users={"a": User("free"), "b": User("free")})
    first = rig.go("a")
    second = rig.wait("b")
    rig.go("c")
    assert rig.settle(first) == [second]


def test_a_slot_given_back_upstream_lets_go_whom_it_held_elsewhere() -> None:
    """A user's own limit spans upstreams: an end at one opens the other's queue."""
    rig = Rig(tiers={"default": Tier(limits=Limits(concurrency=1))})
    first = rig.go(upstream="up")
    second = rig.wait(upstream="elsewhere")
    assert rig.settle(first) == [second]


def test_a_user_may_have_terms_of_its_own() -> None:
    """In place of the tier's, all of them."""
    own = Tier(limits=Limits(concurrency=2), input_tokens_max=100)
    rig = Rig(tiers={"default": Tier(limits=Limits(concurrency=1))}, users={"vip": User(terms=own)})
    rig.go("vip")
    rig.go("vip")
    rig.go("plain")
    rig.wait("plain")
    assert rig.refuse("vip", input_tokens=101).reason is Reason.INPUT_TOO_LONG


def test_what_never_fits_is_refused_at_once() -> None:
    """A call larger than the bucket would wait for ever."""
    rig = Rig(Upstream(limits=Limits(tokens_per_minute=1000), adaptive=None))
    refused = rig.refuse(input_tokens=1001)
    assert (refused.reason, refused.status) == (Reason.NEVER_FITS, 429)
    assert refused.by == "upstream.tokens_per_minute"
    assert not refused.should_retry


def test_o2_a_call_that_cannot_make_its_deadline_is_refused_at_once() -> None:
    """O2: by the pace at which calls have been let go, and by its own deadline."""
    rig = Rig(slots(1, queue=Queue(size=1000, wait_seconds_max=30)))
    going = rig.go()
    for _ in range(40):
        rig.arrive()
        rig.now_ns += SECOND_NS
        (going,) = rig.settle(going)
        while rig.admission.waiting()["up"] < 10:
            rig.wait()
    # A call a second: some ten wait.
    refused = rig.refuse(wait_ns_max=5 * SECOND_NS)
    assert refused.reason is Reason.DEADLINE_UNREACHABLE
    assert refused.status == 503
    assert refused.retry_after_ns is not None
    assert 9 * SECOND_NS <= refused.retry_after_ns <= 14 * SECOND_NS
    ticket = rig.wait(wait_ns_max=20 * SECOND_NS)
    place = rig.admission.place(ticket)
    assert place is not None
    assert place.position == 11
    assert place.wait_ns == pytest.approx(11 * SECOND_NS, rel=0.2)
    assert rig.admission.place(going) is None


def test_a_call_over_its_own_limit_for_longer_than_it_can_wait_is_429() -> None:
    """The caller's own doing is told apart from a busy upstream."""
    rig = Rig(tiers={"default": Tier(limits=Limits(requests_per_minute=1))})
    rig.go()
    refused = rig.refuse()
    assert (refused.reason, refused.status) == (Reason.LIMIT_EXCEEDED, 429)
    assert refused.retry_after_ns == 60 * SECOND_NS
    assert refused.should_retry


def test_o2_a_full_queue_drops_from_the_front() -> None:
    """O2: the oldest of whoever has most waiting makes room, and is told."""
    rig = Rig(slots(1, queue=Queue(size=2)))
    rig.go()
    first, second = rig.wait("noisy"), rig.wait("noisy")
    verdict = rig.arrive("polite")
    assert isinstance(verdict, Wait)
    assert verdict.pushed_out is not None
    assert verdict.pushed_out.ticket is first
    assert verdict.pushed_out.reason is Reason.QUEUE_FULL
    assert rig.admission.waiting() == {"up": 2}
    assert rig.admission.leave(first, 0) == []
    assert rig.admission.leave(second, 0) == []


def test_without_a_queue_there_is_no_waiting() -> None:
    """Size 0: go at once or be refused."""
    rig = Rig(slots(1, queue=Queue(size=0)))
    rig.go()
    assert rig.refuse().reason is Reason.QUEUE_FULL


def test_late_calls_are_told_when_they_are_late() -> None:
    """At the deadline, which wake_ns tells."""
    rig = Rig(slots(1, queue=Queue(wait_seconds_max=10)))
    rig.go()
    late = rig.wait()
    assert rig.admission.wake_ns() == 10 * SECOND_NS
    assert rig.tick(9.999) == []
    (effect,) = rig.tick(0.001)
    assert isinstance(effect, Refuse)
    assert (effect.ticket, effect.reason) == (late, Reason.WAITED_IN_VAIN)
    assert effect.waited_ns == 10 * SECOND_NS
    assert rig.admission.wake_ns() is None


def test_who_leaves_makes_way_for_whom_it_blocked() -> None:
    """A call that waits for many tokens leaves: one that needs few goes at once."""
    rig = Rig(Upstream(limits=Limits(tokens_per_minute=1000), adaptive=None))
    rig.go(input_tokens=890)
    big = rig.wait("a", input_tokens=490)
    small = rig.wait("b", input_tokens=20)
    effects = rig.admission.leave(big, rig.now_ns)
    assert [effect.ticket for effect in effects] == [small]
    assert rig.admission.leave(big, rig.now_ns) == []


def test_o6_levels_of_pressure_act() -> None:
    """O6: lean, nobody waits; closed, nobody comes in; calls under way are kept."""
    rig = Rig(slots(1))
    going = rig.go()
    assert rig.admission.read_pressure({"memory": 0.85}, 0) is Level.LEAN
    assert rig.refuse().reason is Reason.QUEUE_FULL
    assert rig.admission.read_pressure({"memory": 0.97}, 0) is Level.CLOSED
    refused = rig.refuse()
    assert (refused.reason, refused.status, refused.by) == (Reason.OVERLOADED, 503, "memory")
    assert rig.settle(going) == []


# Context, budgets -----------------------------------------------------------------------------


def test_input_beyond_the_tiers_is_refused() -> None:
    """400, and no sense in trying again."""
    rig = Rig(tiers={"default": Tier(input_tokens_max=100)})
    rig.go(input_tokens=100)
    refused = rig.refuse(input_tokens=101)
    assert (refused.reason, refused.status) == (Reason.INPUT_TOO_LONG, 400)
    assert not refused.should_retry


@pytest.mark.parametrize(
    ("asked", "sent"), [(None, 1000), (5000, 1000), (1000, None), (10, None), (0, None)]
)
def test_output_beyond_the_tiers_is_clamped(asked: int | None, sent: int | None) -> None:
    """A cap too high is lowered, a missing one added, one within bounds left alone."""
    rig = Rig(tiers={"default": Tier(output_tokens_max=1000)})
    verdict = rig.arrive(output_tokens_max=asked)
    assert isinstance(verdict, Go)
    assert verdict.output_tokens_max == sent


def test_output_beyond_the_tiers_is_refused_where_set() -> None:
    """A cap too high is an error; a missing one is still added."""
    rig = Rig(tiers={"default": Tier(output_tokens_max=1000, output_over="refuse")})
    assert rig.refuse(output_tokens_max=1001).reason is Reason.OUTPUT_TOO_LONG
    verdict = rig.arrive(output_tokens_max=None)
    assert isinstance(verdict, Go)
    assert verdict.output_tokens_max == 1000


def test_o5_a_hard_budget_refuses_what_may_pass_it() -> None:
    """O5: worst case reserved, true cost booked, 402 that says not to retry."""
    rig = Rig(tiers={"default": Tier(budgets=(Budget(pico=50),))})
    first, _ = rig.go(), rig.go()
    refused = rig.refuse()
    assert (refused.reason, refused.status) == (Reason.BUDGET_EXCEEDED, 402)
    assert refused.by == "user.usd_per_day"
    assert not refused.should_retry
    rig.settle(first, Spent(tokens=12, output_tokens=2, pico=5))
    rig.go()
    rig.go("other")


def test_o5_budgets_stand_over_user_team_key_and_tier() -> None:
    """O5: whichever has too little refuses, and nothing is reserved of the others."""
    rig = Rig(
        tiers={"default": Tier(budgets_shared=(Budget(tokens=100),))},
        teams={"team": (Budget(pico=30),)},
        keys={"key": (Budget(pico=30, per="hour"),)},
    )
    ticket = rig.go(team="team", key="key")
    assert rig.refuse("x", team="team").by == "team.usd_per_day"
    assert rig.refuse("x", key="key").by == "key.usd_per_hour"
    assert rig.refuse("x", input_tokens=90).by == "tier.tokens_per_day"
    rig.settle(ticket)
    assert all(each.reserved == 0 for each in rig.store.book.snapshot())


def test_a_soft_budget_and_a_missing_price_are_told() -> None:
    """Let go, and marked."""
    rig = Rig(tiers={"default": Tier(budgets=(Budget(pico=5, hard=False),))})
    verdict = rig.arrive()
    assert isinstance(verdict, Go)
    assert verdict.over_budget == ("user.usd_per_day",)
    assert not verdict.unpriced
    verdict = rig.arrive(input_pico=None)
    assert isinstance(verdict, Go)
    assert verdict.unpriced


def test_a_call_that_waits_has_reserved_its_budget_and_returns_it() -> None:
    """A queue cannot hide a thousand calls from a budget; who leaves pays nothing."""
    rig = Rig(slots(1), tiers={"default": Tier(budgets=(Budget(pico=40),))})
    rig.go()
    waiting = rig.wait()
    assert rig.refuse().reason is Reason.BUDGET_EXCEEDED
    rig.admission.leave(waiting, rig.now_ns)
    rig.wait()


def test_what_is_not_known_is_booked_as_reserved() -> None:
    """No usage is not no cost; nothing sent is."""
    rig = Rig(tiers={"default": Tier(budgets=(Budget(pico=1000),))})
    rig.settle(rig.go(), Spent())
    assert [each.spent for each in rig.store.book.snapshot()] == [20]
    rig.settle(rig.go(), Spent(sent=False))
    assert [each.spent for each in rig.store.book.snapshot()] == [20]


# Attempts -------------------------------------------------------------------------------------


def test_o3_a_further_attempt_waits_for_a_place() -> None:
    """O3: refused for load, a call does not go again while as many are at the upstream as it can
    take by what is known now; it asks again, spends no attempt on it, and goes when one has ended.
    """
    rig = Rig(Upstream(adaptive=Adaptive(initial=2)))
    first, second = rig.go(), rig.go()
    rig.tick(1)
    for ticket in (first, second):
        assert isinstance(rig.hear(ticket, 429), Again)
    (gate,) = rig.admission.gates().values()
    assert gate.adaptive is not None
    assert (gate.adaptive.limit, gate.away) == (1, 2)
    assert rig.admission.resume(first, rig.now_ns) is True
    for _ in range(5):
        assert isinstance(rig.admission.resume(second, rig.now_ns), Again)
    assert second.attempts == 1
    rig.settle(first)
    assert rig.admission.resume(second, rig.now_ns) is True
    rig.settle(second)
    assert (gate.in_flight, gate.away) == (0, 0)


def test_o3_the_wait_for_a_place_ends_with_the_queues() -> None:
    """After the queue's longest wait it goes all the same: nothing waits without a bound."""
    rig = Rig(Upstream(adaptive=Adaptive(initial=2), queue=Queue(wait_seconds_max=5)))
    first, second = rig.go(), rig.go()
    for ticket in (first, second):
        assert isinstance(rig.hear(ticket, 429), Again)
    assert rig.admission.resume(first, rig.now_ns) is True
    assert isinstance(rig.admission.resume(second, rig.now_ns), Again)
    rig.tick(5)
    assert rig.admission.resume(second, rig.now_ns) is True


def test_o3_a_failure_is_tried_again_within_its_attempts() -> None:
    """O3: three attempts, each counted against requests a minute; then it is final."""
    rig = Rig(Upstream(limits=Limits(requests_per_minute=3), adaptive=None))
    ticket = rig.go()
    for _ in range(2):
        assert isinstance(rig.hear(ticket, 503), Again)
        assert rig.admission.resume(ticket, rig.now_ns)
    assert rig.hear(ticket, 503) is Stop.ATTEMPTS_SPENT
    assert rig.hear(ticket, 503) is None, "each attempt is heard once"
    rig.settle(ticket)
    rig.wait()


def test_o3_no_money_is_final_and_holds_nobody() -> None:
    """O3: one account's empty purse is not the upstream's load."""
    rig = Rig()
    headers = {"retry-after": "5", "x-should-retry": "true"}
    stop = rig.hear(rig.go(), 429, code="insufficient_quota", headers=headers)
    assert stop is Stop.NO_MONEY
    rig.go()


def test_a_429_holds_calls_of_the_same_credential_and_model() -> None:
    """Others' credentials and other models are not held; those held go when it is over."""
    rig = Rig()
    ticket = rig.go(credential="mine", model="m")
    assert isinstance(rig.hear(ticket, 429, headers={"retry-after": "5"}), Again)
    held = rig.wait(credential="mine", model="m")
    rig.go(credential="yours", model="m")
    rig.go(credential="mine", model="n")
    assert rig.admission.wake_ns() == 5 * SECOND_NS
    # One at a time, then more: the first is the call that was refused, still under way.
    assert rig.tick(5) == []
    assert rig.settle(ticket) == [held]


def test_what_the_upstream_has_left_is_heeded() -> None:
    """Remaining 0: the next call waits for the first request that comes back."""
    rig = Rig()
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "60s",
    }
    rig.hear(rig.go(), 200, headers=headers)
    waiting = rig.wait()
    assert [effect.ticket for effect in rig.tick(1)] == [waiting]


def test_o4_a_breaker_opens_for_faults_of_the_upstream_alone() -> None:
    """O4: ten bad requests open nothing; ten broken connections do, for that model."""
    rig = Rig(Upstream(adaptive=None, retry=Retry(attempts_max=1)))
    for status, expected in ((400, State.CLOSED), (429, State.CLOSED), (None, State.OPEN)):
        for _ in range(10):
            rig.hear(rig.go(), status, code="x" if status != 429 else "insufficient_quota")
        (breaker,) = rig.admission.breakers().values()
        assert breaker.state is expected
    refused = rig.refuse()
    assert (refused.reason, refused.status) == (Reason.BREAKER_OPEN, 503)
    assert refused.retry_after_ns is not None
    rig.go(model="other")


def test_o4_a_probe_whose_client_leaves_is_handed_back() -> None:
    """O4: no way to end a call leaves a breaker waiting for it."""
    config = Breaker(calls_min=1, open_seconds=1, probes=1)
    rig = Rig(slots(1, breaker=config, retry=Retry(attempts_max=1)))
    first = rig.go()
    rig.hear(first, None)
    rig.settle(first)
    rig.now_ns += 2 * SECOND_NS
    probe = rig.go()
    assert rig.refuse().reason is Reason.BREAKER_OPEN
    rig.settle(probe, Spent(sent=False))
    probe = rig.go()
    rig.hear(probe, 200)
    (breaker,) = rig.admission.breakers().values()
    assert breaker.state is State.CLOSED


def test_o4_those_who_wait_are_told_when_it_opens() -> None:
    """O4: a queue before a dead upstream fails fast, and a retry under an open breaker too."""
    config = Breaker(calls_min=1, open_seconds=1)
    rig = Rig(slots(2, breaker=config))
    first, second = rig.go(), rig.go()
    waiting = [rig.wait(), rig.wait()]
    assert isinstance(rig.hear(first, 502), Again)
    assert not rig.admission.resume(first, rig.now_ns)
    effects = rig.admission.settle(second, SPENT, rig.now_ns)
    assert [effect.ticket for effect in effects] == waiting
    assert all(
        isinstance(effect, Refuse) and effect.reason is Reason.BREAKER_OPEN for effect in effects
    )


def test_the_found_limit_holds_calls_and_lets_go_when_it_rises() -> None:
    """Adaptive concurrency: on where none is set; each credential's own."""
    rig = Rig(Upstream(adaptive=Adaptive(initial=2)))
    first = [rig.go(credential="a") for _ in range(2)]
    waiting = [rig.wait(credential="a") for _ in range(40)]
    rig.go(credential="b")
    went: list[Ticket] = []
    ticket = first[0]
    for _ in range(31):
        rig.now_ns += SECOND_NS // 10
        heard = rig.admission.heard(ticket, Answer(status=200), rig.now_ns, rig.wall_ns)
        went += [effect.ticket for effect in heard.effects if isinstance(effect, Go)]
        went += rig.settle(ticket)
        ticket = went[-1]
    assert went == waiting[: len(went)]
    limits = [gate.adaptive.limit for gate in rig.admission.gates().values() if gate.adaptive]
    assert max(limits) > 2


# All of it ------------------------------------------------------------------------------------


def test_every_reason_has_a_status_and_a_word_on_retrying() -> None:
    """400 and 402 are never worth another try."""
    assert set(STATUS) == set(Reason)
    assert all(STATUS[reason] in (429, 503) for reason in RETRIABLE)


def test_another_policy_holds_from_then_on() -> None:
    """Calls under way end as they came; counts are kept."""
    rig = Rig(slots(2))
    first, second = rig.go(), rig.go()
    rig.admission.apply(Policy(upstreams={"up": slots(1, queue=Queue(size=7))}))
    waiting = rig.wait()
    assert rig.settle(first) == []
    assert rig.settle(second) == [waiting]


def test_a_limit_that_is_set_takes_the_place_of_one_that_was_found() -> None:
    """And a breaker that is switched off lets calls through."""
    config = Breaker(calls_min=1)
    rig = Rig(Upstream(adaptive=Adaptive(initial=1), breaker=config, retry=Retry(attempts_max=1)))
    ticket = rig.go()
    rig.wait()
    rig.hear(ticket, None)
    assert rig.refuse().reason is Reason.BREAKER_OPEN
    rig.admission.apply(Policy(upstreams={"up": slots(3, breaker=None)}))
    assert len(rig.settle(ticket)) == 1
    rig.go()
    rig.admission.apply(Policy(upstreams={"up": Upstream(breaker=config)}))
    assert rig.refuse().reason is Reason.BREAKER_OPEN
    (gate,) = rig.admission.gates().values()
    assert gate.adaptive is not None


def test_a_breaker_in_use_is_kept_however_full_the_table() -> None:
    """O4: all calls to a model go by one breaker, and it is the one that is shown and shared."""
    rig = Rig()
    kept = rig.go(model="kept", credential="c")
    for number in range(ROUTES_MAX + 200):
        rig.now_ns += SECOND_NS
        rig.settle(rig.go(model=f"m{number}"))
    assert kept.route.breaker is rig.admission.breakers()["up", "kept"]
    other = rig.go(model="kept", credential="another")
    assert other.route is not kept.route
    assert other.route.breaker is kept.route.breaker
    shown = {id(breaker) for breaker in rig.admission.breakers().values()}
    routes = rig.admission._routes.routes.values()
    assert all(id(route.breaker) in shown for route in routes)


def test_names_that_callers_make_up_fill_no_memory() -> None:
    """Models, credentials and users: bounded, however many come."""
    rig = Rig(Upstream(adaptive=Adaptive(initial=1)))
    for number in range(ROUTES_MAX + 200):
        ticket = rig.go(f"user {number}", model=f"m{number}", credential=f"c{number}")
        rig.settle(ticket)
    assert len(rig.admission._routes.routes) <= ROUTES_MAX + 1
    assert len(rig.admission.gates()) <= ROUTES_MAX + 1
    assert len(rig.admission.breakers()) <= ROUTES_MAX + 1
    rig.tick(3600)
    assert len(rig.admission._routes.users) == 0
    assert len(rig.store) == 0


class LateStore:
    """A store that is elsewhere: it answers when `flush` is called, in an order of its own."""

    def __init__(self, chance: random.Random) -> None:
        self.memory = MemoryStore()
        self.asked: list[tuple[Need, Callable[[], Admitted | Over | Short | None]]] = []
        self._chance = chance

    def admit(self, plan: Plan, need: Need, *rest: Any) -> Pending:
        self.asked.append((need, lambda: self.memory.admit(plan, need, *rest)))
        return PENDING

    def take(self, plan: Plan, need: Need, now_ns: int) -> Pending:
        self.asked.append((need, lambda: self.memory.take(plan, need, now_ns)))
        return PENDING

    def settle(self, *rest: Any) -> None:
        self.memory.settle(*rest)

    def charge(self, plan: Plan, now_ns: int) -> None:
        self.memory.charge(plan, now_ns)

    def sweep(self, now_ns: int, wall_ns: int) -> int:
        return self.memory.sweep(now_ns, wall_ns)

    def flush(self, admission: Admission, now_ns: int) -> list[Effect]:
        asked, self.asked = self.asked, []
        self._chance.shuffle(asked)
        effects: list[Effect] = []
        for need, answer in asked:
            assert isinstance(need.call, Ticket)
            effects += admission.answered(need.call, answer(), now_ns)
        return effects


def test_a_store_elsewhere_is_waited_for_and_holds_up_nobody_else() -> None:
    """Each call waits for its own answer; a user's calls keep their order; who has left by then
    gives back what comes for it, to whoever waits for that.
    """
    store = LateStore(random.Random(1))
    policy = Policy(upstreams={"up": slots(2)})
    admission = Admission(policy, random.Random(1).random, store)

    def arrive(user: str) -> Ticket:
        request = Request(upstream="up", user=user, input_tokens=10, output_tokens_max=10)
        verdict = admission.arrive(request, 0, WALL_NS)
        assert isinstance(verdict, Wait)
        return verdict.ticket

    first, second, third = arrive("a"), arrive("b"), arrive("c")
    assert len(store.asked) == 3
    assert admission.leave(first, 0) == []
    effects = store.flush(admission, 0)
    effects += store.flush(admission, 0)
    assert {effect.ticket for effect in effects} == {second, third}
    assert all(isinstance(effect, Go) for effect in effects)
    assert store.memory.in_use(second.plan.slots[0].key) == 2
    assert admission.settle(second, SPENT, 0) == []
    fourth = arrive("d")
    assert [effect.ticket for effect in store.flush(admission, 0)] == [fourth]


def test_a_call_given_leave_that_cannot_use_it_gives_it_to_the_next() -> None:
    """A store elsewhere has given a slot, and the route has shut meanwhile: at its deadline the
    slot goes to whom it held up.
    """
    store = LateStore(random.Random(1))
    upstream = slots(2, queue=Queue(wait_seconds_max=3), retry=Retry(attempts_max=1))
    admission = Admission(Policy(upstreams={"up": upstream}), random.Random(1).random, store)

    def arrive(user: str, model: str, now_ns: int) -> Ticket:
        request = Request(upstream="up", user=user, model=model, input_tokens=10)
        verdict = admission.arrive(request, now_ns, WALL_NS)
        assert isinstance(verdict, Wait)
        return verdict.ticket

    first = arrive("a", "m", 0)
    store.flush(admission, 0)
    shut_out = arrive("b", "m", 0)
    headers = {"retry-after": "30"}
    admission.heard(first, Answer(status=429, headers=headers), 0, WALL_NS)
    assert store.flush(admission, 0) == []
    assert shut_out.taken
    held_up = arrive("c", "n", SECOND_NS)
    for _ in range(3):
        assert store.flush(admission, SECOND_NS) == []
    assert store.asked == []
    effects = admission.tick(3 * SECOND_NS, WALL_NS)
    assert [effect.ticket for effect in effects] == [shut_out]
    assert [effect.ticket for effect in store.flush(admission, 3 * SECOND_NS)] == [held_up]


_POLICY = Policy(
    upstreams={
        "up": Upstream(
            limits=Limits(concurrency=3, requests_per_minute=120, tokens_per_minute=4000),
            models={"m": Limits(concurrency=2)},
            queue=Queue(size=6, wait_seconds_max=8),
            breaker=Breaker(calls_min=4, open_seconds=2, window_seconds=10),
        ),
        "other": Upstream(adaptive=Adaptive(initial=2), queue=Queue(size=3)),
    },
    tiers={
        "default": Tier(
            limits=Limits(concurrency=2, requests_per_minute=60),
            limits_shared=Limits(tokens_per_minute=9000),
            budgets=(Budget(pico=3000, per="hour"), Budget(tokens=5000)),
        )
    },
    teams={"t": (Budget(pico=2000),)},
)
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["arrive"] * 4 + ["good", "bad", "resume", "settle", "settle", "leave", "tick"]
        ),
        st.integers(0, 10**6),
        st.integers(0, 2 * SECOND_NS),
    ),
    max_size=150,
)


@given(_STEPS, st.booleans())
def test_o5_whatever_happens_everything_is_given_back_once(
    steps: list[tuple[str, int, int]], late: bool
) -> None:
    """O5: calls of all kinds in random order, each ended in some way and some ended twice: every
    call that waits hears of it exactly once, and at the end nothing is held anywhere. So it is
    when counts are kept elsewhere and answers come late, too.
    """
    chance = random.Random(len(steps))
    late_store = LateStore(chance)
    store = late_store.memory
    admission = Admission(_POLICY, chance.random, late_store if late else store)
    waiting: list[Ticket] = []
    going: list[Ticket] = []
    ended: list[Ticket] = []
    told: Counter[Ticket] = Counter()
    now_ns = 0

    def carry_out(effects: list[Go | Refuse]) -> None:
        for effect in effects:
            ticket = effect.ticket
            assert ticket is not None
            waiting.remove(ticket)
            told[ticket] += 1
            (going if isinstance(effect, Go) else ended).append(ticket)

    def pick(tickets: list[Ticket], number: int) -> Ticket | None:
        return tickets[number % len(tickets)] if tickets else None

    for step, number, gap_ns in steps:
        now_ns += gap_ns
        wall_ns = WALL_NS + now_ns
        ticket = pick(going, number)
        if step == "arrive":
            request = Request(
                upstream=("up", "other")[number % 5 == 0],
                model=("m", "n")[number % 2],
                user="abc"[number % 3],
                team=("", "t")[number % 7 == 0],
                input_tokens=number % 300,
                output_tokens_max=(None, 200)[number % 4 == 0],
                input_pico=(None, 1)[number % 11 != 0],
                output_pico=2,
            )
            verdict = admission.arrive(request, now_ns, wall_ns)
            if isinstance(verdict, Go):
                going.append(verdict.ticket)
            elif isinstance(verdict, Wait):
                waiting.append(verdict.ticket)
                carry_out([verdict.pushed_out] if verdict.pushed_out else [])
        elif step in ("good", "bad") and ticket is not None:
            status = 200 if step == "good" else (429, 500, 503, None)[number % 4]
            heard = admission.heard(ticket, Answer(status=status), now_ns, wall_ns)
            carry_out(heard.effects)
        elif step == "resume" and ticket is not None and ticket.period is None:
            admission.resume(ticket, now_ns)
        elif step == "settle" and ticket is not None:
            going.remove(ticket)
            ended.append(ticket)
            spent = (SPENT, Spent(), Spent(sent=False), Spent(tokens=900, pico=900))[number % 4]
            carry_out(admission.settle(ticket, spent, now_ns))
        elif step == "leave" and (left := pick(waiting, number)) is not None:
            waiting.remove(left)
            ended.append(left)
            carry_out(admission.leave(left, now_ns))
        elif step == "tick":
            carry_out(admission.tick(now_ns, wall_ns))
            carry_out(late_store.flush(admission, now_ns))
        if (again := pick(ended, number)) is not None:
            assert admission.settle(again, SPENT, now_ns) == []
            assert admission.leave(again, now_ns) == []
        assert sum(admission.waiting().values()) == len(waiting)
        assert sum(gate.in_flight for gate in admission.gates().values()) == len(going)
    while going or waiting:
        now_ns += SECOND_NS
        carry_out(admission.tick(now_ns, WALL_NS + now_ns))
        carry_out(late_store.flush(admission, now_ns))
        for ticket in tuple(going):
            going.remove(ticket)
            carry_out(admission.settle(ticket, SPENT, now_ns))
    while late_store.asked:  # of calls that are gone
        assert late_store.flush(admission, now_ns) == []
    assert not told or max(told.values()) == 1
    assert all(each.reserved == 0 for each in store.book.snapshot())
    assert all(gate.in_flight == gate.away == 0 for gate in admission.gates().values())
    store.sweep(now_ns + 3600 * SECOND_NS, WALL_NS + now_ns)
    assert len(store) == 0
    assert admission.wake_ns() is None
