"""The relay's hand on admission: asks it, keeps its time, and carries out what it decides.

`taximeter.admission` decides and does nothing; a call's exchange does and does not decide. In
between stands one `AdmissionDriver` a worker. It knows which exchange a ticket belongs to, wakes
admission when something is due, and tells exchanges that waited what has become of them - one
after the other, never one inside another: a call that ends lets the next one go, which may end at
once and let another one go, and the stack must not grow with the queue.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from taximeter.admission import (
    Admission,
    Admitted,
    Again,
    Answer,
    Book,
    Effect,
    Go,
    Heard,
    MemoryStore,
    Over,
    Policy,
    PurseWatch,
    Refuse,
    Request,
    Short,
    Spent,
    Store,
    Ticket,
    Verdict,
    Wait,
)
from taximeter.relay._admission_state import admission_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from taximeter.live import AdmissionState

_now = time.monotonic_ns
TICK_SECONDS_MIN = 0.001
"""uvloop's timers count whole milliseconds: what is due within one is waited for that long."""
EFFECTS_AT_ONCE = 64
"""Calls told in one go, some 0.15 ms each: when a whole queue is refused, others get their turn."""


class Waiting(Protocol):
    """A call that waits for its turn."""

    def admitted(self, go: Go) -> None:
        """It may go."""

    def not_admitted(self, refused: Refuse) -> None:
        """It may not."""


class AdmissionDriver:
    """Drives the admission of one worker."""

    def __init__(
        self,
        policy: Policy,
        call_later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
        store: Store | None = None,
    ) -> None:
        self.admission = Admission(policy, random.random, store)
        self.straight = self.admission.straight
        self._call_later = call_later
        self._watch = PurseWatch()
        self._waiting: dict[Ticket, Waiting] = {}
        self._effects: deque[Effect] = deque()
        self._is_busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._more: asyncio.TimerHandle | None = None
        """Goes on with effects that were too many for one go."""
        self._wake_ns = 0

    @property
    def book(self) -> Book | None:
        """Budgets, where this process keeps them; None where they outlive it elsewhere."""
        store = self.admission.store
        return store.book if isinstance(store, MemoryStore) else None

    @property
    def waiting(self) -> int:
        """Calls that wait."""
        return len(self._waiting)

    def arrive(self, call: Waiting, request: Request) -> Verdict:
        """Decide about a call. One that must wait is told later."""
        verdict = self.admission.arrive(request, _now(), time.time_ns())
        if isinstance(verdict, Wait):
            self._waiting[verdict.ticket] = call
            if verdict.pushed_out is not None:
                self._carry_out((verdict.pushed_out,))
            self._set_timer()
        return verdict

    def heard(self, ticket: Ticket, answer: Answer, answered_ns: int | None = None) -> Heard:
        """Tell how an attempt came out, now or when its answer was there; give what follows."""
        heard = self.admission.heard(ticket, answer, answered_ns or _now(), time.time_ns())
        if heard.effects:
            self._carry_out(heard.effects)
        return heard

    def resume(self, ticket: Ticket) -> bool | Again:
        """Begin another attempt; False if there must be none, and `Again` if not yet."""
        return self.admission.resume(ticket, _now())

    def settle(self, ticket: Ticket, spent: Spent) -> None:
        """Give back what an ended call held."""
        effects = self.admission.settle(ticket, spent, _now())
        if effects:
            self._carry_out(effects)

    def answered(self, ticket: Ticket, found: Admitted | Over | Short | None) -> None:
        """Take in what a store elsewhere has said of a call."""
        self._carry_out(self.admission.answered(ticket, found, _now()))

    def end_well(
        self, ticket: Ticket, tokens: int | None, output_tokens: int | None, answered_ns: int
    ) -> None:
        """Take in that a call had a good answer and has ended, where `straight.leave` does not."""
        self.heard(ticket, Answer(status=200), answered_ns)
        self.settle(ticket, Spent(tokens=tokens, output_tokens=output_tokens))

    def leave(self, ticket: Ticket) -> None:
        """Take out a call that waits no longer: its client is gone, or we are going."""
        if self._waiting.pop(ticket, None) is not None:
            self._carry_out(self.admission.leave(ticket, _now()))

    def apply(self, policy: Policy) -> None:
        """Go by another policy from now on."""
        self.admission.apply(policy)

    def read_pressure(self, readings: Mapping[str, float]) -> None:
        """Take in how short this process is of what it needs: shares, 1 is full."""
        self.admission.read_pressure(readings, _now())

    def state(self, tiers: Iterable[str]) -> AdmissionState:
        """Tell how admission stands; `tiers` has the tier of each call that was let go."""
        return admission_state(self.admission, self._watch, tiers, _now(), time.time_ns())

    def close(self) -> None:
        """Wake up no more."""
        for timer in (self._timer, self._more):
            if timer is not None:
                timer.cancel()
        self._timer = self._more = None

    # -- carrying out -----------------------------------------------------------------------

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        self._effects.extend(effects)
        if self._is_busy:
            return
        self._is_busy = True
        left = EFFECTS_AT_ONCE
        try:
            while self._effects and left:
                left -= 1
                self._tell(self._effects.popleft())
        finally:
            self._is_busy = False
        if self._effects and self._more is None:
            self._more = self._call_later(0, self._carry_on)
        self._set_timer()

    def _carry_on(self) -> None:
        self._more = None
        self._carry_out(())

    def _tell(self, effect: Effect) -> None:
        call = self._waiting.pop(effect.ticket, None) if effect.ticket is not None else None
        if call is None:
            return
        if isinstance(effect, Go):
            call.admitted(effect)
        else:
            call.not_admitted(effect)

    # -- time -------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        if not self._waiting:
            return
        wake_ns = self.admission.wake_ns()
        if wake_ns is None:
            return
        if self._timer is not None:
            if self._wake_ns <= wake_ns:
                return  # it wakes up before, and looks again then
            self._timer.cancel()
        self._wake_ns = wake_ns
        seconds = max(TICK_SECONDS_MIN, (wake_ns - _now()) / 1e9)
        self._timer = self._call_later(seconds, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._carry_out(self.tick())

    def tick(self) -> list[Effect]:
        """Give what has become due, to be carried out."""
        return self.admission.tick(_now(), time.time_ns())

    def look(self) -> None:
        """Do what has become due; called about once a second, beside the timer."""
        self._carry_out(self.tick())
