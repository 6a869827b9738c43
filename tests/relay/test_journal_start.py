"""A worker whose disk has no room for a journal, from its start to the day there is some."""

from __future__ import annotations

import errno
import http.client
import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tests.rig.taximeter as rig
from taximeter.journal import JournalUnwritable, JournalWriter, read_lost
from taximeter.journal._disk import RealDisk
from tests.rig.taximeter import Taximeter
from tests.rig.upstream import Upstream

ASK = json.dumps({"model": "fake-large", "messages": [{"role": "user", "content": "hi"}]})


class Failing(RealDisk):
    """A disk that has no room from its n-th operation on."""

    def __init__(self, number: int) -> None:
        self.number = number

    def _step(self) -> None:
        self.number -= 1
        if self.number < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    def make_directory(self, path: Path) -> None:
        self._step()
        super().make_directory(path)

    def create(self, path: Path) -> int:
        self._step()
        return super().create(path)

    def write(self, handle: int, data: bytes) -> int:  # type: ignore[override]
        self._step()
        return super().write(handle, data)

    def synchronise_directory(self, path: Path) -> None:
        self._step()
        super().synchronise_directory(path)


def test_a_journal_that_cannot_be_begun_leaves_nothing(tmp_path: Path) -> None:
    """D6: whichever operation of the beginning fails, no folder, file or handle is left."""
    root = tmp_path / "journal"
    JournalWriter.begin(root, 0).close()
    before, handles = sorted(root.iterdir()), len(list(Path("/proc/self/fd").iterdir()))
    for number in range(20):
        try:
            writer = JournalWriter.begin(root, 1, disk=Failing(number))
        except (OSError, JournalUnwritable):
            assert sorted(root.iterdir()) == before
            assert len(list(Path("/proc/self/fd").iterdir())) == handles
        else:
            writer.close()
            break
    else:
        pytest.fail("it never began")
    assert number >= 5


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A scripted upstream."""
    with Upstream() as started:
        yield started


def blocked(folder: Path, upstream: Upstream, when_full: str) -> Taximeter:
    """Give a Taximeter in whose data folder no journal can be begun: a file stands there."""
    data = folder / "data"
    data.mkdir()
    (data / "journal").write_text("")
    return Taximeter(
        folder,
        {"openai": {"url": upstream.url, "dialect": "openai"}},
        data_dir=str(data),
        journal={"when_full": when_full},
    )


def ask(meter: Taximeter) -> tuple[int, str]:
    """Make a call; give its status and its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", meter.port, timeout=10)
    try:
        connection.request("POST", "/v1/chat/completions", ASK)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def readiness(meter: Taximeter) -> dict[str, Any]:
    """Give what `/readyz` says."""
    try:
        with urllib.request.urlopen(f"{meter.console_url}/readyz", timeout=5) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        with error:
            return dict(json.load(error))


def wait_for_journal(meter: Taximeter) -> None:
    """Wait until the relay has begun a journal, and its supervisor knows."""
    deadline = time.monotonic() + 15
    while readiness(meter).get("degraded") != {}:
        assert time.monotonic() < deadline, meter.log_text()
        time.sleep(0.05)


def test_fail_open_relays_at_once_and_records_when_it_can(
    tmp_path: Path, upstream: Upstream
) -> None:
    """L2, D6: with no place for a journal calls are relayed, counted, and said to be lost."""
    meter = blocked(tmp_path, upstream, "fail_open")
    with meter:
        assert [ask(meter)[0] for _ in range(3)] == [200, 200, 200]
        said = readiness(meter)
        assert said["ready"] is True
        assert "relay-0" in said["degraded"]
        (tmp_path / "data" / "journal").unlink()
        wait_for_journal(meter)
        assert ask(meter)[0] == 200
        meter.booked(1)
        (journal,) = (tmp_path / "data" / "journal").glob("[0-9a-f]*-*")
        assert read_lost(journal / "lost") == 3
    assert "calls are relayed and not recorded" in meter.log_text()
    assert "3 calls could not be journalled" in meter.log_text()


def test_fail_closed_answers_503_until_it_can(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L2, D6: with `fail_closed` no call goes by unrecorded, and readiness says no until then."""
    monkeypatch.setattr(Taximeter, "_is_ready", _listens)
    meter = blocked(tmp_path, upstream, "fail_closed")
    with meter:
        status, said = ask(meter)
        assert status == 503
        assert "journal_unwritable" in said
        assert readiness(meter)["ready"] is False
        assert upstream.log == []
        (tmp_path / "data" / "journal").unlink()
        wait_for_journal(meter)
        assert readiness(meter)["ready"] is True
        assert ask(meter)[0] == 200
        meter.booked(1)


def _listens(meter: Taximeter) -> bool:
    try:
        return bool(readiness(meter)["processes"]["relay-0"]["ready"])
    except OSError:
        time.sleep(rig.POLL_SECONDS)
        return False
