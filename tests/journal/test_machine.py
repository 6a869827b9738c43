"""D1, D3, D4, D6: a journal's lives: writing, syncing, failing, dying, reading, in any order."""

from __future__ import annotations

import errno
import random
import shutil
import tempfile
from collections import deque
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from taximeter.journal import JournalUnwritable, JournalWriter, Sync, SyncPolicy
from tests.journal.make import NAME, read_directory, writer_in
from tests.rig.crash_disk import CrashDisk
from tests.rig.length import pick

FAULTS = ["full", "short", "broken"]


class Lives(RuleBasedStateMachine):
    """One journal after the other on disks that fail and forget; the model is a list of records."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="journal-"))
        self.looks = self.count = 0
        self.to_come: deque[str | None] = deque()
        """What becomes of the next operations of the disk."""
        self.begin()

    def teardown(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.root)

    def begin(self) -> None:
        """Begin a life."""
        self.disk = CrashDisk(self.fault)
        self.writer: JournalWriter = writer_in(
            self.root / NAME, disk=self.disk, sync=SyncPolicy.INTERVAL, segment_bytes=300
        )
        self.tried: set[bytes] = set()
        self.kept: list[bytes] = []
        self.safe = 0
        self.sync: Sync | None = None

    def fault(self, name: str, number: int) -> Exception | int | None:
        """Let an operation of the disk fail, if it is to."""
        match self.to_come.popleft() if self.to_come else None:
            case "full":
                return OSError(errno.ENOSPC, "No space left on device")
            case "broken":
                return OSError(errno.EIO, "Input/output error")
            case "short":
                return 7 if name == "write" else OSError(errno.ENOSPC, "No space left on device")
            case _:
                return None

    def folder(self) -> Path:
        """Give a folder for one more look."""
        self.looks += 1
        return self.root / str(self.looks) / NAME

    @rule(size=st.integers(0, 400))
    def append(self, size: int) -> None:
        """Append a record; one that is refused must not be read, one that is not must be."""
        self.count += 1
        payload = b"record %d " % self.count + b"." * size
        self.tried.add(payload)
        try:
            self.writer.append(payload)
        except JournalUnwritable:
            return
        self.kept.append(payload)

    @precondition(lambda self: self.sync is None)
    @rule()
    def begin_sync(self) -> None:
        """Have what has been written so far made safe."""
        self.sync = self.writer.begin_sync()

    @precondition(lambda self: self.sync is not None)
    @rule()
    def end_sync(self) -> None:
        """Hear what came of it."""
        sync, self.sync = self.sync, None
        assert sync is not None
        sync.run()
        try:
            self.writer.finish_sync(sync)
        except JournalUnwritable:
            pass  # what it failed on is still to be made safe

    @rule(faults=st.lists(st.sampled_from([*FAULTS, None]), min_size=1, max_size=4))
    def disk_will_fail(self, faults: list[str | None]) -> None:
        """Let some of the next operations fail."""
        self.to_come.extend(faults)

    @rule()
    def read_beside_it(self) -> None:
        """Whatever a reader sees while it is written: each kept record once, no other."""
        directory = self.folder()
        self.disk.save(directory)
        assert sorted(read_directory(directory)) == sorted(self.kept)

    @rule(seed=st.integers(0, 1 << 32), spoils=st.booleans())
    def power_goes(self, seed: int, spoils: bool) -> None:
        """After a power cut: nothing that was safe is missing, nothing is made up or comes twice;
        and where the disk spoils a byte besides, that costs one record.
        """
        directory = self.folder()
        chance = random.Random(seed)
        self.disk.save_after_power_cut(directory, chance)
        files = [path for path in sorted(directory.iterdir()) if path.stat().st_size]
        if spoils and files:
            path = chance.choice(files)
            data = bytearray(path.read_bytes())
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            path.write_bytes(data)
        found = read_directory(directory)
        assert len(set(found)) == len(found)
        assert set(found) <= self.tried
        missing = set(self.kept[: self.safe]) - set(found)
        assert len(missing) <= (spoils and bool(files))
        # What has been repaired, or put aside, is read the same the next time.
        assert read_directory(directory) == found
        self.to_come.clear()
        self.begin()

    @rule()
    def end(self) -> None:
        """A writer that ends well leaves everything safe."""
        self.to_come.clear()
        self.writer.close()
        if self.sync is not None:
            self.sync.run()  # it was under way, and comes to its end in its own thread
        directory = self.folder()
        self.disk.save_after_power_cut(directory, random.Random(0))
        assert sorted(read_directory(directory)) == sorted(self.kept)
        assert self.disk.open_handles == 0
        self.begin()

    @invariant()
    def what_is_safe_stays_safe(self) -> None:
        """The count of safe records never goes back, and no disk is asked twice after a failure."""
        assert self.safe <= self.writer.synced <= self.writer.sequence == len(self.kept)
        self.safe = self.writer.synced
        assert all(file.syncs_after_failure == 0 for file in self.disk.files.values())


TestLives = Lives.TestCase
TestLives.settings = settings(
    max_examples=pick(60, 2000), stateful_step_count=pick(40, 80), deadline=None
)
