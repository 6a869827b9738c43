"""A journal between two processes: one writes, dies as processes die, and another reads."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taximeter.journal import JournalReader, discard_segments, has_writer, journals
from tests.journal.make import numbers_of

WRITER = """
import sys
from pathlib import Path
from taximeter.journal import JournalWriter, SyncPolicy
from tests.journal.make import payload
root, count, policy = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
writer = JournalWriter.begin(root, 0, segment_bytes=20_000, sync=SyncPolicy(policy))
print("begun", flush=True)
for number in range(1, count + 1):
    writer.append(payload(number))
    if number % 50 == 0:
        if (sync := writer.begin_sync()) is not None:
            sync.run()
            writer.finish_sync(sync)
        print(number, flush=True)
writer.close()
"""


LIMITED = """
import resource, signal, sys
from pathlib import Path
from taximeter.journal import JournalUnwritable, JournalWriter
from tests.journal.make import payload
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
writer, refused = JournalWriter.begin(Path(sys.argv[1]), 0), []
for number in range(1, 501):
    try:
        writer.append(payload(number))
    except JournalUnwritable:
        refused.append(number)
writer.close()
print(*refused)
"""


def test_a_file_that_cannot_grow_is_followed_by_another(tmp_path: Path) -> None:
    """D6: where the system itself refuses, in part and then whole, writing goes on elsewhere."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["proxy", "."])},
        cwd=Path(__file__).parents[2],
    )
    refused = {int(each) for each in done.stdout.split()}
    (name,) = journals(tmp_path)
    reader = JournalReader(tmp_path / name)
    found = [each for _ in range(9) for each in numbers_of([r.payload for r in reader.read(500)])]
    assert found == [number for number in range(1, 501) if number not in refused]
    assert 0 < len(refused) <= 2 * len(list(reader.directory.glob("*.journal")))
    assert reader.finished
    assert not reader.stats.lossy


def start(root: Path, count: int, policy: str = "interval") -> subprocess.Popen[bytes]:
    """Start a process that writes `count` records, and says how far it is."""
    paths = os.pathsep.join(["proxy", "."])
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, root, str(count), policy],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
        cwd=Path(__file__).parents[2],
    )


def test_every_record_is_read_once_in_order_while_it_is_written(tmp_path: Path) -> None:
    """A reader beside a living writer, across its segments, reads each record once, in order."""
    child = start(tmp_path, 20_000)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        (name,) = journals(tmp_path)
        reader, found = JournalReader(tmp_path / name), []
        deadline = time.monotonic() + 50
        while not reader.finished and time.monotonic() < deadline:
            found += [each.payload for each in reader.read(500)]
            if select.select([child.stdout], [], [], 0)[0]:
                os.read(child.stdout.fileno(), 65_536)
            discard_segments(reader.directory, reader.position)
        assert numbers_of(found) == list(range(1, 20_001))
        assert not reader.stats.lossy
        assert reader.stats.repeated == 0
    finally:
        child.kill()
        child.wait()
        child.stdout.close()  # type: ignore[union-attr]


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_writer_loses_nothing_it_had_written(seed: int, tmp_path: Path) -> None:
    """D1: after `kill -9` every record that had been appended is read; nothing is damaged."""
    chance = random.Random(seed)
    child = start(tmp_path, 10**9, chance.choice(["none", "interval", "always"]))
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        (name,) = journals(tmp_path)
        assert has_writer(tmp_path / name)
        said = 0
        while said < chance.randrange(50, 2000):
            said = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split(b"\n")
        said = max([said, *(int(each) for each in rest[:-1])])
        child.wait()
        reader = JournalReader(tmp_path / name)
        found = numbers_of([each.payload for each in reader.read(10**9)])
        assert reader.finished
        assert found == list(range(1, len(found) + 1))
        assert len(found) >= said
        assert not reader.stats.lossy
    finally:
        child.kill()
        child.wait()
        child.stdout.close()  # type: ignore[union-attr]
