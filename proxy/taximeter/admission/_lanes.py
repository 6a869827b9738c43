"""What stands in the fair queue: calls, in lanes, of users. Plain records; `_fair` moves them."""

from __future__ import annotations

from collections import OrderedDict


class Crowd:
    """How many calls wait, in all queues that share one of these."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting = 0


class Waiter:
    """A call in the queue. Whoever uses the queue derives from it."""

    deadline_ns: int = 0
    lane: Lane | None = None
    """The lane it waits in; None when it does not wait."""
    sequence: int = 0
    """Its place among all that ever waited."""

    def __init__(self, fair_cost: int, since_ns: int, deadline_ns: int) -> None:
        self.fair_cost = max(1, fair_cost)
        self.since_ns = since_ns
        self.deadline_ns = deadline_ns


class Flow:
    """One user with calls waiting, or lately let go."""

    __slots__ = ("cost_waiting", "lanes", "rests_since", "tag", "user", "waiting", "weight")

    def __init__(self, user: str, weight: float, tag: int) -> None:
        self.user = user
        self.weight = weight
        self.tag = tag
        self.waiting = 0
        self.cost_waiting = 0
        self.lanes: dict[str, Lane] = {}
        self.rests_since = 0


class Lane:
    """Calls of one user with the same limits, first come first."""

    __slots__ = ("entry", "flow", "key", "keys", "line", "own_keys", "parked_on")

    def __init__(self, flow: Flow, key: str, keys: tuple[str, ...], own: frozenset[str]) -> None:
        self.flow = flow
        self.key = key
        self.keys = keys
        self.own_keys = own
        self.line: OrderedDict[int, Waiter] = OrderedDict()
        self.parked_on: str | None = None
        self.entry: Entry | None = None
        """Its entry in the heap of that key; an entry that is not this one is dead."""


Entry = tuple[int, int, int, Lane]
"""Tag, place in line of the lane's first call, count of entries, lane."""
