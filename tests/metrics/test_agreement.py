"""D2: what `/metrics` shows is what the ledger adds up to, whatever is killed and when."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

from taximeter.call import Fact, Outcome, Usage, UsageSource
from taximeter.ledger import Batch, Committed, Entry, Ledger, LedgerUnavailable
from taximeter.metrics import Meter
from taximeter.metrics import _booked as families
from taximeter.recorder import Recorder
from tests.ledger.make import deferred, entry, fetch, wipe
from tests.metrics.agreement import NeverDown, assert_agrees, assert_totals_agree, from_meter
from tests.metrics.make import settings, value
from tests.recorder.make import World, book, closed, opened, whole

SCOPE = "folder"


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with tables and no rows, to be copied: migrating takes a while."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    ledger = Ledger.open(f"sqlite:///{path}")
    ledger.migrate()
    ledger.close()
    return path


@pytest.fixture
def ledger(empty_ledger: Path, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger with its tables, and no rows."""
    shutil.copyfile(empty_ledger, tmp_path / "ledger.db")
    made = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    yield made
    made.close()


@pytest.fixture
def world(empty_ledger: Path, tmp_path: Path) -> Iterator[World]:
    """A data folder with an empty ledger and no journals."""
    shutil.copyfile(empty_ledger, tmp_path / "ledger.db")
    made = World(tmp_path)
    yield made
    made.ledger.close()


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


_tokens = st.none() | st.integers(0, 2**40)
_sources = st.sampled_from(UsageSource)


@st.composite
def _plain(draw: st.DrawFn) -> Entry:
    return entry(
        user=draw(st.sampled_from(["ann", "bob", None, "é"])),
        team=draw(st.sampled_from(["red", None])),
        model=draw(st.sampled_from(["gpt-5.4-mini", "llama", None])),
        upstream=draw(st.sampled_from(["openai", "groq"])),
        outcome=draw(st.sampled_from(Outcome)),
        usage=Usage(
            input_tokens=draw(_tokens),
            output_tokens=draw(_tokens),
            cached_tokens=draw(_tokens),
            cache_write_tokens=draw(_tokens),
            reasoning_tokens=draw(_tokens),
        ),
        source=draw(_sources),
        cost_pico=draw(st.none() | st.integers(0, 2**63 - 1)),
        stages=draw(st.sampled_from([{}, None])),
    )


@st.composite
def _generation(draw: st.DrawFn, name: str) -> list[Entry]:
    """Draw the calls about one answer: perhaps its maker, and its fetches."""
    usage = Usage(
        input_tokens=draw(st.integers(0, 900)), cache_write_tokens=draw(st.integers(0, 900))
    )
    cost = draw(st.integers(0, 10**12))
    makers = [
        None,
        deferred(name),
        entry(response_id=name, usage=usage, cost_pico=cost),
        entry(response_id=name, source=UsageSource.ESTIMATED, cost_pico=1, user="bob"),
    ]
    made: Entry | None = draw(st.sampled_from(makers))
    polls = [
        fetch(name, usage=usage, cost_pico=cost, user="poller", response_model="gpt-5.4-mini")
        if draw(st.booleans())
        else fetch(name, source=UsageSource.ABSENT, cost_pico=None, user="poller")
        for _ in range(draw(st.integers(0, 3)))
    ]
    return ([made] if made is not None else []) + polls


@st.composite
def _entries(draw: st.DrawFn) -> list[Entry]:
    plain = draw(st.lists(_plain(), max_size=10))
    made = [draw(_generation(f"resp_{number}")) for number in range(draw(st.integers(0, 3)))]
    return draw(st.permutations(plain + [each for group in made for each in group]))


@given_settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    entries=_entries(),
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
@given(entries=_entries(), size=st.integers(1, 6), restarts=st.sets(st.integers(0, 20)))
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


class Died(BaseException):
    """The recorder's process ended here."""


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
    where: Any, name: str, when: str, nth: int, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D2: killed around a commit, the next recorder's counters are the ledger's sums."""
    world.journal(*whole(range(1, 60)), opened(60), segment_bytes=2048)
    world.settings = world.configure(recorder={"batch_rows_max": 5})
    real: Callable[..., object] = getattr(where, name)
    left = [nth]

    def dying(*arguments: Any, **more: Any) -> object:
        left[0] -= 1
        if left[0] == 0 and when == "before":
            raise Died
        answer = real(*arguments, **more)
        if left[0] == 0:
            raise Died
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(where, name, dying)
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
def test_a_commit_that_fails_is_counted_once(
    when: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D2, D8: a database that goes away, before a commit or with its answer, doubles nothing."""
    world.journal(*whole(range(1, 60)), segment_bytes=2048)
    world.settings = world.configure(recorder={"batch_rows_max": 5})
    real = Ledger.commit
    calls = [0]

    def flaky(ledger: Ledger, *arguments: Any) -> Committed:
        calls[0] += 1
        if calls[0] % 2 and when == "before":
            raise LedgerUnavailable("gone", "wait")
        done = real(ledger, *arguments)
        if calls[0] % 2:
            raise LedgerUnavailable("answer lost", "wait")
        return done

    monkeypatch.setattr("taximeter.recorder._recorder.RETRY_SECONDS_FIRST", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "commit", flaky)
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
