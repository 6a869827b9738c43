"""Following one journal: which calls are ready when, and how far the journal is done."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from taximeter.call import Outcome
from taximeter.journal import Position, Read
from taximeter.recorder import Follower, Ready
from taximeter.records import Record, decode_record, encode_record
from tests.recorder.make import call_id, closed, counted, opened, pending, whole

PARK_SECONDS = 30.0
WAIT_SECONDS = 20.0


def reads(*records: Record, first: int = 1) -> list[Read]:
    """Give records as they are read, ten bytes each."""
    return [
        Read(encode_record(record), number, Position(1, number * 10), Position(1, number * 10 + 10))
        for number, record in enumerate(records, first)
    ]


def ids(ready: list[Ready]) -> list[str]:
    """Give the ids of calls."""
    return [each.closed.opened.call_id for each in ready]


def test_a_call_is_ready_at_its_end() -> None:
    """A beginning alone is under way; with its end the call is ready, and nothing is left."""
    follower = Follower("j")
    assert follower.take(reads(opened(1)), 0) == []
    assert follower.under_way == 1
    assert ids(follower.take(reads(closed(1), first=2), 0)) == [call_id(1)]
    assert follower.under_way == 0
    assert follower.end() == []


def test_an_end_without_a_beginning_is_enough() -> None:
    """An end carries its beginning: damage to the one costs nothing."""
    follower = Follower("j")
    assert ids(follower.take(reads(closed(1)), 0)) == [call_id(1)]


def test_a_count_is_waited_for_and_taken() -> None:
    """A call whose tokens are being counted is ready when the count has come."""
    follower = Follower("j")
    assert follower.take(reads(opened(1), pending(1)), 0) == []
    assert follower.low_water(Position(1, 30)) == Position(1, 10)
    (ready,) = follower.take(reads(counted(1), first=3), 1)
    assert ready.counted == counted(1)
    assert follower.low_water(Position(1, 40)) == Position(1, 40)


def test_a_count_that_does_not_come_is_not_waited_for_for_ever() -> None:
    """After the wait the call is ready without; a count that comes later changes nothing."""
    follower = Follower("j")
    follower.take(reads(pending(1)), 0)
    assert follower.overdue(WAIT_SECONDS - 1, WAIT_SECONDS) == []
    assert follower.overdue(WAIT_SECONDS, WAIT_SECONDS) == [Ready(pending(1))]
    assert follower.overdue(WAIT_SECONDS, WAIT_SECONDS) == []
    assert follower.take(reads(counted(1), first=2), 99) == []


def test_an_ended_journal_s_open_calls_are_interrupted() -> None:
    """D1: what its worker never ended is ready as interrupted, and what waits for a count too."""
    follower = Follower("j", [opened(9)])
    follower.take(reads(opened(1), opened(2), pending(2)), 0)
    ready = {each.closed.opened.call_id: each.closed for each in follower.end()}
    assert ready[call_id(2)] == pending(2)
    for number in (1, 9):
        assert ready[call_id(number)].outcome is Outcome.INTERRUPTED
        assert ready[call_id(number)].error == "worker_died"
    assert follower.take_unparked() == [call_id(9)]
    assert follower.end() == []


def test_a_damaged_journal_is_not_called_a_dead_worker() -> None:
    """D4: where records were lost, an open call may have ended: the row says so."""
    follower = Follower("j")
    follower.take(reads(opened(1)), 0)
    (ready,) = follower.end(lossy=True)
    assert ready.closed.error == "journal_damaged"


def test_a_long_call_does_not_hold_back_the_journal() -> None:
    """After a while a call under way is parked, and the journal is done up to the next one."""
    follower = Follower("j")
    follower.take(reads(opened(1)), 0)
    follower.take(reads(opened(2), first=2), 10)
    assert follower.low_water(Position(1, 30)) == Position(1, 10)
    assert follower.park(PARK_SECONDS - 1, PARK_SECONDS) == []
    ((parked, record),) = follower.park(PARK_SECONDS, PARK_SECONDS)
    assert (parked, decode_record(record)) == (call_id(1), opened(1))
    assert follower.low_water(Position(1, 30)) == Position(1, 20)
    assert follower.under_way == 2
    assert ids(follower.take(reads(closed(1), first=3), 40)) == [call_id(1)]
    assert follower.take_unparked() == [call_id(1)]
    assert follower.take_unparked() == []


@pytest.mark.parametrize("junk", [b"\xc1", b"", b"\x81\xa4type", b"\x91" * 60_000, b"\xa2\xff\xff"])
def test_a_frame_without_a_meaning_is_counted(junk: bytes) -> None:
    """A whole frame that holds no record known here is passed, and not in silence."""
    follower = Follower("j")
    read = Read(junk, 1, Position(1, 0), Position(1, 9))
    assert ids(follower.take([read, *reads(closed(1), first=2)], 0)) == [call_id(1)]
    assert follower.unreadable == 1


def test_records_read_twice_open_nothing_again() -> None:
    """D7: a beginning that comes again while its call is parked, or counted, is no second call."""
    follower = Follower("j", [opened(1)])
    follower.take(reads(opened(1), pending(2), opened(2)), 0)
    assert follower.under_way == 1
    assert len(follower.end()) == 2


class Lockstep(RuleBasedStateMachine):
    """The follower beside a model that keeps every record and looks at all of them each time."""

    def __init__(self) -> None:
        super().__init__()
        self.follower = Follower("j")
        self.now = 0.0
        self.offset = 0
        self.numbers = 0
        self.open: dict[int, int] = {}  # number of the call -> where its first record begins
        self.waiting: dict[int, int] = {}
        self.parked: set[int] = set()
        self.ready: list[int] = []

    def read(self, *records: Record) -> None:
        made = [
            Read(encode_record(r), n, Position(1, n), Position(1, n + 1))
            for n, r in enumerate(records, self.offset)
        ]
        self.offset += len(records)
        self.got(self.follower.take(made, self.now))

    def got(self, ready: list[Ready]) -> None:
        numbers = [int(each[-12:], 16) for each in ids(ready)]
        assert not set(numbers) & set(self.ready)
        self.ready += numbers
        for number in numbers:
            for place in (self.open, self.waiting):
                place.pop(number, None)

    @rule()
    def begin(self) -> None:
        self.numbers += 1
        self.open[self.numbers] = self.offset
        self.read(opened(self.numbers))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), counts=st.booleans())
    def finish(self, data: st.DataObject, counts: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.open)))
        if counts:
            start = self.open.pop(number)
            self.waiting[number] = self.offset if number in self.parked else start
            self.read(pending(number))
            assert number not in self.ready
        else:
            self.read(closed(number))
            assert number in self.ready
        self.parked.discard(number)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def count(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.waiting)))
        self.read(counted(number))
        assert number in self.ready

    @rule()
    def only_an_end(self) -> None:
        self.numbers += 1
        self.read(closed(self.numbers))
        assert self.numbers in self.ready

    @rule(seconds=st.sampled_from([1.0, 10.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.got(self.follower.overdue(self.now, WAIT_SECONDS))
        for parked, _ in self.follower.park(self.now, PARK_SECONDS):
            number = int(parked[-12:], 16)
            assert number in self.open
            self.parked.add(number)

    @rule()
    def end(self) -> None:
        self.got(self.follower.end())
        self.parked.clear()
        assert not self.open
        assert not self.waiting

    @invariant()
    def nothing_unbooked_lies_before_the_mark(self) -> None:
        mark = self.follower.low_water(Position(1, self.offset)).offset
        starts = [at for number, at in self.open.items() if number not in self.parked]
        assert mark == min([*starts, *self.waiting.values()], default=self.offset)

    @invariant()
    def what_is_under_way_is_told(self) -> None:
        assert self.follower.under_way == len(self.open)


TestLockstep = Lockstep.TestCase
TestLockstep.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_many_calls_come_out_in_the_order_of_their_ends() -> None:
    """Ready calls stand in the order in which their ends were read."""
    numbers = list(range(1, 200))
    ready = Follower("j").take(reads(*whole(numbers)), 0)
    assert ids(ready) == [call_id(number) for number in numbers]
