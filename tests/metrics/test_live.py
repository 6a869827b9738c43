"""What processes tell of themselves, as text, and that it never meets what booked calls tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

import taximeter
from taximeter.call import Gaps, Outcome
from taximeter.ledger import Entry
from taximeter.live import ChildState, Headroom, Lag, PoolState, ProcessState, RelayState
from taximeter.metrics import FAMILIES, Meter, RecorderFacts, Source, expose_live
from taximeter.metrics._live import HEADROOMS_MAX
from taximeter.pricing import catalogue_models
from taximeter.recorder._journal import RecorderStats
from taximeter.traces import TraceStats
from tests.metrics.make import book, entry, samples, settings
from tests.recorder.make import attempt

PROCESS = ProcessState(
    pid=7,
    started_at_seconds=1_700_000_000.25,
    cpu_seconds=1.5,
    resident_bytes=1000,
    open_files=10,
    open_files_max=1024,
)


def relay(worker: int, **more: Any) -> RelayState:
    """Make the state of a relay that has done a little."""
    lag = Lag.empty()
    lag.add(0.0005)
    lag.add(0.03)
    values: dict[str, Any] = {
        "worker": worker,
        "process": PROCESS,
        "loop_lag": lag,
        "in_flight": {"openai": 3, "": 1},
        "connections": 5,
        "outcomes": {"completed": 8},
        "unparsed": 1,
        "refused_connections": 2,
        "faults": 3,
        "records": 16,
        "records_refused": 4,
        "counts_refused": 5,
        "counts_late": 6,
        "counts_failed": 7,
        "body_bytes": 100,
        "tap_bytes": 200,
        "pools": {"openai": PoolState(in_use=1, idle=2, waiting=3)},
        "headroom": [],
    }
    return RelayState(**{**values, **more})


def headroom(remaining: int, at_seconds: float, **more: Any) -> Headroom:
    """Make what an upstream said of its limit of requests."""
    values: dict[str, Any] = {
        "upstream": "openai", "model": "gpt-4o", "resource": "requests", "limit": 100,
    }  # fmt: skip
    return Headroom(**{**values, "remaining": remaining, "at_seconds": at_seconds, **more})


def shown(text: bytes, *, openmetrics: bool = False) -> dict[tuple[str, tuple[str, ...]], float]:
    """Give every value of an exposition by its name and its labels' values in order."""
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for sample in samples(text, openmetrics=openmetrics)
    }


@pytest.mark.parametrize("openmetrics", [False, True])
def test_each_relay_has_its_own_series(openmetrics: bool) -> None:
    """What two workers tell stands side by side, by process."""
    text = expose_live([relay(0), relay(1, faults=9)], {}, openmetrics)
    values = shown(text, openmetrics=openmetrics)
    assert values["taximeter_in_flight", ("relay-0", "openai")] == 3
    assert values["taximeter_in_flight", ("relay-1", "")] == 1
    assert values["taximeter_faults_total", ("relay-0",)] == 3
    assert values["taximeter_faults_total", ("relay-1",)] == 9
    assert values["taximeter_pool_connections", ("relay-0", "idle", "openai")] == 2
    assert values["taximeter_pool_waiting", ("relay-0", "openai")] == 3
    assert values["taximeter_event_loop_lag_seconds_count", ("relay-1",)] == 2
    assert values["taximeter_event_loop_lag_seconds_sum", ("relay-1",)] == 0.0305
    assert values["taximeter_event_loop_lag_seconds_bucket", ("0.025", "relay-0")] == 1
    assert values["taximeter_counts_undone_total", ("relay-0", "late")] == 6
    assert values["taximeter_journal_ready", ("relay-0",)] == 1


def test_a_process_that_is_down_is_shown_as_down() -> None:
    """Down is a 0, not a gap; and what nobody knows of it is a gap, not a 0."""
    processes = {
        "supervisor": ChildState(up=True, restarts=0, process=PROCESS),
        "recorder": ChildState(up=False, restarts=4, process=None),
    }
    values = shown(expose_live([], processes, False))
    assert values["taximeter_process_up", ("supervisor",)] == 1
    assert values["taximeter_process_up", ("recorder",)] == 0
    assert values["taximeter_process_restarts_total", ("recorder",)] == 4
    assert values["process_cpu_seconds_total", ("supervisor",)] == 1.5
    assert values["process_start_time_seconds", ("supervisor",)] == 1_700_000_000.25
    assert ("process_open_fds", ("recorder",)) not in values
    assert any(
        name == "taximeter_build_info" and taximeter.__version__ in labels
        for name, labels in values
    )


def test_of_a_rate_limit_the_newest_word_holds() -> None:
    """Several workers hear of one limit; a limit that was not told has no series."""
    told = [
        relay(0, headroom=[headroom(10, 5.0)]),
        relay(1, headroom=[headroom(30, 4.0), headroom(1, 1.0, resource="tokens", limit=None)]),
    ]
    values = shown(expose_live(told, {}, False))
    assert values["taximeter_ratelimit_remaining", ("gpt-4o", "requests", "openai")] == 10
    assert values["taximeter_ratelimit_limit", ("gpt-4o", "requests", "openai")] == 100
    assert (
        values["taximeter_ratelimit_told_timestamp_seconds", ("gpt-4o", "requests", "openai")] == 5
    )
    assert values["taximeter_ratelimit_remaining", ("gpt-4o", "tokens", "openai")] == 1
    assert ("taximeter_ratelimit_limit", ("gpt-4o", "tokens", "openai")) not in values


def test_rate_limits_are_bounded_and_hostile_models_fit() -> None:
    """H8: however many names a limit was told for, so many are shown, the newest."""
    many = [headroom(1, float(number), model=f"m\n{number}") for number in range(5_000)]
    text = expose_live([relay(0, headroom=many)], {}, True)
    values = shown(text, openmetrics=True)
    told = [labels for name, labels in values if name == "taximeter_ratelimit_remaining"]
    assert len(told) == HEADROOMS_MAX
    assert all(label.isprintable() for labels in told for label in labels)


def test_a_histogram_of_another_version_is_left_out() -> None:
    """A relay that counts by other edges is not read wrongly."""
    values = shown(expose_live([relay(0, loop_lag=Lag(buckets=[1, 2]))], {}, False))
    assert not any(name.startswith("taximeter_event_loop_lag") for name, _ in values)


@dataclass
class Exporter:
    """What an exporter has to have."""

    exported: int = 10
    failed: int = 1
    queued: int = 2
    unsampled: int = 3
    rejected_spans: int = 4
    spool_bytes: int = 5
    spool_bytes_max: int = 6
    dropped: dict[str, int] = field(default_factory=lambda: {"spool_full": 5, "refused": 0})


def test_the_recorder_s_facts_are_shown() -> None:
    """Whoever wires the recorder up says where its figures are; they are of the moment."""
    meter = Meter(settings())
    counts = RecorderStats(booked=5, rejected=2)
    lag: list[float | None] = [None]
    meter.watch(
        lambda: RecorderFacts(
            counts=counts,
            sink_failures={"traces": 3},
            ledger_lag_seconds=lag[0],
            journal_bytes=0,
            journal_bytes_max=1024,
            exporters={"otlp": Exporter(), "spare": TraceStats()},
        )
    )
    values = shown(meter.expose(False))
    assert ("taximeter_ledger_lag_seconds", ()) not in values
    lag[0], counts.booked = 0.5, 6
    values = shown(meter.expose(False))
    assert values["taximeter_ledger_lag_seconds", ()] == 0.5
    assert values["taximeter_ledger_booked_total", ()] == 6
    assert values["taximeter_ledger_rejected_total", ()] == 2
    assert values["taximeter_sink_failures_total", ("traces",)] == 3
    assert values["taximeter_journal_bytes", ()] == 0
    assert values["taximeter_exporter_dropped_total", ("otlp", "refused")] == 0
    assert values["taximeter_exporter_dropped_total", ("otlp", "spool_full")] == 5
    assert values["taximeter_exporter_rejected_spans_total", ("otlp",)] == 4
    assert values["taximeter_exporter_queued", ("spare",)] == 0
    assert values["taximeter_exporter_spool_bytes", ("otlp",)] == 5
    assert values["taximeter_exporter_spool_bytes_max", ("otlp",)] == 6


def test_no_family_is_in_both_texts_and_all_are_in_one() -> None:
    """The two texts put together are one exposition: every family of the table, once."""
    meter = Meter(settings())
    counts = RecorderStats()
    meter.watch(
        lambda: RecorderFacts(
            counts=counts,
            sink_failures={"traces": 0},
            ledger_lag_seconds=0,
            journal_bytes=0,
            journal_bytes_max=0,
            exporters={"otlp": Exporter()},
        )
    )
    book(meter, *everything())
    catalogue_models()  # the age of the table is shown once it has been needed
    processes = {"recorder": ChildState(up=True, restarts=0, process=PROCESS)}
    live = expose_live([relay(0, headroom=[headroom(1, 1.0)])], processes, False)
    booked = meter.expose(False)
    heads = {
        text: {line.split()[2] for line in text.decode().splitlines() if line.startswith("# TYPE")}
        for text in (live, booked)
    }
    told = {Source.RELAY, Source.SUPERVISOR}
    assert heads[live] == {family.exposed for family in FAMILIES if family.source in told}
    assert heads[booked] == {family.exposed for family in FAMILIES if family.source not in told}
    samples(booked + live)


def everything() -> list[Entry]:
    """Make calls that between them have something for every family."""
    return [
        entry(
            1,
            stream=True,
            gaps=Gaps(count=1, sum_ns=1, max_ns=1, buckets=[1] + [0] * 12),
            finish_reason="stop",
            request_bytes=1,
            begun={"client_retry": 1},
            response_bytes=1,
            attempts=[attempt(status=503), attempt(number=2, connected_ns=2, reused=True)],
        ),
        entry(2, outcome=Outcome.CANCELLED, cost_pico=None, price="unpriced: no usage"),
    ]
