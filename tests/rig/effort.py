"""How much work a piece of code is, on any machine.

Seconds say more about the machine than about the code: one is half as fast as another, and half as
fast again while its neighbour is busy. So what a piece of code takes is told in units of a fixed
piece of work, done just before and just after it by the same interpreter.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

_ROWS = [{"name": f"row {each}", "value": each * 1.5, "even": each % 2 == 0} for each in range(200)]


def _unit() -> float:
    """Do the fixed piece of work, half of it in the interpreter's loop; give its seconds."""
    began = time.process_time()
    for _ in range(5):
        rows = json.loads(json.dumps(_ROWS))
        totals: dict[str, float] = {}
        for row in rows:
            key = row["name"][:5]
            totals[key] = totals.get(key, 0.0) + row["value"]
    return time.process_time() - began


def effort(work: Callable[[], object]) -> float:
    """Give the processor time of `work` as so many times that of the unit, some 3 ms."""
    unit = min(_unit() for _ in range(3))
    began = time.process_time()
    work()
    took = time.process_time() - began
    return took / min(unit, *(_unit() for _ in range(3)))
