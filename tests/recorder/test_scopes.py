"""Several machines, each with its own journals and recorder, share one ledger."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from taximeter.call import Outcome
from taximeter.journal import scope_of
from tests.recorder.make import World, book, closed, opened, whole, write
from tests.support.postgres import PostgresServer


@pytest.fixture(params=["sqlite", "postgresql"])
def machines(
    request: pytest.FixtureRequest, empty_ledger: Path, tmp_path: Path
) -> Iterator[tuple[World, World]]:
    """Two data folders whose settings name one ledger."""
    if request.param == "sqlite":
        shutil.copyfile(empty_ledger, tmp_path / "shared.db")
        server, url = None, f"sqlite:///{tmp_path}/shared.db"
    else:
        server = PostgresServer()
        server.start()
        url = server.make_database()
    made = World(tmp_path / "one", url), World(tmp_path / "two", url)
    if server is not None:
        made[0].ledger.migrate()
    yield made
    for each in made:
        each.ledger.close()
    if server is not None:
        server.close()


def test_two_machines_book_side_by_side(machines: tuple[World, World]) -> None:
    """D11: neither takes the other's lead, finishes its calls, or forgets its positions."""
    one, two = machines
    first, second = one.writer([opened(1)]), two.writer([opened(2)])
    assert scope_of(one.root) != scope_of(two.root)
    recorders = one.recorder(), two.recorder()
    for start in (10, 20, 30):
        write(first, *whole(range(start, start + 3)))
        write(second, *whole(range(start + 5, start + 8)))
        for recorder in recorders:
            book(recorder)
    for world, recorder in zip(machines, recorders, strict=True):
        world.now += 31
        recorder.step()  # parks what is still under way
        recorder.close()
    for world in (one, two, one, two):
        world.record()  # each finds its own state, and takes the other's for nobody's orphan
    assert one.numbers(Outcome.INTERRUPTED) == []
    write(second, closed(2))
    second.close()
    first.close()
    two.record()
    assert one.numbers(Outcome.INTERRUPTED) == []
    one.record()
    wanted = [
        n
        for start in (10, 20, 30)
        for n in (*range(start, start + 3), *range(start + 5, start + 8))
    ]
    assert one.numbers(Outcome.COMPLETED) == sorted([2, *wanted])
    assert one.numbers(Outcome.INTERRUPTED) == [1]
    one.assert_sums()


def test_a_machine_s_orphans_are_its_own(machines: tuple[World, World]) -> None:
    """D5: of two machines that lost their journals, each finishes its own calls when it comes."""
    for number, world in enumerate(machines, 1):
        writer = world.writer([opened(number)])
        recorder = world.recorder()
        book(recorder)
        world.now += 31
        recorder.step()
        recorder.close()
        shutil.rmtree(writer.directory)
    one, two = machines
    two.record()
    assert one.numbers() == [2]
    one.record()
    assert one.numbers(Outcome.INTERRUPTED) == [1, 2]
