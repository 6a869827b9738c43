"""Where it goes what the ledger says of spending before now: into a book here, or into Redis.

A book of this process is new with every start, and is told the whole. Redis outlives the process
and has counted since, so a sum there is only ever raised: to what the ledger has, where Redis has
less. That is so after Redis was started anew without its data, and nowhere else; telling it twice,
or by every worker, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from taximeter.admission import Book, MemoryStore, Policy, SpentSoFar, Store, load_spent
from taximeter.shared_state import RedisStore


class Purses(Protocol):
    """Budgets that can be told what was spent before."""

    def known(self) -> frozenset[str]:
        """Give the keys of purses that need not be told."""
        ...

    def tell(
        self,
        policy: Policy,
        spent: Iterable[SpentSoFar],
        until_ns: int,
        skipped: frozenset[str],
    ) -> None:
        """Tell what was spent up to then; `skipped` are keys of purses that are not told."""
        ...


class BookPurses:
    """Budgets in this process."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def known(self) -> frozenset[str]:
        """See `Purses.known`: those that have been there since an earlier telling."""
        return frozenset(each.key for each in self._book.snapshot())

    def tell(
        self,
        policy: Policy,
        spent: Iterable[SpentSoFar],
        until_ns: int,
        skipped: frozenset[str],
    ) -> None:
        """See `Purses.tell`."""
        load_spent(self._book, policy, spent, until_ns, lambda key: key not in skipped)


class RedisPurses:
    """Budgets in Redis."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    def known(self) -> frozenset[str]:
        """See `Purses.known`: nobody here knows what Redis knows."""
        return frozenset()

    def tell(
        self,
        policy: Policy,
        spent: Iterable[SpentSoFar],
        until_ns: int,
        skipped: frozenset[str],
    ) -> None:
        """See `Purses.tell`."""
        sums = Book()
        load_spent(sums, policy, spent, until_ns, lambda key: key not in skipped)
        self._store.raise_spent(sums.snapshot())


def purses_of(store: Store) -> Purses:
    """Give the budgets that a store keeps."""
    if isinstance(store, MemoryStore):
        return BookPurses(store.book)
    assert isinstance(store, RedisStore)
    return RedisPurses(store)
