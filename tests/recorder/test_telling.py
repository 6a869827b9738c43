"""What cannot be booked, or not be read, is told: in figures and a log that quotes nothing."""

from __future__ import annotations

import logging

import pytest

from taximeter.journal import _layout as layout
from taximeter.ledger import (
    Batch,
    Parked,
)
from tests.recorder.make import (
    World,
    call_id,
    closed,
    opened,
    whole,
    write,
)


def test_lost_calls_are_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """D6: calls that a full disk kept out of the journal are counted, and the count is told."""
    writer = world.writer(whole([1]))
    assert writer.lost is not None
    writer.lost.add(3)
    writer.close()
    recorder = world.record()
    assert recorder.stats.lost_calls == 3
    assert any("3 calls could not be journalled" in each for each in caplog.messages)


def test_records_of_no_known_kind_are_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """D11: a record that this program cannot read is passed and counted; the rest is booked."""
    writer = world.writer(whole([1]))
    writer.append(b"\x82\xa4type\xa1z\xa1a\x01")
    write(writer, *whole([2]))
    writer.close()
    recorder = world.record()
    assert world.numbers() == [1, 2]
    assert recorder.stats.unreadable_records == 1
    assert any("no meaning" in each for each in caplog.messages)


def test_a_parked_call_of_no_known_kind_is_told(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """D11: what cannot be read back from the waiting room stays there, and stops nobody."""
    scope = layout.scope_of(world.root)
    lease = world.ledger.take_lead("test", scope)
    parked = Parked(call_id(1), "gone", b"?")
    world.ledger.commit(Batch(lease=lease, scope=scope, park=[parked]))
    world.journal(*whole([2]))
    recorder = world.record()
    assert world.numbers() == [2]
    assert recorder.stats.unreadable_records == 1
    assert world.ledger.load(scope).parked == {call_id(1): parked}
    assert any("cannot be read back" in each for each in caplog.messages)


def test_a_row_the_ledger_will_not_take_is_set_aside(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """D8: a poisonous record is put aside with its reason; the rest go on."""
    world.journal(*whole([1]), closed(2, begun=opened(2, call_id="no id at all")), *whole([3]))
    recorder = world.record()
    assert world.numbers() == [1, 3]
    assert recorder.stats.rejected == 1
    assert any("set aside" in each for each in caplog.messages)


def test_nothing_that_was_said_quotes_a_record(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """H8, H9: whatever goes wrong, no field of a call finds its way into a log."""
    caplog.set_level(logging.DEBUG)
    secret = "sk-canary\nforged line"
    begun = opened(1, user=secret, session=secret, path=secret, model=secret)
    directory = world.journal(begun, closed(2, begun=opened(2, call_id=f"x{secret}")))
    segment = directory / "00000001.journal"
    segment.write_bytes(segment.read_bytes() + secret.encode() * 3)
    world.record()
    assert caplog.messages
    assert not any("canary" in each or "forged" in each for each in caplog.messages)
