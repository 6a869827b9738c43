"""Budgets that begin with what was spent before: what is read, when, and what waits for it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from taximeter.call import Stage, Usage
from taximeter.keys import KeyBook, KeyStore, Terms, keys_path
from taximeter.ledger import Batch, Entry, Ledger, Position
from taximeter.relay import _carried
from taximeter.relay._carried import spent_before
from tests.ledger.make import entry
from tests.relay.bench import Bench, bench
from tests.relay.test_admission import HASH_KEY, Scripted, ask, fetch

BUDGET = {"budget": {"tokens": 200, "per": "month"}}


class Books:
    """A ledger in a relay's folder, and who books into it."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger.open(f"sqlite:///{folder / 'ledger.db'}")
        self.ledger.migrate()
        self._lease = self.ledger.take_lead("test")
        self._offset = 0

    def book(self, *entries: Entry) -> None:
        """Book calls."""
        self._offset += 1
        positions = {"j": Position(0, self._offset)}
        self.ledger.commit(Batch(lease=self._lease, entries=list(entries), positions=positions))


def spending(
    user: str, tokens: int, *, key: str | None = None, at_ns: int | None = None, pico: int = 0
) -> Entry:
    """Give a call that came to so many tokens, a moment ago."""
    usage = Usage(input_tokens=tokens, output_tokens=0)
    at_ns = time.time_ns() - 1_000_000 if at_ns is None else at_ns
    made = entry(user=user, usage=usage, at_ns=at_ns, cost_pico=pico)
    opened = msgspec.structs.replace(made.closed.opened, key_hash=key)
    return msgspec.structs.replace(made, closed=msgspec.structs.replace(made.closed, opened=opened))


async def status_of(made: Bench, user: str) -> int:
    """Ask for a token of output, and some thirty of input."""
    status, _, _ = await fetch(made, ask(f"x-taximeter-user: {user}", max_tokens=1))
    return status


async def test_the_first_call_of_all_knows_what_was_spent_before(tmp_path: Path) -> None:
    """O5: a worker that begins with a budget spent refuses its first call; others' go on."""
    books = Books(tmp_path)
    books.book(spending("alice", 150), spending("alice", 49), spending("bob", 20))
    async with bench(tmp_path, Scripted(), tiers={"default": BUDGET}) as made:
        assert await status_of(made, "alice") == 402
        assert await status_of(made, "bob") == 200


async def test_what_is_booked_late_is_found_by_a_later_reading(tmp_path: Path) -> None:
    """O5: what the recorder had not booked yet counts once it has; what the worker has booked
    itself stays, and neither is counted twice.
    """
    books = Books(tmp_path)
    books.book(spending("alice", 100))
    late = spending("alice", 90)
    async with bench(tmp_path, Scripted(), tiers={"default": BUDGET}) as made:
        assert await status_of(made, "alice") == 200
        books.book(late, spending("alice", 5, at_ns=time.time_ns()))
        book = made.worker.admission.book
        assert book is not None
        await made.until(lambda: {each.spent for each in book.snapshot()} == {100 + 90 + 5})
        assert await status_of(made, "alice") == 402


async def test_a_budget_that_a_reload_brings_knows_what_was_spent_before_it(
    tmp_path: Path,
) -> None:
    """O5: a budget set today counts today's calls, those of before the reload too."""
    books = Books(tmp_path)
    async with bench(tmp_path, Scripted()) as made:
        assert await status_of(made, "alice") == 200
        books.book(spending("alice", 200))
        plain = made.worker.settings.model_dump(mode="json", exclude_none=True, exclude={"prices"})
        new = type(made.worker.settings).model_validate({**plain, "tiers": {"default": BUDGET}})
        made.worker.reload(new)
        assert await status_of(made, "alice") == 402
        assert await status_of(made, "bob") == 200


async def test_a_ledger_that_hangs_holds_a_call_for_a_stated_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """O5: then it goes on against what is known; a client that leaves meanwhile is let go."""
    monkeypatch.setattr(_carried, "HELD_SECONDS_MAX", 0.3)

    def hang(*_: object) -> list[object]:
        time.sleep(2.0)
        return []

    monkeypatch.setattr(_carried, "spent_before", hang)
    users = {"alice": BUDGET}
    async with bench(tmp_path, Scripted(), users=users) as made:
        leaver = await made.client()
        await leaver.say(ask("x-taximeter-user: alice", max_tokens=1))
        await made.until(lambda: len(made.worker.exchanges) == 1)
        leaver.leave()
        users_asked = ("alice", "bob")
        got = await asyncio.gather(*(status_of(made, user) for user in users_asked))
        assert got == [200, 200]
        waited = {each.opened.user: each.stages.get(Stage.QUEUE, 0) for each in made.closed[1:]}
        assert waited["bob"] == 0
        assert waited["alice"] > 0
        assert len(made.opened) == 2, "a call whose client has left was begun all the same"


def test_keys_and_their_tiers_are_told_apart(tmp_path: Path) -> None:
    """O5: a key's calls count for the key and its tier; what the user did besides counts beside."""
    books = Books(tmp_path)
    key_book = KeyBook(keys_path(tmp_path), HASH_KEY)
    gold = key_book.create(Terms(user="alice", tier="gold"), 0).key
    loose = key_book.create(Terms(), 0).key
    now = time.time_ns()
    books.book(
        spending("alice", 10, pico=1),
        spending("alice", 20, key=f"tm-{gold.id}", pico=2),
        spending("eve", 40, key=f"tm-{loose.id}", pico=4),
        spending("alice", 80, at_ns=now + 60_000_000_000),  # begun after we were
    )
    store = KeyStore.load(keys_path(tmp_path), HASH_KEY)
    found = spent_before(f"sqlite:///{tmp_path / 'ledger.db'}", frozenset({"month"}), now, store)
    said = {
        (each.user, each.key, each.tier, each.is_claimed, each.tokens, each.pico)
        for each in found
        if each.tokens
    }
    assert said == {
        ("alice", "", "", False, 10, 1),
        ("alice", gold.id, "gold", False, 20, 2),
        ("eve", loose.id, "", True, 40, 4),
    }
