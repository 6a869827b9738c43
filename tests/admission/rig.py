"""An admission with a clock of its own, and a store that answers late."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from taximeter.admission import (
    PENDING,
    Admission,
    Admitted,
    Again,
    Answer,
    Effect,
    Go,
    Limits,
    MemoryStore,
    Need,
    Over,
    Pending,
    Plan,
    Policy,
    Refuse,
    Request,
    Short,
    Spent,
    Stop,
    Ticket,
    Upstream,
    Verdict,
    Wait,
)

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
            assert isinstance(need, Ticket)
            effects += admission.answered(need, answer(), now_ns)
        return effects
