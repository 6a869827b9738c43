"""O1, O2, O5: the queue and the budgets beside plain models, in any order of what may happen."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from taximeter.admission._budget import Book, Hold, Over
from taximeter.admission._plan import Purse
from taximeter.admission._window import window_of
from tests.admission.test_budget import HOUR_NS, NOON
from tests.admission.test_fair import Call, Model, Rig
from tests.rig.length import pick

WEIGHTS = {"a": 1, "b": 2, "c": 4}


class LeavingModel(Model):
    """The textbook's queue, from which a call may also be taken out."""

    def leave(self, number: int) -> None:
        """Take a call out."""
        for line in self.lines.values():
            line[:] = [each for each in line if each[0] != number]
        if not any(self.lines.values()):
            self.tags.clear()
            self.virtual *= 0


class Queue(RuleBasedStateMachine):
    """The fair queue beside the textbook's, with calls that end, leave, come late, are dropped."""

    @initialize(
        slots=st.integers(1, 3), own=st.sampled_from([1, 2, 100]), size=st.sampled_from([4, 1000])
    )
    def begin(self, slots: int, own: int, size: int) -> None:
        """Make a queue: before `slots` places, of which one user may have `own`."""
        self.rig = Rig(size, slots, 1000, own)
        self.slots, self.own, self.size = slots, own, size
        self.model: LeavingModel | None = None
        if own >= slots and size == 1000:
            self.model = LeavingModel(slots)
        self.now_ns = 0
        self.calls: dict[int, Call] = {}
        self.running: list[Call] = []
        self.seen = 0
        self.gone: list[Call] = []

    @property
    def waiting(self) -> list[Call]:
        """Give the calls that wait."""
        return [call for call in self.calls.values() if call.lane is not None]

    @rule(
        user=st.sampled_from(sorted(WEIGHTS)), cost=st.integers(1, 1000), seconds=st.integers(1, 9)
    )
    def come(self, user: str, cost: int, seconds: int) -> None:
        """A call comes."""
        weight = WEIGHTS[user]
        call = self.rig.put(user, cost, weight=weight, until=self.now_ns + seconds)
        self.calls[call.number] = call
        if self.model is not None:
            self.model.put(call.number, user, cost, weight)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """A call that went is over: its place is another's."""
        call = data.draw(st.sampled_from(self.running))
        self.running.remove(call)
        self.gone.append(call)
        self.rig.end(call)
        if self.model is not None:
            self.model.end()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A call that waits is not wanted any more."""
        call = data.draw(st.sampled_from(self.waiting))
        self.rig.queue.remove(call)
        self.gone.append(call)
        if self.model is not None:
            self.model.leave(call.number)

    @rule(seconds=st.integers(1, 5))
    def pass_time(self, seconds: int) -> None:
        """Calls whose time is over are told so, the earliest first, and no others."""
        self.now_ns += seconds
        due = [call for call in self.waiting if call.deadline_ns <= self.now_ns]
        late = [waiter for waiter, _ in self.rig.queue.expired(self.now_ns)]
        assert {id(call) for call in due} == {id(waiter) for waiter in late}
        assert [each.deadline_ns for each in late] == sorted(each.deadline_ns for each in late)
        self.gone += due
        if self.model is not None:
            for call in due:
                self.model.leave(call.number)

    @invariant()
    def every_call_is_in_one_place(self) -> None:
        """A call waits, runs, or is gone; and it goes at most once."""
        went = self.rig.went[self.seen :]
        self.seen = len(self.rig.went)
        self.running += went
        places = [*self.waiting, *self.running, *self.gone, *self.rig.dropped]
        assert sorted(call.number for call in places) == sorted(self.calls)
        assert self.rig.queue.waiting == len(self.waiting) <= self.size
        assert self.rig.queue.cost_waiting == sum(call.fair_cost for call in self.waiting)
        assert self.rig.queue.flows <= len({call.user for call in self.waiting}) + self.size + 1

    @invariant()
    def nobody_waits_for_a_place_that_is_free(self) -> None:
        """O1: work goes on as long as there is any that may."""
        assert len(self.running) <= self.slots
        held: defaultdict[str, int] = defaultdict(int)
        for call in self.running:
            held[call.user] += 1
        assert all(count <= self.own for count in held.values())
        if len(self.running) < self.slots:
            assert all(held[call.user] >= self.own for call in self.waiting)

    @invariant()
    def they_go_in_the_textbook_s_order(self) -> None:
        """O1: where one limit alone stands in the way, as in the plain model."""
        if self.model is not None:
            assert [call.number for call in self.rig.went] == self.model.went


@dataclass
class Window:
    """What one purse has used of one window."""

    spent: int = 0
    carried: int = 0
    live: dict[int, int] = field(default_factory=dict)
    """What each call under way has reserved."""

    @property
    def used(self) -> int:
        """All that is not to be had any more."""
        return self.spent + sum(self.live.values())


PURSES = [
    Purse("hour", "user.usd_per_hour", "hour", 300, False, True, False),
    Purse("day", "team.usd_per_day", "day", 1000, False, True, True),
    Purse("month", "key.tokens_per_month", "month", 5000, True, True, False),
    Purse("soft", "tier.usd_per_day", "day", 400, False, False, False),
]


class Budgets(RuleBasedStateMachine):
    """The book of budgets beside one dictionary that never forgets."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Book()
        self.now_ns = 0
        self.windows: defaultdict[tuple[str, int], Window] = defaultdict(Window)
        self.holds: dict[int, tuple[Hold, list[tuple[Purse, Window]]]] = {}
        self.settled: list[Hold] = []
        self.count = 0

    @property
    def wall_ns(self) -> int:
        """Give the time of day."""
        return NOON + self.now_ns

    def window(self, purse: Purse) -> Window:
        """Give the present window of a purse."""
        return self.windows[purse.key, window_of(purse.per, self.wall_ns)[0]]

    @rule(
        purses=st.lists(st.sampled_from(PURSES), min_size=1, unique_by=lambda purse: purse.key),
        tokens=st.integers(0, 3000),
        pico=st.none() | st.integers(0, 400),
    )
    def reserve(self, purses: list[Purse], tokens: int, pico: int | None) -> None:
        """O5: a call is let go if every hard budget has room for it, and refused if one has not."""
        refused: Purse | None = None
        parts: list[tuple[Purse, Window, int]] = []
        for purse in purses:
            window = self.window(purse)
            amount = tokens if purse.of_tokens else pico or 0
            unpriced = pico is None and not purse.of_tokens and purse.refuse_unpriced
            over = window.used + amount > purse.limit or window.used >= purse.limit
            if unpriced or (over and purse.hard):
                refused = purse
                break
            parts.append((purse, window, amount))
        found = self.book.reserve(purses, tokens, pico, self.now_ns, self.wall_ns)
        if refused is not None:
            assert isinstance(found, Over)
            assert found.purse is refused
            assert 0 < found.resets_ns <= 31 * 24 * HOUR_NS
            return
        assert isinstance(found, Hold)
        self.count += 1
        for _, window, amount in parts:
            window.live[self.count] = amount
        self.holds[self.count] = found, [(purse, window) for purse, window, _ in parts]

    @precondition(lambda self: self.holds)
    @rule(
        data=st.data(),
        tokens=st.none() | st.integers(0, 4000),
        pico=st.none() | st.integers(0, 500),
    )
    def settle(self, data: st.DataObject, tokens: int | None, pico: int | None) -> None:
        """O5: a reservation goes back whole, and what it came to is booked where it was made."""
        number = data.draw(st.sampled_from(sorted(self.holds)))
        hold, parts = self.holds.pop(number)
        self.book.settle(hold, tokens, pico)
        self.settled.append(hold)
        for purse, window in parts:
            amount = window.live.pop(number)
            true = tokens if purse.of_tokens else pico
            window.spent += amount if true is None else true

    @precondition(lambda self: self.settled)
    @rule(data=st.data())
    def settle_again(self, data: st.DataObject) -> None:
        """O5: a reservation is given back once."""
        self.book.settle(data.draw(st.sampled_from(self.settled)), 1000, 1000)

    @rule(minutes=st.sampled_from([1, 30, 60, 60 * 24, 60 * 24 * 31]))
    def pass_time(self, minutes: int) -> None:
        """Windows end, and others begin."""
        self.now_ns += minutes * HOUR_NS // 60

    @rule(purse=st.sampled_from(PURSES), spent=st.integers(0, 2000))
    def hear_from_the_ledger(self, purse: Purse, spent: int) -> None:
        """O5: what was spent before is set, and what was booked since stays on top of it."""
        window = self.window(purse)
        self.book.load(purse.key, purse.name, purse.per, self.wall_ns, spent)
        window.spent += spent - window.carried
        window.carried = spent

    @rule()
    def sweep(self) -> None:
        """What is over and settled is forgotten, and makes no difference."""
        self.book.sweep(self.now_ns, self.wall_ns)

    @invariant()
    def the_book_says_what_the_model_says(self) -> None:
        """O5: to the last unit, never below nought, of every window that is still kept."""
        for standing in self.book.snapshot():
            window = self.windows[standing.key, standing.start_ns]
            assert standing.spent == window.spent >= 0
            assert standing.reserved == sum(window.live.values()) >= 0
        for purse in PURSES:
            now = self.book.standing(purse, self.now_ns, self.wall_ns)
            window = self.window(purse)
            assert (now.spent, now.reserved) == (window.spent, sum(window.live.values()))


TestQueue = Queue.TestCase
TestQueue.settings = settings(
    max_examples=pick(80, 3000), stateful_step_count=pick(50, 100), deadline=None
)
TestBudgets = Budgets.TestCase
TestBudgets.settings = settings(
    max_examples=pick(80, 3000), stateful_step_count=pick(40, 100), deadline=None
)
