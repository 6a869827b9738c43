"""From a booked call to its spans: pure, so every case is a call in and spans out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.call import Attempt, Fact, Outcome, Stage, Usage
from taximeter.ledger import Entry
from taximeter.metrics._words import GEN_AI_PROVIDERS
from taximeter.trace_ids import attempt_part, span_id_of
from taximeter.traces import Kind, Server, Span, spans_of
from taximeter.traces._encode import encode_call
from taximeter.traces._names import PROVIDERS
from taximeter.traces._span import Attributes
from tests.recorder.make import T0, call_id
from tests.traces.make import MS, PARENT, TRACE, US, S, attempt, rejected, streamed

SERVERS = {"openai": Server("api.openai.com", 443)}


def spans(entry: Entry, **more: Any) -> dict[str, Span]:
    """Give a call's spans by name; stages of attempts as `2 connect`, the call as `call`."""
    found: dict[str, Span] = {}
    made = spans_of(entry, SERVERS, **more)
    numbers = {
        span.span_id: span.attributes["taximeter.attempt"]
        for span in made
        if "taximeter.attempt" in span.attributes
    }
    for span in made:
        name = span.name
        if span.kind is Kind.SERVER:
            name = "call"
        elif span.span_id in numbers:
            name = f"attempt {numbers[span.span_id]}"
        elif span.parent_id in numbers:
            name = f"{numbers[span.parent_id]} {name}"
        assert name not in found
        found[name] = span
    return found


def call(entry: Entry) -> Span:
    """Give the call's own span."""
    return spans_of(entry, SERVERS)[0]


def times(span: Span) -> tuple[int, int]:
    """Give a span's times after the start of call 1."""
    return span.start_ns - T0 - 1, span.end_ns - T0 - 1


# == times and family =============================================================================


def test_a_streamed_call_is_laid_out_in_time() -> None:
    """A call has a span for itself, for its attempt and for each stage that took time."""
    found = spans(streamed())
    began = 301 * US
    first = began + 102 * MS
    assert {name: times(span) for name, span in found.items()} == {
        "call": (0, first + 20 * MS + S + 90 * US),
        "receive": (0, 300 * US),
        "attempt 1": (began, began + 1_122 * MS + 40 * US),
        "1 connect": (began, began + 2 * MS),
        "1 first_byte": (began + 2 * MS, first),
        "1 first_token": (first, first + 20 * MS),
        "1 stream": (first + 20 * MS, first + 20 * MS + S),
        "settle": (first + 20 * MS + S, first + 20 * MS + S + 90 * US),
    }


def test_spans_form_a_tree_below_the_call() -> None:
    """Attempts and the call's stages hang below the call, an attempt's stages below it."""
    found = spans(streamed())
    attempt_id = found["attempt 1"].span_id
    parents = {name: span.parent_id for name, span in found.items()}
    assert parents == {
        "call": None,
        "receive": found["call"].span_id,
        "settle": found["call"].span_id,
        "attempt 1": found["call"].span_id,
        "1 connect": attempt_id,
        "1 first_byte": attempt_id,
        "1 first_token": attempt_id,
        "1 stream": attempt_id,
    }
    kinds = {name: span.kind for name, span in found.items() if span.kind is not Kind.INTERNAL}
    assert kinds == {"call": Kind.SERVER, "attempt 1": Kind.CLIENT}


def test_each_attempt_has_its_own_times() -> None:
    """A call tried again shows both tries, and only the one that answered streams."""
    late = 50 * MS
    refused = attempt(
        status=None, error="upstream_unreachable", connected_ns=None, sent_ns=None,
        first_byte_ns=None, ended_ns=10 * MS,
    )  # fmt: skip
    found = spans(streamed(attempts=[refused, attempt(2, late)]))
    assert times(found["1 connect"]) == times(found["attempt 1"]) == (301 * US, 10 * MS)
    assert {name for name in found if name.startswith("1 ")} == {"1 connect"}
    assert times(found["2 connect"]) == (late, late + 2 * MS)
    assert times(found["2 first_token"]) == (late + 102 * MS, late + 122 * MS)
    assert {"2 first_byte", "2 stream"} <= found.keys()
    (retry,) = [event for event in found["call"].events if event.name == "taximeter.retry"]
    assert retry.at_ns == found["attempt 2"].start_ns
    assert retry.attributes == {"taximeter.attempt": 2, "error.type": "upstream_unreachable"}


def moments(entry: Entry, name: str) -> list[tuple[int, Attributes]]:
    """Give the events of a name on a call's span: when, after its start, and with what."""
    call = spans(entry)["call"]
    return [(event.at_ns - call.start_ns, event.attributes) for event in call.events
            if event.name == f"taximeter.{name}"]  # fmt: skip


def test_a_fallback_is_no_retry() -> None:
    """An attempt elsewhere is told as such: from where, to where, and why."""
    failed = attempt(upstream="first", status=503, ended_ns=10 * MS)
    told = streamed(begun={"meant_for": "first"}, attempts=[failed, attempt(2, 50 * MS)])
    assert moments(told, "retry") == []
    assert moments(told, "fallback") == [
        (
            50 * MS,
            {
                "taximeter.attempt": 2,
                "error.type": "503",
                "taximeter.meant_for": "first",
                "taximeter.upstream": "openai",
            },
        )
    ]
    assert spans(told)["call"].attributes["taximeter.meant_for"] == "first"


def test_a_fallback_from_an_open_breaker_has_no_attempt_before_it() -> None:
    """Nothing went to the first: the event stands where the other one was asked."""
    told = streamed(begun={"meant_for": "first"})
    ((at, said),) = moments(told, "fallback")
    assert at == 301 * US
    assert said == {
        "taximeter.attempt": 1, "taximeter.meant_for": "first", "taximeter.upstream": "openai",
    }  # fmt: skip


def test_a_call_refused_by_a_breaker_says_so() -> None:
    """The upstream was left alone; nothing was sent."""
    refused = rejected(status=503, error="breaker_open")
    assert [said for _, said in moments(refused, "breaker_open")] == [{}]
    assert moments(streamed(), "breaker_open") == []


def test_waiting_for_a_first_byte_in_vain_is_seen() -> None:
    """Where an attempt ended before a stage did, the stage's span ends with it."""
    waited = attempt(first_byte_ns=None, ended_ns=600 * S, status=None, error="x")
    entry = streamed(
        attempts=[waited], outcome=Outcome.UPSTREAM_ERROR,
        stages={Stage.RECEIVE: 300 * US, Stage.CONNECT: 2 * MS, Stage.SETTLE: 10 * US},
    )  # fmt: skip
    found = spans(entry)
    assert times(found["1 first_byte"]) == (301 * US + 2 * MS, 600 * S)
    assert times(found["settle"]) == (600 * S, 600 * S + 10 * US)
    assert "1 stream" not in found


def test_a_call_that_died_with_its_relay_is_a_moment() -> None:
    """Nobody knows how long it took: a guess would look like a measurement."""
    entry = streamed(outcome=Outcome.INTERRUPTED, stages={}, attempts=[], error="relay_died")
    (only,) = spans_of(entry)
    assert only.start_ns == only.end_ns
    assert only.failed
    assert only.attributes["error.type"] == "relay_died"


def test_stages_can_be_left_out() -> None:
    """Without stage spans there are the call and its attempts."""
    assert spans(streamed(), stages=False).keys() == {"call", "attempt 1"}


OFFSETS = st.one_of(st.none(), st.integers(0, 2**63 - 1), st.integers(0, 10 * S))


@given(
    stages=st.dictionaries(st.sampled_from(list(Stage)), st.integers(0, 2**63 - 1)),
    attempts=st.lists(
        st.builds(
            Attempt,
            number=st.integers(1, 4),
            upstream=st.just("openai"),
            started_ns=st.integers(0, 2**63 - 1),
            connected_ns=OFFSETS,
            sent_ns=OFFSETS,
            first_byte_ns=OFFSETS,
            ended_ns=OFFSETS,
        ),
        max_size=4,
    ),
    outcome=st.sampled_from(list(Outcome)),
)
def test_children_lie_within_their_parents(
    stages: dict[Stage, int], attempts: list[Attempt], outcome: Outcome
) -> None:
    """Whatever a record says, no span ends before it begins, or leaves its parent."""
    made = spans_of(streamed(stages=stages, attempts=attempts, outcome=outcome), SERVERS)
    by_id = {span.span_id: span for span in made}
    assert len(by_id) == len(made)
    for span in made:
        assert span.start_ns <= span.end_ns
        parent = by_id.get(span.parent_id or "")
        if span is not made[0]:
            assert parent is not None
            assert parent.start_ns <= span.start_ns
            assert span.end_ns <= parent.end_ns
        for event in span.events:
            assert span.start_ns <= event.at_ns <= span.end_ns
    assert encode_call(made)


# == ids ==========================================================================================


def test_a_call_exported_again_is_the_same_spans() -> None:
    """Ids follow from the call's id, so a replay coincides with what was sent before."""
    assert spans_of(streamed(7), SERVERS) == spans_of(streamed(7), SERVERS)
    ids = {span.span_id for number in (7, 8) for span in spans_of(streamed(number))}
    assert len(ids) == 2 * len(spans_of(streamed(7)))


def test_an_attempt_has_the_id_that_the_relay_can_tell_upstream() -> None:
    """The span id of an attempt is known before the call is over."""
    found = spans(streamed())
    assert attempt_part(1) == "attempt 1"
    assert found["attempt 1"].span_id == span_id_of(call_id(1), "attempt 1")


def test_a_call_of_a_traced_client_is_in_the_clients_trace() -> None:
    """Trace id, parent and tracestate are the client's, on every span."""
    begun = {"trace_id": TRACE, "parent_span_id": PARENT, "trace_flags": 3, "trace_state": "a=b"}
    found = spans(streamed(begun=begun))
    assert {span.trace_id for span in found.values()} == {TRACE}
    assert found["call"].parent_id == PARENT
    assert found["call"].parent_is_remote
    assert {(span.flags, span.trace_state) for span in found.values()} == {(3, "a=b")}


def test_a_call_without_a_trace_begins_one() -> None:
    """Its trace id is its own id's 128 bits, and its span has no parent."""
    own = call_id(1).replace("-", "")
    for begun in ({"trace_state": "a=b"}, {"trace_id": own}):  # the relay may have named it
        found = call(streamed(begun=begun))
        assert found.trace_id == own
        assert (found.parent_id, found.trace_state, found.flags) == (None, "", 3)


@pytest.mark.parametrize(
    "begun",
    [
        {"trace_id": "0af7"},
        {"trace_id": TRACE + "00"},
        {"trace_id": "x" * 32},
        {"trace_id": "0" * 32},
        {"trace_id": TRACE, "parent_span_id": PARENT[1:]},
        {"trace_id": TRACE, "parent_span_id": "0" * 16},
    ],
)
def test_an_id_that_is_none_is_refused(begun: dict[str, Any]) -> None:
    """A damaged record makes no span that a collector would refuse a whole request for."""
    with pytest.raises(ValueError):
        encode_call(spans_of(streamed(begun=begun)))


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
