"""The set of sequence numbers that have been read."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from taximeter.journal import _numbers
from taximeter.journal._numbers import Numbers
from tests.rig.length import pick


@given(st.lists(st.integers(1, 60), max_size=80))
@settings(max_examples=pick(300, 6000), deadline=None)
def test_it_is_a_set(numbers: list[int]) -> None:
    """In whatever order numbers come, each is new once, and the gaps are those of a set."""
    had: set[int] = set()
    ranges = Numbers()
    for number in numbers:
        assert ranges.add(number) == (number not in had)
        had.add(number)
        assert ranges.missing == max(had) - min(had) + 1 - len(had)


def test_it_is_bounded() -> None:
    """With a gap after every number, the lowest gaps are given up and still count as missing."""
    ranges = Numbers()
    for number in range(0, 4 * _numbers.RANGES_MAX, 2):
        assert ranges.add(number)
    assert len(ranges._starts) == _numbers.RANGES_MAX
    assert ranges.missing == 2 * _numbers.RANGES_MAX - 1
    assert not ranges.add(1)
    assert ranges.add(4 * _numbers.RANGES_MAX - 3)
