"""Names, locks, the count of lost calls, and giving space back."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taximeter.journal import (
    JournalError,
    JournalReader,
    JournalWriter,
    Position,
    discard_drafts,
    discard_journal,
    discard_segments,
    has_writer,
    journals,
    lock_recorder,
    read_lost,
    scope_of,
)
from taximeter.journal._layout import Lock, lock_writer
from taximeter.journal._lost import LostCount
from tests.journal.make import NAME, header, journal, numbers_of, payload, read_all, segment_bytes
from tests.rig.length import pick


def test_everything_is_the_owner_s_alone(tmp_path: Path) -> None:
    """H13: folders are 0700 and files 0600, whatever the umask allows."""
    before = os.umask(0)
    try:
        writer = JournalWriter.begin(tmp_path / "data" / "journal", 0)
    finally:
        os.umask(before)
    writer.append(payload(1))
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in (tmp_path / "data").rglob("*")
        if path.name != "data"
    }
    writer.close()
    assert modes.pop("journal") == modes.pop(writer.name) == 0o700
    assert set(modes.values()) == {0o600}
    assert len(modes) == 4


def test_a_scope_is_made_once(tmp_path: Path) -> None:
    """However many ask at once, a folder of journals has one name, and keeps it."""
    (tmp_path / "j").mkdir()
    (tmp_path / "j" / ".scope").write_bytes(b"spoilt")
    start = threading.Barrier(8)
    found: list[str] = []

    def ask() -> None:
        start.wait(10)
        found.append(scope_of(tmp_path / "j"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10)
    assert len(set(found)) == 1
    assert len(found[0]) == 12
    assert scope_of(tmp_path / "j") == found[0]
    assert scope_of(tmp_path / "k") != found[0]
    assert [path.name for path in (tmp_path / "j").iterdir()] == [".scope"]


@pytest.mark.parametrize("content", [None, b"", b"\xff\xff", b"0123456789AB", b"x" * 100])
def test_a_lost_scope_is_found_in_the_journals(content: bytes | None, tmp_path: Path) -> None:
    """D3: a name that a power cut has spoilt is that of the journals that are here."""
    journal(tmp_path, header())
    if content is not None:
        (tmp_path / ".scope").write_bytes(content)
    assert scope_of(tmp_path) == NAME.partition("-")[0]
    assert scope_of(tmp_path) == NAME.partition("-")[0]


def test_a_lock_is_one_s_alone_and_goes_with_it(tmp_path: Path) -> None:
    """A journal has one writer, and one recorder; who lets go makes room."""
    lock = lock_writer(tmp_path)
    assert has_writer(tmp_path)
    with pytest.raises(JournalError, match="another process"):
        lock_writer(tmp_path)
    lock.release()
    assert not has_writer(tmp_path)
    leader = lock_recorder(tmp_path)
    assert leader is not None
    assert lock_recorder(tmp_path) is None
    leader.release()
    next_one = lock_recorder(tmp_path)
    assert isinstance(next_one, Lock)
    next_one.release()


def test_lost_calls_are_counted_across_death(tmp_path: Path) -> None:
    """D6: the count of calls that could not be journalled is on disk after each of them."""
    path = tmp_path / "lost"
    count = LostCount.create(path)
    assert read_lost(path) == 0
    for number in range(1, 6):
        count.add(number)
        assert read_lost(path) == count.calls == sum(range(1, number + 1))
    count.close()
    assert path.stat().st_size == 128


def test_a_torn_count_leaves_the_one_before(tmp_path: Path) -> None:
    """D6: with any byte of the newest slot spoilt the count is one update old, never wrong."""
    path = tmp_path / "lost"
    count = LostCount.create(path)
    for _ in range(4):
        count.add(10)
    count.close()
    data = path.read_bytes()
    for at in range(20):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        assert read_lost(path) == 30
    for end in range(20):
        path.write_bytes(data[:end])
        assert read_lost(path) == 0


@given(st.binary(max_size=200))
@settings(max_examples=pick(100, 2000), deadline=None)
def test_any_bytes_are_some_count(data: bytes) -> None:
    """Whatever stands in the file of lost calls, reading it gives a number."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lost"
        path.write_bytes(data)
        assert read_lost(path) >= 0


def test_a_count_that_cannot_be_kept_never_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D6: when even the count cannot be written there is nobody to tell; it is noted."""
    count = LostCount.create(tmp_path / "lost")

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pwrite", fail)
    count.add()
    assert (count.calls, count.unwritten) == (1, 1)
    count.close()


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("/etc/passwd")])
def test_what_is_no_count_is_none(make: object, tmp_path: Path) -> None:
    """D4: a folder or a link in the place of the count is not read."""
    make(tmp_path / "lost")  # type: ignore[operator]
    assert read_lost(tmp_path / "lost") == 0
    assert read_lost(tmp_path / "nowhere") == 0


def test_only_what_is_wholly_booked_goes(tmp_path: Path) -> None:
    """D13: segments before the position are deleted, the one it is in stays, foreign files too."""
    directory = journal(tmp_path, *(segment_bytes(range(n, n + 1), n) for n in range(1, 5)))
    (directory / "notes.txt").write_text("mine")
    assert discard_segments(directory, Position(3, 64)) == 2
    assert discard_segments(directory, Position(3, 64)) == 0
    left = sorted(path.name for path in directory.iterdir())
    assert left == ["00000003.journal", "00000004.journal", "notes.txt"]
    assert discard_journal(directory) is False
    assert [path.name for path in directory.iterdir()] == ["notes.txt"]
    (directory / "notes.txt").unlink()
    assert discard_journal(directory) is True
    assert journals(tmp_path) == []


def test_drafts_of_the_dead_go(tmp_path: Path) -> None:
    """A folder whose writer died before it had begun is deleted; a young or living one is not."""
    hour = 3600 * 10**9
    made_at_ns = int(NAME.split("-")[1]) * 1_000_000
    draft = tmp_path / f".{NAME}"
    draft.mkdir()
    (draft / "lost").write_bytes(bytes(128))
    discard_drafts(tmp_path, made_at_ns + hour)
    lock = lock_writer(draft)
    discard_drafts(tmp_path, made_at_ns + 2 * hour)
    assert draft.exists()
    lock.release()
    discard_drafts(tmp_path, made_at_ns + 2 * hour)
    assert not draft.exists()


def test_a_journal_is_read_while_it_is_given_back(tmp_path: Path) -> None:
    """Reading, giving back and writing go on beside each other, and every record is read once."""
    writer = JournalWriter.begin(tmp_path, 0, segment_bytes=400)
    reader = JournalReader(writer.directory)
    found = []
    for number in range(1, 201):
        writer.append(payload(number))
        if number % 9 == 0:
            found += numbers_of(read_all(reader, records_max=4))
            discard_segments(writer.directory, reader.position)
    writer.close()
    found += numbers_of(read_all(reader))
    assert found == list(range(1, 201))
    assert len(list(writer.directory.glob("*.journal"))) == 1
