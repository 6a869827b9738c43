"""What waits for a collector outlives who wrote it, within its bound, and is counted exactly."""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taximeter.journal import RealDisk
from taximeter.traces import TraceStats
from taximeter.traces import _spool as spools
from taximeter.traces import _spool_files as files
from taximeter.traces._spool import ACKNOWLEDGED, SEGMENT_BYTES_MIN, Spool

MIB = 1 << 20


class Killed(BaseException):
    """The process ended here."""


class Failing(RealDisk):
    """A disk that fails on demand: `fault` is asked before each operation.

    It may raise; for a write it may give how many bytes go through before `error` is raised.
    """

    def __init__(self) -> None:
        self.fault: Callable[[str], int | None] = lambda name: None
        self.error: BaseException = OSError(errno.ENOSPC, "No space left on device")

    def create(self, path: Path) -> int:
        self.fault("create")
        return super().create(path)

    def truncate(self, handle: int, size: int) -> None:
        self.fault("truncate")
        super().truncate(handle, size)

    def write(self, handle: int, data: Any) -> int:
        through = self.fault("write")
        if through is None:
            return super().write(handle, data)
        super().write(handle, data[:through])
        raise self.error


class Place:
    """A folder, and the spools that come and go in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.disk = Failing()
        self.stats = TraceStats()
        self.said: list[str] = []

    def open(self, bytes_max: int = 64 * MIB) -> Spool:
        """Take the folder over as a new process does."""
        self.stats = TraceStats()
        return Spool(self.folder, bytes_max, self.stats, complain=self.said.append, disk=self.disk)

    def files(self) -> list[Path]:
        """Give the segments, the oldest first."""
        return sorted(self.folder.glob("*.spool"))

    def dropped(self) -> dict[str, int]:
        """Give what was dropped, by reason."""
        return {reason: count for reason, count in self.stats.dropped.items() if count}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A folder that is not there yet."""
    return Place(tmp_path / "traces")


def payload(number: int, size: int = 400) -> bytes:
    """Make a call's bytes, by its number."""
    return b"%08d" % number + b"x" * (size - 8)


def numbers(payloads: list[bytes]) -> list[int]:
    """Give the numbers back."""
    return [int(each[:8]) for each in payloads]


def put(spool: Spool, first: int, last: int) -> None:
    """Append and publish calls by their numbers."""
    spool.append([payload(number) for number in range(first, last + 1)])
    spool.publish()


def take_all(spool: Spool, calls_max: int = 100) -> list[int]:
    """Read and acknowledge everything."""
    found: list[int] = []
    while batch := spool.read(calls_max):
        assert len(batch) <= calls_max
        found += numbers(batch)
        spool.acknowledge()
    spool.acknowledge()
    return found


# == what comes back ==============================================================================


def test_calls_come_out_as_they_went_in(place: Place) -> None:
    """In order, over segments, and only once they are published."""
    spool = place.open(MIB)
    spool.append([payload(1), payload(2)])
    assert (spool.waiting(), spool.read(10)) == (0, [])
    spool.publish()
    put(spool, 3, 1000)
    assert len(place.files()) > 4
    assert (spool.waiting(), place.stats.queued) == (1000, 1000)
    assert take_all(spool) == list(range(1, 1001))
    assert (place.stats.queued, place.dropped()) == (0, {})
    assert len(place.files()) == 1
    spool.close()
    assert place.files() == []


def test_what_was_not_acknowledged_is_there_again(place: Place) -> None:
    """A process that is killed leaves the next one all that no collector has taken, and no more."""
    spool = place.open()
    put(spool, 1, 100)
    assert numbers(spool.read(30)) == list(range(1, 31))
    spool.acknowledge()
    assert numbers(spool.read(30)) == list(range(31, 61))
    spool.append([payload(101)])  # whose commit nobody knows of
    heir = place.open()
    assert (heir.waiting(), place.stats.queued) == (71, 71)
    put(heir, 102, 103)
    assert take_all(heir) == list(range(31, 104))
    heir.close()
    third = place.open()
    put(third, 104, 104)
    assert take_all(third) == [104]
    assert place.dropped() == {}


def test_only_their_owner_can_read_the_files(place: Place) -> None:
    """H9: the folder is 0700, each file in it 0600, whatever the umask."""
    before = os.umask(0)
    try:
        spool = place.open()
        put(spool, 1, 3)
        spool.read(1)
        spool.acknowledge()
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.folder.iterdir()}
    assert set(modes.values()) == {0o600}
    assert ACKNOWLEDGED in modes
    assert stat.S_IMODE(place.folder.stat().st_mode) == 0o700


# == damage =======================================================================================


def test_a_torn_tail_is_passed_over_wherever_it_is_torn(place: Place) -> None:
    """Killed within a write: what stood whole is read, the rest is one call, and all goes on."""
    spool = place.open()
    put(spool, 1, 3)
    (path,) = place.files()
    whole = path.read_bytes()
    frame = len(whole) // 3
    for size in range(2 * frame, len(whole)):
        path.write_bytes(whole[:size])
        heir = place.open()
        put(heir, 4, 4)
        assert take_all(heir) == [1, 2, 4]
        assert place.dropped() == ({"damaged": 1} if size > 2 * frame else {})
        heir.close()
        (place.folder / ACKNOWLEDGED).unlink()


def test_damage_costs_what_it_covers_and_is_counted(place: Place) -> None:
    """Bytes that changed, a stretch of zeros, a file cut short: the calls there, by number."""
    spool = place.open(MIB)
    put(spool, 1, 1000)
    first, second, third, *_ = place.files()
    frame = len(first.read_bytes()) // (int(second.stem, 16) - int(first.stem, 16))
    changed = bytearray(first.read_bytes())
    changed[10 * frame + 30] ^= 1
    changed[20 * frame : 23 * frame] = bytes(3 * frame)
    first.write_bytes(changed)
    lost = {11, 21, 22, 23}
    cut = second.read_bytes()[: 5 * frame]
    second.write_bytes(cut)
    start, end = int(second.stem, 16), int(third.stem, 16)
    lost |= set(range(start + 5, end))
    heir = place.open()
    assert take_all(heir) == [number for number in range(1, 1001) if number not in lost]
    assert place.dropped() == {"damaged": len(lost)}


def test_files_that_somebody_deletes_are_counted_and_missed_no_more(place: Place) -> None:
    """Under a running recorder: what was in them is lost, what comes after is not."""
    spool = place.open(MIB)
    put(spool, 1, 500)
    for path in [*place.folder.iterdir()]:
        path.unlink()
    place.folder.rmdir()
    assert take_all(spool) == []
    put(spool, 501, 510)
    assert take_all(spool) == list(range(501, 511))
    assert place.dropped() == {"damaged": 500}
    assert place.said


@pytest.mark.parametrize("mark", [b"", b"x" * 12, b"\xff" * 12, b"\0" * 40])
def test_a_mark_that_says_nothing_repeats_and_loses_nothing(place: Place, mark: bytes) -> None:
    """Where it cannot be told what was taken, everything that is there goes out again."""
    spool = place.open()
    put(spool, 1, 5)
    spool.read(2)
    spool.acknowledge()
    (place.folder / ACKNOWLEDGED).write_bytes(mark)
    assert take_all(place.open()) == [1, 2, 3, 4, 5]


def test_a_segment_that_cannot_be_read_stops_no_other(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes after it has names and numbers of its own, and is read."""
    put(place.open(), 1, 5)

    def unreadable(path: Path, *arguments: int) -> bytes:
        if path.name.endswith("01.spool"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return files.read_at(path, *arguments)

    monkeypatch.setattr(spools, "number_behind", unreadable)
    monkeypatch.setattr(spools, "read_at", unreadable)
    spool = place.open()
    put(spool, 6, 8)
    assert take_all(spool) == [6, 7, 8]
    assert place.dropped() == {"damaged": 1}
    assert place.said


def test_what_is_not_ours_is_left_alone(place: Place, tmp_path: Path) -> None:
    """Foreign files, folders and links in the folder are neither read nor deleted."""
    place.folder.mkdir()
    (tmp_path / "elsewhere").write_bytes(b"mine")
    (place.folder / "0000000000000007.spool").symlink_to(tmp_path / "elsewhere")
    (place.folder / "0000000000000003.spool").mkdir()
    (place.folder / "ffffffffffffffff.spool").write_bytes(b"mine")
    (place.folder / "notes.txt").write_bytes(b"mine")
    spool = place.open()
    found: list[int] = []
    for number in range(1, 9):  # over the names that are taken
        put(spool, number, number)
        found += take_all(spool)
        spool._end_segment()
    assert found == [1, 2, 4, 5, 6, 8]
    assert place.stats.dropped["unwritable"] == 2
    assert len([*place.folder.glob("*")]) >= 4
    assert (tmp_path / "elsewhere").read_bytes() == b"mine"
    assert (place.folder / "0000000000000003.spool").is_dir()


# == bounds and full disks ========================================================================


def test_beyond_its_bound_the_oldest_go_and_are_counted(place: Place) -> None:
    """D9: exact, also where some of them had been read and are being exported."""
    spool = place.open(MIB)
    put(spool, 1, 100)
    assert len(spool.read(60)) == 60
    for start in range(101, 10_101, 100):
        put(spool, start, start + 99)
        assert place.stats.spool_bytes <= MIB
        assert sum(path.stat().st_size for path in place.files()) == place.stats.spool_bytes
    spool.acknowledge()
    rest = take_all(spool)
    assert place.dropped() == {"spool_full": 10_100 - 60 - len(rest)}
    assert rest == list(range(10_101 - len(rest), 10_101))
    assert len(rest) > 2000


def test_a_bound_that_is_lowered_holds_at_once(place: Place) -> None:
    """Also for what an earlier process has left."""
    put(place.open(), 1, 20_000)
    spool = place.open(MIB)
    assert place.stats.spool_bytes <= MIB
    put(spool, 20_001, 20_000 + 2 * SEGMENT_BYTES_MIN // 400)
    assert place.stats.spool_bytes <= MIB
    assert place.stats.queued + place.stats.dropped["spool_full"] == 20_000 + 327


def test_a_call_beyond_a_frame_is_dropped_alone(place: Place) -> None:
    """What no frame holds is counted, and takes no number."""
    spool = place.open()
    spool.append([payload(1), payload(2, 70_000), payload(3)])
    spool.publish()
    assert take_all(spool) == [1, 3]
    assert place.dropped() == {"too_large": 1}


@pytest.mark.parametrize("through", [0, 1, 500])
def test_a_full_disk_costs_what_it_did_not_take(place: Place, through: int) -> None:
    """Those calls, counted once; what came before and what comes after arrives."""
    spool = place.open()
    put(spool, 1, 3)
    place.disk.fault = lambda name: through if name == "write" else None
    put(spool, 4, 6)
    put(spool, 7, 7)
    place.disk.fault = lambda name: None
    put(spool, 8, 9)
    assert take_all(spool) == [1, 2, 3, 8, 9]
    assert place.dropped() == {"unwritable": 4}
    assert place.stats.queued == 0


def test_a_disk_that_takes_nothing_back_either_is_counted_too(place: Place) -> None:
    """What a failed write left behind is in nobody's way, and no number is used twice."""

    def fault(name: str) -> int | None:
        if name == "truncate":
            raise OSError(errno.EIO, "Input/output error")
        return 500 if name == "write" else None

    spool = place.open()
    put(spool, 1, 3)
    place.disk.fault = fault
    put(spool, 4, 6)
    place.disk.fault = lambda name: None
    put(spool, 7, 8)
    assert take_all(spool) == [1, 2, 3, 7, 8]
    assert place.dropped() == {"damaged": 3}


def test_a_folder_that_cannot_be_made_is_tried_again(place: Place) -> None:
    """Something stands in its place: counted, told, and forgotten when it is gone."""
    place.folder.write_bytes(b"a file")
    spool = place.open()
    put(spool, 1, 2)
    assert take_all(spool) == []
    place.folder.unlink()
    put(spool, 3, 4)
    assert take_all(spool) == [3, 4]
    assert place.dropped() == {"unwritable": 2}
    assert place.said


# == a model, and processes that die anywhere =====================================================


@pytest.mark.parametrize("seed", range(40))
def test_whenever_a_process_dies_what_was_booked_arrives(place: Place, seed: int) -> None:
    """At least once: a call whose commit followed its write is read, now or by a later process.

    Processes are killed at random: between two steps, or within a write, after some of its bytes.
    A call whose write did not end is written again, as the recorder does that reads its journal.
    """
    chance = random.Random(seed)
    taken: set[int] = set()
    wanted = 0

    def fault(name: str) -> int | None:
        return chance.randrange(900) if name == "write" and chance.random() < 0.1 else None

    place.disk.fault, place.disk.error = fault, Killed()
    tears = 0
    for _ in range(12):
        spool = place.open(MIB)
        for _ in range(chance.randrange(40)):
            count = chance.randrange(1, 30)
            try:
                put(spool, wanted + 1, wanted + count)
            except Killed:
                tears += 1
                break
            wanted += count
            if chance.random() < 0.5:
                batch = numbers(spool.read(chance.randrange(1, 60)))
                if chance.random() < 0.7:
                    taken |= set(batch)
                    spool.acknowledge()
                else:
                    break
        assert place.stats.dropped["damaged"] <= tears
        if chance.random() < 0.3:
            spool.close()
    place.disk.fault = lambda name: None
    last = place.open(MIB)
    taken |= set(take_all(last))
    assert set(range(1, wanted + 1)) <= taken, f"seed {seed}"
    assert place.stats.dropped["damaged"] <= tears
    assert set(place.dropped()) <= {"damaged"}
