"""The fair queue: who goes next when not all can go.

Constraints. A burst from one user must not make others wait; a user's share follows the weight
of its tier; what counts is tokens, not calls; nothing that can go may be kept waiting by
something that cannot (a user at a limit of its own, a model at its limit); every operation is
O(log n); memory follows what waits, not who has ever called.

Whose turn it is: start-time fair queueing (Goyal, Vin, Cheng 1996), which Jin, Chase and Kaur
(2004) carried over to a server that takes several at once. Each user has a *tag*, the virtual
time at which its next call begins; a call moves it on by cost / weight; the smallest tag
goes first. Virtual time is the tag of the call let go last, and a user who comes with nothing
waiting starts at virtual time: it has no claim from the past, and nobody has one on it. So
between two users who both wait, service differs by no more than one call of each and the calls
that are under way; and a newcomer waits for one call of each other user at most.

What stands in the way: each limit has a *key*. A user's calls of one kind (a `Lane`: same limits,
same key to each) wait in line behind the first; that first one is *parked* on the key that last
refused it, in a heap by tag (`_parking`). When a key opens - a slot is given back, a rate's wait
is over - the parked lanes of all keys that opened are tried in the order of their tags, until
every key has either refused one or has none left. A lane is only tried if nobody with a smaller
tag is parked on another of its keys: who waits for many tokens is not starved by those who need
few.

When it is full: the user with the most waiting calls for its weight loses its oldest one. That
one has waited longest and has the least time left; dropping it from the front leaves the
others fresh, and nobody else pays. When nothing waits at all, all tags are forgotten: capacity
used while nobody waited for it was free.

What was reserved is corrected when the true cost is known (`correct`), so that a user is charged
tokens used, not tokens feared; never so far back that a user saves up a claim.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from typing import Final

from taximeter.admission._agenda import Agenda
from taximeter.admission._lanes import Crowd, Entry, Flow, Lane, Waiter
from taximeter.admission._need import Short
from taximeter.admission._parking import DEAD_MIN, Parking

_UNIT: Final = 1 << 20
"""Virtual time of one token at weight 1: integers keep the order the same on every machine."""


@dataclass(frozen=True, slots=True)
class Gone:
    """The call tried is out of the queue, and did not pass."""


GONE: Final = Gone()
Attempt = Callable[[Waiter], "Short | Gone | None"]
"""Tries to let a call go: None if it went, else what refused it, or that it is gone."""


class FairQueue:
    """One upstream's queue."""

    def __init__(self, size: int, crowd: Crowd | None = None) -> None:
        self.size = size
        self._crowd = Crowd() if crowd is None else crowd
        self.waiting = 0
        self.cost_waiting = 0
        self.virtual = 0
        self._sequence = 0
        self._flows: dict[str, Flow] = {}
        self._resting: deque[tuple[int, Flow]] = deque()
        self._went = 0
        self._parking = Parking()
        self._weight_waiting = 0.0
        self._contended = 0
        self.contended_since_ns: int | None = None
        """Since when some call has waited for what others share; None while none does."""
        self._deadlines: Agenda[Waiter] = Agenda()
        self._fattest: Agenda[Flow] = Agenda()

    # Coming in ----------------------------------------------------------------------------

    def put(
        self,
        waiter: Waiter,
        user: str,
        weight: float,
        lane_key: str,
        keys: tuple[str, ...],
        own_keys: frozenset[str],
        attempt: Attempt,
        now_ns: int,
    ) -> bool:
        """Put a call in line, and try it if it is first there. Give whether it is out again."""
        flow = self._flows.get(user)
        if flow is None:
            flow = self._flows[user] = Flow(user, weight, self.virtual)
        if not flow.waiting:
            flow.weight = weight
            flow.tag = max(flow.tag, self.virtual)
            self._weight_waiting += weight
        lane = flow.lanes.get(lane_key)
        if lane is None:
            lane = flow.lanes[lane_key] = Lane(flow, lane_key, keys, own_keys)
        elif not lane.line and lane.parked_on is not None:
            self._parking.dead -= 1
            self._contend(lane, 1, now_ns)
        self._sequence += 1
        lane.line[self._sequence] = waiter
        waiter.sequence = self._sequence
        waiter.lane = lane
        flow.waiting += 1
        flow.cost_waiting += waiter.fair_cost
        self.waiting += 1
        self._crowd.waiting += 1
        self.cost_waiting += waiter.fair_cost
        self._deadlines.set(waiter, waiter.deadline_ns)
        self._fattest.set(flow, -flow.waiting / flow.weight)
        if lane.parked_on is None:
            self._try(lane, attempt, frozenset(), now_ns)
        return waiter.lane is None

    def victim(self) -> Waiter | None:
        """Give who must go when the queue is too full: the oldest call of the fattest user."""
        if self.waiting <= self.size:
            return None
        first = self._fattest.first()
        assert first is not None
        lanes = [lane for lane in first[1].lanes.values() if lane.line]
        oldest = min(lanes, key=lambda lane: next(iter(lane.line)))
        return next(iter(oldest.line.values()))

    # Going out ----------------------------------------------------------------------------

    def pump(self, opened: Iterable[str], attempt: Attempt, now_ns: int) -> None:
        """Let go who may, now that the keys in `opened` may let someone pass."""
        parking = self._parking
        keys = {key for key in opened if key in parking.heaps}
        while keys:
            best: Entry | None = None
            best_key = ""
            for key in tuple(keys):
                entry = parking.head(key)
                if entry is None:
                    keys.discard(key)
                elif best is None or entry < best:
                    best, best_key = entry, key
            if best is None:
                break
            parking.pop(best_key)
            lane = best[3]
            self._contend(lane, -1)
            lane.parked_on = lane.entry = None
            if best_key in lane.own_keys:
                # Held up by a limit of its own: no claim on others for that time.
                lane.flow.tag = max(lane.flow.tag, self.virtual)
            refused_by = self._try(lane, attempt, keys, now_ns)
            if refused_by is not None:
                keys.discard(refused_by)
            elif lane.line and lane.parked_on is None:
                self._park(lane, best_key, now_ns)
        if not self._contended:
            self.contended_since_ns = None

    def _try(self, lane: Lane, attempt: Attempt, opened: Container[str], now_ns: int) -> str | None:
        """Try the first of a lane; park the lane if it was refused, and give the key it was by.

        A lane that is let go first in and alone has nothing left; else the caller goes on.
        """
        flow = lane.flow
        sequence, waiter = next(iter(lane.line.items()))
        tag = flow.tag
        heaps = self._parking.heaps
        for key in lane.keys:
            if key in heaps and key not in opened:
                entry = self._parking.head(key)
                if entry is not None and (entry[0], entry[1]) < (tag, sequence):
                    self._park(lane, key, now_ns)
                    return key
        answer = attempt(waiter)
        if answer is None:
            if tag > self.virtual:
                self.virtual = tag
            self._went += 1
            self._remove(waiter, lane)
            flow.tag = tag + int(waiter.fair_cost * _UNIT / flow.weight)
            return None
        if isinstance(answer, Gone):
            if waiter.lane is not None:
                self._remove(waiter, lane)
            return None
        self._park(lane, answer.key, now_ns)
        if answer.wait_ns is not None:
            self._parking.opens.sooner(answer.key, now_ns + answer.wait_ns)
        return answer.key

    def remove(self, waiter: Waiter) -> None:
        """Take a call out that need not wait any longer."""
        if waiter.lane is not None:
            self._remove(waiter, waiter.lane)

    def _remove(self, waiter: Waiter, lane: Lane) -> None:
        flow = lane.flow
        del lane.line[waiter.sequence]
        waiter.lane = None
        self._deadlines.discard(waiter)
        flow.waiting -= 1
        flow.cost_waiting -= waiter.fair_cost
        self.waiting -= 1
        self._crowd.waiting -= 1
        self.cost_waiting -= waiter.fair_cost
        if not lane.line:
            if lane.parked_on is None:
                del flow.lanes[lane.key]
            else:
                self._parking.dead += 1
                self._contend(lane, -1)
                if not self._contended:
                    self.contended_since_ns = None
        if not self.waiting:
            self._forget_all()
        elif flow.waiting:
            self._fattest.set(flow, -flow.waiting / flow.weight)
        else:
            self._weight_waiting -= flow.weight
            self._fattest.discard(flow)
            self._rest(flow)
        if self._parking.dead > DEAD_MIN + self.waiting:
            self._parking.sweep()

    def oldest_ns(self) -> int | None:
        """Give since when the call waits that has waited longest. Looks at all lanes: O(n)."""
        return min(
            (
                next(iter(lane.line.values())).since_ns
                for flow in self._flows.values()
                for lane in flow.lanes.values()
                if lane.line
            ),
            default=None,
        )

    def expired(self, now_ns: int) -> list[tuple[Waiter, str]]:
        """Take out the calls whose deadline has come, in that order.

        Each with the key that its lane was parked on: those behind it may fit where it did not.
        """
        late = []
        for waiter in self._deadlines.due(now_ns):
            if waiter.lane is not None and waiter.lane.parked_on is not None:
                late.append((waiter, waiter.lane.parked_on))
                self.remove(waiter)
        return late

    def due(self, now_ns: int) -> list[str]:
        """Give the keys whose wait is over."""
        return self._parking.opens.due(now_ns)

    def wake_ns(self) -> int | None:
        """Give the time at which `expired` or `due` will next have something to say."""
        entries = (self._parking.opens.first(), self._deadlines.first())
        times = [int(entry[0]) for entry in entries if entry is not None]
        return min(times, default=None)

    # Being charged the truth --------------------------------------------------------------

    def correct(self, user: str, fair_cost: int, true_cost: int) -> None:
        """Charge a user what a call of its own came to, in place of what it was let go for."""
        flow = self._flows.get(user)
        if flow is None:
            return
        change = int((true_cost - fair_cost) * _UNIT / flow.weight)
        if change > 0:
            flow.tag += change
            return  # Entries that have become too early are put right when they come up.
        tag = max(flow.tag + change, min(flow.tag, self.virtual))
        if tag < flow.tag:
            flow.tag = tag
            for lane in flow.lanes.values():
                if lane.parked_on is not None and lane.line:
                    self._parking.enter(lane, lane.parked_on)
            if self._parking.dead > DEAD_MIN + self.waiting:
                self._parking.sweep()

    # Asking -------------------------------------------------------------------------------

    def service_ahead(self, flow: Flow, waiter: Waiter) -> float:
        """Give the tokens that will be let go until the user's last call is, itself included.

        An upper bound as far as the shares are kept: the user's own line times what others get
        meanwhile; or all that waits, if that is less.
        """
        lead = max(0, flow.tag - self.virtual) / _UNIT
        own = flow.cost_waiting / flow.weight + lead
        return max(waiter.fair_cost, min(own * self._weight_waiting, self.cost_waiting))

    def position(self, waiter: Waiter) -> tuple[int, int]:
        """Give the place of a waiting call, 1 for the next, and the tokens up to and with it.

        As shares are now; limits that hold back some are not foreseen. Looks at all: O(n log n).
        """
        places: list[tuple[int, int, Waiter]] = []
        for flow in self._flows.values():
            waiters = [each for lane in flow.lanes.values() for each in lane.line.values()]
            waiters.sort(key=lambda each: each.sequence)
            tag = flow.tag
            for each in waiters:
                places.append((tag, each.sequence, each))
                tag += int(each.fair_cost * _UNIT / flow.weight)
        places.sort(key=lambda place: place[:2])
        tokens = 0
        for position, (_, _, each) in enumerate(places, 1):
            tokens += each.fair_cost
            if each is waiter:
                return position, tokens
        raise LookupError("this call does not wait here")

    @property
    def flows(self) -> int:
        """Users that are remembered: those who wait, and those lately let go."""
        return len(self._flows)

    # Keeping count -----------------------------------------------------------------------

    def _park(self, lane: Lane, key: str, now_ns: int) -> None:
        lane.parked_on = key
        self._contend(lane, 1, now_ns)
        self._parking.enter(lane, key)

    def _contend(self, lane: Lane, change: int, now_ns: int = 0) -> None:
        """Keep count of lanes with calls that wait for what others share."""
        if lane.parked_on not in lane.own_keys:
            self._contended += change
            if change > 0 and self.contended_since_ns is None:
                self.contended_since_ns = now_ns

    def _rest(self, flow: Flow) -> None:
        """Remember a user with nothing waiting for as many departures as the queue is long."""
        flow.rests_since = self._went
        self._resting.append((self._went, flow))
        while self._went - self._resting[0][0] > self.size or len(self._resting) > self.size + 1:
            since, each = self._resting.popleft()
            if not each.waiting and each.rests_since == since:
                self._flows.pop(each.user, None)
            if not self._resting:
                break

    def _forget_all(self) -> None:
        """Begin anew: nothing waits."""
        self._flows.clear()
        self._resting.clear()
        self._parking.clear()
        self._deadlines.clear()
        self._fattest.clear()
        self.virtual = 0
        self._weight_waiting = 0.0
        self._contended = 0
        self.contended_since_ns = None
