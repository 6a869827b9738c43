"""What is kept of counters, what of it is taken up again, and who may look meanwhile."""

from __future__ import annotations

import logging
import threading
from functools import partial

import msgspec
import pytest

from taximeter.ledger import Entry
from taximeter.metrics import Meter
from taximeter.metrics import _booked as families
from tests.metrics.make import book, committed, entry, samples, settings, total, value
from tests.rig.effort import effort


def test_only_what_changes_is_kept() -> None:
    """A commit writes the series that it changes, and no others."""
    meter = Meter(settings())
    first = book(meter, *(entry(number, user=f"u{number}") for number in range(40)))
    second = book(meter, entry(100, user="u1"))
    assert set(second) < set(first)
    assert len(second) < 50
    assert book(meter) == {}


def test_a_note_that_means_nothing_is_told_and_passed(caplog: pytest.LogCaptureFixture) -> None:
    """L3: notes of another version, of a family that is gone or of other edges cost one warning."""
    meter = Meter(settings())
    notes = book(meter, entry(1))
    encode = msgspec.msgpack.encode
    first = families.CALL_COST
    strange = {
        "metrics/a": b"?",
        "metrics/b": encode([1, "taximeter_gone", ["x"], 3]),
        "metrics/c": encode([2, "taximeter_calls", ["a"] * 5, 3]),
        "metrics/d": encode([1, "taximeter_calls", ["a"], 3]),
        "metrics/e": encode([1, "taximeter_calls", ["a"] * 5, -3]),
        "metrics/f": encode([1, first.name, ["a"] * 3, 0, 0, [1, 2], [1, 2, 3, 4]]),
        "metrics/g": encode([1, first.name, ["a"] * 3, 0, 0, first.edges, [1, 2]]),
        "somebody else's": b"?",
    }
    later = Meter(settings())
    with caplog.at_level(logging.WARNING):
        later.restore({**notes, **strange})
    assert [each for each in caplog.messages if "7 kept counters" in each]
    assert value(later, "taximeter_metrics_notes_refused_total") == 7
    assert total(later, "taximeter_calls_total") == 1


def test_a_note_of_the_first_version_is_read_for_ever() -> None:
    """L3, D11: the bytes of a kept series are a format: what was kept once is taken up."""
    counter = b"\x97\x01\xb7taximeter_user_cost_usd\x91\xa5alice\x05\x07\x90\x90"
    meter = Meter(settings())
    meter.restore({"metrics/taximeter_user_cost_usd/0": counter})
    assert meter._series.values[families.USER_COST] == {("alice",): 5}
    assert meter._series.debts[families.USER_COST] == {("alice",): 7}
    edges = families.CALL_COST.edges
    bins = tuple(range(len(edges) + 2))
    note = (1, "taximeter_call_cost_usd", ("up", "prov", "gpt"), 0, 0, edges, bins)
    meter.restore({"metrics/taximeter_call_cost_usd/0": msgspec.msgpack.encode(note)})
    assert meter._series.bins[families.CALL_COST] == {("up", "prov", "gpt"): bins}


def test_the_very_first_start_has_nothing_to_take_up() -> None:
    """A ledger without notes is the beginning, and no reason to complain."""
    meter = Meter(settings())
    meter.restore({})
    assert value(meter, "taximeter_metrics_notes_refused_total") == 0
    assert total(meter, "taximeter_calls_total") == 0


def test_a_restore_drops_what_was_not_yet_true() -> None:
    """D2: after a commit whose answer was lost, its calls are in the notes: not once more."""
    meter = Meter(settings())
    entries = [entry(1)]
    kept = meter.note(entries, committed(entries))
    meter.restore(kept)
    meter.booked(entries, committed(entries))
    assert total(meter, "taximeter_calls_total") == 1


def test_a_look_sees_one_moment() -> None:
    """Whoever looks while calls are booked sees a whole commit, or nothing of it."""
    meter = Meter(settings())
    stop = threading.Event()
    torn: list[float] = []

    def look() -> None:
        while not stop.is_set():
            found = samples(meter.expose(True), openmetrics=True)
            calls = sum(each.value for each in found if each.name == "taximeter_calls_total")
            users = sum(each.value for each in found if each.name == "taximeter_user_calls_total")
            timed = sum(
                each.value
                for each in found
                if each.name == "gen_ai_client_operation_duration_seconds_count"
            )
            if not calls == users == timed:
                torn.append(calls)

    watcher = threading.Thread(target=look)
    watcher.start()
    for batch in range(150):
        book(meter, *(entry(batch * 10 + each, user=f"u{each}") for each in range(10)))
    stop.set()
    watcher.join(30)
    assert torn == []
    assert total(meter, "taximeter_calls_total") == 1500


def test_counting_a_call_takes_a_part_of_what_booking_it_may() -> None:
    """D8: in batches of 500, counting and encoding a stream's call is some 30 us' work, where all
    of booking it may be 300.
    """
    meter = Meter(settings())
    batches = [
        [
            entry(start + each, user=f"u{each % 40}", model=f"m{each % 4}", stream=True)
            for each in range(500)
        ]
        for start in range(0, 3_000, 500)
    ]

    def count(batch: list[Entry]) -> None:
        done = committed(batch)
        meter.note(batch, done)
        meter.booked(batch, done)

    assert min(effort(partial(count, batch)) for batch in batches) < 25


def test_ten_thousand_series_are_text_in_a_fraction_of_a_second() -> None:
    """A scrape of a large house costs its collector no patience, and the recorder no wait."""
    meter = Meter(settings(metrics={"users_max": 10_000, "label_sets_max": 100_000}))
    for start in range(0, 3_000, 500):
        book(meter, *(entry(number, user=f"u{number}") for number in range(start, start + 500)))
    assert meter.expose(True).count(b"\n") > 10_000
    assert min(effort(partial(meter.expose, True)) for _ in range(3)) < 500
