"""One call's way through admission: what it holds, and which attempt it is at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taximeter.admission._budget import NOTHING, Hold
from taximeter.admission._lanes import Waiter
from taximeter.admission._need import Need
from taximeter.admission._store import Held
from taximeter.call import Word

if TYPE_CHECKING:
    from taximeter.admission._need import Short
    from taximeter.admission._plan import Plan
    from taximeter.admission._routes import Route


class Step(Word):
    """Where a ticket stands. Whatever it holds is given back on the way to `ended`, once."""

    WAITING = "waiting"
    GOING = "going"
    ENDED = "ended"


class Ticket(Waiter, Need):
    """A call that has been let in, or waits to be. To its holder it is opaque.

    One is made for every call, and to most of them nothing happens. So what it is at first stands
    in the class, and an object has of its own what has come to be otherwise.
    """

    hold: Hold = NOTHING
    taken: bool = False
    """It has its limits' leave; what it may still wait for is its route."""
    asking: bool = False
    """A store elsewhere has been asked and has not answered."""
    told_short: Short | None = None
    """What that store answered, until it is heeded."""
    step: Step = Step.WAITING
    attempts: int = 1
    """Which attempt it is at, or is to begin with."""
    attempt_ns: int = 0
    """When the present attempt began."""
    load: int = 0
    """Calls that were at the upstream then, itself included."""
    away: bool = False
    """It is between two attempts."""
    period: int | None = None
    """The breaker's pass of the present attempt; None when its result has been told."""
    queued: bool = False
    output_tokens_max: int | None = None
    unpriced: bool = False

    def __init__(
        self,
        plan: Plan,
        route: Route,
        input_tokens: int,
        tokens: int,
        fair_cost: int,
        now_ns: int,
    ) -> None:
        self.plan = plan
        self.route = route
        # Written out, for speed: what a waiter has, and what a need has.
        self.fair_cost = fair_cost or 1
        self.since_ns = now_ns
        self.input_tokens = input_tokens
        self.tokens = tokens

    @property
    def held(self) -> Held:
        """What it would hold already, if it went to another upstream."""
        return Held(frozenset(slot.key for slot in self.plan.slots if self.taken), self.hold)

    @property
    def keys(self) -> tuple[str, ...]:
        """All that it may have to wait for, and what may open when it ends."""
        return (self.route.door.gate.key, self.route.door.key, *self.plan.keys)
