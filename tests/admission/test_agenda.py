"""A heap whose entries can be moved, against sorting."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taximeter.admission._agenda import Agenda

_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 8), st.integers(0, 50)),
        st.tuples(st.just("sooner"), st.integers(0, 8), st.integers(0, 50)),
        st.tuples(st.just("discard"), st.integers(0, 8), st.just(0)),
        st.tuples(st.just("due"), st.integers(0, 50), st.just(0)),
    ),
    max_size=200,
)


@given(_STEPS)
def test_it_gives_what_sorting_would_give(steps: list[tuple[str, int, int]]) -> None:
    """First and due are as in a sorted list of what is in; those equal come as they were set."""
    agenda: Agenda[int] = Agenda()
    model: dict[int, tuple[int, int]] = {}
    for count, (step, key, at) in enumerate(steps):
        if step == "set" or (step == "sooner" and (key not in model or at < model[key][0])):
            model[key] = (at, count)
        if step == "set":
            agenda.set(key, at)
        elif step == "sooner":
            agenda.sooner(key, at)
        elif step == "discard":
            model.pop(key, None)
            agenda.discard(key)
        else:
            due = sorted((v, k) for k, v in model.items() if v[0] <= key)
            assert agenda.due(key) == [k for _, k in due]
            for _, gone in due:
                del model[gone]
        assert len(agenda) == len(model)
        first = min(((v, k) for k, v in model.items()), default=None)
        assert agenda.first() == (None if first is None else (first[0][0], first[1]))


def test_moving_one_entry_for_ever_takes_no_more_memory() -> None:
    """What has been moved away is cleared out."""
    agenda: Agenda[str] = Agenda()
    agenda.set("still", 1)
    for at in range(10_000):
        agenda.set("moving", 10_000 - at)
    assert len(agenda._heap) <= 2 * 2 + 65
