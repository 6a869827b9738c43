"""What runs in several processes at a time counts as one run, and leaves measuring in peace."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path

from tests.rig.side_by_side import LONG, Machine
from tests.rig.tally import Tally
from tests.support.ports import PARTS, free_port, numbers

TESTS = Path(__file__).resolve().parent.parent


def test_what_comes_first_is_there() -> None:
    """A file that was renamed does not lose its place in silence, and none is named twice."""
    assert [name for name in LONG if not (TESTS / name).is_file()] == []
    assert len(set(LONG)) == len(LONG)


def test_what_each_process_has_counted_is_shown_as_one() -> None:
    """Counts of one name are added up, and nothing that was told is lost."""
    whole, half, other = Tally(), Tally(), Tally()
    half.add("kills", 12)
    half.tell("killed: 12 times")
    other.add("kills", 3)
    other.add("power cuts", 1000)
    for each in (half, other):
        whole.take_over(*each.hand_over())
    assert whole.lines() == ["killed: 12 times", "counted: 15 kills, 1,000 power cuts"]
    assert Tally().lines() == []


def test_who_is_alone_is_alone(tmp_path: Path) -> None:
    """It begins when the last of the others has ended, and whoever comes later waits for it."""
    happened: list[str] = []

    def live(name: str, alone: bool) -> None:
        with contextlib.closing(Machine(tmp_path)) as machine, machine.taken(alone=alone):
            happened.append(name)
            time.sleep(0.1)
            happened.append(name)

    alone, late = (
        threading.Thread(target=live, args=each) for each in (("alone", True), ("late", False))
    )
    first, second = Machine(tmp_path), Machine(tmp_path)
    with first.taken(alone=False), second.taken(alone=False):  # any number at a time
        alone.start()
        alone.join(0.1)  # it waits, and holds the door
        late.start()
        late.join(0.1)
        assert happened == []
    alone.join(5)
    late.join(5)
    assert happened == ["alone", "alone", "late", "late"]
    for each in (first, second):
        each.close()


def test_no_two_processes_are_given_one_port() -> None:
    """Each takes ports from a part of its own, below those that the system gives of itself."""
    parts = [
        {next(each) for _ in range(5000)} for each in (numbers(32768, n) for n in range(PARTS))
    ]
    assert len(set().union(*parts)) == sum(map(len, parts)) > 10_000
    assert max(map(max, parts)) < 32768
    assert next(numbers(1024, 3)) == 0, "a system that gives them all is asked for one"
    given = {free_port() for _ in range(100)}
    assert len(given) == 100
