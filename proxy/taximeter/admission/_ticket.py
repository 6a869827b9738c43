"""One call's way through admission: what it holds, and which attempt it is at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taximeter.admission._budget import NOTHING, Hold
from taximeter.admission._lanes import Waiter
from taximeter.admission._store import Held
from taximeter.call import Word

if TYPE_CHECKING:
    from taximeter.admission._need import Need, Short
    from taximeter.admission._plan import Plan
    from taximeter.admission._routes import Route


class Step(Word):
    """Where a ticket stands. Whatever it holds is given back on the way to `ended`, once."""

    WAITING = "waiting"
    GOING = "going"
    ENDED = "ended"


class Ticket(Waiter):
    """A call that has been let in, or waits to be. To its holder it is opaque."""

    __slots__ = (
        "__weakref__",
        "asking",
        "attempt_ns",
        "attempts",
        "away",
        "hold",
        "load",
        "need",
        "output_tokens_max",
        "period",
        "plan",
        "queued",
        "route",
        "step",
        "taken",
        "told_short",
        "unpriced",
    )

    def __init__(self, plan: Plan, route: Route, need: Need, fair_cost: int, now_ns: int) -> None:
        # Waiter's, written out: one is made for every call.
        self.fair_cost = fair_cost or 1
        self.since_ns = now_ns
        self.deadline_ns = 0
        self.lane = None
        self.sequence = 0
        self.plan = plan
        self.route = route
        self.need = need
        self.hold: Hold = NOTHING
        self.taken = False
        """It has its limits' leave; what it may still wait for is its route."""
        self.asking = False
        """A store elsewhere has been asked and has not answered."""
        self.told_short: Short | None = None
        """What that store answered, until it is heeded."""
        self.step = Step.WAITING
        self.attempts = 0
        self.attempt_ns = 0
        """When the present attempt began."""
        self.load = 0
        """Calls that were at the upstream then, itself included."""
        self.away = False
        """It is between two attempts."""
        self.period: int | None = None
        """The breaker's pass of the present attempt; None when its result has been told."""
        self.queued = False
        self.output_tokens_max: int | None = None
        self.unpriced = False

    def asks(self) -> None:
        """Note that a store elsewhere has been asked."""
        self.asking = True
        self.need.call = self  # No longer than that: two that hold each other are slow to free.

    @property
    def held(self) -> Held:
        """What it would hold already, if it went to another upstream."""
        return Held(frozenset(slot.key for slot in self.plan.slots if self.taken), self.hold)

    @property
    def keys(self) -> tuple[str, ...]:
        """All that it may have to wait for, and what may open when it ends."""
        return (self.route.door.gate.key, self.route.door.key, *self.plan.keys)
