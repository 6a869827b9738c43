"""How a worker's admission stands, for whoever watches: read once a second."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable
from typing import TYPE_CHECKING

from taximeter.admission import MemoryStore, PurseWatch, State, Stop
from taximeter.live import AdmissionState, BreakerState, BudgetState, QueueState, SharedState
from taximeter.shared_state import RedisStore

if TYPE_CHECKING:
    from taximeter.admission import Admission, Book, CircuitBreaker, Gate, Pool
    from taximeter.shared_state import SharedStats

BREAKERS_MAX = 200
"""Breakers told of. Models are named by callers; beyond this the ones in trouble come first."""
NAME_CHARACTERS_MAX = 128

_SCOPES = {Stop.USER_BUDGET_SPENT: "user", Stop.UPSTREAM_BUDGET_SPENT: "upstream"}
_LEVELS = ("normal", "lean", "closed")


def admission_state(
    admission: Admission, watch: PurseWatch, tiers: Iterable[str], now_ns: int, wall_ns: int
) -> AdmissionState:
    """Tell how admission stands.

    Args:
        admission: the worker's.
        watch: finds the budgets that are most used.
        tiers: the tier of each call that was let go and has not ended.
        now_ns: monotonic.
        wall_ns: since the epoch.
    """
    gates: dict[str, list[Gate]] = {}
    for (upstream, _), gate in admission.gates().items():
        gates.setdefault(upstream, []).append(gate)
    store = admission.store
    book = store.book if isinstance(store, MemoryStore | RedisStore) else None
    overflowed = {**admission.overflowed(), "budgets": 0 if book is None else book.overflowed}
    return AdmissionState(
        queues={
            name: _queue(pool, gates.get(name, []), now_ns)
            for name, pool in admission.pools().items()
        },
        tiers=dict(Tally(tiers)),
        breakers=_breakers(admission.breakers()),
        budgets=[] if book is None else _budgets(watch, book, now_ns, wall_ns),
        pressure=_LEVELS.index(admission.pressure.level),
        overflowed=overflowed,
        shared=_shared(store.stats) if isinstance(store, RedisStore) else None,
    )


def _shared(stats: SharedStats) -> SharedState:
    return SharedState(
        is_up=not stats.is_local,
        outages=stats.outages,
        decided_locally=stats.decided_locally,
        bookings_lost=stats.bookings_lost,
    )


def _queue(pool: Pool, gates: list[Gate], now_ns: int) -> QueueState:
    oldest_ns = pool.queue.oldest_ns()
    return QueueState(
        waiting=pool.queue.waiting,
        size=pool.queue.size,
        oldest_seconds=0.0 if oldest_ns is None else (now_ns - oldest_ns) / 1e9,
        slots_in_use=sum(gate.in_flight for gate in gates),
        slots=_slots(pool, gates),
        retry_budget_ratio=pool.retries.share_left(now_ns),
        retries_refused={_SCOPES[stop]: count for stop, count in pool.retries_refused.items()},
        holds=pool.held,
    )


def _slots(pool: Pool, gates: list[Gate]) -> int | None:
    """Give how many calls may be let go: where it is found out, by the credentials in use."""
    if pool.config.limits.concurrency is not None:
        return pool.config.limits.concurrency
    found = [(gate.in_flight, gate.adaptive.limit) for gate in gates if gate.adaptive is not None]
    in_use = [limit for in_flight, limit in found if in_flight]
    return sum(in_use) or max((limit for _, limit in found), default=None)


def _breakers(breakers: dict[tuple[str, str], CircuitBreaker]) -> list[BreakerState]:
    in_trouble_first = sorted(
        breakers.items(),
        key=lambda item: (item[1].state is State.CLOSED, not item[1].moves[State.OPEN]),
    )
    return [
        BreakerState(
            upstream=upstream,
            model=model[:NAME_CHARACTERS_MAX],
            state=str(breaker.state),
            moves={str(state): count for state, count in breaker.moves.items()},
        )
        for (upstream, model), breaker in in_trouble_first[:BREAKERS_MAX]
    ]


def _budgets(watch: PurseWatch, book: Book, now_ns: int, wall_ns: int) -> list[BudgetState]:
    return [
        BudgetState(
            scope=used.purse.scope,
            holder=used.purse.holder[:NAME_CHARACTERS_MAX],
            per=used.purse.per,
            of_tokens=used.purse.of_tokens,
            limit=used.purse.limit,
            spent=used.spent,
            reserved=used.reserved,
            seconds_left=used.ends_ns / 1e9,
            refused=used.refused,
        )
        for used in watch.look(book, now_ns, wall_ns)
    ]
