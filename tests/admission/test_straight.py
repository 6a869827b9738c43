"""O3, O4, O5: a call that goes the straight way leaves every count as the usual way leaves it."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taximeter.admission import (
    Adaptive,
    Admission,
    Again,
    Answer,
    Breaker,
    Budget,
    Effect,
    Go,
    Limits,
    Policy,
    Queue,
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
from taximeter.admission._adaptive import SAMPLES_MAX, SAMPLES_MIN, AdaptiveLimit
from taximeter.admission._breaker import BUCKETS, CircuitBreaker
from taximeter.admission._plan import Plan
from taximeter.call import Word
from tests.admission.rig import SECOND_NS, WALL_NS, LateStore, Rig
from tests.rig.length import pick

PLAIN = frozenset({int, float, str, bool, type(None)})
_FIELDS: dict[type, tuple[str, ...]] = {}


def fields_of(kind: type) -> tuple[str, ...]:
    """Give the names of all that an object of this class keeps in slots."""
    names = _FIELDS.get(kind)
    if names is None:
        slots = (vars(base).get("__slots__", ()) for base in kind.__mro__)
        flat = (name for each in slots for name in ((each,) if isinstance(each, str) else each))
        names = _FIELDS[kind] = tuple(name for name in flat if name != "__weakref__")
    return names


def all_of(*things: object) -> object:
    """Give all that hangs on some objects as plain data, to hold one graph against another.

    Every field of every object, by whatever name it goes now or later; an object that has been met
    already is told by its number. A plan is told by its key, and what is configured by itself.
    """
    met: dict[int, int] = {}

    def read(thing: Any) -> object:
        kind = type(thing)
        if kind in PLAIN or isinstance(thing, Word):
            return thing
        if kind is tuple:
            return [read(each) for each in thing]
        if id(thing) in met:
            return ("met", met[id(thing)])
        met[id(thing)] = len(met)
        if kind is list or kind is deque:
            return [each if type(each) in PLAIN else read(each) for each in thing]
        if kind is Plan:
            return thing.key
        if kind is frozenset or callable(thing):
            return None
        if kind.__module__ == "taximeter.admission._model":
            return thing
        found: list[object] = [kind.__name__]
        if isinstance(thing, dict):
            found += [(read(key), read(value)) for key, value in thing.items()]
        found += [(name, read(getattr(thing, name))) for name in fields_of(kind)]
        if hasattr(thing, "__dict__"):
            found += [(name, read(value)) for name, value in vars(thing).items()]
        return found

    return read(things)


# -- what may happen ------------------------------------------------------------------------------

HEADERS: Final[tuple[dict[str, str], ...]] = (
    {},
    {"retry-after": "1"},
    {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "2s",
    },
    {
        "x-ratelimit-limit-tokens": "400",
        "x-ratelimit-remaining-tokens": "100",
        "x-ratelimit-reset-tokens": "1s",
    },
)
COST = Spent(tokens=0)


def often(usual: Any, *seldom: Any) -> st.SearchStrategy[Any]:
    """Give something usual three times out of four."""
    return st.sampled_from([usual] * 3 * len(seldom) + list(seldom))


_limits = st.builds(
    Limits,
    concurrency=often(None, 1, 2, 3),
    requests_per_minute=often(None, 60, 600),
    tokens_per_minute=often(None, 3000, 6000),
    burst_seconds=st.sampled_from([1.0, 3.0, 60.0]),
)
_upstreams = st.builds(
    Upstream,
    limits=_limits,
    models=st.dictionaries(st.sampled_from(["m", "*"]), _limits, max_size=1),
    adaptive=st.none() | st.builds(Adaptive, initial=st.integers(1, 5), most=st.integers(5, 9)),
    heeds=st.booleans(),
    queue=st.builds(Queue, size=often(100, 0, 2), wait_seconds_max=often(30.0, 0.5)),
    retry=st.builds(Retry, attempts_max=st.integers(1, 3), budget_floor=often(10, 0)),
    breaker=st.none()
    | st.builds(
        Breaker,
        window_seconds=st.sampled_from([0.5, 30.0]),
        calls_min=st.integers(2, 6),
        open_seconds=st.sampled_from([0.1, 1.0]),
        probes=st.integers(1, 2),
    ),
)
_tiers = st.builds(
    Tier,
    limits=_limits,
    limits_shared=_limits,
    weight=st.sampled_from([1.0, 2.5]),
    input_tokens_max=often(None, None, None, 50),
    output_tokens_max=often(None, None, None, 50),
    budgets=often((), (), (), (Budget(tokens=5000),)),
)
_policies = st.builds(
    lambda a, b, default, gold: Policy(
        upstreams={"a": a, "b": b},
        tiers={"default": default, "gold": gold},
        users={"w": User("gold")},
    ),
    _upstreams, _upstreams, _tiers, _tiers,
)  # fmt: skip

CHANCES: Final[dict[str, tuple[int, int]]] = {
    "come": (40, 40),
    "end": (40, 10),
    "fail": (1, 20),
    "begin": (6, 6),
    "close": (6, 6),
    "stop": (2, 2),
    "resume": (4, 4),
    "leave": (2, 2),
    "pass_time": (20, 20),
    "press": (1, 1),
    "configure": (1, 1),
}
"""What may happen, and how often: in good times, and in bad ones."""
STEPS = 120
TIMES = 20
"""Steps of a time, good or bad."""


@dataclass(eq=False)
class Call:
    """One call, in both."""

    usual: Ticket
    other: Ticket
    is_straight: bool
    """It went in by the straight way, and nothing but a good answer has happened to it since."""


def picked(calls: list[Call], chance: random.Random) -> Call:
    """Take one out."""
    return calls.pop(chance.randrange(len(calls)))


class Both:
    """Two admissions that see the same calls: one by the usual way, one by the straight way."""

    def __init__(self, policies: tuple[Policy, Policy]) -> None:
        self._policies = policies
        self._chances = random.Random(1), random.Random(1)
        self.usual, self.other = (Admission(policies[0], each.random) for each in self._chances)
        self.now_ns = 0
        self.asked: list[Call] = []
        """Those whose attempt has no answer yet."""
        self.begun: list[Call] = []
        """Those whose answer has begun."""
        self.away: list[Call] = []
        """Those between two attempts."""
        self.waiting: list[Call] = []
        self.straight = 0
        """Calls that have gone in and out by the straight way."""

    @property
    def wall_ns(self) -> int:
        """Give the time of day."""
        return WALL_NS + self.now_ns

    def agree(self) -> None:
        """Hold every count of one against the other's."""
        calls = [*self.asked, *self.begun, *self.away, *self.waiting]
        usual = all_of(self.usual, [call.usual for call in calls])
        assert all_of(self.other, [call.other for call in calls]) == usual
        assert self._chances[0].getstate() == self._chances[1].getstate()

    def come(self, chance: random.Random) -> None:
        """A call comes."""
        upstream, model = chance.choice("aaab"), chance.choice("mmmn")
        user, credential = chance.choice("uvw"), chance.choice(("", "", "", "c"))
        input_tokens = chance.choice((0, 1, 10, 90))
        output_tokens_max = chance.choice((None, 0, 10, 90, 900))
        request = Request(
            upstream=upstream,
            model=model,
            user=user,
            credential=credential,
            input_tokens=input_tokens,
            output_tokens_max=output_tokens_max,
        )
        verdict = self.usual.arrive(request, self.now_ns, self.wall_ns)
        plan = self.other.plan(upstream, model, user, "", "", "", False, credential)
        ticket = self.other.straight.enter(plan, input_tokens, output_tokens_max, self.now_ns)
        if ticket is not None:
            assert isinstance(verdict, Go)
            assert all_of(verdict) == all_of(Go(ticket))
            self.asked.append(Call(verdict.ticket, ticket, True))
            return
        other = self.other.arrive(request, self.now_ns, self.wall_ns)
        assert all_of(verdict) == all_of(other)
        if isinstance(verdict, Refuse) or isinstance(other, Refuse):
            return
        call = Call(verdict.ticket, other.ticket, False)
        if isinstance(verdict, Go):
            self.asked.append(call)
            return
        self.waiting.append(call)
        assert isinstance(other, Wait)
        pushed_out = [[each.pushed_out] if each.pushed_out else [] for each in (verdict, other)]
        self.heed(*pushed_out)

    def end(self, chance: random.Random) -> None:
        """A call has a good answer, and has ended."""
        if not self.asked:
            return
        call = picked(self.asked, chance)
        output_tokens = chance.choice((None, 0, 5, 1000))
        tokens = None if output_tokens is None else chance.choice((0, 90)) + output_tokens
        good, spent = Answer(status=200), Spent(tokens=tokens, output_tokens=output_tokens)

        def usually(admission: Admission, ticket: Ticket) -> list[Effect]:
            heard = admission.heard(ticket, good, self.now_ns, self.wall_ns)
            assert heard.again is None
            assert heard.stop is None
            return heard.effects + admission.settle(ticket, spent, self.now_ns)

        effects = usually(self.usual, call.usual)
        if not call.is_straight:
            self.heed(effects, usually(self.other, call.other))
            return
        if self.other.straight.leave(call.other, tokens, output_tokens, self.now_ns):
            self.straight += 1
            assert not effects
        else:
            self.heed(effects, usually(self.other, call.other))
        assert all_of(call.usual) == all_of(call.other)

    def fail(self, chance: random.Random) -> None:
        """An attempt fails; its call ends, or tries again."""
        if not self.asked:
            return
        call = picked(self.asked, chance)
        answer = Answer(
            status=chance.choice((None, 400, 429, 500, 503)),
            headers=chance.choice(HEADERS),
            replayable=chance.random() < 0.8,
        )
        usual, other = (
            admission.heard(ticket, answer, self.now_ns, self.wall_ns)
            for admission, ticket in self._each(call)
        )
        assert (usual.again, usual.stop) == (other.again, other.stop)
        self.heed(usual.effects, other.effects)
        if usual.again is not None:
            self.away.append(call)
        else:
            self._settle(call, COST)

    def begin(self, chance: random.Random) -> None:
        """A call's answer begins."""
        if not self.asked:
            return
        call = picked(self.asked, chance)
        self.begun.append(call)
        answer = Answer(status=200, headers=chance.choice(HEADERS))
        self.heed(
            *(
                admission.heard(ticket, answer, self.now_ns, self.wall_ns).effects
                for admission, ticket in self._each(call)
            )
        )

    def close(self, chance: random.Random) -> None:
        """A call whose answer had begun has ended."""
        if self.begun:
            self._settle(picked(self.begun, chance), Spent(tokens=chance.choice((None, 0, 150))))

    def stop(self, chance: random.Random) -> None:
        """A call ends with no answer: its client has gone."""
        calls = self.away or self.asked
        if calls:
            self._settle(picked(calls, chance), Spent(sent=chance.random() < 0.5))

    def resume(self, chance: random.Random) -> None:
        """A call tries again."""
        if not self.away:
            return
        call = chance.choice(self.away)
        usual, other = (
            admission.resume(ticket, self.now_ns) for admission, ticket in self._each(call)
        )
        assert usual == other
        if isinstance(usual, Again):
            return
        self.away.remove(call)
        if usual:
            call.is_straight = False
            self.asked.append(call)
        else:
            self._settle(call, COST)

    def leave(self, chance: random.Random) -> None:
        """A call that waits is not wanted any more."""
        if self.waiting:
            call = picked(self.waiting, chance)
            self.heed(
                *(admission.leave(ticket, self.now_ns) for admission, ticket in self._each(call))
            )

    def pass_time(self, chance: random.Random) -> None:
        """Time passes, and what has become due is done."""
        self.now_ns += int(chance.choice((0.001, 0.01, 0.02, 0.1, 0.6, 2.0, 11.0)) * SECOND_NS)
        assert self.usual.wake_ns() == self.other.wake_ns()
        self.heed(*(each.tick(self.now_ns, self.wall_ns) for each in (self.usual, self.other)))

    def press(self, chance: random.Random) -> None:
        """Memory runs short, or is there again."""
        reading = chance.choice((0.0, 0.0, 0.85, 0.99))
        for each in (self.usual, self.other):
            each.read_pressure({"memory": reading}, self.now_ns)

    def configure(self, _: random.Random) -> None:
        """The configuration changes, to and fro."""
        self._policies = self._policies[::-1]
        for each in (self.usual, self.other):
            each.apply(self._policies[0])

    def _each(self, call: Call) -> tuple[tuple[Admission, Ticket], tuple[Admission, Ticket]]:
        return (self.usual, call.usual), (self.other, call.other)

    def _settle(self, call: Call, spent: Spent) -> None:
        self.heed(
            *(
                admission.settle(ticket, spent, self.now_ns)
                for admission, ticket in self._each(call)
            )
        )

    def heed(self, usual: Iterable[Effect], other: Iterable[Effect]) -> None:
        """Take in who goes and who is refused: in both the same, in the same order."""
        told = []
        for which, effects in enumerate((usual, other)):
            calls = {(call.usual, call.other)[which]: call for call in self.waiting}
            told.append([(calls[effect.ticket], effect) for effect in effects if effect.ticket])
        assert [call for call, _ in told[0]] == [call for call, _ in told[1]]
        for (call, one), (_, other_one) in zip(*told, strict=True):
            assert all_of(one) == all_of(other_one)
            self.waiting.remove(call)
            if isinstance(one, Go):
                self.asked.append(call)


@settings(max_examples=pick(80, 3000), deadline=None)
@given(
    policies=st.tuples(_policies, _policies),
    seed=st.integers(0, 2**32),
    steps=st.integers(1, STEPS),
)
def test_o5_both_ways_come_to_the_same(
    policies: tuple[Policy, Policy], seed: int, steps: int
) -> None:
    """O5: whatever calls do, the straight way leaves every count as the usual one does, and lets
    those go who wait, in the same order.
    """
    both, chance = Both(policies), random.Random(seed)
    good, bad = zip(*CHANCES.values(), strict=True)
    for step in range(steps):
        is_good = step // TIMES % 2 == 0
        (name,) = chance.choices(list(CHANCES), good if is_good else bad)
        getattr(both, name)(chance)
        both.agree()


# -- what keeps a call ----------------------------------------------------------------------------


def enter(rig: Rig, user: str = "u", **more: Any) -> Ticket | None:
    """Let a call of the rig's go the straight way."""
    plan = rig.admission.plan("up", "", user, "", "", "", False, "")
    return rig.admission.straight.enter(plan, more.get("input_tokens", 10), 10, rig.now_ns)


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
    assert other.admission.straight.leave(ticket, 15, 5, other.now_ns)
    usual.hear(twin, 200)
    assert usual.settle(twin, Spent(tokens=15, output_tokens=5)) == []
    assert all_of(other.admission, ticket) == all_of(usual.admission, twin)


@pytest.mark.parametrize("is_heard", [False, True])
def test_o5_a_straight_call_gives_back_once(is_heard: bool) -> None:
    """O5: `leave` does nothing for a call that has ended, or whose answer was told to `heard`."""
    rig = roomy()
    ticket = enter(rig)
    assert ticket is not None
    if is_heard:
        rig.hear(ticket, 200)
    else:
        assert rig.admission.straight.leave(ticket, 20, 10, rig.now_ns)
    before = all_of(rig.admission, ticket)
    assert not rig.admission.straight.leave(ticket, 20, 10, rig.now_ns)
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
    assert not rig.admission.straight.leave(ticket, 20, 10, rig.now_ns)
    assert all_of(rig.admission, ticket) == before
    rig.hear(ticket, 200)
    assert rig.settle(ticket) == [waiting]


# -- the trims that came with it ------------------------------------------------------------------


def kept_in(one: AdaptiveLimit | CircuitBreaker) -> list[object]:
    """Give all that one of these keeps."""
    return [getattr(one, name) for name in fields_of(type(one))]


class OldLimit(AdaptiveLimit):
    """The limit as it is written down, without the short cuts."""

    __slots__ = ()

    def answered(self, started_ns: int, now_ns: int, in_flight: int, load: int = 0) -> bool:
        """Take in an answer."""
        self._most_in_flight = max(self._most_in_flight, in_flight)
        if load and load >= self._proved:
            self._prove(started_ns, load)
        before = self.limit
        if started_ns >= self._cut_at:
            self._cuts_in_a_row = 0
            if self._recovers_to:
                self._recover()
        if started_ns < self._since_ns:
            return self.limit > before
        self._samples.append(now_ns - started_ns)
        if len(self._samples) >= min(max(SAMPLES_MIN, 2 * self.limit), SAMPLES_MAX):
            self._end_window(now_ns)
        return self.limit > before


class OldBreaker(CircuitBreaker):
    """The breaker as it is written down, without the short cut."""

    __slots__ = ()

    def _bucket(self, now_ns: int) -> list[int]:
        part = now_ns // self._part_ns
        gone = part - self._first_part
        if gone >= BUCKETS:
            self._forget_results(part)
            gone = 0
        for offset in range(1, gone + 1):
            bucket = self._buckets[(self._first_part + offset) % BUCKETS]
            self._calls -= bucket[0]
            self._failures -= bucket[1]
            bucket[0] = bucket[1] = 0
        self._first_part = max(part, self._first_part)
        return self._buckets[self._first_part % BUCKETS]


@settings(max_examples=pick(40, 3000), deadline=None)
@given(
    initial=st.sampled_from([1, 5, 14, 16, 40, 99, 101, 300]),
    seed=st.integers(0, 2**32),
    refusals=st.sampled_from([0.0, 0.02, 0.3]),
)
def test_the_limit_is_found_as_before(initial: int, seed: int, refusals: float) -> None:
    """The limit comes to the same after every answer and refusal as by the longer formulas."""
    chance, now_ns = random.Random(seed), 0
    bounds = Adaptive(initial=initial, most=400)
    short, long = AdaptiveLimit(bounds, 0), OldLimit(bounds, 0)
    for _ in range(500):
        now_ns += chance.randrange(5_000_000)
        started_ns = max(0, now_ns - chance.choice((20_000_000, 40_000_000, 90_000_000)))
        limit, proved = short.limit, short._proved
        load = chance.choice((0, 1, limit - 1, limit, limit + 1, proved))
        about = started_ns, now_ns, chance.randrange(2 * limit), load
        if chance.random() < refusals:
            short.refused(*about)
            long.refused(*about)
        else:
            assert short.answered(*about) == long.answered(*about)
        assert kept_in(short) == kept_in(long)


@settings(max_examples=pick(50, 3000), deadline=None)
@given(
    window=st.sampled_from([1e-8, 0.5, 30.0]),
    calls_min=st.integers(1, 20),
    seed=st.integers(0, 2**32),
)
def test_the_breaker_counts_as_before(window: float, calls_min: int, seed: int) -> None:
    """The breaker comes to the same after every result as by the longer formula."""
    config = Breaker(window_seconds=window, calls_min=calls_min, open_seconds=1)
    chance, now_ns = random.Random(seed), 0
    halves = itertools.repeat(0.5).__next__
    short, long = CircuitBreaker(config, halves), OldBreaker(config, halves)
    for _ in range(200):
        now_ns += int(chance.choice((0, 0, 0.01, 0.05, 0.3, 3, 40)) * SECOND_NS)
        period = short.try_pass(now_ns)
        assert period == long.try_pass(now_ns)
        failed = chance.random() < 0.3
        for each in (short, long):
            if period is not None:
                (each.failed if failed else each.succeeded)(period, now_ns)
        assert kept_in(short) == kept_in(long)
