"""The writing end on a disk that fails, fills up, lies, or loses its power."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from taximeter.journal import (
    JournalReader,
    JournalUnwritable,
    JournalWriter,
    SyncPolicy,
    discard_segments,
)
from taximeter.journal import _writer as writing
from taximeter.journal._format import SegmentHeader
from tests.journal import reference
from tests.journal.make import NAME, numbers_of, payload, read_all, read_directory, writer_in
from tests.rig.crash_disk import CrashDisk, PowerCut
from tests.rig.length import pick
from tests.rig.tally import Tally

Fault = Callable[[str, int], Exception | int | None]


def memory_writer(
    fault: Fault | None = None, sync: SyncPolicy = SyncPolicy.INTERVAL, segment_bytes: int = 300
) -> tuple[JournalWriter, CrashDisk]:
    """Make a writer on a disk in memory."""
    disk = CrashDisk(fault)
    writer = JournalWriter(
        Path("/root") / NAME, disk=disk, sync=sync, segment_bytes=segment_bytes, clock_ns=lambda: 5
    )
    return writer, disk


def append_until_full(writer: JournalWriter) -> None:
    """Append until the journal refuses, or far beyond what it may hold."""
    for _ in range(1000):
        writer.append(payload(writer.sequence + 1))


def sync(writer: JournalWriter) -> bool:
    """Synchronise once, as the relay does; tell whether it went well."""
    under_way = writer.begin_sync()
    if under_way is None:
        return True
    under_way.run()
    return writer.finish_sync(under_way)


def saved(disk: CrashDisk, root: Path) -> list[int]:
    """Give the numbers of what another process would read now."""
    disk.save(root / NAME)
    return numbers_of(read_directory(root / NAME))


@pytest.mark.parametrize("policy", list(SyncPolicy))
def test_what_is_appended_is_read_in_order(policy: SyncPolicy, tmp_path: Path) -> None:
    """Records come back in order, across segments, whatever the sync policy."""
    writer = JournalWriter.begin(tmp_path, 3, sync=policy, segment_bytes=500)
    reader = JournalReader(writer.directory)
    for number in range(1, 101):
        assert writer.append(payload(number)) == number
    assert numbers_of(read_all(reader)) == list(range(1, 101))
    assert not reader.finished
    writer.close()
    assert read_all(reader) == []
    assert reader.finished
    assert len(list(writer.directory.glob("*.journal"))) > 5
    assert (writer.synced, reader.stats.lossy) == (0 if policy == "none" else 100, False)


def test_two_journals_are_two(tmp_path: Path) -> None:
    """Each life of a worker has a journal of its own, with a lock that no other can take."""
    one, two = JournalWriter.begin(tmp_path, 0), JournalWriter.begin(tmp_path, 0)
    assert one.directory != two.directory
    assert one.name.partition("-")[0] == two.name.partition("-")[0]
    for writer in (one, two):
        writer.close()


def test_headers_name_the_first_number_in_their_segment() -> None:
    """A segment's header tells the lowest number in it, also where frames are written again."""
    writer, disk = memory_writer(segment_bytes=100_000)
    for number in (1, 2, 3):
        writer.append(payload(number))
    assert sync(writer)
    writer.append(payload(4))
    disk.fault = lambda name, number: OSError(5, "bad") if name == "synchronise" else None
    assert not sync(writer)
    data = [bytes(file.data) for file in disk.files.values()]
    headers = [SegmentHeader.decode(each) for each in data]
    assert [each and each.first_sequence for each in headers] == [1, 4]
    assert [number for number, _ in reference.frames(data[1])] == [4]


def test_a_failed_fdatasync_is_never_asked_again(tmp_path: Path) -> None:
    """D7: its file is left, what may be lost is in a new one, and only that is synchronised."""
    fail = {"on": True}

    def fault(name: str, number: int) -> Exception | None:
        bad = name == "synchronise" and fail["on"]
        fail["on"] = fail["on"] and not bad
        return OSError(errno.EIO, "Input/output error") if bad else None

    writer, disk = memory_writer(fault, segment_bytes=100_000)
    for number in range(1, 8):
        writer.append(payload(number))
    assert not sync(writer)
    assert (writer.synced, writer.sync_failures) == (0, 1)
    assert sync(writer)
    assert writer.synced == 7
    first, second = disk.files.values()
    assert (first.syncs, first.syncs_after_failure, second.syncs) == (1, 0, 1)
    assert [number for number, _ in reference.frames(bytes(second.durable))] == list(range(1, 8))
    disk.save_after_power_cut(tmp_path / NAME, random.Random(1))
    assert sorted(numbers_of(read_directory(tmp_path / NAME))) == list(range(1, 8))


@pytest.mark.parametrize("outcome", ["good", "bad"])
def test_a_file_left_while_its_fdatasync_is_under_way_is_not_asked_twice(outcome: str) -> None:
    """D7: of two at once only one would be told of the failure; so there are never two."""
    writer, disk = memory_writer(segment_bytes=200)
    for number in (1, 2, 3):
        writer.append(payload(number))
    under_way = writer.begin_sync()
    assert under_way is not None
    while writer._segment == under_way.segment:
        writer.append(payload(writer.sequence + 1))
    if outcome == "bad":
        disk.fault = lambda name, number: OSError(5, "bad") if name == "synchronise" else None
    under_way.run()
    disk.fault = lambda name, number: None
    assert writer.finish_sync(under_way) is (outcome == "good")
    assert writer.synced == (3 if outcome == "good" else 0)
    last = writer.sequence
    assert sync(writer)
    assert writer.synced == last
    first, second = disk.files.values()
    assert (first.syncs, first.syncs_after_failure) == (1, 0)
    held = {number for file in (first, second) for number, _ in reference.frames(file.durable)}
    assert held == set(range(1, last + 1))


def test_the_bound_of_unsynchronised_frames_holds_during_a_fdatasync(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """D7: a disk that falls behind makes `append` wait, on another file than the one under way."""
    monkeypatch.setattr(writing, "UNSYNCED_BYTES_MAX", 200)
    writer, disk = memory_writer(segment_bytes=100_000)
    writer.append(payload(1))
    under_way = writer.begin_sync()
    assert under_way is not None
    for number in range(2, 30):
        writer.append(payload(number))
        assert writer._unsynced_bytes < 200 + 100
    assert next(iter(disk.files.values())).syncs == 0
    under_way.run()
    assert writer.finish_sync(under_way)
    assert sync(writer)
    assert writer.synced == 29


def test_always_failing_fdatasync_is_told_and_ends() -> None:
    """D7: `sync_now` tries two files and says that it could not; it does not go on for ever."""
    writer, disk = memory_writer(segment_bytes=100_000)
    writer.append(payload(1))
    disk.fault = lambda name, number: OSError(5, "bad") if name == "synchronise" else None
    with pytest.raises(JournalUnwritable, match="twice"):
        writer.sync_now()
    assert all(file.syncs_after_failure == 0 for file in disk.files.values())
    with pytest.raises(JournalUnwritable):
        writer.close()
    assert disk.open_handles == 0


def test_a_sync_with_no_file_is_a_failure_and_looks_for_one() -> None:
    """D6: frames in no file for certain are not called safe; the next try finds them a file."""
    writer, disk = memory_writer(segment_bytes=100_000)
    writer.append(payload(1))
    full = OSError(errno.ENOSPC, "No space left on device")
    disk.fault = lambda name, number: full if name in ("synchronise", "create") else None
    with pytest.raises(JournalUnwritable):
        sync(writer)
    with pytest.raises(JournalUnwritable):
        sync(writer)
    assert (writer.synced, writer.needs_sync) == (0, True)
    disk.fault = lambda name, number: None
    assert not sync(writer)
    assert sync(writer)
    assert (writer.synced, writer.needs_sync) == (1, False)


@pytest.mark.parametrize("few", [0, 1, 19, 20, 30])
def test_half_a_record_is_taken_back(few: int, tmp_path: Path) -> None:
    """D6: of a record the disk took in part nothing remains, and the next one stands whole."""
    writer, disk = memory_writer(segment_bytes=100_000)
    writer.append(payload(1))
    disk.fault = lambda name, number: few if name == "write" else None
    with pytest.raises(JournalUnwritable, match="full"):
        writer.append(payload(2))
    disk.fault = lambda name, number: None
    assert writer.append(payload(3)) == 2
    assert saved(disk, tmp_path) == [1, 3]
    assert len(disk.files) == 1


def test_half_a_record_that_cannot_be_taken_back_ends_its_segment(tmp_path: Path) -> None:
    """D6: if even cutting fails the segment is left for good; no record follows the half one."""
    writer, disk = memory_writer(segment_bytes=100_000)
    writer.append(payload(1))

    def fault(name: str, number: int) -> Exception | int | None:
        return OSError(5, "bad") if name == "truncate" else 10 if name == "write" else None

    disk.fault = fault
    with pytest.raises(JournalUnwritable):
        writer.append(payload(2))
    disk.fault = lambda name, number: None
    writer.append(payload(3))
    assert saved(disk, tmp_path) == [1, 3]
    assert len(disk.files) == 2


def test_a_write_that_fails_half_way_costs_no_other_record(tmp_path: Path) -> None:
    """D6: bytes that came onto the disk before an error are cut off, and none that follow them."""
    writer, disk = memory_writer(segment_bytes=100_000)
    writer.append(payload(1))
    real = disk.write

    def half(handle: int, data: bytes) -> int:
        real(handle, data[:25])
        raise OSError(errno.EIO, "Input/output error")

    disk.write = half  # type: ignore[method-assign]
    with pytest.raises(JournalUnwritable):
        writer.append(payload(2))
    disk.write = real  # type: ignore[method-assign]
    writer.append(payload(3))
    disk.fault = lambda name, number: 5 if name == "write" else None
    with pytest.raises(JournalUnwritable):
        writer.append(payload(4))
    assert saved(disk, tmp_path) == [1, 3]


def test_a_segment_made_in_a_second_try_is_the_same_to_a_reader(tmp_path: Path) -> None:
    """D6: what a reader saw of a half-made segment stands at its place in the next try, too."""
    writer, disk = memory_writer(segment_bytes=200)
    for number in range(1, 5):
        writer.append(payload(number))
    under_way = writer.begin_sync()
    assert under_way is not None
    writes = []

    def fault(name: str, number: int) -> Exception | int | None:
        writes.append(name)
        return 3 if name == "write" and writes.count("write") == 4 else None

    disk.fault = fault  # the header and two frames go in, the third in part
    frozen: list[bytes] = []
    real = disk.truncate

    def look(handle: int, size: int) -> None:
        frozen.append(bytes(list(disk.files.values())[-1].data))
        real(handle, size)

    disk.truncate = look  # type: ignore[method-assign]
    while not frozen:
        try:
            writer.append(payload(writer.sequence + 1))
        except JournalUnwritable:
            break
    under_way.run()
    assert writer.finish_sync(under_way)
    writer.append(payload(writer.sequence + 1))
    again = bytes(list(disk.files.values())[-1].data)
    seen = [number for number, _ in reference.frames(frozen[0])]
    assert seen == [1, 2]
    assert again[: len(frozen[0])] == frozen[0]
    assert saved(disk, tmp_path) == list(range(1, writer.sequence + 1))


def test_a_full_disk_is_not_filled_with_empty_files() -> None:
    """D6: however often no segment can be made, the tries leave one file behind at most."""
    writer, disk = memory_writer(lambda name, number: 0 if name == "write" else None)
    for _ in range(50):
        with pytest.raises(JournalUnwritable):
            writer.append(payload(1))
    assert len(disk.files) == 1
    assert disk.open_handles == 1
    disk.fault = lambda name, number: None
    assert writer.append(payload(1)) == 1
    writer.close()
    assert disk.open_handles == 0


def _enospc(name: str) -> Exception | int:
    return OSError(errno.ENOSPC, "No space left on device")


def _eio(name: str) -> Exception | int:
    return OSError(errno.EIO, "Input/output error")


def _short(name: str) -> Exception | int:
    return 5 if name == "write" else OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [_enospc, _eio, _short])
@pytest.mark.parametrize("lasting", [1, 4])
def test_any_operation_may_fail(
    error: Callable[[str], Exception | int], lasting: int, tmp_path: Path, tally: Tally
) -> None:
    """D6: with the n-th and the next operations failing, for every n until none is left to fail,
    each record is refused or read exactly once, and writing recovers alone.
    """
    number_of_fault = 0
    while True:
        number_of_fault += 1
        met: list[str] = []

        def fault(name: str, number: int, n: int = number_of_fault, met: list[str] = met) -> object:
            if n <= number < n + lasting:
                met.append(name)
                return error(name)
            return None

        writer, disk = memory_writer(fault)  # type: ignore[arg-type]
        kept = []
        for number in range(1, 31):
            try:
                writer.append(payload(number))
                kept.append(number)
                if number % 4 == 0:
                    sync(writer)
            except JournalUnwritable:
                continue
        assert len(kept) >= 30 - 2 * lasting
        for _ in range(2 * lasting + 2):
            try:
                writer.sync_now()
                break
            except JournalUnwritable:
                continue
        root = tmp_path / str(number_of_fault)
        assert sorted(saved(disk, root)) == kept
        assert writer.synced == writer.sequence
        cut = root / "cut"
        disk.save_after_power_cut(cut / NAME, random.Random(number_of_fault))
        assert sorted(numbers_of(read_directory(cut / NAME))) == kept
        assert all(file.syncs_after_failure == 0 for file in disk.files.values())
        if not met:
            break
    tally.add("disk operations failed", number_of_fault - 1)
    assert number_of_fault > 40


@pytest.mark.parametrize("seed", range(pick(250, 5000)))
def test_a_power_cut_costs_what_was_not_synchronised(
    seed: int, tmp_path: Path, tally: Tally
) -> None:
    """D3: whatever the disk does with unsynchronised writes, what is read after a power cut was
    written, each record once and whole, and nothing of what was called safe is missing.
    """
    tally.add("power cuts")
    chance = random.Random(seed)
    last_operation = chance.randrange(3, 120)

    def fault(name: str, number: int) -> object:
        if number == last_operation:
            return PowerCut()
        if chance.random() < 0.08:
            return _short(name) if name == "write" else _eio(name)
        return None

    policy = chance.choice((SyncPolicy.INTERVAL, SyncPolicy.ALWAYS))
    writer, disk = memory_writer(fault, policy, chance.choice((150, 300, 1000)))  # type: ignore[arg-type]
    tried, kept, safe = [], [], 0
    under_way = None
    try:
        for number in range(1, 61):
            tried.append(number)
            try:
                writer.append(payload(number))
                kept.append(number)
                if under_way is not None and chance.random() < 0.5:
                    under_way.run()
                    finished, under_way = under_way, None
                    writer.finish_sync(finished)
                elif under_way is None and chance.random() < 0.4:
                    under_way = writer.begin_sync()
            except JournalUnwritable:
                pass
            safe = writer.synced
    except PowerCut:
        pass
    disk.save_after_power_cut(tmp_path / NAME, chance)
    found = numbers_of(read_directory(tmp_path / NAME))
    assert len(set(found)) == len(found)
    assert set(found) <= set(tried)
    assert set(kept[:safe]) <= set(found)
    assert all(file.syncs_after_failure == 0 for file in disk.files.values())


def test_its_share_of_the_disk_is_kept(tmp_path: Path) -> None:
    """D13: at `bytes_max` of all journals together nothing more is written, and what is there
    stays; when the recorder has freed space, writing goes on by itself.
    """
    options = {"segment_bytes": 500, "bytes_max": 3000}
    other = JournalWriter.begin(tmp_path, 0, **options)  # type: ignore[arg-type]
    while other._segment < 3:
        other.append(payload(other.sequence + 1))
    writer = JournalWriter.begin(tmp_path, 1, **options)  # type: ignore[arg-type]
    while sum(path.stat().st_size for path in tmp_path.glob("*/*.journal")) < 3000 - 500:
        writer.append(payload(writer.sequence + 1))
    with pytest.raises(JournalUnwritable, match="their share is 3000"):
        append_until_full(writer)
    size = sum(path.stat().st_size for path in tmp_path.glob("*/*.journal"))
    assert 2000 < size <= 3000 + 2 * 100
    reader = JournalReader(writer.directory)
    had = numbers_of(read_all(reader))
    assert had == list(range(1, writer.sequence + 1))
    full = writer.sequence
    with pytest.raises(JournalUnwritable):
        writer.append(payload(full + 1))
    assert discard_segments(writer.directory, reader.position) > 0
    writer.append(payload(full + 1))
    assert numbers_of(read_all(reader)) == [full + 1]
    for each in (writer, other):
        each.close()


def test_every_journal_may_have_a_segment(tmp_path: Path) -> None:
    """D13: with its share used up by journals before it, a new worker can still begin."""
    options = {"segment_bytes": 500, "bytes_max": 1000}
    writers = [JournalWriter.begin(tmp_path, n, **options) for n in range(5)]  # type: ignore[arg-type]
    for writer in writers:
        assert writer.append(payload(1)) == 1
        writer.close()


def test_a_read_sees_what_another_process_would(tmp_path: Path) -> None:
    """A writer on the real disk refuses a file that is there already: a journal is written once."""
    writer_in(tmp_path / NAME).append(payload(1))
    with pytest.raises(JournalUnwritable, match="File exists"):
        writer_in(tmp_path / NAME).append(payload(1))
