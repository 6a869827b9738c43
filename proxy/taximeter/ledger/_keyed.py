"""What calls made with virtual keys came to, for budgets that begin anew with a process.

The hourly sums do not keep keys apart, so this reads `calls`: its time grows with the number of
calls, and of calls that were pruned it knows nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.sql.functions import coalesce

from taximeter.ledger._engine import Store
from taximeter.ledger._rollup import PICO_PER_MICRO_USD
from taximeter.ledger._schema import calls


class KeyedSums(NamedTuple):
    """What the calls of one user and team with one key add up to."""

    user: str
    team: str
    key_hash: str
    tokens: int
    cost_pico: int
    """Of those whose cost is known."""


def keyed_sums(
    store: Store, prefix: str, since_ns: int, until_ns: int, rows_max: int
) -> list[KeyedSums]:
    """Add up calls whose `key_hash` begins with `prefix`. See `Ledger.keyed_sums`."""
    c = calls.c
    names = (coalesce(c.user_name, ""), coalesce(c.team, ""), c.key_hash)
    query = (
        select(
            *names,
            func.sum(coalesce(c.input_tokens, 0) + coalesce(c.output_tokens, 0)),
            # In two parts, as everywhere: one sum could pass what the column holds.
            func.sum(c.cost_pico // PICO_PER_MICRO_USD),
            func.sum(c.cost_pico % PICO_PER_MICRO_USD),
        )
        .where(
            c.started_at_ns >= since_ns,
            c.started_at_ns < until_ns,
            c.key_hash.startswith(prefix, autoescape=True),
        )
        .group_by(*names)
        .limit(rows_max + 1)
    )
    with store.reading() as connection:
        found = [
            KeyedSums(
                str(user),
                str(team),
                str(key_hash),
                int(tokens or 0),
                int(micro or 0) * PICO_PER_MICRO_USD + int(rest or 0),
            )
            for user, team, key_hash, tokens, micro, rest in connection.execute(query)
        ]
    if len(found) > rows_max:
        raise ValueError(f"more than {rows_max} users and keys")
    return found
