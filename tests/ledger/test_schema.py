"""The schema is made, recognised and brought up to date, by one program or by two at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
import time
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from taximeter.ledger import Ledger, LedgerSchemaError, SchemaState, _migrate
from taximeter.ledger._rows import call_row
from taximeter.ledger._schema import CALL_COLUMNS, metadata
from tests.ledger.make import commit, entry, execute


def test_the_migrations_make_the_tables_the_program_uses(ledger: Ledger) -> None:
    """The migrated schema and the metadata do not differ in anything."""
    with ledger._store.reading() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []


def test_the_program_knows_its_migrations() -> None:
    """The list of versions is that of the migrations, in their order."""
    config = Config()
    config.set_main_option("script_location", str(_migrate._SCRIPTS))
    config.set_main_option("path_separator", "os")
    scripts = [each.revision for each in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(scripts)) == _migrate.REVISIONS


def test_a_row_has_the_columns_of_its_table() -> None:
    """Rows are built by place: their length is the table's."""
    row = dict(zip(CALL_COLUMNS, call_row(entry(user="ann")), strict=True))
    assert (row["user_name"], row["outcome"], row["events"]) == ("ann", "completed", 0)


def test_a_new_database_is_brought_up_to_date(empty_url: str) -> None:
    """L2: an empty database is told from a current one; migrating twice does nothing more."""
    ledger = Ledger.open(empty_url)
    assert ledger.schema_state() is SchemaState.EMPTY
    with pytest.raises(LedgerSchemaError, match="taximeter ledger migrate"):
        ledger.require_current()
    told: list[str] = []
    ledger.migrate(told.append)
    ledger.migrate(told.append)
    assert told == list(_migrate.REVISIONS)
    assert ledger.schema_state() is SchemaState.CURRENT
    ledger.require_current()
    commit(ledger, entry())
    ledger.close()


def test_work_without_tables_says_what_to_do(empty_url: str) -> None:
    """L2: each use of a ledger that was not made names the command that makes it."""
    ledger = Ledger.open(empty_url)
    for use in (
        lambda: ledger.take_lead("t"),
        ledger.load,
        lambda: list(ledger.calls()),
        ledger.report,
        lambda: ledger.prune(1),
    ):
        with pytest.raises(LedgerSchemaError, match="taximeter ledger migrate"):
            use()
    ledger.close()


def test_asking_makes_no_file(tmp_path: Path) -> None:
    """Reading a ledger that is not there leaves nothing behind."""
    ledger = Ledger.open(f"sqlite:///{tmp_path}/none.db")
    assert ledger.schema_state() is SchemaState.EMPTY
    with pytest.raises(LedgerSchemaError, match="no ledger at"):
        list(ledger.calls())
    assert list(tmp_path.iterdir()) == []


def test_only_the_owner_may_read_an_sqlite_ledger(tmp_path: Path) -> None:
    """H13: the file, its side files and a folder made for it are private, whatever the umask."""
    folder = tmp_path / "data"
    mask = os.umask(0)
    try:
        ledger = Ledger.open(f"sqlite:///{folder}/ledger.db")
        ledger.migrate()
        commit(ledger, entry())
    finally:
        os.umask(mask)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = {each.name: stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()}
    assert files == dict.fromkeys(("ledger.db", "ledger.db-wal", "ledger.db-shm"), 0o600)
    ledger.close()


def test_a_ledger_of_a_newer_program_is_left_alone(ledger: Ledger) -> None:
    """D11: a schema this program does not know stops it with a clear word."""
    execute(ledger, "UPDATE alembic_version SET version_num = '9999'")
    assert ledger.schema_state() is SchemaState.NEWER
    for use in (ledger.require_current, ledger.migrate):
        with pytest.raises(LedgerSchemaError, match="newer Taximeter"):
            use()


def test_an_older_ledger_is_known_as_such(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A schema that lacks this program's last migration is old, and says so."""
    monkeypatch.setattr(_migrate, "REVISIONS", (*_migrate.REVISIONS, "9999"))
    assert ledger.schema_state() is SchemaState.OLD
    with pytest.raises(LedgerSchemaError, match="older version"):
        ledger.require_current()


@pytest.mark.parametrize("revision", _migrate.REVISIONS[:-1])
def test_a_ledger_of_an_older_version_is_brought_up_to_date(empty_url: str, revision: str) -> None:
    """L3: its rows are as they were, and what came in since is unknown of them."""
    ledger = Ledger.open(empty_url)
    config = Config()
    config.set_main_option("script_location", str(_migrate._SCRIPTS))
    config.set_main_option("path_separator", "os")
    with ledger._store.altering() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    assert ledger.schema_state() is SchemaState.OLD
    execute(
        ledger,
        "INSERT INTO calls (id, started_at_ns, method, path, operation, stream, outcome, "
        "usage_source, fetched, attempt_count, events, request_bytes, response_bytes) VALUES "
        "('01a20000-0000-7000-8000-000000000001', 1, 'POST', '/', 'chat', true, 'completed', "
        "'absent', false, 0, 0, 0, 0)",
    )
    ledger.migrate()
    (call,) = ledger.calls()
    assert (call.outcome, call.retry_of, call.service_tier_asked) == ("completed", None, None)
    commit(ledger, entry())
    ledger.close()


def test_a_migration_that_fails_has_done_nothing(empty_url: str) -> None:
    """L2: tables of a migration that breaks off are not there afterwards."""
    ledger = Ledger.open(empty_url)

    def die(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger.migrate(die)
    assert ledger.schema_state() is SchemaState.EMPTY
    with ledger._store.altering() as connection:
        assert not connection.dialect.has_table(connection, "calls")
    ledger.migrate()
    ledger.require_current()
    ledger.close()


def _migrate_and_hang(url: str, ready: str) -> None:
    def hang(_: str) -> None:
        Path(ready).touch()
        time.sleep(60)

    Ledger.open(url).migrate(hang)


def test_a_migration_that_is_killed_can_be_run_again(empty_url: str, tmp_path: Path) -> None:
    """L2: kill -9 in the middle of a migration leaves a state that migrating finishes."""
    ready = tmp_path / "ready"
    child = multiprocessing.get_context("spawn").Process(
        target=_migrate_and_hang, args=(empty_url, str(ready))
    )
    child.start()
    try:
        deadline = time.monotonic() + 30
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    ledger = Ledger.open(empty_url)
    ledger.migrate()
    ledger.require_current()
    commit(ledger, entry())
    ledger.close()


def _migrate_quietly(url: str) -> None:
    ledger = Ledger.open(url)
    ledger.migrate()
    ledger.close()


def test_two_programs_may_migrate_at_once(empty_url: str) -> None:
    """L2: migrations are locked; who comes second finds them done."""
    spawn = multiprocessing.get_context("spawn")
    children = [spawn.Process(target=_migrate_quietly, args=(empty_url,)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(40)
    assert [child.exitcode for child in children] == [0, 0, 0]


@pytest.mark.parametrize(
    "url",
    [
        "mysql://root:hush@localhost/x",
        "sqlite://",
        "sqlite:///:memory:",
        "not a url with hush",
        "",
    ],
)
def test_a_url_no_ledger_can_be_kept_at_is_refused(url: str) -> None:
    """The error names what is possible, and repeats no password."""
    with pytest.raises(LedgerSchemaError, match="sqlite:////") as refused:
        Ledger.open(url)
    assert "hush" not in str(refused.value)


def test_a_ledgers_place_hides_its_password() -> None:
    """H9: the URL shown to people has no password."""
    ledger = Ledger.open("postgresql://taxi:hush@127.0.0.1:1/x")
    assert ledger.place == "postgresql+psycopg://taxi:***@127.0.0.1:1/x"


def test_sums_and_rows_can_be_read_with_plain_sql(ledger: Ledger) -> None:
    """The tables answer the question `who spent what` to anyone's SQL."""
    commit(ledger, entry(cost_pico=2_500_000), entry(user="bob", cost_pico=1))
    query = (
        "SELECT user_name, SUM(cost_micro_usd) * 1000000 + SUM(cost_rest_pico) AS pico "
        "FROM hourly GROUP BY user_name ORDER BY pico DESC"
    )
    with ledger._store.reading() as connection:
        assert [tuple(row) for row in connection.execute(text(query))] == [
            ("ann", 2_500_000),
            ("bob", 1),
        ]
