"""From a booked call to its spans: pure, so every case is a call in and spans out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.call import Attempt, Outcome, Stage
from taximeter.trace_ids import attempt_part, span_id_of
from taximeter.traces import Kind, spans_of
from taximeter.traces._encode import encode_call
from tests.recorder.make import call_id
from tests.traces.laid_out import SERVERS, call, moments, spans, times
from tests.traces.make import MS, PARENT, TRACE, US, S, attempt, rejected, streamed

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
