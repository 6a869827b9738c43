"""What was spent before this worker began: budgets do not begin anew with a process.

The ledger knows it, and this is all that a relay ever reads there: in a thread, and only where
there are budgets. What is asked for is fixed, namely the calls that began before the worker did,
so its answer can only grow: by the calls that were journalled and are not booked yet, and by those
that were cut short and are booked as interrupted. So it is read again a few times, ever further
apart (`READ_AT_SECONDS`), and each reading takes the place of the one before. What the worker
has booked itself stays on top.

Until the first reading is there, a call that some budget stands over waits, at most
`HELD_SECONDS_MAX`; any other goes on at once. With a ledger that is down, or slower than that,
calls go on against what is known, it is said in the log, and it is tried again.

What is not made good: calls that are booked later than the last reading; what keys spent in calls
that were pruned; and the calls of other workers since this one began, which count by themselves.

A budget that a reload brings is treated in the same way, from the moment of the reload. Where
budgets are kept (`_purses`) makes one difference: those in Redis are told again when there is a
line to it again, for it may have come back without them; no call waits for that.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taximeter.admission import (
    Per,
    Policy,
    Request,
    SpentSoFar,
    budget_periods,
    resolve,
    window_of,
)

if TYPE_CHECKING:
    from taximeter.keys import KeyStore
    from taximeter.ledger import Ledger
    from taximeter.relay._purses import Purses

log = logging.getLogger("taximeter.relay")

READ_AT_SECONDS = (0.0, 1.0, 3.0, 10.0, 60.0, 300.0)
"""After the start. A recorder that starts with us is through with what it found long before."""
READINGS_ENOUGH = 4
"""After so many a reload that brings budgets has its own turn."""
RETRY_SECONDS_FIRST = 2.0
RETRY_SECONDS_MAX = 60.0
HELD_SECONDS_MAX = 5.0
HELD_CALLS_MAX = 10_000
"""More than that go on against what is known."""
KEY_MARK = "tm-"
"""What `key_hash` begins with for a virtual key; its id follows."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be read: calls begun before a moment, for some purses."""

    until_ns: int
    skipped: frozenset[str]
    """Purses that knew what they had spent then."""


class Carried:
    """Carries what was spent before into one worker's budgets."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        purses: Purses,
        policy: Callable[[], Policy],
        keys: Callable[[], KeyStore],
        url: Callable[[], str],
    ) -> None:
        self._loop = loop
        self._purses = purses
        self._policy = policy
        self._keys = keys
        self._url = url
        self._wanted: _Wanted | None = None
        self._next: _Wanted | None = None
        """What a reload has asked for meanwhile."""
        self._done = 0
        self._failures = 0
        self._began = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._release_timer: asyncio.TimerHandle | None = None
        self._held: deque[Callable[[], None]] = deque()
        self._is_closed = False
        self.is_awaited = False
        """Whether calls under a budget wait for the first reading."""
        self.problem: str | None = None
        """Why what was spent before is not known; None if it is, or need not be."""

    def begin(self) -> None:
        """Read what was spent up to now; called at the start, and when budgets have changed."""
        if not budget_periods(self._policy()):
            return
        wanted = _Wanted(time.time_ns(), self._purses.known())
        if self._wanted is None or self._done >= READINGS_ENOUGH:
            self._hold()
            self._go(wanted)
        elif self._next is None:
            self._next = wanted

    def begin_anew(self) -> None:
        """Read it all again: what was told may be forgotten. No call waits for it."""
        if budget_periods(self._policy()):
            self._next = None
            self._go(_Wanted(time.time_ns(), self._purses.known()))

    def hold(self) -> None:
        """Have calls under a budget wait for the first reading, if it is under way."""
        if self._wanted is not None and not self._done:
            self._hold()

    def _hold(self) -> None:
        self.is_awaited = True
        self._release_timer = self._loop.call_later(HELD_SECONDS_MAX, self._release)

    def _go(self, wanted: _Wanted) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wanted = wanted
        self._done = self._failures = 0
        self._began = self._loop.time()
        self._read()

    def holds(self, asked: Request, go_on: Callable[[], None]) -> bool:
        """Tell whether a call must wait until it is known what was spent; then `go_on` is called.

        Ask only while `is_awaited`.
        """
        if len(self._held) >= HELD_CALLS_MAX or not resolve(self._policy(), asked).purses:
            return False
        self._held.append(go_on)
        return True

    def close(self) -> None:
        """Read no more."""
        self._is_closed = True
        for timer in (self._timer, self._release_timer):
            if timer is not None:
                timer.cancel()
        self._held.clear()

    # -- reading ----------------------------------------------------------------------------

    def _read(self) -> None:
        self._timer = None
        wanted, policy, keys, url = self._wanted, self._policy(), self._keys(), self._url()
        if wanted is None:
            return

        def work() -> None:
            try:
                found: list[SpentSoFar] | Exception = spent_before(
                    url, budget_periods(policy), wanted.until_ns, keys
                )
            except Exception as error:  # told in the loop, whatever it is: nothing may be lost
                found = error
            if not self._is_closed:
                try:
                    self._loop.call_soon_threadsafe(self._take, wanted, found)
                except RuntimeError:
                    return  # the loop has ended meanwhile, and with it the budgets

        # A daemon: a database that hangs must not keep the process from ending.
        threading.Thread(target=work, name="spent-before", daemon=True).start()

    def _take(self, wanted: _Wanted, found: list[SpentSoFar] | Exception) -> None:
        if self._is_closed or wanted is not self._wanted:
            return
        if isinstance(found, Exception):
            self._failed(found)
            return
        if self.problem is not None and self._failures > 1:
            log.warning("Budgets know again what was spent before.")
        self.problem, self._failures = None, 0
        self._purses.tell(self._policy(), found, wanted.until_ns, wanted.skipped)
        self._release()
        self._done += 1
        readings_max = len(READ_AT_SECONDS) if self._next is None else READINGS_ENOUGH
        if self._done < readings_max:
            wait = self._began + READ_AT_SECONDS[self._done] - self._loop.time()
            self._timer = self._loop.call_later(max(0.1, wait), self._read)
            return
        self._wanted = None
        if self._next is not None:
            following, self._next = self._next, None
            self._hold()
            self._go(following)

    def _failed(self, error: Exception) -> None:
        self.problem = str(error)
        # A ledger that is just being made has no tables yet: that is told only if it lasts.
        if self._failures or type(error).__name__ != "LedgerSchemaError":
            log.error("Budgets do not know what was spent before this start: %s", error)
        wait = min(RETRY_SECONDS_FIRST * 2 ** min(self._failures, 10), RETRY_SECONDS_MAX)
        self._failures += 1
        self._release()
        self._timer = self._loop.call_later(wait, self._read)

    def _release(self) -> None:
        self.is_awaited = False
        if self._release_timer is not None:
            self._release_timer.cancel()
            self._release_timer = None
        while self._held:
            self._held.popleft()()


def spent_before(
    url: str, periods: frozenset[Per], until_ns: int, keys: KeyStore
) -> list[SpentSoFar]:
    """Read what calls begun before `until_ns` have come to in the windows around it. Blocks.

    Raises:
        LedgerError: if the ledger cannot be read.
        ValueError: if there are too many users.
    """
    # It takes a third of a second and 30 MB to import: only where there are budgets.
    from taximeter.ledger import Ledger

    ledger = Ledger.open(url)
    try:
        return [each for per in sorted(periods) for each in _spent_in(ledger, per, until_ns, keys)]
    finally:
        ledger.close()


def _spent_in(ledger: Ledger, per: Per, until_ns: int, keys: KeyStore) -> list[SpentSoFar]:
    """Read one length of windows: calls with virtual keys key by key, the others in sum."""
    since_ns, _ = window_of(per, until_ns)
    found = []
    with_keys: Counter[tuple[str, str]] = Counter()
    money_with_keys: Counter[tuple[str, str]] = Counter()
    if keys.in_use:
        for each in ledger.keyed_sums(KEY_MARK, since_ns=since_ns, until_ns=until_ns):
            who = (each.user, each.team)
            with_keys[who] += each.tokens
            money_with_keys[who] += each.cost_pico
            key_id = each.key_hash.removeprefix(KEY_MARK)
            key = keys.key(key_id)
            found.append(
                SpentSoFar(
                    per=per,
                    user=each.user,
                    team=each.team,
                    key=key_id,
                    tier=(key.tier or "") if key is not None else "",
                    is_claimed=key is not None and key.user is None,
                    tokens=each.tokens,
                    pico=each.cost_pico,
                )
            )
    for row in ledger.report(("user", "team"), since_ns=since_ns, until_ns=until_ns):
        who = (row.key["user"] or "", row.key["team"] or "")
        found.append(
            SpentSoFar(
                per=per,
                user=who[0],
                team=who[1],
                # The two are read one after the other: a sum must not come out below nothing.
                tokens=max(0, row.input_tokens + row.output_tokens - with_keys[who]),
                pico=max(0, row.cost_pico - money_with_keys[who]),
            )
        )
    return found
