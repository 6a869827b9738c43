"""What processes tell of themselves, as text, and that it never meets what booked calls tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

import taximeter
from taximeter.call import Gaps, Outcome
from taximeter.ledger import Entry
from taximeter.live import (
    AdmissionState,
    BreakerState,
    BudgetState,
    ChildState,
    ConfigState,
    Headroom,
    Lag,
    PoolState,
    ProcessState,
    QueueState,
    RelayState,
    SharedState,
)
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
        "replay_bytes": 300,
        "replays": {"replayed": 2, "kept": 9},
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


def budget(**more: Any) -> BudgetState:
    """Make what is used of a budget: half of it."""
    values: dict[str, Any] = {
        "scope": "user", "holder": "alice", "per": "day", "of_tokens": False,
        "limit": 5 * 10**12, "spent": 2 * 10**12, "reserved": 5 * 10**11, "seconds_left": 60.0,
        "refused": 3,
    }  # fmt: skip
    return BudgetState(**{**values, **more})


def admission(**more: Any) -> AdmissionState:
    """Make how an admission stands that has had some trouble."""
    values: dict[str, Any] = {
        "queues": {
            "openai": QueueState(
                waiting=4,
                size=100,
                oldest_seconds=1.5,
                slots_in_use=8,
                slots=10,
                retry_budget_ratio=0.25,
                retries_refused={"user": 1, "upstream": 2},
                holds=3,
            )
        },
        "tiers": {"free": 6},
        "breakers": [
            BreakerState(
                upstream="openai",
                model="gpt-4o",
                state="open",
                moves={"closed": 0, "open": 1, "half_open": 0},
            )
        ],
        "budgets": [budget()],
        "pressure": 1,
        "overflowed": {"routes": 0},
        "shared": SharedState(is_up=False, outages=2, decided_locally=30, bookings_lost=0),
    }
    return AdmissionState(**{**values, **more})


def test_admission_is_shown_by_process() -> None:
    """What waits, what is let go, what retries are left: of each relay and upstream."""
    values = shown(expose_live([relay(0, admission=admission()), relay(1)], {}, False))
    assert values["taximeter_queue_depth", ("relay-0", "openai")] == 4
    assert values["taximeter_queue_limit", ("relay-0", "openai")] == 100
    assert values["taximeter_queue_oldest_seconds", ("relay-0", "openai")] == 1.5
    assert values["taximeter_slots_in_use", ("relay-0", "openai")] == 8
    assert values["taximeter_in_flight_limit", ("relay-0", "openai")] == 10
    assert values["taximeter_retry_budget_ratio", ("relay-0", "openai")] == 0.25
    assert values["taximeter_retry_budget_exhausted_total", ("relay-0", "upstream", "openai")] == 2
    assert values["taximeter_upstream_holds_total", ("relay-0", "openai")] == 3
    assert values["taximeter_tier_in_flight", ("relay-0", "free")] == 6
    assert values["taximeter_pressure_level", ("relay-0",)] == 1
    assert ("taximeter_queue_depth", ("relay-1", "openai")) not in values


def test_shared_counts_are_shown_where_there_are_some() -> None:
    """D10: whether Redis is asked or a share is gone by is a figure; where there is none, none."""
    relays = [relay(0, admission=admission()), relay(1, admission=admission(shared=None))]
    values = shown(expose_live(relays, {}, False))
    assert values["taximeter_shared_state_up", ("relay-0",)] == 0
    assert values["taximeter_shared_state_outages_total", ("relay-0",)] == 2
    assert values["taximeter_shared_state_local_decisions_total", ("relay-0",)] == 30
    assert values["taximeter_shared_state_bookings_lost_total", ("relay-0",)] == 0
    assert ("taximeter_shared_state_up", ("relay-1",)) not in values


def test_a_limit_that_is_not_there_has_no_series() -> None:
    """Missing is not 0: an upstream without a limit shows none."""
    queue = admission().queues["openai"]
    queue.slots = None
    values = shown(expose_live([relay(0, admission=admission(queues={"x": queue}))], {}, False))
    assert ("taximeter_in_flight_limit", ("relay-0", "x")) not in values
    assert values["taximeter_slots_in_use", ("relay-0", "x")] == 8


def test_each_state_of_a_breaker_has_a_series_and_begins_at_zero() -> None:
    """One state is 1, the others are 0; a change that has not been is 0, not missing."""
    values = shown(expose_live([relay(0, admission=admission())], {}, False))
    place = ("gpt-4o", "relay-0")
    for state, is_in, came in (("closed", 0, 0), ("half_open", 0, 0), ("open", 1, 1)):
        assert values["taximeter_breaker_state", (*place, state, "openai")] == is_in
        assert values["taximeter_breaker_transitions_total", (*place, state, "openai")] == came


def test_budgets_are_shown_in_dollars_or_in_tokens() -> None:
    """A budget of money is in dollars; one of tokens is not money, and hostile names fit."""
    told = admission(budgets=[budget(), budget(of_tokens=True, holder="b\nob", limit=100, spent=7)])
    values = shown(expose_live([relay(0, admission=told)], {}, True), openmetrics=True)
    alice = ("alice", "day", "relay-0", "user")
    assert values["taximeter_budget_limit_usd", alice] == 5
    assert values["taximeter_budget_spent_usd", alice] == 2
    assert values["taximeter_budget_reserved_usd", alice] == 0.5
    counted = (*alice, "usd")
    assert values["taximeter_budget_seconds_remaining", counted] == 60
    assert values["taximeter_budget_refusals_total", counted] == 3
    assert ("taximeter_budget_limit_tokens", alice) not in values
    spent = {
        labels: value
        for (name, labels), value in values.items()
        if name == "taximeter_budget_spent_tokens"
    }
    assert list(spent.values()) == [7]
    assert all(part.isprintable() for labels in spent for part in labels)


def test_budgets_of_dollars_and_of_tokens_share_no_figure() -> None:
    """A user with one of each for the same window: what each refused is told of by itself."""
    both = [budget(), budget(of_tokens=True, limit=100, spent=99, refused=1, seconds_left=61.0)]
    place = ("alice", "day", "relay-0", "user")
    for budgets in (both, both[::-1]):  # the one that is used more comes first: they change places
        told = [relay(0, admission=admission(budgets=budgets))]
        values = shown(expose_live(told, {}, False))
        assert values["taximeter_budget_refusals_total", (*place, "usd")] == 3
        assert values["taximeter_budget_refusals_total", (*place, "tokens")] == 1
        assert values["taximeter_budget_seconds_remaining", (*place, "usd")] == 60
        assert values["taximeter_budget_seconds_remaining", (*place, "tokens")] == 61


def test_a_configuration_that_was_not_taken_is_shown() -> None:
    """A file that cannot be read is a 0, with the time of the one that still holds."""
    values = shown(expose_live([], {}, False, ConfigState(is_good=False, taken_at_seconds=7.5)))
    assert values["taximeter_config_last_reload_successful", ()] == 0
    assert values["taximeter_config_last_reload_success_timestamp_seconds", ()] == 7.5


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
    told = relay(
        0,
        headroom=[headroom(1, 1.0)],
        oldest_seconds={"openai": 2.5},
        admission=admission(budgets=[budget(), budget(of_tokens=True)]),
    )
    live = expose_live([told], processes, False, ConfigState(taken_at_seconds=5.0))
    booked = meter.expose(False)
    heads = {
        text: {line.split()[2] for line in text.decode().splitlines() if line.startswith("# TYPE")}
        for text in (live, booked)
    }
    sources = {Source.RELAY, Source.SUPERVISOR}
    assert heads[live] == {family.exposed for family in FAMILIES if family.source in sources}
    assert heads[booked] == {family.exposed for family in FAMILIES if family.source not in sources}
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
        entry(3, outcome=Outcome.REJECTED, error="limit_exceeded", attempts=[], status=429),
        entry(4, begun={"meant_for": "first"}),
        entry(2, outcome=Outcome.CANCELLED, cost_pico=None, price="unpriced: no usage"),
    ]
