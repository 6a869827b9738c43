"""The facade: calls come, wait, go and end. O2, O5, O6 and O7 where all parts meet."""

from __future__ import annotations

import gc
import random
import weakref
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.admission import (
    Adaptive,
    Admission,
    Answer,
    Breaker,
    Budget,
    Go,
    Level,
    Limits,
    Policy,
    Queue,
    Reason,
    Refuse,
    Request,
    Retry,
    Spent,
    Ticket,
    Tier,
    Upstream,
    User,
    Wait,
)
from taximeter.admission._adaptive import DIP_NS_MAX
from taximeter.admission._routes import ROUTES_MAX
from taximeter.admission._words import RETRIABLE, STATUS
from tests.admission.rig import SECOND_NS, SPENT, WALL_NS, LateStore, Rig, slots


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


def test_calls_behind_streams_do_not_wait_for_the_end_of_a_dip() -> None:
    """O1: a dip of a found limit that streams make last keeps nobody waiting longer than stated."""
    rig = Rig(Upstream(adaptive=Adaptive(initial=10, most=50)))
    streams = [rig.go() for _ in range(10)]
    ((_, gate),) = rig.admission.gates().items()
    assert gate.adaptive is not None
    for ticket in streams:
        assert rig.hear(ticket, 200) is None
    gate.adaptive._dip()
    waiting = [rig.wait() for _ in range(2)]
    assert rig.tick(DIP_NS_MAX / SECOND_NS - 1) == []
    gone = rig.tick(1)
    assert [effect.ticket for effect in gone] == waiting


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
