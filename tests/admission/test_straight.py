"""O3, O4, O5: a call that goes the straight way leaves every count as the usual way leaves it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

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
from tests.admission.graph import all_of
from tests.admission.rig import SECOND_NS, WALL_NS
from tests.rig.length import pick

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
        """Answers and ends that were told of by the straight way."""

    @property
    def wall_ns(self) -> int:
        """Give the time of day."""
        return WALL_NS + self.now_ns

    def agree(self) -> None:
        """Hold every count of one against the other's."""
        calls = [*self.asked, *self.begun, *self.away, *self.waiting]
        usual = all_of(self.usual, [call.usual for call in calls])
        assert all_of(self.other, [call.other for call in calls]) == usual
        for each in (self.usual, self.other):
            assert each._routes.crowd.waiting == sum(each.waiting().values())
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
        if self.other.straight.leave(call.other, tokens, output_tokens, self.now_ns, self.now_ns):
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
        """A call's answer begins; where it says nothing of limits, it may be told of straight."""
        if not self.asked:
            return
        call = picked(self.asked, chance)
        self.begun.append(call)
        answer = Answer(status=200, headers=chance.choice(HEADERS))
        effects = self.usual.heard(call.usual, answer, self.now_ns, self.wall_ns).effects
        if not answer.headers and self.other.straight.hear(call.other, self.now_ns):
            self.straight += 1
            assert not effects
        else:
            heard = self.other.heard(call.other, answer, self.now_ns, self.wall_ns)
            self.heed(effects, heard.effects)

    def close(self, chance: random.Random) -> None:
        """A call whose answer had begun has ended; that may be told of straight."""
        if not self.begun:
            return
        call, tokens = picked(self.begun, chance), chance.choice((None, 0, 150))
        output_tokens = chance.choice((None, tokens))
        spent = Spent(tokens=tokens, output_tokens=output_tokens)
        effects = self.usual.settle(call.usual, spent, self.now_ns)
        if self.other.straight.end(call.other, tokens, output_tokens, self.now_ns):
            self.straight += 1
            assert not effects
        else:
            self.heed(effects, self.other.settle(call.other, spent, self.now_ns))
        assert all_of(call.usual) == all_of(call.other)

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
