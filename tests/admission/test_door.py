"""What an upstream says of its limits tightens ours, for its time."""

from __future__ import annotations

from taximeter.admission._adaptive import CUT, DIP_NS_MAX, AdaptiveLimit
from taximeter.admission._door import HOLD_NS_FIRST, HOLD_NS_MAX, Door, Gate
from taximeter.admission._model import Adaptive
from taximeter.admission._signals import Told

SECOND_NS = 10**9


def make() -> Door:
    """Give an open door."""
    return Door("door", Gate("gate", None))


def enter(door: Door, count: int, now_ns: int = 0, tokens: int = 10) -> None:
    """Let calls through that may go."""
    for _ in range(count):
        assert door.short(tokens, now_ns) is None
        door.enter(tokens, now_ns)


def test_a_429_with_a_wait_shuts_the_door_for_it() -> None:
    """To the nanosecond, and no longer than a minute whatever it asks."""
    door = make()
    enter(door, 1)
    assert door.refused(0, 5 * SECOND_NS, 0)
    short = door.short(1, SECOND_NS)
    assert short is not None
    assert short.wait_ns == 4 * SECOND_NS
    door.leave()
    assert door.short(1, 5 * SECOND_NS) is None
    door.refused(5 * SECOND_NS, 10**6 * SECOND_NS, 5 * SECOND_NS)
    short = door.short(1, 5 * SECOND_NS)
    assert short is not None
    assert short.wait_ns == HOLD_NS_MAX


def test_many_429s_of_one_round_are_one_hold() -> None:
    """Ten calls refused at once do not double the wait ten times."""
    door = make()
    enter(door, 10)
    assert [door.refused(0, None, number) for number in range(10)] == [True] + [False] * 9
    short = door.short(1, 10)
    assert short is not None
    assert short.wait_ns == HOLD_NS_FIRST - 10


def test_429s_one_after_another_double_the_hold() -> None:
    """Until a good answer."""
    door, now_ns, holds = make(), 0, []
    for _ in range(8):
        door.enter(1, now_ns)
        door.refused(now_ns, None, now_ns)
        short = door.short(1, now_ns)
        assert short is not None
        assert short.wait_ns is not None
        holds.append(short.wait_ns / SECOND_NS)
        now_ns += short.wait_ns
        door.leave()
    assert holds == [0.5, 1, 2, 4, 8, 16, 16, 16]


def test_after_a_hold_it_ramps_up() -> None:
    """Half as many as before, then one more for each good answer, until all may again."""
    door = make()
    enter(door, 8)
    door.refused(0, SECOND_NS, 0)
    for _ in range(8):
        door.leave()
    now_ns = SECOND_NS
    enter(door, 4, now_ns)
    short = door.short(1, now_ns)
    assert short is not None
    assert short.name == "upstream.ramp"
    assert not door.answered(now_ns - 1, now_ns), "begun before the hold was over"
    for _ in range(4):
        assert door.answered(now_ns, now_ns)
    enter(door, 100, now_ns)


def test_what_is_left_is_a_ceiling_that_ends_by_itself() -> None:
    """Remaining 3 of 60 a minute: three now, then one a second, and none of it after the reset."""
    door = make()
    door.told([Told(False, 60, 3, 57 * SECOND_NS)], 0)
    enter(door, 3)
    short = door.short(1, 0)
    assert short is not None
    assert short.wait_ns == SECOND_NS
    enter(door, 1, SECOND_NS)
    assert door.short(1, SECOND_NS) is not None
    enter(door, 100, 61 * SECOND_NS)


def test_a_later_word_does_not_loosen_what_was_sent_since() -> None:
    """Answers come out of order: one that knows nothing of the last calls opens nothing."""
    door = make()
    door.told([Told(True, 1000, 500, 30 * SECOND_NS)], 0)
    enter(door, 1, 0, tokens=500)
    assert door.short(100, 0) is not None
    door.told([Told(True, 1000, 900, 6 * SECOND_NS)], 0)
    assert door.short(100, 0) is not None
    door.told([Told(True, 1000, 0, 60 * SECOND_NS)], 0)
    short = door.short(100, 0)
    assert short is not None
    assert short.wait_ns == 6 * SECOND_NS


def test_senseless_words_are_not_heeded() -> None:
    """More left than there is, nothing at all, no time: no ceiling."""
    door = make()
    door.told(
        [
            Told(False, 0, 0, 1),
            Told(False, 5, 9, SECOND_NS),
            Told(True, 9, 1, 0),
            Told(True, 10**15, 1, 5),
        ],
        0,
    )
    enter(door, 50)


def test_a_call_larger_than_the_told_limit_is_left_to_the_upstream() -> None:
    """It waits until the bucket is full, not for ever."""
    door = make()
    door.told([Told(True, 100, 50, 30 * SECOND_NS)], 0)
    short = door.short(5000, 0)
    assert short is not None
    assert short.wait_ns == 30 * SECOND_NS
    assert door.short(5000, 30 * SECOND_NS) is None


def test_streams_that_have_all_begun_hold_up_nobody() -> None:
    """A found limit is stretched while nobody waits at the upstream: streams never stall it."""
    gate = Gate("g", AdaptiveLimit(Adaptive(initial=4, most=50), 0))
    door = Door("d", gate)
    let_go = 0
    for _ in range(100):
        while door.short(1, 0) is None:
            door.enter(1, 0)
            let_go += 1
        gate.heard = gate.in_flight  # all of them have begun to be answered, and none ends
    assert let_go == 50


def test_a_dip_that_streams_make_last_is_given_up() -> None:
    """What would end a dip is answers, and streams that have all begun give none for minutes."""
    limit = AdaptiveLimit(Adaptive(initial=20, most=50), 0)
    limit._dip()
    gate = Gate("g", limit)
    gate.in_flight = gate.heard = dipped = limit.limit
    assert dipped < 20
    assert not gate.gives_up_dip(DIP_NS_MAX - 1)
    gate.heard -= 1
    assert not gate.gives_up_dip(DIP_NS_MAX)
    gate.heard += 1
    assert gate.gives_up_dip(DIP_NS_MAX)
    assert limit.limit == 20
    assert not gate.gives_up_dip(DIP_NS_MAX)


def test_a_server_that_lets_calls_wait_is_not_sent_more() -> None:
    """While one call waits for its answer's head the limit is where it was."""
    gate = Gate("g", AdaptiveLimit(Adaptive(initial=4, most=50), 0))
    door = Door("d", gate)
    for _ in range(4):
        door.enter(1, 0)
    gate.heard = 3
    assert door.short(1, 0) is not None
    assert gate.adaptive is not None
    assert gate.adaptive.limit == 4


def test_the_noise_of_quick_answers_lowers_nothing() -> None:
    """Latencies below what a model needs to begin scatter for reasons of the machines' own."""
    limit = AdaptiveLimit(Adaptive(initial=40, most=500), 0)
    now = 0
    for number in range(4000):
        latency = 100_000 if number < 1000 else 5_000_000
        now += 1000
        limit.answered(now, now + latency, 32)
    assert limit.limit >= 40


def test_where_calls_were_refused_the_limit_is_not_stretched() -> None:
    """Near the last refusal it grows by windows alone: probing there would be a refusal a call."""
    limit = AdaptiveLimit(Adaptive(initial=20, most=500), 0)
    limit.refused(1, 2, 20)
    before = limit.limit
    assert before == int(20 * CUT)
    assert not limit.stretch()
    assert limit.limit == before


def test_a_refusal_at_what_was_served_before_lowers_nothing() -> None:
    """What tells is at how many calls at once it refuses, and at how many it does not."""
    limit = AdaptiveLimit(Adaptive(initial=20, most=500), 0)
    limit.answered(1, 2, 20, 20)
    for number in range(3):
        limit.refused(10 + number, 11 + number, 20, 20 - number)
    assert limit.limit == 20
    limit.refused(20, 21, 20, 21)
    assert limit.limit == 19


def test_calls_refused_a_moment_later_do_not_count_as_served() -> None:
    """Thirty at once of which nine were refused show that 21 are served, and not thirty."""
    limit = AdaptiveLimit(Adaptive(initial=30, most=500), 0)
    limit.refused(20, 35, 30, 30)
    for number in range(21, 30):
        limit.refused(number, 40 + number, 30, number + 1)
    limit.answered(40, 100, 20, 30)
    limit.refused(200, 201, 25, 26)
    assert limit.limit == 21
