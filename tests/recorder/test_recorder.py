"""The recorder on real journals and a real SQLite ledger: each call once, whatever happens."""

from __future__ import annotations

import errno
import shutil
import time
from typing import Any

import pytest

from taximeter.call import Outcome, Usage, UsageSource
from taximeter.journal import JournalWriter, Position, journals
from taximeter.journal import _layout as layout
from taximeter.journal._format import SegmentHeader
from taximeter.ledger import (
    ENTRIES_MAX,
    Ledger,
)
from taximeter.recorder import Recorder
from taximeter.recorder import _reclaim as reclaim
from tests.recorder.faults import Died, dying
from tests.recorder.make import (
    World,
    book,
    call_id,
    closed,
    counted,
    opened,
    pending,
    whole,
    write,
)


def test_calls_become_rows_and_their_journal_goes(world: World) -> None:
    """Every call of a finished journal is a row, priced; then the journal and its position go."""
    world.journal(*whole(range(1, 101)), segment_bytes=4096)
    recorder = world.record()
    assert world.numbers(Outcome.COMPLETED) == list(range(1, 101))
    assert world.calls()[call_id(7)].cost_pico == 7_000_000 + 2_000_000
    assert (recorder.stats.booked, recorder.stats.repeated) == (100, 0)
    assert journals(world.root) == []
    world.record()
    assert world.ledger.load(layout.scope_of(world.root)).positions == {}
    world.assert_sums()


def test_a_call_of_an_absurd_count_is_a_row(world: World) -> None:
    """C10: whatever an upstream says it used, the call it answered is in the ledger."""
    absurd = closed(1, usage=Usage(input_tokens=2**53, output_tokens=5), raw_usage='{"in":1}')
    world.journal(opened(1), absurd, *whole([2]))
    recorder = world.record()
    assert recorder.stats.rejected == 0
    assert world.numbers() == [1, 2]
    view = world.calls()[call_id(1)]
    assert (view.usage, view.cost_pico) == (Usage(output_tokens=5), None)
    assert (view.facts, view.raw_usage) == (("usage_clamped",), '{"in":1}')
    world.assert_sums()


def test_a_living_journal_is_followed(world: World) -> None:
    """Rows come while the worker lives, and the segments they came from go."""
    writer = world.writer(segment_bytes=4096)
    recorder = world.recorder()
    for start in range(1, 200, 20):
        write(writer, *whole(range(start, start + 20)))
        book(recorder)
        assert world.numbers() == list(range(1, start + 20))
        assert len(list(writer.directory.glob("*.journal"))) <= 2
    writer.close()
    book(recorder)
    recorder.step()
    assert journals(world.root) == []
    recorder.close()
    world.assert_sums()


def test_a_dead_worker_s_open_calls_are_booked_once(world: World) -> None:
    """D1: what was under way when its worker died is one row, `interrupted`, of unknown cost."""
    world.journal(opened(1), *whole([2]), opened(3), pending(4))
    world.record()
    assert world.numbers(Outcome.INTERRUPTED) == [1, 3]
    assert world.numbers(Outcome.COMPLETED) == [2, 4]
    view = world.calls()[call_id(1)]
    assert (view.error, view.cost_pico, view.usage_source) == ("worker_died", None, "absent")
    world.record()
    assert len(world.numbers()) == 4
    world.assert_sums()


def test_a_living_worker_s_open_calls_are_not_booked(world: World) -> None:
    """A call under way is no row before its end."""
    writer = world.writer([opened(1)])
    recorder = world.recorder()
    book(recorder)
    assert world.numbers() == []
    write(writer, closed(1))
    book(recorder)
    assert world.numbers(Outcome.COMPLETED) == [1]
    writer.close()
    recorder.close()


def test_an_end_lost_to_damage_is_told_apart(world: World) -> None:
    """D4: a call whose end could not be read is `interrupted` by damage, not by a death."""
    directory = world.journal(*whole([1]), opened(2), closed(2), *whole([3]))
    segment = directory / "00000001.journal"
    data = segment.read_bytes()
    at = data.rindex(b"TxM", 0, data.index(call_id(3).encode())) - 1
    at = data.rindex(b"\xf7TxM", 0, at)
    segment.write_bytes(data[: at + 30] + b"?" + data[at + 31 :])
    recorder = world.record()
    assert world.numbers(Outcome.COMPLETED) == [1, 3]
    assert world.numbers(Outcome.INTERRUPTED) == [2]
    assert world.calls()[call_id(2)].error == "journal_damaged"
    assert recorder.stats.missing_records == 1
    assert recorder.stats.damaged_bytes > 0


def test_a_count_is_waited_for_across_restarts(world: World) -> None:
    """A call waits for its count, also when the recorder is another one by then."""
    writer = world.writer([opened(1), pending(1), *whole([2])])
    world.record()
    assert world.numbers() == [2]
    write(writer, counted(1))
    world.record()
    view = world.calls()[call_id(1)]
    assert (view.usage_source, view.count_rule) == (UsageSource.ESTIMATED, "o200k_base")
    writer.close()


def test_a_count_that_never_comes_is_made_of_bytes(world: World) -> None:
    """After `count_wait_seconds` the call is booked by the stated rule, and stays as it is."""
    writer = world.writer([opened(1), pending(1)])
    recorder = world.recorder()
    book(recorder)
    world.now += 31
    book(recorder)
    assert world.calls()[call_id(1)].count_rule == "bytes/4"
    write(writer, counted(1))
    book(recorder)
    assert world.calls()[call_id(1)].count_rule == "bytes/4"
    writer.close()
    recorder.close()


def test_a_long_call_is_parked_and_its_segments_go(world: World) -> None:
    """A call under way is kept in the ledger, so that the journal need not be, over restarts."""
    writer = world.writer([opened(1), *whole(range(2, 40))], segment_bytes=4096)
    recorder = world.recorder()
    book(recorder)
    assert (writer.directory / "00000001.journal").exists()
    world.now += 31
    recorder.step()
    recorder.close()
    assert not (writer.directory / "00000001.journal").exists()
    assert list(world.ledger.load(layout.scope_of(world.root)).parked) == [call_id(1)]
    world.record()
    write(writer, closed(1))
    world.record()
    assert world.numbers(Outcome.COMPLETED) == list(range(1, 40))
    assert world.ledger.load(layout.scope_of(world.root)).parked == {}
    writer.close()
    world.record()
    assert len(world.numbers()) == 39


def test_a_parked_call_of_a_dead_worker_is_interrupted(world: World) -> None:
    """D1: a parked call whose worker died without a word is booked from the waiting room."""
    writer = world.writer([opened(1)])
    recorder = world.recorder()
    book(recorder)
    world.now += 31
    recorder.step()
    recorder.close()
    writer.close()
    world.record()
    assert world.numbers(Outcome.INTERRUPTED) == [1]
    assert world.ledger.load(layout.scope_of(world.root)).parked == {}


def test_a_parked_call_of_a_deleted_journal_is_booked(world: World) -> None:
    """D5: with its journal gone, folder and all, a parked call is still one row."""
    writer = world.writer([opened(1)])
    recorder = world.recorder()
    book(recorder)
    world.now += 31
    recorder.step()
    recorder.close()
    shutil.rmtree(writer.directory)
    world.record()
    assert world.numbers(Outcome.INTERRUPTED) == [1]
    assert world.ledger.load(layout.scope_of(world.root)).parked == {}
    assert world.ledger.load(layout.scope_of(world.root)).positions == {}


def test_a_journal_deleted_under_the_recorder_is_finished(world: World) -> None:
    """D4: what was under way in a journal that somebody deleted is booked, and said."""
    writer = world.writer([opened(1), *whole([2])])
    recorder = world.recorder()
    book(recorder)
    shutil.rmtree(writer.directory)
    book(recorder)
    assert world.numbers(Outcome.INTERRUPTED) == [1]
    recorder.close()
    world.record()
    assert world.ledger.load(layout.scope_of(world.root)).positions == {}


def test_a_folder_that_vanishes_whole_is_waited_for(world: World) -> None:
    """A data folder that is not mounted makes no interrupted calls of those under way."""
    writer = world.writer([opened(1)])
    recorder = world.recorder()
    book(recorder)
    away = world.root.rename(world.data_dir / "away")
    book(recorder)
    assert world.numbers() == []
    away.rename(world.root)
    write(writer, closed(1))
    book(recorder)
    assert world.numbers(Outcome.COMPLETED) == [1]
    recorder.close()


CRASHES = [
    ("before the commit", Ledger, "commit", "before"),
    ("after the commit", Ledger, "commit", "after"),
    ("before a segment goes", reclaim, "discard_segments", "before"),
    ("after a segment went", reclaim, "discard_segments", "after"),
    ("before the journal goes", reclaim, "discard_journal", "before"),
    ("after the journal went", reclaim, "discard_journal", "after"),
]


@pytest.mark.parametrize("nth", [1, 2, 3, 5])
@pytest.mark.parametrize(("where", "name", "when"), [each[1:] for each in CRASHES])
def test_a_recorder_may_die_anywhere(
    where: Any, name: str, when: str, nth: int, world: World
) -> None:
    """D2, D5: killed around a commit or a deletion, the next one books the rest, each call once."""
    records = [*whole(range(1, 60)), opened(60), pending(61)]
    world.journal(*records, segment_bytes=2048)
    world.journal(*whole(range(100, 130)), segment_bytes=2048)
    world.settings = world.configure(recorder={"batch_rows_max": 5})
    with dying(where, name, when, nth):
        recorder = world.recorder()
        try:
            book(recorder)
        except Died:
            pass
        recorder.close()
    world.record()
    assert world.numbers() == [*range(1, 62), *range(100, 130)]
    assert world.numbers(Outcome.INTERRUPTED) == [60]
    assert journals(world.root) == []
    world.assert_sums()
    again = world.record()
    assert again.stats.booked == again.stats.repeated == 0


def test_journals_read_again_change_nothing(world: World) -> None:
    """D3, D5: with positions lost, or files come back after their deletion, no row is doubled."""
    directory = world.journal(*whole(range(1, 30)), opened(30))
    kept = world.data_dir / "kept"
    shutil.copytree(directory, kept)
    world.record()
    before = world.calls()
    for _ in range(2):
        world.record()  # forgets the position of a journal that is gone
        shutil.copytree(kept, directory)
        recorder = world.record()
        assert (recorder.stats.booked, recorder.stats.repeated) == (0, 30)
        assert world.calls() == before
    world.assert_sums()


def test_a_position_beyond_what_is_there_is_the_end(world: World) -> None:
    """D5: a position in a segment that is gone, or past its end, stops nobody."""
    writer = world.writer(whole(range(1, 30)), segment_bytes=1024)
    world.record()
    last = sorted(writer.directory.glob("*.journal"))[-1]
    write(writer, *whole([30]))
    writer.close()
    last.unlink(missing_ok=True)
    world.record()
    world.record()
    assert set(range(1, 30)) <= set(world.numbers())
    assert journals(world.root) == []


def test_told_to_stop_it_books_what_there_is(world: World) -> None:
    """L1: what the relays have written before they ended is in the ledger when it returns."""
    world.journal(*whole(range(1, 2000)), opened(2000))
    recorder = Recorder(world.settings)
    recorder.stop()
    recorder.run()
    assert world.numbers() == list(range(1, 2001))


def test_a_newer_program_s_journal_is_left_alone(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """D11: it is named once, with what to do, and not touched; all others are booked."""
    newer = world.journal(*whole([1]))
    segment = newer / "00000001.journal"
    head = SegmentHeader(1, 1, 0, bytes(16), version=2).encode()
    segment.write_bytes(head + segment.read_bytes()[64:])
    world.journal(*whole([2]))
    recorder = world.record()
    assert world.numbers() == [2]
    assert journals(world.root) == [newer.name]
    assert recorder.stats.refused_journals == 1
    said = [each for each in caplog.messages if "left alone" in each]
    assert len(said) == 1
    assert "run the newer Taximeter" in said[0]


def test_what_the_disk_will_not_let_go_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """D6: a read-only disk stops no booking, doubles nothing, and is complained of once."""
    world.journal(*whole(range(1, 10)))

    def refuse(path: object) -> bool:
        raise OSError(errno.EROFS, "Read-only file system")

    recorder = world.recorder()
    with monkeypatch.context() as patch:
        patch.setattr(reclaim, "discard_journal", refuse)
        book(recorder)
        for _ in range(5):
            world.now += 31
            assert not recorder.step().busy
        recorder.close()
        recorder = world.recorder()
        book(recorder)
        assert recorder.stats.repeated == 0
    assert len(journals(world.root)) == 1
    assert world.numbers() == list(range(1, 10))
    assert sum("Read-only" in each for each in caplog.messages) == 2
    recorder.step()
    assert len(journals(world.root)) == 1
    world.now += 31
    recorder.step()
    assert journals(world.root) == []
    recorder.close()


def test_something_foreign_in_a_journal_is_left_there(world: World) -> None:
    """D4: a file that is not ours stays; its journal is read once, and costs nothing after that."""
    directory = world.journal(*whole(range(1, 10)))
    (directory / "notes.txt").write_text("mine")
    recorder = world.recorder()
    book(recorder)
    commits = recorder.stats.commits
    for _ in range(20):
        world.now += 31
        assert not recorder.step().busy
    assert recorder.stats.commits == commits
    assert len(recorder._forget) == 0
    recorder.close()
    assert [each.name for each in directory.iterdir()] == ["notes.txt"]
    (directory / "notes.txt").unlink()
    world.record()
    assert journals(world.root) == []


@pytest.mark.parametrize("name", ["lost+found", "backup", "0123456789ab-old"])
def test_other_folders_are_no_journals(name: str, world: World) -> None:
    """D4: what else stands beside the journals is neither read nor deleted."""
    (world.root / name).mkdir(parents=True)
    world.record()
    assert (world.root / name).exists()


def test_a_new_configuration_prices_from_then_on(world: World) -> None:
    """A reload changes the prices of calls booked afterwards, and of none before."""
    writer = world.writer(whole([1]))
    recorder = world.recorder()
    book(recorder)
    dearer = [{"provider": "*", "model": "fake-1", "input_usd_per_million": "10"}]
    recorder.reload(world.configure(prices=dearer))
    write(writer, *whole([2]))
    book(recorder)
    costs = [world.calls()[call_id(number)].cost_pico for number in (1, 2)]
    assert costs[0] == 3_000_000
    assert costs[1] is None or costs[1] >= 20_000_000
    writer.close()
    recorder.close()


def test_every_pass_reads_a_bounded_part(world: World) -> None:
    """D8: however much there is to catch up with, a pass takes some of it and commits that."""
    world.journal(*whole(range(1, 30_000)), segment_bytes=4 * 1024 * 1024)
    recorder = world.recorder()
    before = 0
    while recorder.step().busy:
        assert recorder.stats.booked - before < 12_000
        before = recorder.stats.booked
    recorder.close()
    assert len(world.numbers()) == 29_999


def test_more_than_a_batch_takes_is_booked_in_parts(world: World) -> None:
    """D8: what becomes ready at once may be more than one transaction takes; none is left out."""
    world.journal(*(opened(number) for number in range(1, ENTRIES_MAX + 500)))
    recorder = world.record()
    assert world.numbers(Outcome.INTERRUPTED) == list(range(1, ENTRIES_MAX + 500))
    assert recorder.stats.repeated == 0


def test_drafts_of_dead_writers_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that a writer left before it had begun is deleted when it is an hour old."""
    writer = JournalWriter.begin(world.root, 0)
    writer.close()
    draft = writer.directory.rename(world.root / f".{writer.name}")
    world.record()
    assert draft.exists()
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 2 * 3600 * 10**9)
    world.record()
    assert not draft.exists()


def test_positions_are_those_of_what_is_booked(world: World) -> None:
    """D5: a position never passes a call that is neither booked nor parked."""
    writer = world.writer([opened(1), *whole([2])])
    recorder = world.recorder()
    book(recorder)
    scope = layout.scope_of(world.root)
    (position,) = world.ledger.load(scope).positions.values()
    assert Position(position.segment, position.offset) == Position(1, 64)
    write(writer, closed(1))
    book(recorder)
    (position,) = world.ledger.load(scope).positions.values()
    assert position.offset == (writer.directory / "00000001.journal").stat().st_size
    writer.close()
    recorder.close()
