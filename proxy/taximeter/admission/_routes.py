"""What is kept of each upstream and each way to it, in tables with a bound.

A *pool* belongs to an upstream: its queue, its retry budget, how fast its queue moves. A *route*
belongs to (upstream, model, credential): its gate, door and breaker, and what its models' outputs
are like. Upstreams are named by the configuration alone; models, credentials and users are named
by callers, so their tables are bounded: at the bound what is idle goes, and if nothing is, names
that come share one entry of their kind and are counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from typing import Protocol, TypeVar

from taximeter.admission._adaptive import AdaptiveLimit
from taximeter.admission._breaker import CircuitBreaker, State
from taximeter.admission._door import Door, Gate
from taximeter.admission._fair import FairQueue
from taximeter.admission._guess import OutputGuess
from taximeter.admission._lanes import Crowd
from taximeter.admission._model import Upstream
from taximeter.admission._plan import Plan, key_of, key_parts
from taximeter.admission._retry import RetryBudget, Stop
from taximeter.admission._words import SECOND_NS

ROUTES_MAX = 4096
"""Some 2 kB each, most of it the breaker's window."""
USERS_MAX = 100_000
RATE_TAU_SECONDS = 10.0
"""How far back the pace of a queue is looked at."""


class Idles(Protocol):
    """Something that may turn out to be as good as new."""

    def is_idle(self, now_ns: int) -> bool:
        """Tell whether this can be forgotten without a difference."""
        ...


T = TypeVar("T", bound=Idles)


class Table(dict[str, T]):
    """A dictionary with a bound, for those who add by `make`. Looking up is a dictionary's."""

    __slots__ = ("_most", "_swept_ns", "_used", "overflowed")

    def __init__(self, most: int, used: Callable[[], Container[int]] | None = None) -> None:
        """Begin empty. `used` gives the ids of entries that others hold on to, idle or not."""
        super().__init__()
        self._most = most
        self._used = used
        self._swept_ns = -SECOND_NS
        self.overflowed = 0
        """How often a name had to share the entry of others."""

    def make(self, key: str, others: str, make: Callable[[str], T], now_ns: int) -> T:
        """Make an entry; when the table is full of what is in use, give that of `others`."""
        if len(self) >= self._most:
            if now_ns - self._swept_ns >= SECOND_NS:
                self.sweep(now_ns)
            if len(self) >= self._most:
                self.overflowed += 1
                key = others
                if (found := self.get(key)) is not None:
                    return found
        entry = self[key] = make(key)
        return entry

    def sweep(self, now_ns: int) -> None:
        """Forget what is idle."""
        self._swept_ns = now_ns
        used: Container[int] = () if self._used is None else self._used()
        for key in [
            key for key, entry in self.items() if entry.is_idle(now_ns) and id(entry) not in used
        ]:
            del self[key]


class Pace:
    """How many tokens a second leave a queue while calls wait for what they share."""

    __slots__ = ("_last_ns", "_seconds", "_tokens")

    def __init__(self) -> None:
        self._tokens = 0.0
        self._seconds = 0.0
        self._last_ns = 0

    def went(self, tokens: int, contended_since_ns: int, now_ns: int) -> None:
        """Note that a call has left a queue in which calls have waited since then."""
        seconds = (now_ns - max(self._last_ns, contended_since_ns)) / SECOND_NS
        fades = math.exp(-seconds / RATE_TAU_SECONDS)
        self._tokens = self._tokens * fades + tokens
        self._seconds = self._seconds * fades + seconds
        self._last_ns = now_ns

    def wait_ns(self, tokens: float) -> int | None:
        """Give the time that `tokens` take to leave; None when there is nothing to go by."""
        if self._seconds < 0.001 or self._tokens <= 0:
            return None
        return int(tokens * self._seconds / self._tokens * SECOND_NS)


class Pool:
    """One upstream."""

    __slots__ = (
        "config",
        "held",
        "name",
        "pace",
        "queue",
        "ratio_micro",
        "retries",
        "retries_refused",
    )

    def __init__(self, name: str, config: Upstream, crowd: Crowd, now_ns: int) -> None:
        self.name = name
        self.queue = FairQueue(config.queue.size, crowd)
        self.pace = Pace()
        self.retries = RetryBudget(config.retry.budget_floor, now_ns)
        self.retries_refused = {Stop.USER_BUDGET_SPENT: 0, Stop.UPSTREAM_BUDGET_SPENT: 0}
        """Retries not made, by whose budget was spent."""
        self.held = 0
        """Times that an answer of its own closed a door for a while."""
        self.set(config)

    def set(self, config: Upstream) -> None:
        """Go by another configuration from now on."""
        self.config = config
        self.queue.size = config.queue.size
        self.ratio_micro = int(config.retry.budget_ratio * 1_000_000)


class Route:
    """One model at one upstream, by one credential."""

    __slots__ = ("breaker", "door", "guess", "model", "pool")

    def __init__(self, pool: Pool, model: str, door: Door, breaker: CircuitBreaker | None) -> None:
        self.pool = pool
        self.model = model
        """Empty for the route that is shared."""
        self.door = door
        self.breaker = breaker
        self.guess = OutputGuess()

    def is_idle(self, now_ns: int) -> bool:
        """Tell whether nothing is under way and nothing is held against it."""
        closed = self.breaker is None or self.breaker.state is State.CLOSED
        return closed and self.door.is_idle(now_ns) and not self.pool.queue.waiting


class Routes:
    """All pools, routes and users' retry budgets."""

    def __init__(self, uniform: Callable[[], float]) -> None:
        self.pools: dict[str, Pool] = {}
        self.crowd = Crowd()
        """Calls that wait, at whichever upstream."""
        self.routes: Table[Route] = Table(ROUTES_MAX)
        self.users: Table[RetryBudget] = Table(USERS_MAX)
        self._gates: dict[str, Gate] = {}
        self._breakers: Table[CircuitBreaker] = Table(
            # One that a route goes by must stay the one that the next route gets, and is shown.
            ROUTES_MAX,
            lambda: {id(route.breaker) for route in self.routes.values()},
        )
        self._uniform = uniform

    def pool(self, name: str, config: Upstream, now_ns: int) -> Pool:
        """Give the pool of an upstream."""
        pool = self.pools.get(name)
        if pool is None:
            pool = self.pools[name] = Pool(name, config, self.crowd, now_ns)
        return pool

    def apply(self, configs: Mapping[str, Upstream]) -> None:
        """Go by other configurations. What has been found out and counted is kept."""
        for pool in self.pools.values():
            pool.set(configs.get(pool.name) or Upstream())
        for route in self.routes.values():
            config, gate = route.pool.config, route.door.gate
            if config.limits.concurrency is not None or config.adaptive is None:
                gate.adaptive = None
            elif gate.adaptive is None:
                gate.adaptive = AdaptiveLimit(config.adaptive, 0)
            route.breaker = self._breaker(route.pool, route.model, 0)
            if route.breaker is not None and config.breaker is not None:
                route.breaker.configure(config.breaker)

    def make_route(self, plan: Plan, model: str, credential: str, now_ns: int) -> Route:
        """Make the way that a call goes; look in `routes` first."""
        pool = self.pool(plan.upstream_name, plan.upstream, now_ns)
        others = key_of("others", pool.name)

        def make(key: str) -> Route:
            # The shared route is one that no credential and no model has of its own.
            own = ("", "") if key == others else (model, credential)
            gate = self._gate(key_of("gate", pool.name, own[1]), pool.config, now_ns)
            door = Door(key_of("door", key), gate)
            return Route(pool, own[0], door, self._breaker(pool, own[0], now_ns))

        return self.routes.make(plan.route_key, others, make, now_ns)

    def _breaker(self, pool: Pool, model: str, now_ns: int) -> CircuitBreaker | None:
        config = pool.config.breaker
        if config is None:
            return None
        key = key_of("breaker", pool.name, model)
        return self._breakers.get(key) or self._breakers.make(
            key,
            key_of("breaker", pool.name, ""),
            lambda _: CircuitBreaker(config, self._uniform),
            now_ns,
        )

    def _gate(self, key: str, config: Upstream, now_ns: int) -> Gate:
        gate = self._gates.get(key)
        if gate is None:
            if len(self._gates) >= ROUTES_MAX:
                used = {id(route.door.gate) for route in self.routes.values()}
                self._gates = {k: each for k, each in self._gates.items() if id(each) in used}
            adaptive = None
            if config.limits.concurrency is None and config.adaptive is not None:
                adaptive = AdaptiveLimit(config.adaptive, now_ns)
            gate = self._gates[key] = Gate(key, adaptive)
        return gate

    def reopened(self, now_ns: int) -> list[str]:
        """Give the keys of gates that let more go now, by nothing but the time."""
        return [gate.key for gate in self._gates.values() if gate.gives_up_dip(now_ns)]

    def make_retries(self, user: str, floor: int, now_ns: int) -> RetryBudget:
        """Make a user's retry budget; look in `users` first."""
        return self.users.make(user, "\x1fothers", lambda _: RetryBudget(floor, now_ns), now_ns)

    def breakers(self) -> dict[tuple[str, str], CircuitBreaker]:
        """Give the breakers by upstream and model, for showing; '' is the one that is shared."""
        return {_named(key): breaker for key, breaker in self._breakers.items()}

    def gates(self) -> dict[tuple[str, str], Gate]:
        """Give the gates by upstream and credential, for showing."""
        return {_named(key): gate for key, gate in self._gates.items()}


def _named(key: str) -> tuple[str, str]:
    """Give the upstream, and the model or credential, that a key of this module is made of."""
    parts = key_parts(key)
    return parts[1], parts[2]
