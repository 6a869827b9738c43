"""Whatever is committed in whatever order, cut and repeated: the state is the same."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taximeter.ledger import Batch, Entry, Ledger, Parked, Position
from tests.ledger.drawn import entries
from tests.ledger.make import assert_sums_agree, everything, wipe
from tests.rig.length import pick

NAMES = ["ann", "bob", None, "", "é'\0"]


def _batches(entries: list[Entry], sizes: list[int], lease: int) -> list[Batch]:
    """Cut entries into batches as a recorder would, each call parked in the batch before."""
    batches = []
    start = 0
    for size in [*sizes, len(entries)]:
        some = entries[start : start + size]
        following = entries[start + size : start + size + 2]
        start += size
        batches.append(
            Batch(
                lease=lease,
                entries=some,
                positions={"j": Position(0, start)},
                park=[Parked(each.call_id, "j", b"o") for each in following],
                unpark=[each.call_id for each in some],
            )
        )
    return batches


class _Cut(Exception):
    pass


def _cut(_: object) -> Any:
    raise _Cut


@settings(
    max_examples=pick(30, 600),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    entries=entries(people=NAMES, models=NAMES),
    sizes=st.lists(st.integers(0, 5), max_size=4),
    faults=st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=4),
)
def test_cut_and_replayed_batches_come_to_the_same_state(
    ledger: Ledger, entries: list[Entry], sizes: list[int], faults: list[tuple[int, bool]]
) -> None:
    """D1, D2: dying at a commit and reading again from any earlier point changes nothing."""
    wipe(ledger)
    batches = _batches(entries, sizes, ledger.take_lead("test"))
    for batch in batches:
        ledger.commit(batch)
    wanted = everything(ledger)
    assert_sums_agree(ledger)

    wipe(ledger)
    place = 0
    plan = iter(faults)
    while place < len(batches):
        back, dies = next(plan, (0, False))
        if dies:
            with pytest.raises(_Cut):
                ledger.commit(batches[place], _cut)
            place = max(0, place - back)
            continue
        ledger.commit(batches[place])
        place += 1
        if back and place < len(batches):
            place = max(0, place - back)
    assert everything(ledger) == wanted


@settings(
    max_examples=pick(30, 600),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    entries=entries(people=NAMES, models=NAMES), seed=st.integers(0, 2**32), size=st.integers(1, 5)
)
def test_the_order_of_journals_makes_no_difference_to_the_bill(
    ledger: Ledger, entries: list[Entry], seed: int, size: int
) -> None:
    """D10: entries in another order, in other batches, repeated, cost every user the same."""
    results = []
    for shuffled in (False, True):
        wipe(ledger)
        lease = ledger.take_lead("test")
        order = list(entries)
        if shuffled:
            random.Random(seed).shuffle(order)
            order += order[:size]
        for start in range(0, len(order), size):
            ledger.commit(Batch(lease=lease, entries=order[start : start + size]))
        assert_sums_agree(ledger)
        results.append({tuple(row.key.items()): row for row in ledger.report(["user", "hour"])})
    assert results[0] == results[1]
