"""What the books cost by themselves: booking into either database, and reports over many rows.

Ten million calls are not made one by one: a day of them is booked, and the database copies that
day to the days after, ids, times, sessions and hourly sums moved by whole days. What comes of it is
what a ledger of so many calls would be, and the hourly sums still agree with the rows.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, String, Table, func, select

from bench import _processes
from bench._targets import started
from bench.peers._booking import BEGIN_NS, made
from bench.peers._rounds import Section
from taximeter.call import Closed, Usage
from taximeter.ledger import ENTRIES_MAX, Batch, CallFilter, Entry, Ledger
from taximeter.ledger._schema import attempts, calls, hourly
from tests.support.postgres import PostgresMissing, PostgresServer

_T = TypeVar("_T")

BOOKED_CALLS = 20_000
DAY_NS = 86_400_000_000_000
DAY_CALLS = 100_000
BUILD_SECONDS_MAX = 600.0
"""A ledger that takes longer to build stays smaller, and the report says how large it is."""
ASKED_TIMES = 5


def recorder(section: Section) -> None:
    """Rows a second that a recorder books, into SQLite and into PostgreSQL."""
    try:
        server = PostgresServer(durable=True)
    except PostgresMissing as error:
        section.left_out["PostgreSQL"] = str(error)
        book_rounds(section, None)
        return
    with server:
        book_rounds(section, server)


def book_rounds(section: Section, server: PostgresServer | None) -> None:
    """Book a journal into SQLite, and into a PostgreSQL if there is one, in turns."""
    count = max(100, int(BOOKED_CALLS * section.scale))
    for number in range(section.rounds):
        print(f"recorder {number + 1}/{section.rounds}: SQLite", file=sys.stderr)
        _book(section, "SQLite", section.folder / f"sqlite-{number}", count)
        if server is None:
            continue
        print(f"recorder {number + 1}/{section.rounds}: PostgreSQL", file=sys.stderr)
        database = server.make_database()
        folder, servers = section.folder / f"postgres-{number}", _processes.tree(server.pid)
        before = sum(_processes.cpu_of_each(servers).values())
        _book(section, "PostgreSQL", folder, count, database)
        spent = sum(_processes.cpu_of_each(servers).values()) - before
        # The connection's own process has ended with it: this is the rest (WAL, checkpoints).
        _note(section, "PostgreSQL", "server_background_us", spent * 1e6 / count)


def _book(section: Section, name: str, folder: Path, count: int, *url: str) -> None:
    folder.mkdir()
    command = [sys.executable, "-m", "bench.peers._booking", str(folder), str(count), *url]
    with (
        (folder / "log").open("wb") as log,
        started(command, out=subprocess.PIPE, errors=log) as process,
    ):
        assert process.stdout is not None
        said = json.loads(process.stdout.read() or b"null")
    if said is None:
        raise RuntimeError(f"booking into {name} failed: {(folder / 'log').read_text()[-500:]}")
    _note(section, name, "rows_per_second", count / said["seconds"])
    _note(section, name, "cpu_us", said["cpu_seconds"] * 1e6 / count)


def reports(section: Section, rows: int) -> None:
    """Time of reports over a large ledger."""
    path = section.folder / "large.db"
    day_calls = min(DAY_CALLS, rows)
    booked = _build(path, rows, day_calls)
    _note(section, "ledger", "rows", booked)
    _note(section, "ledger", "gib", path.stat().st_size / 2**30)
    ledger = Ledger.open(f"sqlite:///{path}")
    end_ns = BEGIN_NS + booked // day_calls * DAY_NS
    middle_ns = end_ns - DAY_NS // 2 - 1_234_567_890
    asked: dict[str, Callable[[], object]] = {
        "by user, all time": lambda: ledger.report(["user"]),
        "by user and model, last 30 days": lambda: ledger.report(
            ["user", "model"], since_ns=end_ns - 30 * DAY_NS
        ),
        "by day, all time": lambda: ledger.report(["day"]),
        "by user, 12 hours that begin within an hour": lambda: ledger.report(
            ["user"], since_ns=middle_ns
        ),
        "by session, last day (reads its calls)": lambda: ledger.report(
            ["session"], since_ns=end_ns - DAY_NS
        ),
        "the newest 50 calls": lambda: _first(ledger, CallFilter(limit=50)),
        "the newest 50 calls of a user": lambda: _first(
            ledger, CallFilter(user="user-7", limit=50)
        ),
    }
    for name, question in asked.items():
        print(f"reports: {name}", file=sys.stderr)
        for _ in range(ASKED_TIMES):
            _note(section, name, "seconds", _timed(question))
    name = "by session, all time (reads every call)"
    print(f"reports: {name}", file=sys.stderr)
    _note(section, name, "seconds", _timed(lambda: ledger.report(["session"])))
    ledger.close()
    name = "`taximeter report --by user,model` of 30 days, the whole command"
    since = datetime.fromtimestamp((end_ns - 30 * DAY_NS) // 1_000_000_000, UTC)
    words = ["report", "--by", "user,model", "--since", f"{since:%Y-%m-%d}", "--format", "json"]
    configuration = section.folder / "report.yaml"
    configuration.write_text(f"data_dir: {section.folder}\nledger: sqlite:///{path}\n")
    command = [sys.executable, "-m", "taximeter", *words, "--config", str(configuration)]
    for _ in range(ASKED_TIMES):
        _note(section, name, "seconds", _timed(lambda: _run(command)))


def _run(command: list[str]) -> None:
    with started(command, out=subprocess.PIPE) as process:
        said, _ = process.communicate()
    if process.returncode or not said:
        raise RuntimeError(f"{command!r} ended with {process.returncode}")


def _first(ledger: Ledger, wanted: CallFilter) -> list[Any]:
    return list(ledger.calls(wanted))


def _timed(question: Callable[[], object]) -> float:
    begin = time.perf_counter()
    question()
    return time.perf_counter() - begin


def _note(section: Section, name: str, figure: str, value: float) -> None:
    section.table.setdefault(name, {}).setdefault(figure, []).append(value)


def _build(path: Path, rows: int, day_calls: int) -> int:
    """Build a ledger of so many calls, or of as many as there is time for; give their number."""
    begin = time.monotonic()
    print(f"reports: building a ledger of {rows:,} calls", file=sys.stderr)
    ledger = Ledger.open(f"sqlite:///{path}")
    ledger.migrate()
    lease = ledger.take_lead("bench")
    for batch in _batches(made(day_calls, DAY_NS), ENTRIES_MAX):
        ledger.commit(Batch(lease=lease, entries=[_entry(closed) for _, closed in batch]))
    days = 1
    while (days + 1) * day_calls <= rows and time.monotonic() - begin < BUILD_SECONDS_MAX:
        with ledger._store.writing() as connection:
            connection.exec_driver_sql("PRAGMA cache_size=-500000")
            _copy(connection, days)
        days += 1
    ledger.close()
    return days * day_calls


def _batches(records: Iterator[_T], size: int) -> Iterator[list[_T]]:
    while batch := list(itertools.islice(records, size)):
        yield batch


def _entry(closed: Closed) -> Entry:
    usage = closed.usage or Usage()
    return Entry(
        closed=closed,
        usage=usage,
        usage_source=closed.usage_source,
        cost_pico=(usage.input_tokens or 0) * 250_000 + (usage.output_tokens or 0) * 2_000_000,
        price="openai:gpt-5.4-mini@2026-01-01",
        price_rates='{"input":"0.25","output":"2.00"}',
    )


def _copy(connection: Connection, days: int) -> None:
    """Copy the first day, as it stands in the tables, to so many days later."""
    first_day = calls.c.started_at_ns < BEGIN_NS + DAY_NS
    milliseconds = calls.c.started_at_ns // 1_000_000 + days * DAY_NS // 1_000_000
    # The first 48 bits of an id are its time, so that a later day's ids come later.
    stamp = func.printf("%08x-%04x", milliseconds // 65_536, milliseconds % 65_536, type_=String)
    call_id = stamp + func.substr(calls.c.id, 14)
    moved: dict[str, ColumnElement[Any]] = {
        "id": call_id,
        "started_at_ns": calls.c.started_at_ns + days * DAY_NS,
        "session": f"day-{days:05}-" + calls.c.session,
        "response_id": f"chatcmpl-{days:05}" + func.substr(calls.c.response_id, 10, type_=String),
    }
    _insert(connection, calls, moved, first_day)
    _insert(
        connection, attempts, {"call_id": call_id}, first_day & (attempts.c.call_id == calls.c.id)
    )
    hours = {"hour": hourly.c.hour + days * 86_400}
    _insert(connection, hourly, hours, hourly.c.hour < (BEGIN_NS + DAY_NS) // 1_000_000_000)


def _insert(
    connection: Connection,
    table: Table,
    moved: dict[str, ColumnElement[Any]],
    which: ColumnElement[bool],
) -> None:
    columns = [moved.get(column.name, column) for column in table.columns]
    names = [column.name for column in table.columns]
    connection.execute(table.insert().from_select(names, select(*columns).where(which)))
