"""What a running process tells of itself, once a second: gauges, and counts since its start.

A call's own figures go through the journal and are exact. What stands here is of the moment
(calls in flight, connections, the event loop's lag) or about the process and not about any call
(connections refused, records that could not be written), so it may be a second old and ends with
the process. A relay writes one `RelayState` a second to its supervisor, whose console shows it.

No I/O, and nothing of ours is imported.
"""

from __future__ import annotations

from bisect import bisect_left

import msgspec

__all__ = [
    "AdmissionState",
    "BreakerState",
    "BudgetState",
    "ChildState",
    "ConfigState",
    "Headroom",
    "Lag",
    "PoolState",
    "ProcessState",
    "QueueState",
    "RelayState",
    "decode_relay_state",
]


class Lag(msgspec.Struct):
    """How late an event loop came to what was due, as a histogram since the process's start.

    `buckets` counts up to each edge of `EDGES_SECONDS`, and in its last place what is above all
    edges (not cumulative).
    """

    buckets: list[int]
    count: int = 0
    sum_seconds: float = 0.0

    EDGES_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

    @classmethod
    def empty(cls) -> Lag:
        """Give one that has seen nothing."""
        return cls(buckets=[0] * (len(cls.EDGES_SECONDS) + 1))

    def add(self, seconds: float) -> None:
        """Take note of one delay."""
        self.buckets[bisect_left(self.EDGES_SECONDS, seconds)] += 1
        self.count += 1
        self.sum_seconds += seconds


class ProcessState(msgspec.Struct, kw_only=True):
    """What the operating system says of a process."""

    pid: int
    started_at_seconds: float
    """Since the epoch."""
    cpu_seconds: float
    """User and system, since its start."""
    resident_bytes: int
    open_files: int
    open_files_max: int


class ChildState(msgspec.Struct, kw_only=True):
    """One of Taximeter's processes, as its supervisor sees it: `supervisor`, `recorder`, `relay-0`.

    Unlike what a process tells of itself, this is known when the process is down, too.
    """

    up: bool
    """Whether it runs, does its work and answers."""
    restarts: int
    """How often it had to be started again, since the supervisor's start."""
    process: ProcessState | None
    """None where the system does not tell, or there is no process now."""


class PoolState(msgspec.Struct, kw_only=True):
    """Connections of one worker to one upstream."""

    in_use: int
    idle: int
    waiting: int
    """Calls that wait for one."""


class Headroom(msgspec.Struct, kw_only=True):
    """What an upstream's last answer said is left of one of its own rate limits."""

    upstream: str
    model: str
    """The model asked for, as the limit is told by model; '' if the call named none."""
    resource: str
    """A word of a closed set: `requests`, `tokens`, `input_tokens`, `output_tokens`."""
    limit: int | None
    remaining: int
    at_seconds: float
    """When it was said, seconds since the epoch."""


class QueueState(msgspec.Struct, kw_only=True):
    """How one upstream's queue, limit and retry budget stand."""

    waiting: int
    size: int
    oldest_seconds: float
    """How long the call has waited that has waited longest; 0 if none waits."""
    slots_in_use: int
    """Calls that were let go and have not ended."""
    slots: int | None
    """Calls that may be let go at once: as set, or as found out; None where there is no limit."""
    retry_budget_ratio: float
    """What is left of its retry budget, from 0 to 1."""
    retries_refused: dict[str, int]
    """Retries not made since the start, by whose budget was spent: `user`, `upstream`."""
    holds: int
    """Times since the start that an answer of its own held calls back."""


class BreakerState(msgspec.Struct, kw_only=True):
    """How one circuit breaker stands."""

    upstream: str
    model: str
    """'' is the one that models share which have none of their own."""
    state: str
    moves: dict[str, int]
    """How often it has come into each state."""


class BudgetState(msgspec.Struct, kw_only=True):
    """What is used of one budget in the window that runs."""

    scope: str
    """`user`, `team`, `key` or `tier`."""
    holder: str
    per: str
    of_tokens: bool
    """Figures are tokens; else they are pico-dollars."""
    limit: int
    spent: int
    reserved: int
    """Worst case of the calls under way."""
    seconds_left: float
    refused: int
    """Calls that it had no room for."""


class SharedState(msgspec.Struct, kw_only=True):
    """How it goes with counts that workers share. Counts are since the start."""

    is_up: bool
    """Whether what is shared is asked; if not, this worker goes by its own share of limits."""
    outages: int
    decided_locally: int
    bookings_lost: int


class AdmissionState(msgspec.Struct, kw_only=True):
    """How the admission of one worker stands."""

    queues: dict[str, QueueState] = {}
    """By upstream."""
    tiers: dict[str, int] = {}
    """Calls that were let go and have not ended, by tier."""
    breakers: list[BreakerState] = []
    """A bounded number, those that are not closed first."""
    budgets: list[BudgetState] = []
    """A bounded number, those with the largest share used."""
    pressure: int = 0
    """How short the process is of what it needs: 0 not at all, 1 nobody may wait, 2 no new call."""
    overflowed: dict[str, int] = {}
    """Names, by kind, that came when the table of their kind was full."""
    shared: SharedState | None = None
    """None where counts are not shared."""


class ConfigState(msgspec.Struct, kw_only=True):
    """What became of the configuration."""

    is_good: bool = True
    """Whether it was taken when it was last to be read."""
    taken_at_seconds: float
    """When one was last taken, seconds since the epoch."""


class RelayState(msgspec.Struct, kw_only=True):
    """How a relay worker stands."""

    worker: int
    process: ProcessState
    loop_lag: Lag
    in_flight: dict[str, int]
    """Calls under way by upstream; '' for those whose upstream is not known (yet)."""
    oldest_seconds: dict[str, float] = {}
    """Age of the oldest of them, by upstream."""
    connections: int
    """Of clients."""
    outcomes: dict[str, int]
    """Calls ended since the start, by outcome."""
    unparsed: int
    """Requests refused before they were calls."""
    refused_connections: int
    faults: int
    """Exceptions of ours that a call met."""
    records: int
    """Written to the journal."""
    records_refused: int
    """That the journal could not take, or for which there was no journal."""
    counts_refused: int
    """Texts that were not counted, because too many waited, or counting was not to be had."""
    counts_late: int
    counts_failed: int
    body_bytes: int
    """Memory taken for request bodies."""
    tap_bytes: int
    """Memory taken for what is kept of answers."""
    replay_bytes: int = 0
    """Memory taken for answers kept for clients that ask again."""
    replays: dict[str, int] = {}
    """What came of calls with an `Idempotency-Key`, by word, since the start."""
    pools: dict[str, PoolState]
    """By upstream."""
    headroom: list[Headroom]
    has_journal: bool = True
    """False as long as the disk has had no room to begin one."""
    states_dropped: int = 0
    """Of these messages, those that the supervisor was too slow to take."""
    admission: AdmissionState = msgspec.field(default_factory=AdmissionState)


_decoder = msgspec.msgpack.Decoder(RelayState)


def decode_relay_state(data: bytes) -> RelayState:
    """Read a state from its MessagePack form.

    Raises:
        msgspec.MsgspecError: if it is none.
    """
    return _decoder.decode(data)
