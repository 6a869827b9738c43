"""The ledger as the rest of the program sees it: one object, plain calls, no awaiting.

Its regular writers are the recorders, one a scope; any number of others may read. It may be
used from several threads; each call borrows a connection and gives it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from taximeter.ledger import _commit, _keyed, _migrate, _queries, _report, _state, _upkeep
from taximeter.ledger._engine import Store
from taximeter.ledger._statements import Statements
from taximeter.ledger._views import CallView


class Ledger:
    """A ledger in a database. Made by `Ledger.open`; all methods may raise `LedgerError`s.

    A method that raises `LedgerUnavailable` has changed nothing and may be called again.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._statements = Statements(store.engine.dialect)

    @classmethod
    def open(cls, url: str) -> Ledger:
        """Open a ledger. Connects to nothing yet.

        Args:
            url: `sqlite:////absolute/path/ledger.db` or `postgresql+psycopg://...`.

        Raises:
            LedgerSchemaError: if no ledger can be kept at such a URL.
        """
        return cls(Store(url))

    @property
    def place(self) -> str:
        """The URL, without its password."""
        return self._store.place

    def close(self) -> None:
        """Close all connections."""
        self._store.close()

    # The schema

    def schema_state(self) -> _migrate.SchemaState:
        """Tell how the database's schema stands to this program."""
        return _migrate.schema_state(self._store)

    def require_current(self) -> None:
        """Check that this program can work with the database.

        Raises:
            LedgerSchemaError: if not; its hint says what to do.
        """
        _migrate.require_current(self._store)

    def migrate(self, progress: _migrate.MigrateProgress | None = None) -> None:
        """Bring the schema up to date; make the database's file (SQLite) and tables if need be.

        Killed half-way it has done nothing. Two at once wait for each other.
        """
        _migrate.migrate(self._store, progress)

    # The recorder

    def take_lead(self, owner: str, scope: str = "") -> int:
        """Become the one who books a scope. Whoever led there before is refused from now on.

        Args:
            owner: says who, for people: such as a host's name and a process id.
            scope: which journals. Recorders of different scopes share a ledger; each sees its
                own positions, calls under way and notes.

        Returns:
            The number of the lease, to be carried by every commit.
        """
        return _state.take_lead(self._store, owner, scope)

    def load(self, scope: str = "") -> _state.RecorderState:
        """Read where a scope's recorder left off."""
        return _state.load(self._store, scope)

    def commit(self, batch: _commit.Batch, note: _commit.Note | None = None) -> _commit.Committed:
        """Write a batch, all of it or nothing.

        Args:
            batch: what to write.
            note: called with what is about to be committed; gives state of the recorder's
                own that is kept in the same transaction, by name.

        Raises:
            LeaseLost: if another has taken the scope's lead since; nothing is written.
            LedgerUnavailable: nothing is written; try again.
            ValueError: if the batch is too large.
        """
        return _commit.commit(self._store, self._statements, batch, note)

    # Reading

    def calls(self, wanted: _queries.CallFilter | None = None) -> Iterator[CallView]:
        """Go through calls, the newest first, without their attempts."""
        return _queries.read_calls(self._store, wanted or _queries.CallFilter())

    def call(self, call_id: str) -> CallView | None:
        """Read one call with its attempts; None if the ledger does not have it."""
        return _queries.read_call(self._store, call_id)

    def report(
        self,
        by: Sequence[str] = (),
        *,
        since_ns: int | None = None,
        until_ns: int | None = None,
        only: Mapping[str, str] | None = None,
    ) -> list[_report.ReportRow]:
        """Add calls up, the dearest group first.

        Args:
            by: names of `DIMENSIONS`, or `tag:NAME`. None of them: one row for everything.
            since_ns: calls started at or after, nanoseconds since the epoch.
            until_ns: calls started before.
            only: values of dimensions the calls must have.

        Raises:
            ValueError: for an unknown dimension, or more than `ROWS_MAX` rows.
        """
        return _report.report(self._store, by, since_ns, until_ns, only or {})

    def keyed_sums(self, prefix: str, *, since_ns: int, until_ns: int) -> list[_keyed.KeyedSums]:
        """Add up the calls whose `key_hash` begins with `prefix`, by user, team and that.

        Args:
            prefix: what virtual keys are told by.
            since_ns: calls started at or after, nanoseconds since the epoch.
            until_ns: calls started before.

        Raises:
            ValueError: for more than `ROWS_MAX` rows.
        """
        return _keyed.keyed_sums(self._store, prefix, since_ns, until_ns, _report.ROWS_MAX)

    # Upkeep

    def prune(self, before_ns: int, progress: _upkeep.Progress | None = None) -> int:
        """Delete calls started before a time, and what was set aside then; sums stay.

        Returns:
            The number of calls deleted.
        """
        return _upkeep.prune(self._store, before_ns, progress)

    def reprice(
        self,
        pricer: Callable[[CallView], _upkeep.Repriced],
        wanted: _queries.CallFilter | None = None,
        progress: _upkeep.Progress | None = None,
    ) -> _upkeep.RepriceSummary:
        """Price calls again, rows and sums together.

        Calls that bear no cost of their own (fetches, repeats, answers not yet finished) are
        left as they are.

        Args:
            pricer: gives the price a call should have. Must be quick: the write lock is held.
            wanted: which calls; its `limit` has no meaning here.
            progress: is told how many have been examined, now and then.
        """
        return _upkeep.reprice(
            self._store, self._statements, pricer, wanted or _queries.CallFilter(), progress
        )
