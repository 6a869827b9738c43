"""What a recorder keeps in the ledger: its lead, its positions, the calls under way, by scope."""

from __future__ import annotations

import pytest

from taximeter.ledger import (
    Batch,
    LeaseLost,
    Ledger,
    Note,
    Parked,
    Position,
    RecorderState,
)
from tests.ledger.make import (
    call_id,
    commit,
    entry,
    rows,
)


def test_the_recorder_finds_its_state_again(ledger: Ledger) -> None:
    """D5: positions, calls under way and notes are read back as they were committed."""
    lease = ledger.take_lead("test")
    assert ledger.load() == RecorderState({}, {}, {})
    open_call = Parked(call_id(), "j", b"\x00\xff")
    ended = Parked(call_id(), "j", b"y")
    ledger.commit(
        Batch(
            lease=lease,
            positions={"j": Position(1, 2**40), "k": Position(0, 0)},
            park=[open_call, ended],
        ),
        lambda _: {"counters": b"\x00one"},
    )
    ledger.commit(
        Batch(lease=lease, unpark=[ended.call_id, call_id()], forget=["k", "never"]),
        lambda _: {"counters": b"two"},
    )
    assert ledger.load() == RecorderState(
        {"j": Position(1, 2**40)}, {open_call.call_id: open_call}, {"counters": b"two"}
    )


def test_a_position_never_goes_back(ledger: Ledger) -> None:
    """A replayed batch cannot make the recorder read again what is booked."""
    lease = ledger.take_lead("test")
    for segment, offset in ((1, 50), (1, 40), (0, 99), (2, 0), (1, 60)):
        commit(ledger, lease=lease, positions={"j": Position(segment, offset)})
    assert ledger.load().positions == {"j": Position(2, 0)}
    commit(ledger, lease=lease, forget=["j"], positions={"j": Position(0, 7)})
    assert ledger.load().positions == {"j": Position(0, 7)}


def test_a_call_opened_and_ended_in_one_batch_is_not_left_parked(ledger: Ledger) -> None:
    """Parking comes before unparking."""
    parked = Parked(call_id(), "j", b"x")
    commit(ledger, park=[parked], unpark=[parked.call_id])
    assert ledger.load().parked == {}


def test_who_has_lost_the_lead_cannot_write(ledger: Ledger) -> None:
    """D11: a commit with an older lease is refused, whole."""
    old = ledger.take_lead("one")
    new = ledger.take_lead("two")
    assert new > old
    with pytest.raises(LeaseLost) as lost:
        commit(ledger, entry(), lease=old, positions={"j": Position(1, 1)})
    assert (lost.value.held, lost.value.current) == (old, new)
    assert rows(ledger, "calls") == rows(ledger, "positions") == []
    commit(ledger, entry(), lease=new)


def test_scopes_do_not_touch_each_other(ledger: Ledger) -> None:
    """D11: recorders of different scopes lead side by side, and each finds its own state alone."""
    here, there = ledger.take_lead("one", "a"), ledger.take_lead("two", "b")
    ledger.take_lead("nameless")
    parked = {scope: Parked(call_id(), f"{scope}-j", scope.encode()) for scope in ("a", "b")}

    def notes(scope: str) -> Note:
        return lambda _: {"counters": scope.encode()}

    for scope, lease in (("a", here), ("b", there)):
        ledger.commit(
            Batch(
                lease=lease,
                scope=scope,
                entries=[entry()],
                positions={f"{scope}-j": Position(1, 1)},
                park=[parked[scope]],
            ),
            notes(scope),
        )
    for scope in ("a", "b"):
        assert ledger.load(scope) == RecorderState(
            {f"{scope}-j": Position(1, 1)},
            {parked[scope].call_id: parked[scope]},
            {"counters": scope.encode()},
        )
    assert ledger.load() == RecorderState({}, {}, {})
    ledger.commit(Batch(lease=there, scope="b", forget=["a-j", "b-j"]))
    assert ledger.load("a").positions == {"a-j": Position(1, 1)}
    assert ledger.load("b").positions == {}


def test_a_scope_s_lead_is_lost_to_its_own_alone(ledger: Ledger) -> None:
    """D11: a lease is good for the scope it was given for, until that scope's next one."""
    lease = ledger.take_lead("one", "a")
    ledger.take_lead("other", "b")
    commit(ledger, entry(), lease=lease, scope="a")
    for scope in ("", "never"):
        with pytest.raises(LeaseLost):
            commit(ledger, entry(), lease=lease, scope=scope)
    ledger.take_lead("two", "a")
    with pytest.raises(LeaseLost):
        commit(ledger, entry(), lease=lease, scope="a")
    assert len(rows(ledger, "calls")) == 1
