"""Reading journals that have come to harm: directories, segments, frames."""

from __future__ import annotations

import errno
import os
import random
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taximeter.journal import JournalReader, Position, UnknownVersion, has_writer, journals
from taximeter.journal import _quarantine as quarantine
from taximeter.journal._format import SegmentHeader, encode_frame
from taximeter.journal._layout import lock_writer
from taximeter.journal._reader import READ_BYTES_MAX
from tests.journal import reference
from tests.journal.make import (
    ID,
    NAME,
    header,
    journal,
    numbers_of,
    payload,
    read_all,
    read_directory,
    segment_bytes,
)
from tests.rig.length import pick


def quarantined(root: Path) -> dict[str, bytes]:
    """Give what has been put aside, by name."""
    folder = root / "quarantine"
    return {each.name: each.read_bytes() for each in folder.iterdir()} if folder.exists() else {}


def test_a_journal_cut_anywhere_gives_the_frames_before_the_cut(tmp_path: Path) -> None:
    """D4: a tail torn at any byte costs the frame it was torn in, and no other."""
    data = segment_bytes(range(1, 7))
    for end in range(len(data) + 1):
        directory = journal(tmp_path / str(end), data[:end])
        reader = JournalReader(directory)
        assert read_all(reader) == [each for _, each in reference.frames(data[:end])]
        assert reader.finished
        read = sum(20 + len(each) for each in read_all(JournalReader(directory)))
        head = 64 if end >= 64 else 0
        assert reader.stats.damaged_bytes == end - read - head


def test_any_flipped_byte_costs_one_record_at_most(tmp_path: Path) -> None:
    """D4: with any byte changed all other records are read, the rest is counted and put aside."""
    data = segment_bytes(range(1, 7))
    whole = [payload(number) for number in range(1, 7)]
    for at in range(len(data)):
        spoilt = bytearray(data)
        spoilt[at] ^= 0xFF
        root = tmp_path / str(at)
        reader = JournalReader(journal(root, bytes(spoilt)))
        found = read_all(reader)
        assert found == [each for _, each in reference.frames(bytes(spoilt))]
        assert len(found) == (6 if at < 64 else 5)
        assert found == [each for each in whole if each in found]
        assert reader.finished
        copies = quarantined(root)
        assert reader.stats.damaged_bytes == sum(len(each) for each in copies.values()) > 0
        if 64 <= at < len(data) - 60:
            assert reader.stats.missing == (0 if found[0] != whole[0] else 1)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:100] + bytes(4096) + data[100:],
        lambda data: data[:64] + bytes(4096) + data[64:],
        lambda data: bytes(4096) + data[64:],
        lambda data: data + bytes(8192),
        lambda data: data[:80] + data[90:],
        lambda data: data[:64] + random.Random(1).randbytes(3000) + data[64:],
    ],
    ids=["zeros in a frame", "zeros", "header zeroed", "zeros at the end", "hole", "noise"],
)
def test_frames_before_and_after_damage_are_read(spoil: object, tmp_path: Path) -> None:
    """D4: pages of zeros, holes and noise are passed, and what stands behind them is read."""
    data = spoil(segment_bytes(range(1, 9)))  # type: ignore[operator]
    reader = JournalReader(journal(tmp_path, data, segment_bytes(range(9, 12), segment=2)))
    found = numbers_of(read_all(reader))
    assert found == [number for number, _ in reference.frames(data)] + [9, 10, 11]
    assert found[-4:] == [8, 9, 10, 11]
    assert reader.finished
    assert reader.stats.damaged_bytes > 0


def test_a_stretch_larger_than_one_look_is_passed(tmp_path: Path) -> None:
    """D4: megabytes of nothing take as many looks as they have megabytes, then reading goes on."""
    data = segment_bytes(range(1, 3)) + bytes(3 * READ_BYTES_MAX) + segment_bytes(range(3, 5))[64:]
    reader = JournalReader(journal(tmp_path, data))
    assert numbers_of(read_all(reader)) == [1, 2, 3, 4]
    assert reader.stats.damaged_bytes == 3 * READ_BYTES_MAX


def test_damage_at_a_look_s_edge_costs_no_frame(tmp_path: Path) -> None:
    """A frame that lies across the end of what is read at once is read with the next look."""
    for shift in (0, 1, 10, 20, 30, 39):
        filler = [encode_frame(n, b"x" * 60_000) for n in range(1, 18)]
        room = READ_BYTES_MAX - 64 - sum(map(len, filler)) - 20 - shift
        filler.append(encode_frame(18, b"y" * room))
        data = header() + b"".join([*filler, encode_frame(19, b"z" * 19), encode_frame(20, b"end")])
        found = read_directory(journal(tmp_path / str(shift), data))
        assert len(found) == 20
        assert found[-2:] == [b"z" * 19, b"end"]


def test_frames_written_again_are_taken_once(tmp_path: Path) -> None:
    """D7: what the new segment repeats of the old is skipped, and what the old lost is taken."""
    old = [encode_frame(number, payload(number)) for number in range(1, 11)]
    kept = header() + b"".join(old[:4]) + bytes(len(b"".join(old[4:9]))) + old[9]
    again = header(2, 5) + b"".join(old[4:]) + encode_frame(11, payload(11))
    reader = JournalReader(journal(tmp_path, kept, again))
    assert numbers_of(read_all(reader)) == [1, 2, 3, 4, 10, 5, 6, 7, 8, 9, 11]
    assert reader.stats.repeated == 1
    assert reader.stats.missing == 0


def test_a_foreign_segment_costs_no_record(tmp_path: Path) -> None:
    """D4: a segment of another journal, with higher numbers, hides none of this one's."""
    foreign = segment_bytes(range(1000, 1003), segment=2, journal_id=bytes(16))
    own = segment_bytes(range(4, 7), segment=3)
    reader = JournalReader(journal(tmp_path, segment_bytes(range(1, 4)), foreign, own))
    assert numbers_of(read_all(reader)) == [1, 2, 3, 1000, 1001, 1002, 4, 5, 6]
    assert (reader.stats.missing, reader.stats.repeated) == (0, 0)


def test_a_foreign_number_hides_nothing(tmp_path: Path) -> None:
    """D4: one stray frame with a number far ahead does not make repeats of all that follow."""
    stray = encode_frame(10**9, payload(999))
    data = segment_bytes(range(1, 4)) + stray + segment_bytes(range(4, 7))[64:]
    assert numbers_of(read_directory(journal(tmp_path, data))) == [1, 2, 3, 999, 4, 5, 6]


def test_a_living_journal_is_read_past_a_foreign_file(tmp_path: Path) -> None:
    """D4: a file that claims to be a far later segment does not draw the reader away."""
    directory = journal(tmp_path, segment_bytes(range(1, 4)))
    foreign = segment_bytes(range(50, 52), segment=99_999_999, journal_id=bytes(16))
    (directory / "99999999.journal").write_bytes(foreign)
    lock = lock_writer(directory)
    reader = JournalReader(directory)
    assert numbers_of(read_all(reader)) == [1, 2, 3]
    (directory / "00000002.journal").write_bytes(segment_bytes(range(4, 6), segment=2))
    assert numbers_of(read_all(reader)) == [4, 5]
    assert not reader.finished
    lock.release()
    assert numbers_of(read_all(reader)) == [50, 51]
    assert reader.finished


def test_a_missing_segment_is_passed_and_told(tmp_path: Path) -> None:
    """D4: where a segment is gone reading goes on behind it, living or not, and says so."""
    first, third = segment_bytes(range(1, 4)), segment_bytes(range(7, 9), segment=3)
    for living in (False, True):
        directory = journal(tmp_path / str(living), first, b"", third)
        (directory / "00000002.journal").unlink()
        lock = lock_writer(directory)
        if not living:
            lock.release()
        reader = JournalReader(directory)
        assert numbers_of(read_all(reader)) == [1, 2, 3, 7, 8]
        assert reader.stats.missing == 3
        assert any("segments before 3 are missing" in each for each in reader.stats.problems)
        if living:
            lock.release()


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (Position(1, 0), [1, 2, 3, 4, 5]),
        (Position(1, 70), [2, 3, 4, 5]),
        (Position(1, 10**12), [4, 5]),
        (Position(2, 0), [4, 5]),
        (Position(7, 5), []),
    ],
    ids=["start", "within a frame", "beyond the end", "second", "a segment that is not there"],
)
def test_a_stale_position_is_no_stumbling_block(
    position: Position, expected: list[int], tmp_path: Path
) -> None:
    """D5: from whatever position it is told, a reader finds its way and comes to the end."""
    segments = segment_bytes(range(1, 4)), segment_bytes(range(4, 6), segment=2)
    reader = JournalReader(journal(tmp_path, *segments), position)
    assert numbers_of(read_all(reader)) == expected
    assert reader.finished


@pytest.mark.parametrize("segments", [(), (b"",), (b"", b""), (header()[:63],), (header(),)])
def test_a_journal_of_nothing_is_finished(segments: tuple[bytes, ...], tmp_path: Path) -> None:
    """D4: no segment, empty segments or half a header: there is nothing, and that is the end."""
    reader = JournalReader(journal(tmp_path, *segments))
    assert read_all(reader) == []
    assert reader.finished


def test_a_journal_that_is_gone_is_finished(tmp_path: Path) -> None:
    """D4: a folder that has been deleted under the reader is no error."""
    reader = JournalReader(tmp_path / NAME)
    assert reader.read(10) == []
    assert reader.finished


def test_a_living_journal_s_short_header_is_waited_for(tmp_path: Path) -> None:
    """A segment whose header is being written is neither damage nor the end."""
    directory = journal(tmp_path, header()[:40])
    lock = lock_writer(directory)
    reader = JournalReader(directory)
    assert read_all(reader) == []
    assert (reader.finished, reader.stats.damaged_bytes) == (False, 0)
    (directory / "00000001.journal").write_bytes(segment_bytes(range(1, 3)))
    assert numbers_of(read_all(reader)) == [1, 2]
    lock.release()


def _link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [_link, _pipe, _folder])
def test_what_is_no_file_is_put_aside(make: object, tmp_path: Path) -> None:
    """D4: a link, pipe or folder in a segment's place is not followed, nor waited for."""
    root = tmp_path / "j"
    directory = journal(root, segment_bytes(range(1, 3)), b"", segment_bytes(range(3, 5), 3))
    (directory / "00000002.journal").unlink()
    make(directory / "00000002.journal")  # type: ignore[operator]
    reader = JournalReader(directory)
    assert numbers_of(read_all(reader)) == [1, 2, 3, 4]
    assert reader.stats.unreadable_segments == 1
    assert [each.name for each in (root / "quarantine").iterdir()] == [
        f"{NAME}-00000002.unreadable"
    ]


def test_a_segment_without_permission_is_put_aside_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D4: what cannot be opened is moved out of the way whole, so that nobody deletes it."""
    data = segment_bytes(range(1, 3))
    directory = journal(tmp_path, data, segment_bytes(range(3, 5), segment=2))
    real = os.open

    def refuse(path: object, *more: object) -> int:
        if str(path).endswith("00000001.journal"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    reader = JournalReader(directory)
    assert numbers_of(read_all(reader)) == [3, 4]
    assert quarantined(tmp_path) == {f"{NAME}-00000001.unreadable": data}


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.ENFILE])
def test_a_passing_shortage_costs_nothing(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D4: without a free descriptor or memory, a segment waits for the next look."""
    reader = JournalReader(journal(tmp_path, segment_bytes(range(1, 3))))
    with monkeypatch.context() as patch:
        real = os.open

        def refuse(path: object, *more: object) -> int:
            if str(path).endswith(".journal"):
                raise OSError(number, os.strerror(number))
            return real(path, *more)  # type: ignore[arg-type]

        patch.setattr(os, "open", refuse)
        for _ in range(3):
            assert reader.read(10) == []
            assert not reader.finished
    assert len(reader.stats.problems) == 1
    assert numbers_of(read_all(reader)) == [1, 2]


def test_bad_sectors_cost_what_lies_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D4: where the disk cannot read a sector, the records on the others are read."""
    data = header() + b"".join(encode_frame(number, b"%d " % number * 100) for number in range(200))
    directory = journal(tmp_path, data)
    real = os.pread

    def fail(handle: int, size: int, offset: int) -> bytes:
        if offset < 20_000 < offset + size:
            raise OSError(errno.EIO, "Input/output error")
        return real(handle, size, offset)

    monkeypatch.setattr(os, "pread", fail)
    reader = JournalReader(directory)
    found = read_all(reader)
    spoilt = data[:16_384] + bytes(4096) + data[20_480:]
    assert found == [each for _, each in reference.frames(spoilt)]
    assert 150 < len(found) < 200
    assert reader.finished


def test_a_folder_that_cannot_be_listed_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D4: a journal's folder without permission is not taken for a finished journal."""
    reader = JournalReader(journal(tmp_path, segment_bytes(range(1, 3))))

    def refuse(path: object) -> list[str]:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", refuse)
        assert reader.read(5) == []
        assert reader.read(5) == []
        assert not reader.finished
    assert len(reader.stats.problems) == 1
    assert numbers_of(read_all(reader)) == [1, 2]


def test_a_newer_version_stops_the_reader_behind_what_it_knows(tmp_path: Path) -> None:
    """D11: what an older segment holds is read; at the newer one, and within it, reading stops."""
    newer = SegmentHeader(2, 3, 0, ID, version=2).encode() + encode_frame(3, b"?")
    directory = journal(tmp_path, segment_bytes(range(1, 3)), newer)
    reader = JournalReader(directory)
    assert numbers_of([each.payload for each in reader.read(10)]) == [1, 2]
    for _ in range(2):
        with pytest.raises(UnknownVersion):
            reader.read(10)
    assert not reader.finished
    with pytest.raises(UnknownVersion):
        JournalReader(directory, Position(2, 70)).read(10)


def test_copies_of_damage_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D4: beyond the quarantine's bytes and files damage is still counted, and copied no more."""
    monkeypatch.setattr(quarantine, "QUARANTINE_FILES_MAX", 3)
    frames = [encode_frame(number, b"x") + b"?" * number for number in range(1, 9)]
    reader = JournalReader(journal(tmp_path, header() + b"".join(frames)))
    assert len(read_all(reader)) == 8
    assert reader.stats.damaged_stretches == 8
    assert reader.stats.damaged_bytes == sum(range(1, 9))
    assert sorted(quarantined(tmp_path).values()) == [b"?", b"??", b"???"]
    monkeypatch.setattr(quarantine, "QUARANTINE_BYTES_MAX", 8)
    read_all(JournalReader(journal(tmp_path, header() + b"?" * 9, name=NAME[:-1] + "0")))
    assert len(quarantined(tmp_path)) == 3


def test_copies_are_the_owner_s_alone(tmp_path: Path) -> None:
    """H13: what is put aside is as private as the journal itself."""
    read_directory(journal(tmp_path, header() + b"damage"))
    (copy,) = (tmp_path / "quarantine").iterdir()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700


def test_no_room_for_a_copy_is_told_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D6: a full disk keeps no copies of damage; reading goes on."""

    def full(self: object, name: str, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(quarantine.Quarantine, "keep", full)
    data = segment_bytes(range(1, 3))
    reader = JournalReader(journal(tmp_path, data + b"damage" + encode_frame(3, payload(3))))
    assert numbers_of(read_all(reader)) == [1, 2, 3]
    assert any("No space left" in each for each in reader.stats.problems)


def test_only_journals_are_taken_for_journals(tmp_path: Path) -> None:
    """D4: links, files and folders of other names are none of ours."""
    journal(tmp_path, b"")
    for name in ("quarantine", "lost+found", ".hidden", "backup", f".{NAME}", f"{NAME}.old", "ü"):
        (tmp_path / name).mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")).mkdir()
    (tmp_path / NAME.replace("00-", "01-")).symlink_to(tmp_path / NAME)
    (tmp_path / NAME.replace("00-", "02-")).write_text("")
    assert journals(tmp_path) == [NAME]
    assert journals(tmp_path / "nowhere") == []


def test_a_lock_that_nobody_can_open_is_held(tmp_path: Path) -> None:
    """D4: where nobody can tell whether a writer lives, its journal is not finished."""
    directory = journal(tmp_path, segment_bytes(range(1, 3)))
    (directory / "writer.lock").symlink_to("/nowhere")
    assert has_writer(directory)
    reader = JournalReader(directory)
    assert numbers_of(read_all(reader)) == [1, 2]
    assert not reader.finished


contents = st.lists(
    st.one_of(
        st.binary(max_size=100),
        st.just(header()),
        st.just(header(journal_id=bytes(16))),
        st.just(SegmentHeader(1, 1, 0, ID, version=9).encode()),
        st.builds(encode_frame, st.integers(0, 30), st.binary(min_size=1, max_size=30)),
        st.just(bytes(200)),
    ),
    max_size=8,
).map(b"".join)


@given(
    st.dictionaries(st.integers(0, 4), contents, max_size=4),
    st.integers(0, 5),
    st.integers(0, 300),
    st.booleans(),
)
@settings(
    max_examples=pick(150, 3000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_directory_stops_or_spins_a_reader(
    tmp_path: Path, files: dict[int, bytes], segment: int, offset: int, living: bool
) -> None:
    """D4: whatever lies in a journal's folder, reading comes to an end with no error of its own."""
    directory = Path(tempfile.mkdtemp(dir=tmp_path)) / NAME
    directory.mkdir(parents=True)
    for number, data in files.items():
        (directory / f"{number:08d}.journal").write_bytes(data)
    lock = lock_writer(directory)
    if not living:
        lock.release()
    reader = JournalReader(directory, Position(segment, offset))
    try:
        read_all(reader)
    except UnknownVersion:
        assert any(b"\t\x00\x00\x00" in data for data in files.values())
    else:
        assert reader.finished is not living
    if living:
        lock.release()
