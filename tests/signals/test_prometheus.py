"""What a real Prometheus knows after a scripted run, held against what the clients saw."""

from __future__ import annotations

import subprocess
import urllib.request
from collections import Counter

import pytest

from tests.rig import Script
from tests.signals._run import INPUT_PICO, OUTPUT_PICO
from tests.signals.conftest import Watched
from tests.support.engines import program

PICO = 1e12
STAGES = ("receive", "queue", "connect", "first_byte", "first_token", "stream", "settle")


def test_calls_by_their_outcomes(watched: Watched) -> None:
    """Every call is counted under the outcome its client saw, for its upstream and for its user."""
    seen, prometheus = watched.seen, watched.prometheus
    outcomes = Counter(each.outcome for each in seen)
    assert prometheus.by("outcome", "sum by (outcome) (taximeter_calls_total)") == outcomes
    for dialect in ("openai", "anthropic"):
        mine = Counter(each.outcome for each in seen if each.dialect == dialect)
        query = f'sum by (outcome) (taximeter_calls_total{{upstream="{dialect}"}})'
        assert prometheus.by("outcome", query) == mine
    users = Counter(each.user for each in seen)
    assert prometheus.by("user", "sum by (user) (taximeter_user_calls_total)") == users


def test_tokens_as_the_answers_told_them(watched: Watched) -> None:
    """What alice's answers said she used is what is counted for her, by type."""
    alice = [each for each in watched.seen if each.user == "alice"]
    query = 'sum by (type) (taximeter_user_tokens_total{user="alice"})'
    counted = watched.prometheus.by("type", query)
    assert counted["input"] == sum(each.input_tokens or 0 for each in alice)
    assert counted["output"] == sum(each.output_tokens or 0 for each in alice)


def test_tokens_as_the_upstream_made_them(watched: Watched) -> None:
    """What the upstream told it made is counted, and beside it the stream whose client left."""
    whole = [each for each in watched.served if each.status == 200 and not each.client_left_at]
    charged = [each.figures for each in whole if each.figures]
    assert len(charged) == sum(each.outcome == "completed" for each in watched.seen)
    (left,) = (row for row in watched.rows if row["outcome"] == "cancelled")
    counted = watched.prometheus.by("type", "sum by (type) (taximeter_tokens_total)")
    assert counted["input"] - left["input_tokens"] == sum(each.input for each in charged)
    assert counted["output"] - left["output_tokens"] == sum(each.output for each in charged)
    assert counted["cached"] == sum(each.cached for each in charged)
    assert counted["reasoning"] == sum(each.reasoning for each in charged)
    usage = watched.prometheus.by(
        "gen_ai_token_type", "sum by (gen_ai_token_type) (gen_ai_client_token_usage_sum)"
    )
    assert usage == {"input": counted["input"], "output": counted["output"]}


def test_costs_to_the_last_digit(watched: Watched) -> None:
    """A user's cost is the price of what the answers told; all costs are the ledger's."""
    alice = sum(
        (each.input_tokens or 0) * INPUT_PICO + (each.output_tokens or 0) * OUTPUT_PICO
        for each in watched.seen
        if each.user == "alice"
    )
    cost = watched.prometheus.value('sum(taximeter_user_cost_usd_total{user="alice"})')
    assert cost == pytest.approx(alice / PICO, rel=1e-12)
    whole = sum(row["cost_pico"] or 0 for row in watched.rows) / PICO
    for family in ("cost_usd", "user_cost_usd", "team_cost_usd"):
        cost = watched.prometheus.value(f"sum(taximeter_{family}_total)")
        assert cost == pytest.approx(whole, rel=1e-12)


def test_every_stage_a_call_reached_is_in_a_histogram(watched: Watched) -> None:
    """The stages' histograms hold as many calls as reached each stage, and as much time."""
    reached = {stage: [row[f"stage_{stage}_ns"] for row in watched.rows] for stage in STAGES}
    told = {stage: [ns for ns in each if ns is not None] for stage, each in reached.items()}
    prometheus = watched.prometheus
    counts = prometheus.by("stage", "sum by (stage) (taximeter_stage_seconds_count)")
    sums = prometheus.by("stage", "sum by (stage) (taximeter_stage_seconds_sum)")
    assert counts == {stage: len(each) for stage, each in told.items()}
    for stage, each in told.items():
        assert sums[stage] == pytest.approx(sum(each) / 1e9, rel=1e-9)


def test_durations_are_those_that_clients_waited(watched: Watched) -> None:
    """As many calls took longer than an edge as kept their clients longer; none is left out.

    The edges lie between answers that begin at once and those that the upstream began late.
    """
    prometheus, edge = watched.prometheus, 0.64
    answered = [each for each in watched.seen if each.outcome != "rejected"]
    name = "gen_ai_client_operation_duration_seconds"
    assert prometheus.value(f"sum({name}_count)") == len(answered)
    quick = prometheus.value(f'sum({name}_bucket{{le="{edge}"}})')
    assert len(answered) - quick == sum(each.seconds > edge for each in answered)
    late = [each for each in watched.served if (each.script or Script()).first_byte_seconds]
    assert sum(each.seconds > edge for each in answered) >= len(late)
    assert prometheus.value(f"sum({name}_sum)") <= sum(each.seconds for each in answered) + 0.5


def test_first_tokens_are_as_late_as_the_upstream_made_them(watched: Watched) -> None:
    """The streams that the upstream began late, and no others, are above the edge before that."""
    prometheus, edge = watched.prometheus, 0.5
    late = sum(each.stream and each.first_byte_seconds > edge for each in watched.seen)
    assert late == 2
    name = "taximeter_time_to_first_token_seconds"
    count = prometheus.value(f"sum({name}_count)")
    assert count - prometheus.value(f'sum({name}_bucket{{le="{edge}"}})') == late
    assert count - prometheus.value(f'sum({name}_bucket{{le="0.75"}})') == late


def test_streams_have_a_time_to_their_first_token(watched: Watched) -> None:
    """Each stream that began is in the time to first token, and no plain answer is."""
    streams = sum(each.stream for each in watched.seen)
    prometheus = watched.prometheus
    assert prometheus.value("sum(taximeter_time_to_first_token_seconds_count)") == streams
    chunks = "sum(gen_ai_client_operation_time_to_first_chunk_seconds_count)"
    assert prometheus.value(chunks) == streams


def test_attempts_are_what_the_upstream_was_asked(watched: Watched) -> None:
    """Every request that reached the upstream is an attempt, and nothing was tried again."""
    asked = Counter(
        {"/v1/messages": "anthropic"}.get(each.target, "openai") for each in watched.served
    )
    prometheus = watched.prometheus
    counted = prometheus.by("upstream", "sum by (upstream) (taximeter_attempts_total)")
    assert counted == asked
    assert sum(asked.values()) == len(watched.seen) - 1, "the refused call made none"
    assert sum(row["attempt_count"] for row in watched.rows) == len(watched.served)
    assert prometheus.query("sum(taximeter_retries_total) > 0") == []


def test_what_was_estimated_is_said_to_be(watched: Watched) -> None:
    """The stream that was left is the one call whose tokens were counted by us."""
    query = 'sum by (outcome) (taximeter_usage_total{source="estimated"})'
    assert watched.prometheus.by("outcome", query) == {"cancelled": 1}


def test_there_are_no_series_that_must_not_be(watched: Watched) -> None:
    """H8: users are on counters alone, nobody is `other`, and nothing is named but by our words."""
    prometheus = watched.prometheus
    assert prometheus.query('{user!="",le!=""}') == []
    assert prometheus.query('{user="other"} or {model="other"} or {team="other"}') == []
    assert prometheus.query("sum(taximeter_label_overflow_total) > 0") == []
    assert prometheus.query("sum(taximeter_faults_total) > 0") == []
    assert prometheus.query("sum by (sink) (taximeter_sink_failures_total) > 0") == []
    named = {labels["__name__"] for labels, _ in prometheus.query('{job="taximeter"}')}
    ours = ("taximeter_", "gen_ai_", "process_")
    about_scrapes = ("up", "scrape_")
    assert [name for name in named if not name.startswith(ours + about_scrapes)] == []


def test_every_process_is_up(watched: Watched) -> None:
    """The processes that there are, and what the system says of each."""
    prometheus = watched.prometheus
    processes = {"relay-0", "relay-1", "recorder", "supervisor"}
    assert prometheus.by("process", "taximeter_process_up") == dict.fromkeys(processes, 1)
    assert set(prometheus.by("process", "process_resident_memory_bytes > 1e7")) == processes
    assert set(prometheus.by("process", "process_cpu_seconds_total > 0")) == processes
    assert set(prometheus.by("process", "process_open_fds > 3")) == processes
    lag = prometheus.by("process", "taximeter_event_loop_lag_seconds_count > 0")
    assert set(lag) == {"relay-0", "relay-1"}


def test_exemplars_lead_to_calls(watched: Watched) -> None:
    """Exemplars are kept, and each names a call of the ledger by its trace."""
    traces = {row["trace_id"] for row in watched.rows}
    expression = '{__name__=~"gen_ai_client_operation_duration_seconds_bucket"}'
    labels = watched.prometheus.exemplars(expression, watched.began_seconds)
    assert labels
    assert {each["trace_id"] for each in labels} <= traces


def test_the_exposition_is_clean(watched: Watched) -> None:
    """`promtool check metrics` finds nothing to say of our names, types and help."""
    with urllib.request.urlopen(f"{watched.meter.console_url}/metrics", timeout=5) as answer:
        text = answer.read()
    checked = subprocess.run(
        [program("promtool"), "check", "metrics"],
        input=text,
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert (checked.stdout + checked.stderr).decode() == ""
    assert checked.returncode == 0
