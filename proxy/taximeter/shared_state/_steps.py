"""The steps that are asked of Redis, as the arguments of their scripts, and what answers say. Pure.

An `Ask` is `admit` or `take`; a `Settle` is the end of a call, a debt, or bookings alone; a `Beat`
states anew what this worker holds; `Opened` tells of its breakers; a `Raise` what the ledger knows
of spending. Times are whole microseconds
there and nanoseconds here; a charge is rounded down, so a rate is passed by at most one
microsecond's worth a charge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from taximeter.admission import CircuitBreaker, Need, Over, Plan, Purse, Rate, Short, State

AMOUNT_MAX = 10**16
"""Most that one call reserves or books: 10,000 dollars, or more tokens than there are. Sums are
64-bit numbers in Redis."""
SUM_MAX = 9 * 10**18
DEBT_US_MAX = 24 * 3600 * 1_000_000
"""A day. An upstream that says it used a billion tokens must not close a rate for good."""
POLL_NS = 50_000_000
"""How soon a full slot is asked for again: other workers' calls end unseen."""
BEAT_KEYS_MAX = 200
"""Keys that one `Beat` or `Raise` states: some 200 us of the server's time."""

SLOTS = "slots\x1f"
"""What the keys of slots begin with."""

Arguments = tuple[list[str], list[str | int]]
"""Keys, and what follows them."""


@dataclass(slots=True)
class Ask:
    """May this call go? With a budget to reserve, with limits to take, or with both."""

    plan: Plan
    need: Need
    worst_tokens: int
    worst_pico: int | None
    passing: bool
    is_admit: bool
    asked_ns: int
    wall_ns: int
    short: Short | None = None
    """What is known to stand in the way, if its limits are not asked for."""

    def arguments(self, prefix: str, me: str, lease_us: int) -> Arguments:
        """Give what `admit` is called with."""
        plan = self.plan
        purses = plan.purses if self.is_admit else ()
        keys = [prefix + purse.key for purse in purses]
        slots, rates = (plan.slots, plan.rates) if self.passing else ((), ())
        said: list[str | int] = [me, lease_us, int(self.passing)]
        said += (len(purses), len(slots), len(rates))
        for purse in purses:
            amount = self.amount(purse)
            said += (
                purse.per,
                purse.limit,
                "unpriced" if amount is None else amount,
                int(purse.hard),
            )
        for slot in slots:
            keys.append(prefix + slot.key)
            said.append(slot.limit)
        for rate in rates:
            keys.append(prefix + rate.key)
            said += (cost_us(rate, self.need), -(-rate.tolerance_ns // 1000))
        return keys, said

    def amount(self, purse: Purse) -> int | None:
        """Give what the call reserves of a purse; None if its price must be known and is not."""
        if purse.of_tokens:
            return min(self.worst_tokens, AMOUNT_MAX)
        if self.worst_pico is not None:
            return min(self.worst_pico, AMOUNT_MAX)
        return None if purse.refuse_unpriced else 0

    def over(self, answer: Sequence[int]) -> Over:
        """Read the answer that a budget has too little left, or cannot count an unknown price."""
        kind, place, resets_us = answer[:3]
        return Over(self.plan.purses[place - 1], resets_us * 1000, unpriced=kind == 2)

    def short_of(self, answer: Sequence[int]) -> Short | None:
        """Read what stood in the way of its limits; None if nothing did."""
        if not answer or not answer[0]:
            return None
        _, place, wait_us, never = answer
        slots = self.plan.slots
        if place <= len(slots):
            slot = slots[place - 1]
            wait = None if never else POLL_NS
            return Short(slot.key, slot.name, slot.own, wait, never=bool(never))
        rate = self.plan.rates[place - len(slots) - 1]
        wait = None if never else wait_us * 1000
        return Short(rate.key, rate.name, rate.own, wait, never=bool(never))


def cost_us(rate: Rate, need: Need) -> int:
    """Give what a call takes of a rate; -1 if it alone is more than that ever lets through."""
    cost = 1
    if rate.of_tokens:
        cost = need.tokens
        if cost > rate.burst and need.input_tokens <= rate.burst:
            # The output is a guess or a cap, mostly not reached: it may owe the rest.
            cost = rate.burst
    if cost > rate.burst or not rate.burst:
        return -1
    return cost * (rate.period_ns // 1000) // rate.limit


def unused_us(rate: Rate, need: Need, tokens: int | None, requests: int) -> int:
    """Give what a call did not use of what it took of a rate; negative for what it owes."""
    if not rate.of_tokens:
        unused = 0 if requests else 1
    elif tokens is None:
        unused = 0
    else:
        unused = min(need.tokens, rate.burst) - tokens
    size = abs(unused) * (rate.period_ns // 1000) // rate.limit
    return size if unused >= 0 else -min(size, DEBT_US_MAX)


@dataclass(slots=True)
class Settle:
    """What goes back, what is owed, and what is booked."""

    windows: list[tuple[str, int, int]]
    """Key of a purse's window, what was reserved there and is given back, what is booked."""
    slots: list[str]
    rates: list[tuple[str, int, int, int]]
    """Key, unused or owed, and the two numbers that the reservation was given."""
    booking: int = 0
    """Its number; 0 books nothing."""

    def arguments(self, prefix: str, me: str) -> Arguments:
        """Give what `settle` is called with."""
        said: list[str | int] = [me, self.booking]
        said += (len(self.windows), len(self.slots), len(self.rates))
        keys = []
        for key, reserved, spent in self.windows:
            keys.append(prefix + key)
            said += (reserved, spent)
        keys += [prefix + key for key in self.slots]
        for key, unused, mark, made in self.rates:
            keys.append(prefix + key)
            said += (unused, mark, made)
        return keys, said


@dataclass(slots=True)
class Beat:
    """What this worker holds, of some keys."""

    slots: dict[str, int]
    windows: dict[str, int]

    def arguments(self, prefix: str, me: str, lease_us: int) -> Arguments:
        """Give what `beat` is called with."""
        keys = [prefix + key for key in (*self.slots, *self.windows)]
        said: list[str | int] = [me, lease_us, len(self.slots), len(self.windows)]
        said += self.slots.values()
        said += (min(reserved, SUM_MAX) for reserved in self.windows.values())
        return keys, said


@dataclass(slots=True)
class Opened:
    """Which breakers are open here, and for how long; the answer says so of all workers."""

    breakers: list[tuple[tuple[str, str], CircuitBreaker]]
    left_milliseconds: list[int]

    def arguments(self, prefix: str) -> Arguments:
        """Give what `breakers` is called with."""
        keys = [
            f"{prefix}breaker\x1f{upstream}\x1f{model}" for (upstream, model), _ in self.breakers
        ]
        return keys, list(self.left_milliseconds)

    def take_in(self, answer: Sequence[int], now_ns: int) -> None:
        """Open those that are open elsewhere."""
        for (_, breaker), left in zip(self.breakers, answer, strict=True):
            breaker.opened_elsewhere(now_ns + left * 1_000_000, now_ns)


@dataclass(slots=True)
class Raise:
    """What windows of purses have spent at least, by all that the ledger knows."""

    windows: list[tuple[str, int]]
    """Key of a window, and the sum."""

    def arguments(self, prefix: str) -> Arguments:
        """Give what `raise_spent` is called with."""
        keys = [prefix + key for key, _ in self.windows]
        return keys, [min(spent, SUM_MAX) for _, spent in self.windows]


Step = Ask | Settle | Beat | Opened | Raise


def raises(windows: Iterable[tuple[str, int]]) -> Iterator[Raise]:
    """State what was spent, in as many steps as it takes."""
    rest = iter(windows)
    while some := list(islice(rest, BEAT_KEYS_MAX)):
        yield Raise(some)


def opened(breakers: Mapping[tuple[str, str], CircuitBreaker], now_ns: int) -> Iterator[Opened]:
    """Tell of all breakers, in as many steps as it takes."""
    rest = iter(breakers.items())
    while some := list(islice(rest, BEAT_KEYS_MAX)):
        left = [
            breaker.wait_ns(now_ns) // 1_000_000 if breaker.state is State.OPEN else 0
            for _, breaker in some
        ]
        yield Opened(some, left)


def beats(slots: Mapping[str, int], windows: Mapping[str, int]) -> Iterator[Beat]:
    """State what is held, in as many beats as it takes."""
    held, reserved = iter(slots.items()), iter(windows.items())
    while True:
        some = dict(islice(held, BEAT_KEYS_MAX))
        others = dict(islice(reserved, BEAT_KEYS_MAX - len(some)))
        if not some and not others:
            return
        yield Beat(some, others)


def window_key(purse: Purse, start_seconds: int) -> str:
    """Give the key of one window of a purse, as the scripts make it."""
    return f"{purse.key}:{start_seconds}"
