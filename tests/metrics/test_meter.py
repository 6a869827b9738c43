"""What booked calls come to on `/metrics`: scripted calls in, exact series out."""

from __future__ import annotations

import pytest

from taximeter.call import Attempt, Fact, Gaps, Outcome, Stage, Usage, UsageSource
from taximeter.metrics import Meter
from tests.metrics.make import (
    MILLISECOND,
    STAGES,
    book,
    committed,
    entry,
    samples,
    settings,
    total,
    value,
    values,
)
from tests.recorder.make import attempt

GPT = {"upstream": "openai", "provider": "openai", "model": "gpt-4o"}
GEN_AI = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "openai",
    "gen_ai_request_model": "gpt-4o",
    "gen_ai_response_model": "",
    "server_address": "api.openai.com",
    "server_port": "443",
}


@pytest.fixture
def meter() -> Meter:
    """Make a meter that has heard of nothing."""
    return Meter(settings())


def test_a_call_is_counted_by_model_user_and_team(meter: Meter) -> None:
    """A completed call is one call, its tokens by type, and its cost to the last pico-dollar."""
    book(meter, entry(1, cost_pico=123_456_789))
    how = {"operation": "chat", "outcome": "completed"}
    assert value(meter, "taximeter_calls_total", **GPT, **how) == 1
    assert value(meter, "taximeter_cost_usd_total", **GPT, **how) == 0.000123456789
    assert values(meter, "taximeter_tokens_total", **GPT) == {
        ("input",): 100,
        ("output",): 21,
        ("cached",): 40,
    }
    assert value(meter, "taximeter_usage_total", **GPT, **how, source="reported") == 1
    for kind, name in (("user", "alice"), ("team", "blue")):
        labels = {kind: name}
        assert value(meter, f"taximeter_{kind}_calls_total", **labels, outcome="completed") == 1
        assert value(meter, f"taximeter_{kind}_cost_usd_total", **labels) == 0.000123456789
        assert value(meter, f"taximeter_{kind}_tokens_total", **labels, type="output") == 21


def test_what_is_unknown_has_no_series(meter: Meter) -> None:
    """Missing is not 0: no tokens, no cost and no price make no series of tokens or cost."""
    unknown = entry(1, usage=None, usage_source=UsageSource.ABSENT, cost_pico=None,
                    price="unpriced: no usage")  # fmt: skip
    book(meter, unknown)
    assert values(meter, "taximeter_tokens_total") == {}
    assert values(meter, "taximeter_cost_usd_total") == {}
    assert values(meter, "taximeter_call_cost_usd_count") == {}
    assert values(meter, "gen_ai_client_token_usage_count") == {}
    assert value(meter, "taximeter_unpriced_calls_total", **GPT, reason="no_usage") == 1


def test_nobody_s_calls_have_the_empty_label(meter: Meter) -> None:
    """A call that names no user is neither `other`'s nor left out."""
    book(meter, entry(1, user=None, team=None))
    assert values(meter, "taximeter_user_calls_total") == {("completed", ""): 1}
    assert total(meter, "taximeter_label_overflow_total") == 0


@pytest.mark.parametrize("openmetrics", [False, True])
def test_both_formats_read_back_alike(meter: Meter, openmetrics: bool) -> None:
    """The text is what Prometheus' own readers read, and no family is in it twice."""
    book(meter, entry(1, stream=True), entry(2, outcome=Outcome.CANCELLED))
    text = meter.expose(openmetrics)
    assert b"# EOF" not in text
    assert b"_created" not in text
    heads = [line for line in text.splitlines() if line.startswith(b"# TYPE")]
    assert len(heads) == len(set(heads))
    found = {sample.name for sample in samples(text, openmetrics=openmetrics)}
    assert {"taximeter_calls_total", "taximeter_stage_seconds_bucket"} <= found


def test_what_was_kept_is_taken_up_again(meter: Meter) -> None:
    """D2: a new meter that is given the notes shows what the old one showed."""
    notes: dict[str, bytes] = {}
    for number in range(50):
        notes.update(book(meter, entry(number, user=f"u{number % 7}", stream=True)))
    later = Meter(settings())
    later.restore(notes)
    assert sorted(later.expose(False).splitlines()) == sorted(meter.expose(False).splitlines())


def test_a_failed_commit_counts_nothing(meter: Meter) -> None:
    """D2: what is noted and never booked is as if it had not been."""
    before = meter.expose(False)
    meter.note([entry(1)], committed([entry(1)]))
    assert meter.expose(False) == before
    book(meter, entry(2))
    assert total(meter, "taximeter_calls_total") == 1


def test_time_is_kept_by_stage_and_by_the_conventions_words(meter: Meter) -> None:
    """A stream's stages, duration, first token and pace are where their edges say."""
    gaps = Gaps(count=20, sum_ns=2_000 * MILLISECOND, max_ns=400 * MILLISECOND,
                buckets=[1, 2, 3, 4, 0, 0, 0, 0, 0, 10, 0, 0, 0])  # fmt: skip
    book(meter, entry(1, stream=True, gaps=gaps))
    name = "gen_ai_client_operation_duration_seconds"
    assert value(meter, f"{name}_sum", **GEN_AI, error_type="") == 2.326
    assert value(meter, f"{name}_bucket", **GEN_AI, error_type="", le="1.28") == 0
    assert value(meter, f"{name}_bucket", **GEN_AI, error_type="", le="2.56") == 1
    name = "gen_ai_client_operation_time_to_first_chunk_seconds"
    assert value(meter, f"{name}_sum", **GEN_AI) == 0.325
    assert value(meter, "taximeter_time_to_first_token_seconds_sum", **GPT) == 0.325
    assert value(meter, "taximeter_time_per_output_token_seconds_sum", **GPT) == 0.1
    inter = "taximeter_inter_token_seconds"
    assert value(meter, f"{inter}_count", **GPT) == 20
    assert value(meter, f"{inter}_sum", **GPT) == 2
    assert value(meter, f"{inter}_bucket", **GPT, le="0.025") == 6
    for stage, nanoseconds in STAGES.items():
        labels = {"upstream": "openai", "stage": str(stage)}
        assert value(meter, "taximeter_stage_seconds_sum", **labels) == nanoseconds / 1e9
    assert value(meter, "taximeter_overhead_seconds_sum", upstream="openai") == 0.002


def test_a_figure_on_an_edge_is_within_it(meter: Meter) -> None:
    """A bucket's upper edge is part of it, as Prometheus has it."""
    book(meter, entry(1, stages={Stage.CONNECT: 10 * MILLISECOND}))
    labels = {"upstream": "openai", "stage": "connect"}
    assert value(meter, "taximeter_stage_seconds_bucket", **labels, le="0.005") == 0
    assert value(meter, "taximeter_stage_seconds_bucket", **labels, le="0.01") == 1
    assert value(meter, "taximeter_stage_seconds_bucket", **labels, le="+Inf") == 1


def test_the_latency_budget_is_held_against_each_stage() -> None:
    """What takes longer than its budget is counted by stage, what does not is not."""
    meter = Meter(settings(latency_budget={"network_seconds": 0.02, "first_token_seconds": 0.5}))
    book(meter, entry(1, stream=True), entry(2))
    held = values(meter, "taximeter_stage_budgeted_total", upstream="openai")
    assert held == {
        ("network",): 2, ("queue",): 2, ("first_token",): 1, ("output_token",): 1, ("settle",): 2,
    }  # fmt: skip
    over = values(meter, "taximeter_stage_over_budget_total", upstream="openai")
    assert over == {
        ("network",): 2, ("queue",): 0, ("first_token",): 0, ("output_token",): 1, ("settle",): 0,
    }  # fmt: skip
    assert value(meter, "taximeter_stage_budget_seconds", stage="network") == 0.02
    meter.reload(settings(latency_budget={"network_seconds": 0.021}))
    book(meter, entry(3))
    network = value(meter, "taximeter_stage_over_budget_total", upstream="openai", stage="network")
    assert network == 2, "no more than it may take"


def test_attempts_and_retries_are_told_apart(meter: Meter) -> None:
    """Every try is counted by what came of it, and a retry by what came before."""
    tries = [
        attempt(status=429),
        attempt(number=2, status=None, error="upstream_disconnected"),
        attempt(number=3, status=200),
    ]
    book(meter, entry(1, attempts=tries), entry(2, attempts=[attempt(status=None)]))
    assert values(meter, "taximeter_attempts_total", upstream="openai") == {
        ("rate_limited",): 1, ("upstream_disconnected",): 1, ("answered",): 1, ("unfinished",): 1,
    }  # fmt: skip
    assert values(meter, "taximeter_retries_total", upstream="openai") == {
        ("rate_limited",): 1, ("upstream_disconnected",): 1,
    }  # fmt: skip


def test_connections_and_the_client_s_own_retries_are_told(meter: Meter) -> None:
    """Whether a connection was new, and that a client came again, can be seen."""
    tries = [attempt(connected_ns=1), attempt(number=2, connected_ns=1, reused=True)]
    book(meter, entry(1, attempts=tries, begun={"client_retry": 2}), entry(2))
    assert values(meter, "taximeter_attempt_connections_total", upstream="openai") == {
        ("new",): 1, ("reused",): 1,
    }  # fmt: skip
    assert value(meter, "taximeter_client_retries_total", upstream="openai") == 1


def test_the_option_refused_is_the_reason_of_its_retry(meter: Meter) -> None:
    """A stream asked again without the option is a retry by its own name."""
    tries: list[Attempt] = [attempt(status=400), attempt(number=2)]
    book(meter, entry(1, stream=True, attempts=tries, facts=[Fact.USAGE_REFUSED]))
    assert values(meter, "taximeter_retries_total") == {("usage_refused", "openai"): 1}
    assert value(meter, "taximeter_call_facts_total", fact="usage_refused") == 1


@pytest.mark.parametrize(
    ("outcome", "status", "error", "expected"),
    [
        (Outcome.UPSTREAM_ERROR, 429, "rate_limit_exceeded", ("rate_limit_exceeded", "upstream")),
        (Outcome.UPSTREAM_ERROR, 429, "insufficient_quota", ("insufficient_quota", "client")),
        (Outcome.UPSTREAM_ERROR, 418, "made-up-by-a-stranger", ("418", "client")),
        (Outcome.UPSTREAM_ERROR, 500, None, ("500", "upstream")),
        (Outcome.UPSTREAM_ERROR, 200, "made-up", ("other", "upstream")),
        (Outcome.UPSTREAM_ERROR, 502, "upstream_unreachable", ("upstream_unreachable", "upstream")),
        (Outcome.REJECTED, 404, "unknown_upstream", ("unknown_upstream", "client")),
        (Outcome.CANCELLED, 200, None, ("cancelled", "client")),
        (Outcome.INTERRUPTED, None, "worker_died", ("worker_died", "ours")),
        (Outcome.TRUNCATED, 200, "upstream_truncated", ("upstream_truncated", "upstream")),
    ],
)
def test_an_error_is_a_word_of_a_list_and_somebody_s_doing(
    outcome: Outcome, status: int | None, error: str | None, expected: tuple[str, str], meter: Meter
) -> None:
    """H8: no code that an upstream makes up becomes a label; whose doing it was is said."""
    # A model is known by a call that was answered.
    book(meter, entry(1), entry(2, outcome=outcome, status=status, error=error))
    assert values(meter, "taximeter_call_errors_total", **GPT) == {expected: 1}
    name = "gen_ai_client_operation_duration_seconds_count"
    assert value(meter, name, **GEN_AI, error_type=expected[0]) == 1


def test_a_call_that_was_never_sent_is_no_operation(meter: Meter) -> None:
    """A refused call is counted as a call, and not in the time of upstreams."""
    book(meter, entry(1, outcome=Outcome.REJECTED, attempts=[], usage=None, status=404))
    assert total(meter, "taximeter_calls_total") == 1
    assert values(meter, "gen_ai_client_operation_duration_seconds_count") == {}


def test_a_fetch_is_not_used_twice(meter: Meter) -> None:
    """Tokens and cost of an answer fetched are in no histogram: its maker has them."""
    book(meter, entry(1, facts=[Fact.FETCHED]))
    assert values(meter, "gen_ai_client_token_usage_count") == {}
    assert values(meter, "taximeter_call_cost_usd_count") == {}


def test_tokens_written_to_a_cache_are_counted(meter: Meter) -> None:
    """The type that the hourly sums have no column for is there, too."""
    book(meter, entry(1, usage=Usage(input_tokens=9, cache_write_tokens=8)))
    assert value(meter, "taximeter_tokens_total", **GPT, type="cache_write") == 8
    assert value(meter, "taximeter_user_tokens_total", user="alice", type="cache_write") == 8


def test_an_exemplar_leads_to_the_call(meter: Meter) -> None:
    """A bucket's example names the trace and the ledger row, in OpenMetrics alone."""
    book(meter, entry(7, begun={"trace_id": "ab" * 16}))
    found = [
        sample
        for sample in samples(meter.expose(True), openmetrics=True)
        if sample.exemplar is not None
    ]
    names = {sample.name for sample in found}
    assert names == {
        "gen_ai_client_operation_duration_seconds_bucket",
        "taximeter_call_cost_usd_bucket",
    }
    for sample in found:
        assert sample.exemplar is not None
        assert sample.exemplar.labels["trace_id"] == "ab" * 16
        assert sample.exemplar.labels["call_id"].endswith("7")
    assert b"trace_id" not in meter.expose(False)


@pytest.mark.parametrize("trace_id", ['"} evil 1\n', "x" * 500, "", None])
def test_an_exemplar_takes_no_text(trace_id: str | None, meter: Meter) -> None:
    """H8: what is no trace id makes no exemplar, and leaves the bucket as it is."""
    book(meter, entry(1, begun={"trace_id": trace_id}))
    assert b"trace_id" not in meter.expose(True)
    assert total(meter, "taximeter_call_cost_usd_count") == 1
