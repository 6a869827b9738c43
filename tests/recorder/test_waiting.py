"""A recorder that must wait, for its ledger or for another recorder: it loses nothing by it."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import pytest

from taximeter.journal import _layout as layout
from taximeter.ledger import (
    Committed,
    Entry,
    LeaseLost,
    Ledger,
    LedgerUnavailable,
    RecorderState,
)
from taximeter.ledger import _engine as engine
from taximeter.recorder import Recorder
from taximeter.recorder._commits import Stopped
from taximeter.settings import Settings
from tests.recorder.faults import flaky_commits
from tests.recorder.make import (
    World,
    book,
    whole,
    write,
)


@pytest.fixture
def locked(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """A connection that holds the ledger's write lock; who waits for it gives up soon."""
    monkeypatch.setattr(engine, "LOCK_SECONDS_MAX", 0.05)
    with closing(sqlite3.connect(world.data_dir / "ledger.db", isolation_level=None)) as other:
        yield other


def running(recorder: Recorder) -> threading.Thread:
    """Run a recorder in a thread."""
    thread = threading.Thread(target=recorder.run, daemon=True)
    thread.start()
    return thread


def until(true: Callable[[], bool]) -> None:
    """Wait until something is true; give up after far longer than it can take."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_unavailable_ledger_costs_no_row_and_no_memory(
    world: World, locked: sqlite3.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """D8: while the ledger is locked nothing more is read; afterwards every call is there once."""
    writer = world.writer(whole(range(1, 20)))
    recorder = Recorder(world.settings)
    thread = running(recorder)
    until(lambda: len(world.numbers()) == 19)
    locked.execute("BEGIN IMMEDIATE")
    write(writer, *whole(range(20, 2000)))
    until(lambda: recorder.stats.retries > 2)
    (followed,) = recorder._journals.values()
    at = followed.reader.position
    write(writer, *whole(range(2000, 3000)))
    retries = recorder.stats.retries
    until(lambda: recorder.stats.retries > retries)
    assert followed.reader.position == at
    assert followed.follower.under_way <= 1
    locked.execute("ROLLBACK")
    until(lambda: len(world.numbers()) == 2999)
    writer.close()
    recorder.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert world.numbers() == list(range(1, 3000))
    world.assert_sums()
    complaints = [each for each in caplog.messages if "unavailable" in each]
    assert len(complaints) == 1


class Hearing:
    """A sink that writes down what it hears."""

    name = "hearing"

    def __init__(self) -> None:
        self.noted: list[str] = []
        self.heard: list[str] = []

    def restore(self, notes: Mapping[str, bytes]) -> None: ...

    def note(self, entries: Sequence[Entry], committed: Committed) -> Mapping[str, bytes]:
        self.noted += [entry.call_id for entry in entries]
        return {}

    def booked(self, entries: Sequence[Entry], committed: Committed) -> None:
        assert {entry.call_id for entry in entries} == committed.inserted
        assert not committed.inserted & committed.repeated
        self.heard += [entry.call_id for entry in entries]

    def reload(self, settings: Settings) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize("lost", ["question", "answer", "answer, and the notes"])
def test_sinks_hear_of_a_call_once_whatever_the_ledger_answers(
    lost: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D8: a commit that came about, and whose answer was lost, is told by the try after it."""
    world.journal(*whole(range(1, 60)), segment_bytes=2048)
    world.settings = world.configure(recorder={"batch_rows_max": 5})
    load = Ledger.load
    asked = [0]

    def flaky_load(ledger: Ledger, *arguments: Any) -> RecorderState:
        asked[0] += 1
        if asked[0] % 2 == 0 and lost == "answer, and the notes":
            raise LedgerUnavailable("gone", "wait")
        return load(ledger, *arguments)

    hearing = Hearing()
    with (
        flaky_commits("before" if lost == "question" else "after"),
        monkeypatch.context() as patch,
    ):
        patch.setattr(Ledger, "load", flaky_load)
        recorder = Recorder(world.settings, sinks=[hearing], clock=lambda: world.now)
        recorder.begin()
        book(recorder)
        recorder.close()
    assert world.numbers() == list(range(1, 60))
    assert Counter(hearing.heard) == Counter(world.calls().keys())
    assert set(hearing.noted) == set(hearing.heard)
    assert (recorder.stats.booked, recorder.stats.repeated) == (59, 0)
    assert recorder.sinks.failures == {"hearing": 0}


def test_a_recorder_can_be_stopped_while_the_ledger_is_unavailable(
    world: World, locked: sqlite3.Connection
) -> None:
    """L1: told to stop, it waits for no ledger that may never come; the journal keeps all."""
    world.journal(*whole(range(1, 20)))
    locked.execute("BEGIN IMMEDIATE")
    recorder = Recorder(world.settings)
    thread = running(recorder)
    until(lambda: recorder.stats.retries > 0)
    recorder.stop()
    thread.join(30)
    assert not thread.is_alive()
    locked.execute("ROLLBACK")
    world.record()
    assert world.numbers() == list(range(1, 20))


def test_a_recorder_whose_lead_is_taken_stops(world: World) -> None:
    """D11: an older lease writes nothing more; its successor books the rest, each call once."""
    writer = world.writer(whole([1]))
    recorder = world.recorder()
    book(recorder)
    world.ledger.take_lead("successor", layout.scope_of(world.root))
    write(writer, *whole([2]))
    with pytest.raises(LeaseLost):
        recorder.step()
    recorder.close()
    assert world.numbers() == [1]
    world.record()
    assert world.numbers() == [1, 2]
    writer.close()


def test_a_second_recorder_waits_for_the_first(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """D11: of two on the same journals one books and the other waits, until the first is gone."""
    first = world.recorder()
    second = Recorder(world.settings)
    thread = running(second)
    until(lambda: any("Another recorder" in each for each in caplog.messages))
    writer = world.writer(whole([1]))
    book(first)
    assert world.numbers() == [1]
    assert second.stats.commits == 0
    first.close()
    write(writer, *whole([2]))
    until(lambda: world.numbers() == [1, 2])
    second.stop()
    thread.join(30)
    assert not thread.is_alive()
    writer.close()


def test_a_waiting_recorder_can_be_stopped(world: World) -> None:
    """L1: waiting for another recorder's end is no reason to go on."""
    first = world.recorder()
    second = Recorder(world.settings)
    second.stop()
    with pytest.raises(Stopped):
        second.begin()
    second.close()
    first.close()
