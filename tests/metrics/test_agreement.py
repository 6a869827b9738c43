"""D2: what `/metrics` shows is what the ledger adds up to, whatever is killed and when."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

from taximeter.call import Fact, Usage, UsageSource
from taximeter.ledger import Batch, Committed, Entry, Ledger
from taximeter.metrics import Meter
from taximeter.metrics import _booked as families
from taximeter.recorder import Recorder
from tests.ledger.drawn import entries
from tests.ledger.make import deferred, entry, fetch, wipe
from tests.metrics.agreement import NeverDown, assert_agrees, assert_totals_agree, from_meter
from tests.metrics.make import settings, value
from tests.recorder.conftest import empty_ledger, world
from tests.recorder.faults import Died, dying, flaky_commits
from tests.recorder.make import World, book, closed, opened, whole

__all__ = ["empty_ledger", "world"]

SCOPE = "folder"
PEOPLE = ["ann", "bob", None, "é"]
MODELS = ["gpt-5.4-mini", "llama", None]


@pytest.fixture
def ledger(empty_ledger: Path, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger with its tables, and no rows."""
    shutil.copyfile(empty_ledger, tmp_path / "ledger.db")
    made = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    yield made
    made.close()


class Cut(Exception):
    """A commit ended here."""


class Booking:
    """A recorder in small: commits batches, and may die or be told nothing at any of them."""

    def __init__(self, ledger: Ledger, **bounds: int) -> None:
        self._ledger = ledger
        self._bounds = bounds
        self._lease = ledger.take_lead("test", SCOPE)
        self.restart()

    def restart(self) -> None:
        """Come back as another process."""
        self.meter = Meter(settings(metrics=self._bounds))
        self.meter.restore(self._ledger.load(SCOPE).notes)

    def commit(self, entries: list[Entry], fault: str = "") -> None:
        """Commit a batch; `fault` says what goes wrong, and is overcome."""
        batch = Batch(lease=self._lease, scope=SCOPE, entries=entries)

        def fresh(done: Committed) -> list[Entry]:
            return [each for each in entries if each.call_id in done.inserted]

        def note(done: Committed) -> Any:
            kept = self.meter.note(fresh(done), done)
            if fault == "failed":
                raise Cut
            return kept

        if fault == "failed":
            with pytest.raises(Cut):
                self._ledger.commit(batch, note)
            fault = ""
        done = self._ledger.commit(batch, note)
        if fault == "killed":
            self.restart()
            return
        if fault == "answer lost":
            done = self._ledger.commit(batch, note)
            self.meter.restore(self._ledger.load(SCOPE).notes)
        self.meter.booked(fresh(done), done)


@given_settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    entries=entries(people=PEOPLE, models=MODELS),
    size=st.integers(1, 6),
    faults=st.lists(
        st.sampled_from(["", "failed", "killed", "answer lost", "restart", "repeat"]), max_size=12
    ),
)
def test_the_ledger_and_the_metrics_add_up_to_the_same(
    ledger: Ledger, entries: list[Entry], size: int, faults: list[str]
) -> None:
    """D2: calls, tokens and cost agree series by series, to the pico-dollar, and never go down."""
    wipe(ledger)
    booking, never_down = Booking(ledger), NeverDown()
    plan = iter(faults)
    for start in range(0, len(entries), size):
        some = entries[start : start + size]
        fault = next(plan, "")
        booking.commit(some, fault if fault in ("failed", "killed", "answer lost") else "")
        if fault == "restart":
            booking.restart()
        if fault == "repeat":
            booking.commit(entries[: start + size])
        never_down.look(booking.meter)
        assert_agrees(booking.meter, ledger)
    booking.restart()
    never_down.look(booking.meter)
    assert_agrees(booking.meter, ledger)


@given_settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    entries=entries(people=PEOPLE, models=MODELS),
    size=st.integers(1, 6),
    restarts=st.sets(st.integers(0, 20)),
)
def test_names_without_a_place_change_no_total(
    ledger: Ledger, entries: list[Entry], size: int, restarts: set[int]
) -> None:
    """H8: with a place for one user and none for a team, all is still counted, under `other`."""
    wipe(ledger)
    booking = Booking(ledger, users_max=1, teams_max=0, models_max=1)
    never_down = NeverDown()
    for start in range(0, len(entries), size):
        if start in restarts:
            booking.restart()
        booking.commit(entries[start : start + size])
        never_down.look(booking.meter)
        assert_totals_agree(booking.meter, ledger)


def test_a_cost_that_goes_over_takes_nothing_from_a_counter(ledger: Ledger) -> None:
    """What a fetch hands to its maker is carried as debt, told, and worked off by the next."""
    booking = Booking(ledger)
    used = Usage(input_tokens=100)
    booking.commit([fetch("resp", usage=used, cost_pico=700, user="poller")])
    cost = families.USER_COST
    booking.commit([deferred("resp", user="maker")])
    booking.restart()
    values = booking.meter._series.values[cost]
    assert values == {("poller",): 700, ("maker",): 700}
    assert_agrees(booking.meter, ledger)
    ahead = "taximeter_ledger_ahead"
    assert value(booking.meter, ahead, counter=cost.exposed) == 700 / 1e12
    booking.commit([entry(user="poller", cost_pico=500)])
    assert booking.meter._series.values[cost]["poller",] == 700
    booking.commit([entry(user="poller", cost_pico=500)])
    assert booking.meter._series.values[cost]["poller",] == 1000
    assert value(booking.meter, ahead, counter=cost.exposed) == 0
    assert_agrees(booking.meter, ledger)


# -- with a recorder, and journals --------------------------------------------------------------


def recorder_of(world: World, ledger: Ledger | None = None) -> tuple[Recorder, Meter]:
    """Make a recorder that has begun, and its meter."""
    meter = Meter(world.settings)
    recorder = Recorder(world.settings, ledger=ledger, sinks=[meter], clock=lambda: world.now)
    recorder.begin()
    return recorder, meter


CRASHES = [
    (Ledger, "commit", "before"),
    (Ledger, "commit", "after"),
    (Meter, "note", "before"),
    (Meter, "note", "after"),
    (Meter, "booked", "before"),
    (Meter, "booked", "after"),
]


@pytest.mark.parametrize("nth", [1, 2, 4])
@pytest.mark.parametrize(("where", "name", "when"), CRASHES)
def test_a_recorder_may_die_anywhere(
    where: Any, name: str, when: str, nth: int, world: World
) -> None:
    """D2: killed around a commit, the next recorder's counters are the ledger's sums."""
    world.journal(*whole(range(1, 60)), opened(60), segment_bytes=2048)
    world.settings = world.configure(recorder={"batch_rows_max": 5})
    with dying(where, name, when, nth):
        recorder, _ = recorder_of(world)
        with pytest.raises(Died):
            book(recorder)
        recorder.close()
    recorder, meter = recorder_of(world)
    book(recorder)
    recorder.close()
    assert sum(from_meter(meter)[families.CALLS].values()) == 60
    assert_agrees(meter, world.ledger)
    assert recorder.sinks.failures == {"metrics": 0}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_that_fails_is_counted_once(when: str, world: World) -> None:
    """D2, D8: a database that goes away, before a commit or with its answer, doubles nothing."""
    world.journal(*whole(range(1, 60)), segment_bytes=2048)
    world.settings = world.configure(recorder={"batch_rows_max": 5})
    with flaky_commits(when):
        recorder, meter = recorder_of(world)
        book(recorder)
        recorder.close()
    assert sum(from_meter(meter)[families.CALLS].values()) == 59
    assert_agrees(meter, world.ledger)


def test_what_the_ledger_refuses_is_in_no_counter(world: World) -> None:
    """D8: a row that is set aside, and a call read twice, count for nothing."""
    poison = closed(2, begun=opened(2, call_id="no id at all"))
    world.journal(*whole([1]), poison, *whole([3]), closed(3))
    recorder, meter = recorder_of(world)
    book(recorder)
    recorder.close()
    assert sum(from_meter(meter)[families.CALLS].values()) == 2
    assert_agrees(meter, world.ledger)


def test_a_fetch_over_journals_agrees(world: World) -> None:
    """A background answer's cost, asked for before its maker is read, ends up in both alike."""
    usage = Usage(input_tokens=1000, output_tokens=10)
    fetched = closed(
        1, begun=opened(1, user="poller"), response_id="r", usage=usage, facts=[Fact.FETCHED]
    )
    world.journal(opened(1), fetched)
    recorder, meter = recorder_of(world)
    book(recorder)
    made = closed(
        2, response_id="r", usage=None, usage_source=UsageSource.ABSENT, facts=[Fact.DEFERRED]
    )
    world.journal(opened(2), made)
    book(recorder)
    recorder.close()
    assert_agrees(meter, world.ledger)
    assert value(meter, "taximeter_ledger_ahead", counter="taximeter_user_cost_usd_total") == (
        (1000 * 1 + 10 * 2) / 1e6
    )


def test_ten_thousand_users_are_all_in_the_ledger_and_few_in_the_metrics(ledger: Ledger) -> None:
    """H8: names are bounded where they cost, and nobody is missing where they are looked up."""
    booking = Booking(ledger)
    for begin in range(1, 10_001, 500):
        booking.commit([entry(user=f"user{number}") for number in range(begin, begin + 500)])
    assert len(ledger.report(["user"])) == 10_000
    text = booking.meter.expose(False).decode()
    assert text.count("\n") < 3_000
    assert 'user="other"' in text
    assert_totals_agree(booking.meter, ledger)
