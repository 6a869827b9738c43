"""Admission: budgets, limits, the fair queue, retries and breakers. Pure and synchronous.

`Admission(policy, uniform)` decides about calls; `_admission` says how it is driven. It does no
I/O and reads no clock: monotonic time (`now_ns`) and, where calendar windows or dates matter, wall
time (`wall_ns`) are arguments, in nanoseconds. Counts are kept behind `Store`; `MemoryStore`
keeps them in this process.
"""

from taximeter.admission._admission import Admission, Heard
from taximeter.admission._attempts import Answer
from taximeter.admission._breaker import CircuitBreaker, State
from taximeter.admission._budget import Book, Hold, Over, Standing
from taximeter.admission._door import Gate
from taximeter.admission._model import (
    Adaptive,
    Breaker,
    Budget,
    Limits,
    Per,
    Policy,
    Queue,
    Retry,
    Tier,
    Upstream,
    User,
)
from taximeter.admission._need import Need, Short
from taximeter.admission._plan import Plan, Purse, Rate, Slots, resolve
from taximeter.admission._pressure import Level, Pressure
from taximeter.admission._rebuild import SpentSoFar, budget_periods, load_spent
from taximeter.admission._retry import Again, Stop
from taximeter.admission._routes import Pool
from taximeter.admission._store import PENDING, Admitted, Held, MemoryStore, Pending, Store
from taximeter.admission._ticket import Ticket
from taximeter.admission._watch import PurseWatch, Used
from taximeter.admission._window import window_of
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
    "PENDING",
    "Adaptive",
    "Admission",
    "Admitted",
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
    "Held",
    "Hold",
    "Level",
    "Limits",
    "MemoryStore",
    "Need",
    "Over",
    "Pending",
    "Per",
    "Place",
    "Plan",
    "Policy",
    "Pool",
    "Pressure",
    "Purse",
    "PurseWatch",
    "Queue",
    "Rate",
    "Reason",
    "Refuse",
    "Request",
    "Retry",
    "Short",
    "Slots",
    "Spent",
    "SpentSoFar",
    "Standing",
    "State",
    "Stop",
    "Store",
    "Ticket",
    "Tier",
    "Upstream",
    "Used",
    "User",
    "Verdict",
    "Wait",
    "budget_periods",
    "load_spent",
    "resolve",
    "window_of",
]
