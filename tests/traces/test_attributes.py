"""What stands on spans: what is known, under the names that others know, and nothing else."""

from __future__ import annotations

import pytest

from taximeter.call import Fact, Outcome, Stage, Usage
from taximeter.metrics._words import GEN_AI_PROVIDERS
from taximeter.traces import Server, spans_of
from taximeter.traces._encode import encode_call
from taximeter.traces._names import PROVIDERS
from tests.recorder.make import T0, call_id
from tests.traces.laid_out import SERVERS, call, spans
from tests.traces.make import MS, US, S, attempt, rejected, streamed

# == what stands on them ==========================================================================


def test_the_calls_span_says_what_was_asked_used_and_paid() -> None:
    """All figures stand on the call's span, under the conventions' names where there are some."""
    begun = {
        "team": "blue", "session": "s1", "tags": {"env": "prod"}, "user": "alice",
        "user_source": "header", "service_tier": "auto",
    }  # fmt: skip
    found = call(streamed(begun=begun, service_tier="default", facts=[Fact.USAGE_ASKED]))
    assert found.name == "chat fake-1"
    assert found.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "fake-1",
        "gen_ai.request.stream": True,
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "fake-1-2026",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "gen_ai.usage.cost.amount": 0.000050000001,
        "gen_ai.usage.cost.currency": "USD",
        "gen_ai.usage.cost.source": "local",
        "openai.api.type": "chat_completions",
        "openai.request.service_tier": "auto",
        "openai.response.service_tier": "default",
        "user.id": "alice",
        "session.id": "s1",
        "url.path": "/v1/chat/completions",
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.request.body.size": 400,
        "taximeter.call_id": call_id(1),
        "taximeter.outcome": "completed",
        "taximeter.upstream": "openai",
        "taximeter.team": "blue",
        "taximeter.tag.env": "prod",
        "taximeter.user_source": "header",
        "taximeter.usage_source": "reported",
        "taximeter.cost_usd": "0.000050000001",
        "taximeter.price": "own: fake-1",
        "taximeter.time_to_first_token": 0.122301,
        "taximeter.stream.events": 99,
        "taximeter.attempts": 1,
        "taximeter.facts": ["usage_asked"],
    }
    (token,) = found.events
    assert (token.name, token.at_ns) == ("taximeter.first_token", T0 + 1 + 122_301_000)


def test_no_other_span_has_usage() -> None:
    """A backend that sums usage over spans counts each call once."""
    for name, span in spans(streamed()).items():
        if name != "call":
            assert not [key for key in span.attributes if key.startswith(("gen_ai.", "user."))]


def test_an_attempts_span_says_where_and_how_it_went() -> None:
    """An attempt is an HTTP client's span, with the upstream's own address."""
    tries = [attempt(status=429, ended_ns=40 * MS, first_byte_ns=30 * MS), attempt(2, 50 * MS)]
    found = spans(streamed(attempts=tries))
    assert found["attempt 1"].name == "POST openai"
    common = {
        "http.request.method": "POST",
        "server.address": "api.openai.com",
        "server.port": 443,
        "taximeter.upstream": "openai",
        "taximeter.connection.reused": False,
    }
    assert found["attempt 1"].attributes == {
        **common,
        "taximeter.attempt": 1,
        "http.response.status_code": 429,
        "error.type": "429",
    }
    assert found["attempt 1"].failed
    assert found["attempt 2"].attributes == {
        **common,
        "taximeter.attempt": 2,
        "http.request.resend_count": 1,
        "http.response.status_code": 200,
        "http.response.body.size": 4000,
    }
    assert not found["attempt 2"].failed


def test_what_is_not_known_is_not_there() -> None:
    """Neither usage nor cost of an unknown amount is told as 0, and zero is told."""
    unknown = call(streamed(usage=None, cost_pico=None, price="unpriced: no usage")).attributes
    assert not [name for name in unknown if name.startswith("gen_ai.usage.")]
    assert "taximeter.cost_usd" not in unknown
    assert unknown["taximeter.price"] == "unpriced: no usage"
    free = call(streamed(usage=Usage(output_tokens=0), cost_pico=0)).attributes
    assert free["gen_ai.usage.output_tokens"] == 0
    assert (free["gen_ai.usage.cost.amount"], free["taximeter.cost_usd"]) == (0.0, "0")
    assert "gen_ai.usage.input_tokens" not in free


def test_a_fetch_reports_no_usage() -> None:
    """What a fetch brings was used by the call that made the answer."""
    fetched = streamed(begun={"operation": "fetch_response"}, facts=[Fact.FETCHED])
    found = call(fetched)
    assert found.name == "fetch_response fake-1"
    assert not [name for name in found.attributes if name.startswith("gen_ai.usage.")]
    assert "taximeter.cost_usd" not in found.attributes


def test_a_cost_stated_by_the_provider_is_told_as_such() -> None:
    """Whose figure a cost is, is said with it."""
    found = call(streamed(price="provider")).attributes
    assert found["gen_ai.usage.cost.source"] == "provider"


@pytest.mark.parametrize(
    ("provider", "host", "word"),
    [
        ("openai", "api.openai.com", "openai"),
        ("azure", "me.openai.azure.com", "azure.ai.openai"),
        ("google", "generativelanguage.googleapis.com", "gcp.gemini"),
        ("google", "europe-west1-aiplatform.googleapis.com", "gcp.vertex_ai"),
        ("aws", "bedrock.eu-west-1.amazonaws.com", "aws.bedrock"),
        ("mistral", "api.mistral.ai", "mistral_ai"),
        ("x-ai", "api.x.ai", "x_ai"),
        ("moonshotai", "api.moonshot.ai", "moonshot_ai"),
        ("ollama", "127.0.0.1", "ollama"),
    ],
)
def test_providers_have_the_conventions_names(provider: str, host: str, word: str) -> None:
    """A backend's filters on `gen_ai.provider.name` find our spans."""
    entry = streamed(begun={"provider": provider})
    (found, *_) = spans_of(entry, {"openai": Server(host, 443)})
    assert found.attributes["gen_ai.provider.name"] == word


def test_traces_and_metrics_speak_of_providers_alike() -> None:
    """One provider has one name, on a span and as a label."""
    assert PROVIDERS == GEN_AI_PROVIDERS


def test_a_request_to_no_model_is_a_plain_http_span() -> None:
    """Listing models is no inference, and is not told as one."""
    found = call(streamed(begun={"operation": "other", "model": None, "method": "GET"}))
    assert found.name == "GET"
    wrong = {"gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.stream"}
    assert not wrong & found.attributes.keys()


def test_a_method_that_nobody_knows_has_no_name() -> None:
    """What a client makes up does not become a span's name."""
    found = call(streamed(begun={"operation": "other", "method": "X" * 999}))
    assert found.name == "HTTP"
    assert found.attributes["http.request.method"] == "_OTHER"


def test_long_texts_are_cut() -> None:
    """No text of a stranger is longer than 256 characters, in names and attributes alike."""
    long = "x" * 5000
    begun = {
        "model": long, "user": long, "session": long, "tags": {long: long}, "path": long,
        "team": long,
    }  # fmt: skip
    made = spans_of(
        streamed(begun=begun, finish_reason=long, response_id=long, error=long), SERVERS
    )
    assert len(encode_call(made)) < 5000


# == errors =======================================================================================


@pytest.mark.parametrize(
    ("outcome", "status", "error", "expected"),
    [
        (Outcome.COMPLETED, 200, None, None),
        (Outcome.COMPLETED, 200, "server_error", "server_error"),
        (Outcome.UPSTREAM_ERROR, 429, "rate_limit_exceeded", "rate_limit_exceeded"),
        (Outcome.UPSTREAM_ERROR, 500, None, "500"),
        (Outcome.TRUNCATED, 200, None, "truncated"),
        (Outcome.REJECTED, 404, "unknown_upstream", "unknown_upstream"),
        (Outcome.INTERRUPTED, None, None, "interrupted"),
        (Outcome.CANCELLED, 200, None, None),
        (Outcome.ABANDONED, None, None, None),
        (Outcome.CANCELLED, 200, "client_write_timeout", "client_write_timeout"),
    ],
)
def test_a_failed_call_is_a_span_in_error(
    outcome: Outcome, status: int | None, error: str | None, expected: str | None
) -> None:
    """`error.type` and the status ERROR go together; a client that leaves is no error."""
    found = call(streamed(outcome=outcome, status=status, error=error))
    assert found.attributes.get("error.type") == expected
    assert found.failed == (expected is not None)


@pytest.mark.parametrize(
    ("outcome", "event"),
    [
        (Outcome.CANCELLED, "taximeter.cancelled"),
        (Outcome.ABANDONED, "taximeter.cancelled"),
        (Outcome.TRUNCATED, "taximeter.truncated"),
    ],
)
def test_how_an_answer_was_cut_short_is_an_event(outcome: Outcome, event: str) -> None:
    """A call that did not come to its end says when it broke off."""
    found = call(streamed(outcome=outcome))
    assert [each.name for each in found.events] == ["taximeter.first_token", event]
    assert found.events[1].at_ns == T0 + 1 + 301 * US + 122 * MS + S


def test_a_refusal_of_ours_has_no_attempt() -> None:
    """What was never sent upstream shows none, and costs nothing."""
    found = spans(rejected())
    assert found.keys() == {"call", "settle"}
    assert found["call"].attributes["http.response.status_code"] == 404


def test_an_answer_given_again_is_a_call_without_an_attempt_or_a_cost() -> None:
    """It names the call that was paid; nothing of it stands in the trace twice."""
    told = streamed(
        begun={"retry_of": call_id(7)},
        facts=[Fact.REPLAYED],
        stages={Stage.RECEIVE: 300 * US, Stage.SETTLE: 50 * US},
        attempts=[],
        usage=None,
        cost_pico=0,
        price=f"replay of {call_id(7)}",
    )
    found = spans(told)
    assert found.keys() == {"call", "receive", "settle"}
    attributes = found["call"].attributes
    assert attributes["taximeter.retry_of"] == call_id(7)
    assert attributes["taximeter.cost_usd"] == "0"
    assert attributes["taximeter.attempts"] == 0
    assert "gen_ai.usage.output_tokens" not in attributes
