"""A database that is down, locked, full or killed costs time, never rows."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taximeter.ledger import Batch, Ledger, LedgerError, LedgerUnavailable, Position, _engine
from tests.ledger.make import T0, assert_sums_agree, commit, entry, rows
from tests.support.postgres import PostgresServer


def _numbered(number: int) -> str:
    return f"01900000-0000-7000-8000-{number:012x}"


def _record_forever(url: str) -> None:
    """Commit ten calls at a time from where the ledger says one left off."""
    ledger = Ledger.open(url)
    lease = ledger.take_lead("child")
    position = ledger.load().positions.get("j", Position(0, 0))
    while True:
        start = position.offset
        entries = [
            entry(id=_numbered(n), at_ns=T0 + n, user=f"u{n % 3}", cost_pico=n)
            for n in range(start, start + 10)
        ]
        position = Position(0, start + 10)
        ledger.commit(Batch(lease=lease, entries=entries, positions={"j": position}))


def test_a_recorder_killed_at_any_moment_has_booked_each_call_once(
    url: str, ledger: Ledger
) -> None:
    """D2: after kill -9, rows, sums and position agree, and going on loses and doubles none."""
    spawn = multiprocessing.get_context("spawn")
    for round_number in range(3):
        child = spawn.Process(target=_record_forever, args=(url,))
        child.start()
        try:
            deadline = time.monotonic() + 30
            before = ledger.load().positions.get("j", Position(0, 0)).offset
            while time.monotonic() < deadline:
                if ledger.load().positions.get("j", Position(0, 0)).offset > before:
                    break
                time.sleep(0.01)
            time.sleep(0.013 * round_number)
        finally:
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            child.join()
        ledger.take_lead("parent")  # waits for what the killed one had sent
        booked = ledger.load().positions["j"].offset
        assert booked > before
        assert {call.id for call in ledger.calls()} == {_numbered(n) for n in range(booked)}
        assert_sums_agree(ledger)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time limits as in production, but shorter."""
    monkeypatch.setattr(_engine, "LOCK_SECONDS_MAX", 1)
    monkeypatch.setattr(_engine, "STATEMENT_SECONDS_MAX", 2)
    monkeypatch.setattr(_engine, "IDLE_IN_TRANSACTION_SECONDS_MAX", 1)
    monkeypatch.setattr(_engine, "CONNECT_SECONDS_MAX", 2)


@contextlib.contextmanager
def _locked(ledger: Ledger) -> Iterator[None]:
    """Hold the write lock in another thread."""
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with ledger._store.writing():
            held.set()
            release.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(20)
    try:
        yield
    finally:
        release.set()
        holder.join()


@pytest.mark.usefixtures("short_waits")
def test_a_lock_that_is_not_had_is_given_up_in_time(url: str) -> None:
    """D8: a locked ledger is unavailable, and the same batch goes in when the lock is gone."""
    holder, ledger = Ledger.open(url), Ledger.open(url)
    lease = ledger.take_lead("test")
    booked = entry()
    # The server's limit on idle transactions is off for the one who is to hold the lock.
    if not holder._store.is_sqlite:
        holder.close()
        holder = Ledger.open(f"{url}?options=-c%20lock_timeout%3D9s")
    with _locked(holder):
        start = time.monotonic()
        with pytest.raises(LedgerUnavailable):
            commit(ledger, booked, lease=lease)
        assert 0.5 < time.monotonic() - start < 5
        assert list(ledger.calls()) == []  # readers do not wait
    assert len(commit(ledger, booked, lease=lease).inserted) == 1
    holder.close()
    ledger.close()


def test_a_server_that_stops_and_comes_back_loses_nothing() -> None:
    """D8: PostgreSQL down is an error that can be tried again; up again, the batch goes in."""
    with PostgresServer() as server:
        ledger = Ledger.open(server.make_database())
        ledger.migrate()
        lease = ledger.take_lead("test")
        commit(ledger, entry(), lease=lease)
        booked = entry()
        for kill in (False, True):
            server.stop(kill=kill)
            start = time.monotonic()
            for use in (
                lambda: commit(ledger, booked, lease=lease),
                ledger.load,
                ledger.schema_state,
            ):
                with pytest.raises(LedgerUnavailable):
                    use()
            assert time.monotonic() - start < 5
            server.start()
        assert len(commit(ledger, booked, lease=lease).inserted) == 1
        assert len(rows(ledger, "calls")) == 2
        assert_sums_agree(ledger)
        ledger.close()


def test_a_connection_cut_during_a_commit_loses_nothing(
    ledger: Ledger, engine: str, url: str
) -> None:
    """D8: a backend ended by the server's keeper is an error that can be tried again."""
    if engine != "postgresql":
        return  # SQLite has no connection to cut
    lease = ledger.take_lead("test")
    booked = entry()

    def cut(_: object) -> dict[str, bytes]:
        other = Ledger.open(url)
        with other._store.reading() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        other.close()
        return {}

    with pytest.raises(LedgerUnavailable):
        ledger.commit(Batch(lease=lease, entries=[booked]), cut)
    assert rows(ledger, "calls") == []
    commit(ledger, booked, lease=lease)
    assert_sums_agree(ledger)


@pytest.mark.usefixtures("short_waits")
def test_a_leader_that_hangs_does_not_hold_the_lock_for_ever(url: str, engine: str) -> None:
    """D11: PostgreSQL ends a transaction whose client has stopped, and another takes the lead."""
    if engine != "postgresql":
        return  # a process that stopped with SQLite's lock is on this machine, to be killed
    hanging, ledger = Ledger.open(url), Ledger.open(url)
    lease = hanging.take_lead("hanging")

    def hang(_: object) -> dict[str, bytes]:
        time.sleep(1.6)
        return {}

    with pytest.raises(LedgerUnavailable):
        hanging.commit(Batch(lease=lease, entries=[entry()]), hang)
    ledger.take_lead("next")
    assert rows(ledger, "calls") == []
    hanging.close()
    ledger.close()


@pytest.mark.usefixtures("short_waits")
def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    """D8: a port that takes connections and never answers is unavailable within seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ledger = Ledger.open(f"postgresql://u:hush@127.0.0.1:{silent.getsockname()[1]}/x")
        start = time.monotonic()
        with pytest.raises(LedgerUnavailable) as error:
            ledger.load()
        assert time.monotonic() - start < 10
        assert "hush" not in str(error.value)
        ledger.close()


def _fill(url: str, outcome: str) -> None:
    """Commit until the file may not grow any more, then with room again."""
    ledger = Ledger.open(url)
    lease = ledger.take_lead("child")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = Path(url.removeprefix("sqlite:///") + "-wal").stat().st_size + 300_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    booked, failed = 0, False
    for _ in range(50):
        entries = [entry(id=_numbered(booked + n), session="x" * 200) for n in range(100)]
        try:
            ledger.commit(Batch(lease=lease, entries=entries))
        except LedgerUnavailable:
            if failed:
                raise
            failed = True
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            continue
        booked += 100
    Path(outcome).write_text(f"{booked} {failed}")


def test_a_full_disk_is_got_over(url: str, ledger: Ledger, engine: str, tmp_path: Path) -> None:
    """D6: when the disk is full nothing is half written; with room again the batch goes in."""
    if engine != "sqlite":
        return  # the server's disk is the server's
    outcome = tmp_path / "outcome"
    child = multiprocessing.get_context("spawn").Process(target=_fill, args=(url, str(outcome)))
    child.start()
    child.join(50)
    assert child.exitcode == 0
    assert outcome.read_text() == "4900 True"
    assert len(rows(ledger, "calls")) == 4900
    assert_sums_agree(ledger)


def test_a_file_that_is_no_database_is_said_to_be_so(tmp_path: Path) -> None:
    """A wrong file is an error with a hint, and stays as it is."""
    path = tmp_path / "ledger.db"
    path.write_bytes(b"not a database at all" * 100)
    ledger = Ledger.open(f"sqlite:///{path}")
    for use in (ledger.load, ledger.migrate, ledger.schema_state):
        with pytest.raises(LedgerError, match="not an SQLite database"):
            use()
    assert path.read_bytes() == b"not a database at all" * 100
    ledger.close()


def _read_and_close(url: str) -> None:
    ledger = Ledger.open(url)
    ledger.schema_state()
    ledger.close()


def test_a_reader_that_closes_takes_no_log_from_the_recorder(tmp_path: Path) -> None:
    """What a recorder books after another process has read the ledger is in the ledger."""
    path = tmp_path / "ledger.db"
    url = f"sqlite:///{path}"
    Ledger.open(url).migrate()
    recorder = Ledger.open(url)
    recorder.migrate()  # as at every start: the file is there already
    lease = recorder.take_lead("recorder")
    reader = multiprocessing.get_context("spawn").Process(target=_read_and_close, args=(url,))
    reader.start()
    reader.join(20)
    assert reader.exitcode == 0
    entries = [entry(id=_numbered(1), at_ns=T0, user="u")]
    recorder.commit(Batch(lease=lease, entries=entries, positions={"j": Position(0, 1)}))
    with contextlib.closing(Ledger.open(url)) as another:
        assert len(list(another.calls())) == 1
    assert not [name for name in _open_files() if name.endswith("(deleted)")]
    recorder.close()


def _open_files() -> list[str]:
    """Give the ledgers' files this process has open."""
    found = []
    for handle in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            name = str(handle.readlink())
            if "ledger.db" in name:
                found.append(name)
    return found


def test_a_commit_is_on_disk_when_it_returns(tmp_path: Path) -> None:
    """D3: SQLite syncs each commit, for the journal may then delete what it held."""
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    ledger.migrate()
    with ledger._store.reading() as connection:
        values = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "auto_vacuum")
        ]
    assert values == ["wal", 2, 2]
    ledger.close()


def test_errors_quote_no_row(ledger: Ledger) -> None:
    """H9: what a database says about a row's values is in no error and in no trace of one."""
    lease = ledger.take_lead("test")
    with ledger._store.altering() as connection:
        connection.exec_driver_sql("DROP TABLE positions")
    with pytest.raises(LedgerError) as error:
        commit(ledger, entry(user="canary"), lease=lease, positions={"canary": Position(1, 1)})
    assert "canary" not in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__
