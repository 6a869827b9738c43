"""O1: the fair queue by itself, against the plainest scheduler that is right, and by property."""

from __future__ import annotations

import random
from collections import defaultdict
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.admission._fair import GONE, FairQueue, Gone
from taximeter.admission._lanes import Waiter
from taximeter.admission._need import Short

FAR_NS = 10**15


class Call(Waiter):
    """A call of a test."""

    __slots__ = ("lane_key", "model", "number", "user")

    def __init__(self, number: int, user: str, model: str, cost: int, deadline_ns: int) -> None:
        super().__init__(cost, 0, deadline_ns)
        self.number = number
        self.user = user
        self.model = model


class Rig:
    """A queue before three kinds of slots: the pool's, each model's, each user's."""

    def __init__(self, size: int, pool: int, model: int, user: int) -> None:
        self.queue = FairQueue(size)
        self.limits = {"pool": pool, "model": model, "user": user}
        self.in_use: defaultdict[str, int] = defaultdict(int)
        self.went: list[Call] = []
        self.dropped: list[Call] = []
        self.count = 0

    def keys(self, call: Call) -> tuple[str, ...]:
        return (f"user {call.user}", f"model {call.model}", "pool")

    def full(self, call: Call) -> str | None:
        for key in self.keys(call):
            if self.in_use[key] >= self.limits[key.split()[0]]:
                return key
        return None

    def attempt(self, waiter: Waiter) -> Short | Gone | None:
        assert isinstance(waiter, Call)
        key = self.full(waiter)
        if key is not None:
            return Short(key, "test", key.startswith("user"), None)
        for each in self.keys(waiter):
            self.in_use[each] += 1
        self.went.append(waiter)
        return None

    def put(
        self, user: str, cost: int = 1, model: str = "m", weight: float = 1.0, until: int = FAR_NS
    ) -> Call:
        self.count += 1
        call = Call(self.count, user, model, cost, until)
        keys = self.keys(call)
        lane = f"{user}/{model}"
        self.queue.put(call, user, weight, lane, keys, frozenset(keys[:1]), self.attempt, 0)
        victim = self.queue.victim()
        if victim is not None:
            assert isinstance(victim, Call)
            self.queue.remove(victim)
            self.dropped.append(victim)
        return call

    def end(self, call: Call) -> None:
        for key in self.keys(call):
            self.in_use[key] -= 1
        self.queue.pump(self.keys(call), self.attempt, 0)


class Model:
    """Start-time fair queueing for one kind of slot, written down as in the paper."""

    def __init__(self, slots: int) -> None:
        self.free = slots
        self.virtual = Fraction(0)
        self.tags: dict[str, Fraction] = {}
        self.lines: dict[str, list[tuple[int, int]]] = {}
        self.weights: dict[str, int] = {}
        self.went: list[int] = []

    def put(self, number: int, user: str, cost: int, weight: int) -> None:
        line = self.lines.setdefault(user, [])
        if not line:
            self.tags[user] = max(self.tags.get(user, self.virtual), self.virtual)
            self.weights[user] = weight
        line.append((number, cost))
        self.go()

    def end(self) -> None:
        self.free += 1
        self.go()

    def go(self) -> None:
        while self.free and any(self.lines.values()):
            user = min(
                (user for user, line in self.lines.items() if line),
                key=lambda user: (self.tags[user], self.lines[user][0][0]),
            )
            number, cost = self.lines[user].pop(0)
            self.virtual = max(self.virtual, self.tags[user])
            self.tags[user] += Fraction(cost, self.weights[user])
            self.free -= 1
            self.went.append(number)
            if not any(self.lines.values()):
                self.tags.clear()
                self.virtual = Fraction(0)


_WEIGHTS = {"a": 1, "b": 2, "c": 4, "d": 1}


@pytest.mark.parametrize("seed", range(20))
def test_o1_it_lets_go_in_the_order_of_the_textbook(seed: int) -> None:
    """O1: the same calls in the same order as a plain model run in lock-step."""
    chance = random.Random(seed)
    slots = chance.randint(1, 3)
    rig, model = Rig(10_000, slots, 10_000, 10_000), Model(slots)
    ended = 0
    for _ in range(400):
        if ended < len(rig.went) and chance.random() < chance.choice([0.3, 0.5]):
            rig.end(rig.went[ended])
            ended += 1
            model.end()
        else:
            user, cost = chance.choice("aaabcd"), chance.randint(1, 1000)
            call = rig.put(user, cost, weight=_WEIGHTS[user])
            model.put(call.number, user, cost, _WEIGHTS[user])
        assert [call.number for call in rig.went] == model.went, seed


def test_o1_who_comes_late_has_no_claim_on_the_time_before() -> None:
    """O1: a newcomer with many calls takes turns from now on; it does not catch up."""
    rig = Rig(10_000, 1, 10_000, 10_000)
    for _ in range(100):
        rig.put("early", 100)
    for _ in range(50):
        rig.end(rig.went[-1])
    for _ in range(50):
        rig.put("late", 100)
    before = len(rig.went)
    for _ in range(40):
        rig.end(rig.went[-1])
    users = [call.user for call in rig.went[before:]]
    assert 19 <= users.count("late") <= 21


_STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"), st.sampled_from("abcde"), st.sampled_from("xy"), st.integers(1, 500)
        ),
        st.tuples(st.just("end"), st.just(""), st.just(""), st.integers(0, 50)),
        st.tuples(st.just("leave"), st.just(""), st.just(""), st.integers(0, 50)),
    ),
    max_size=200,
)


@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), _STEPS)
def test_o1_it_conserves_calls_works_on_and_keeps_each_line_in_order(
    size: int, pool: int, model: int, user: int, steps: list[tuple[str, str, str, int]]
) -> None:
    """O1: with limits of all kinds, every call goes, leaves or is dropped, once; no call waits
    that could go; a user's calls of one kind go in order; nothing is left behind in memory.
    """
    rig = Rig(size, pool, model, user)
    waiting: dict[int, Call] = {}
    live: list[Call] = []

    def update() -> None:
        for call in rig.went:
            waiting.pop(call.number, None)
            live.append(call)
        rig.went.clear()
        for call in rig.dropped:
            waiting.pop(call.number, None)
        rig.dropped.clear()
        assert rig.queue.waiting == len(waiting) <= size
        heads: dict[tuple[str, str], Call] = {}
        for number in sorted(waiting):
            call = waiting[number]
            heads.setdefault((call.user, call.model), call)
        for head in heads.values():
            assert rig.full(head) is not None, "it could go, and waits"

    order: dict[tuple[str, str], int] = {}
    for step, who, what, number in steps:
        if step == "put":
            call = rig.put(who, number, what)
            waiting[call.number] = call
        elif step == "end" and live:
            rig.end(live.pop(number % len(live)))
        elif step == "leave" and waiting:
            call = waiting.pop(sorted(waiting)[number % len(waiting)])
            rig.queue.remove(call)
        for call in rig.went:
            assert order.get((call.user, call.model), 0) < call.number
            order[call.user, call.model] = call.number
        update()
        assert rig.queue.flows <= 2 * size + 2
    while live:
        rig.end(live.pop())
        update()
    assert not waiting
    assert rig.queue.flows == 0
    assert not rig.queue._parking.heaps


@pytest.mark.parametrize("seed", range(5))
def test_o1_shares_follow_weights_in_tokens(seed: int) -> None:
    """O1: of users who always have calls waiting none gets more than its weight, by more than a
    call of each and what is under way, whatever their calls cost.
    """
    chance = random.Random(seed)
    slots, cost_max = 4, 900
    rig = Rig(10_000, slots, 10_000, 10_000)
    weights = {"light": 1.0, "heavy": 4.0, "many": 1.0}
    costs = {"light": (800, cost_max), "heavy": (10, 600), "many": (1, 50)}
    for _ in range(700):
        for user, weight in weights.items():
            rig.put(user, chance.randint(*costs[user]), weight=weight)
    done = 0
    while done < 300:
        rig.end(rig.went[done])
        done += 1
        served: dict[str, float] = defaultdict(float)
        for call in rig.went[slots:]:
            served[call.user] += call.fair_cost / weights[call.user]
        bound = 2 * cost_max + slots * cost_max
        assert max(served.values()) - min(served[user] for user in weights) <= bound, seed


def test_o1_a_newcomer_waits_for_one_call_of_each_other_user_at_most() -> None:
    """O1: a thousand calls in line before it are one user's own business."""
    rig = Rig(10_000, 1, 10_000, 10_000)
    for _ in range(1000):
        rig.put("noisy", 100)
    newcomer = rig.put("polite", 100)
    rig.end(rig.went[-1])
    rig.end(rig.went[-1])
    assert newcomer in rig.went


def test_a_big_call_is_not_starved_by_small_ones() -> None:
    """Who waits for many tokens of a rate has what comes in kept for it."""
    queue = FairQueue(100)
    went: list[int] = []
    level = 0

    def attempt(waiter: Waiter) -> Short | None:
        nonlocal level
        if waiter.fair_cost > level:
            return Short("rate", "test", False, waiter.fair_cost - level)
        level -= waiter.fair_cost
        went.append(waiter.fair_cost)
        return None

    def put(user: str, cost: int, now_ns: int) -> None:
        call = Call(0, user, "m", cost, FAR_NS)
        queue.put(call, user, 1.0, user, ("rate",), frozenset(), attempt, now_ns)

    put("big", 100, 0)
    for now_ns in range(1, 300):
        level += 1
        put(f"small {now_ns % 7}", 1, now_ns)
        if keys := queue.due(now_ns):
            queue.pump(keys, attempt, now_ns)
    assert 100 in went
    assert went.index(100) < 30


def test_when_full_the_fattest_loses_its_oldest() -> None:
    """Nobody else pays for one user's crowd, and what is dropped has waited longest."""
    rig = Rig(10, 1, 10, 10)
    rig.put("running")
    polite = [rig.put("polite") for _ in range(3)]
    noisy = [rig.put("noisy") for _ in range(20)]
    assert rig.dropped == noisy[:13]
    assert all(call.lane is not None for call in polite)


def test_a_weight_of_two_may_have_twice_as_many_waiting() -> None:
    """The fattest is so for its weight."""
    rig = Rig(9, 1, 10, 10)
    rig.put("running")
    for _ in range(5):
        rig.put("double", weight=2.0)
    singles = [rig.put("single") for _ in range(5)]
    assert rig.dropped == singles[:1]


def test_a_user_at_its_own_limit_holds_up_nobody() -> None:
    """Work goes on past a user who may not have more."""
    rig = Rig(100, 4, 10, 1)
    calls = [rig.put("capped") for _ in range(5)] + [rig.put("free")]
    assert rig.went == [calls[0], calls[5]]


def test_time_at_ones_own_limit_is_no_claim_on_others() -> None:
    """Who was held up by a limit of its own goes on from now, not from where it stood."""
    rig = Rig(100, 2, 10, 1)
    capped = rig.put("capped")
    rig.put("capped", 100)
    for _ in range(20):
        rig.put("other", 100)
    while rig.queue.waiting > 5:
        rig.end(rig.went[-1])
    virtual = rig.queue.virtual
    assert virtual > 0
    rig.end(capped)
    assert rig.went[-1].user == "capped"
    assert rig.queue.virtual >= virtual
    assert rig.queue._flows["capped"].tag > virtual


def test_deadlines_come_in_order_and_others_move_up() -> None:
    """What is late is taken out when it is, with the key that those behind it can be tried for."""
    rig = Rig(100, 1, 10, 10)
    rig.put("a")
    late = rig.put("b", until=50)
    later = rig.put("b", until=60)
    assert rig.queue.wake_ns() == 50
    assert rig.queue.expired(49) == []
    assert [call for call, _ in rig.queue.expired(100)] == [late, later]
    assert rig.queue.waiting == 0


def test_the_place_in_line_is_told() -> None:
    """Position counts calls that go before, by turns; tokens are theirs and its own."""
    rig = Rig(100, 1, 10, 10)
    rig.put("a")
    crowd = [rig.put("a", 10) for _ in range(3)]
    mine = rig.put("b", 10)
    assert [rig.queue.position(call)[0] for call in (*crowd, mine)] == [1, 3, 4, 2]
    assert rig.queue.position(crowd[2]) == (4, 40)
    rig.queue.remove(mine)
    with pytest.raises(LookupError):
        rig.queue.position(mine)


def test_a_user_is_charged_what_a_call_came_to() -> None:
    """A refund brings the next turn forward, but never into the past; a debt puts it off."""
    rig = Rig(100, 1, 10, 10)
    first = rig.put("z")
    over = rig.put("over", 1000)
    rig.put("over", 1000)
    rig.put("fair", 100)
    rig.put("fair", 100)
    rig.put("fair", 100)
    rig.end(first)
    assert rig.went[-1] is over
    rig.queue.correct("over", 1000, 10)
    rig.end(over)
    assert rig.went[-1].user == "fair"
    rig.end(rig.went[-1])
    assert rig.went[-1].user == "over"
    rig.queue.correct("nobody", 1, 10)


def test_users_that_come_once_are_not_remembered() -> None:
    """A queue that is never empty, for ever new users, stays within its bound."""
    rig = Rig(20, 2, 10_000, 10_000)
    for number in range(2000):
        rig.put(f"user {number}", 10)
        if number % 2:
            rig.end(rig.went[-1])
    assert rig.queue.waiting > 0
    assert rig.queue.flows <= 42


def test_lanes_left_empty_while_a_key_stays_shut_are_swept() -> None:
    """A frozen upstream and clients that come and go leave nothing behind."""
    rig = Rig(10_000, 1, 10_000, 10_000)
    rig.put("running")
    stays = rig.put("stays")
    for number in range(2000):
        rig.queue.remove(rig.put(f"user {number}"))
    assert sum(len(heap) for heap in rig.queue._parking.heaps.values()) < 200
    assert rig.queue.flows <= 10_002
    rig.end(rig.went[0])
    assert rig.went[-1] is stays


def test_what_is_gone_when_tried_lets_the_next_one_try() -> None:
    """A call refused at the head does not take its turn with it."""
    rig = Rig(100, 1, 10, 10)
    rig.put("a")
    refused = rig.put("b")
    good = rig.put("b")
    plain = rig.attempt
    rig.attempt = lambda waiter: GONE if waiter is refused else plain(waiter)  # type: ignore[method-assign]
    rig.end(rig.went[0])
    assert refused.lane is None
    assert rig.went[-1] is good


@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 2), _STEPS)
def test_contention_is_counted_while_calls_wait_for_what_is_shared(
    size: int, pool: int, user: int, steps: list[tuple[str, str, str, int]]
) -> None:
    """The pace of a queue is taken only over times in which somebody waited for others' calls."""
    rig = Rig(size, pool, 2, user)
    calls: list[Call] = []
    for step, who, what, number in steps:
        if step == "put":
            calls.append(rig.put(who, number, what))
        elif step == "end" and rig.went:
            rig.end(rig.went.pop(number % len(rig.went)))
        elif step == "leave" and calls:
            rig.queue.remove(calls[number % len(calls)])
        lanes = {id(call.lane): call.lane for call in calls if call.lane is not None}
        shared = [lane for lane in lanes.values() if lane.parked_on not in lane.own_keys]
        assert rig.queue._contended == len(shared)
        assert (rig.queue.contended_since_ns is not None) == bool(shared)
