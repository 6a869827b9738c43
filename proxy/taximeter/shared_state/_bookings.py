"""What was spent and must be booked in Redis once, whatever becomes of the line. Pure.

A booking is *numbered* as it is sent. One that was sent and not answered may have been made: it is
sent again under its number, and Redis makes each number once. What was never sent has no number
yet; while Redis is away it is added up by window, so that an outage costs as much memory as there
are windows and not as there are calls.
"""

from __future__ import annotations

from collections import deque

from taximeter.shared_state._steps import SUM_MAX, Settle, Step

AGAIN_MAX = 20_000
"""Bookings kept that were sent with no word on whether they were made."""
OWED_WINDOWS_MAX = 20_000
"""Windows whose bookings are kept while Redis is away. Beyond either they are lost there, and
counted; the ledger has them."""


class Bookings:
    """Bookings that Redis has not answered."""

    def __init__(self) -> None:
        self._number = 0
        self._again: deque[Settle] = deque()
        self._owed: dict[str, int] = {}

    def number(self, step: Settle) -> None:
        """Give a step that is about to be sent its number, if it books anything."""
        if step.windows:
            step.booking = self._next()

    def keep(self, step: Settle) -> int:
        """Keep what a step was to book, as no answer will come; give how many had no room."""
        if not step.booking:
            return sum(not self._owe(key, spent) for key, _, spent in step.windows if spent)
        spent = [(key, 0, amount) for key, _, amount in step.windows]
        self._again.append(Settle(spent, [], [], step.booking))
        if len(self._again) <= AGAIN_MAX:
            return 0
        self._again.popleft()
        return 1

    def _owe(self, key: str, spent: int) -> bool:
        if key not in self._owed and len(self._owed) >= OWED_WINDOWS_MAX:
            return False
        self._owed[key] = min(self._owed.get(key, 0) + spent, SUM_MAX)
        return True

    def steps(self) -> list[Step]:
        """Give what is to be sent, numbered, and keep none of it."""
        steps: list[Step] = list(self._again)
        for key, spent in self._owed.items():
            steps.append(Settle([(key, 0, spent)], [], [], self._next()))
        self._again.clear()
        self._owed.clear()
        return steps

    def _next(self) -> int:
        self._number += 1
        return self._number

    def __len__(self) -> int:
        return len(self._again) + len(self._owed)
