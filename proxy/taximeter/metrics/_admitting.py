"""The families of admission: queues, limits, retries, breakers, budgets, as each relay has them.

Each relay tells of its own: with several workers and counts kept in memory, each has a queue, a
breaker and a sum spent of its own, so the series are by `process`. What became of calls (let go at
once, let go after a wait, refused) is counted when they are booked, and is in `_booked`.
"""

from __future__ import annotations

from typing import Final

from taximeter.metrics._family import USD, Source
from taximeter.metrics._table import Table

TABLE: Final = Table()

QUEUE_DEPTH = TABLE.gauge(
    Source.RELAY,
    "taximeter_queue_depth",
    "Calls that wait for their turn.",
    "process",
    "upstream",
)
QUEUE_LIMIT = TABLE.gauge(
    Source.RELAY, "taximeter_queue_limit", "Calls that may wait.", "process", "upstream"
)
QUEUE_OLDEST = TABLE.gauge(
    Source.RELAY,
    "taximeter_queue_oldest_seconds",
    "How long the call has waited that has waited longest; 0 if none waits.",
    "process",
    "upstream",
)
SLOTS_IN_USE = TABLE.gauge(
    Source.RELAY,
    "taximeter_slots_in_use",
    "Calls that were let go and have not ended.",
    "process",
    "upstream",
)
IN_FLIGHT_LIMIT = TABLE.gauge(
    Source.RELAY,
    "taximeter_in_flight_limit",
    "Calls that may have been let go at once; moves by itself where concurrency is adaptive, and "
    "is then the sum over the credentials in use. Not shown where there is no limit.",
    "process",
    "upstream",
)
TIER_IN_FLIGHT = TABLE.gauge(
    Source.RELAY,
    "taximeter_tier_in_flight",
    "Calls that were let go and have not ended, by tier.",
    "process",
    "tier",
)
HOLDS = TABLE.counter(
    Source.RELAY,
    "taximeter_upstream_holds",
    "Times that an upstream's own answer (429, or a wait it asked for) held further calls back.",
    "process",
    "upstream",
)
RETRY_BUDGET_RATIO = TABLE.gauge(
    Source.RELAY,
    "taximeter_retry_budget_ratio",
    "Share of an upstream's retry budget that is left, from 0 to 1.",
    "process",
    "upstream",
)
RETRIES_REFUSED = TABLE.counter(
    Source.RELAY,
    "taximeter_retry_budget_exhausted",
    "Retries that were not made for want of retry budget, by whose it was: `user`, `upstream`.",
    "process",
    "upstream",
    "scope",
)
BREAKER_STATE = TABLE.gauge(
    Source.RELAY,
    "taximeter_breaker_state",
    "1 for the state that a breaker is in, 0 for the others: `closed`, `half_open`, `open`. A "
    "bounded number of breakers is shown, those in trouble first.",
    "process",
    "upstream",
    "model",
    "state",
)
BREAKER_MOVES = TABLE.counter(
    Source.RELAY,
    "taximeter_breaker_transitions",
    "Changes of a breaker's state, by the new one.",
    "process",
    "upstream",
    "model",
    "to",
)
PRESSURE = TABLE.gauge(
    Source.RELAY,
    "taximeter_pressure_level",
    "How short a relay is of what it needs: 0 not at all, 1 nobody may wait, 2 no new calls.",
    "process",
)
OVERFLOWED = TABLE.counter(
    Source.RELAY,
    "taximeter_admission_overflow",
    "Names that came when the table of their kind was full, and share one entry: `routes`, "
    "`users`, `budgets`.",
    "process",
    "table",
)

SHARED_UP = TABLE.gauge(
    Source.RELAY,
    "taximeter_shared_state_up",
    "1 while limits and budgets are counted in Redis, 0 while a relay goes by its own share of "
    "them. Absent where counts are not shared.",
    "process",
)
SHARED_OUTAGES = TABLE.counter(
    Source.RELAY,
    "taximeter_shared_state_outages",
    "How often Redis stopped answering in time.",
    "process",
)
SHARED_LOCAL = TABLE.counter(
    Source.RELAY,
    "taximeter_shared_state_local_decisions",
    "Decisions about calls that a relay made by its own share of limits and budgets.",
    "process",
)
SHARED_LOST = TABLE.counter(
    Source.RELAY,
    "taximeter_shared_state_bookings_lost",
    "Sums spent that Redis never got, because too many were owed; the ledger has them.",
    "process",
)

_BUDGET = ("process", "scope", "budget", "per")
_EITHER = (*_BUDGET, "unit")
"""Where the name does not say what is counted: one owner may have a budget of each unit for the
same window."""
_BOUND = " A bounded number of budgets is shown, those with the largest share used."

BUDGET_LIMIT_USD = TABLE.gauge(
    Source.RELAY,
    "taximeter_budget_limit_usd",
    "What may be spent in the window that runs; scope is `user`, `team`, `key` or `tier`." + _BOUND,
    *_BUDGET,
    scale=USD,
)
BUDGET_SPENT_USD = TABLE.gauge(
    Source.RELAY,
    "taximeter_budget_spent_usd",
    "What was spent in the window that runs.",
    *_BUDGET,
    scale=USD,
)
BUDGET_RESERVED_USD = TABLE.gauge(
    Source.RELAY,
    "taximeter_budget_reserved_usd",
    "Worst case of the calls under way, set aside until they are settled.",
    *_BUDGET,
    scale=USD,
)
BUDGET_LIMIT_TOKENS = TABLE.gauge(
    Source.RELAY,
    "taximeter_budget_limit_tokens",
    "What may be used in the window that runs, of budgets that count tokens.",
    *_BUDGET,
)
BUDGET_SPENT_TOKENS = TABLE.gauge(
    Source.RELAY,
    "taximeter_budget_spent_tokens",
    "What was used in the window that runs, of budgets that count tokens.",
    *_BUDGET,
)
BUDGET_RESERVED_TOKENS = TABLE.gauge(
    Source.RELAY,
    "taximeter_budget_reserved_tokens",
    "Worst case of the calls under way, of budgets that count tokens.",
    *_BUDGET,
)
BUDGET_REFUSALS = TABLE.counter(
    Source.RELAY,
    "taximeter_budget_refusals",
    "Calls that a hard budget had no room for: with what is reserved, it is used up before all of "
    "it is spent; unit is `usd` or `tokens`.",
    *_EITHER,
)
BUDGET_SECONDS = TABLE.gauge(
    Source.RELAY,
    "taximeter_budget_seconds_remaining",
    "How long the window still runs; unit is `usd` or `tokens`.",
    *_EITHER,
)
