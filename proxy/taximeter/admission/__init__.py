"""Admission: budgets, limits, the fair queue, retries and breakers. Pure and synchronous.

`Admission(policy, uniform)` decides about calls; `_admission` says how it is driven. It does no
I/O and reads no clock: monotonic time (`now_ns`) and, where calendar windows or dates matter, wall
time (`wall_ns`) are arguments, in nanoseconds. Counts are kept behind `Store`; `MemoryStore`
keeps them in this process.
"""

from taximeter.admission._admission import Admission, Answer, Heard
from taximeter.admission._breaker import CircuitBreaker, State
from taximeter.admission._budget import Book, Standing
from taximeter.admission._door import Gate
from taximeter.admission._model import (
    Adaptive,
    Breaker,
    Budget,
    Limits,
    Policy,
    Queue,
    Retry,
    Tier,
    Upstream,
    User,
)
from taximeter.admission._plan import Plan, Purse, resolve
from taximeter.admission._pressure import Level, Pressure
from taximeter.admission._retry import Again, Stop
from taximeter.admission._store import MemoryStore, Store
from taximeter.admission._ticket import Ticket
from taximeter.admission._words import (
    Counters,
    Effect,
    Go,
    Place,
    Reason,
    Refuse,
    Request,
    Spent,
    Verdict,
    Wait,
)

__all__ = [
    "Adaptive",
    "Admission",
    "Again",
    "Answer",
    "Book",
    "Breaker",
    "Budget",
    "CircuitBreaker",
    "Counters",
    "Effect",
    "Gate",
    "Go",
    "Heard",
    "Level",
    "Limits",
    "MemoryStore",
    "Place",
    "Plan",
    "Policy",
    "Pressure",
    "Purse",
    "Queue",
    "Reason",
    "Refuse",
    "Request",
    "Retry",
    "Spent",
    "Standing",
    "State",
    "Stop",
    "Store",
    "Ticket",
    "Tier",
    "Upstream",
    "User",
    "Verdict",
    "Wait",
    "resolve",
]
