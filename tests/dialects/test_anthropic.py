"""The Messages API: streams, answers, batches, its words."""

from __future__ import annotations

from unittest.mock import Mock, patch

import msgspec

from taximeter.call import Usage
from taximeter.dialects import AnswerFacts, _anthropic_message, dialect_for
from taximeter.dialects._anthropic_message import USAGE_BYTES_MAX, USAGE_MEMBERS_MAX
from tests.dialects.transcript import JSON, MESSAGES, read_stream, reader_of, sse

START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-5-5",
        "content": [],
        "stop_reason": None,
        "usage": {
            "input_tokens": 25,
            "cache_creation_input_tokens": 100,
            "cache_read_input_tokens": 1000,
            "cache_creation": {"ephemeral_5m_input_tokens": 60, "ephemeral_1h_input_tokens": 40},
            "output_tokens": 1,
            "service_tier": "standard",
        },
    },
}
BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
PING = {"type": "ping"}
STOP = {"type": "message_stop"}


def delta(text: str) -> dict[str, object]:
    """Write a delta of text."""
    return {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": text},
    }


def message_delta(**usage: object) -> dict[str, object]:
    """Write the delta that ends a message."""
    return {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": usage,
    }


def stream(*events: dict[str, object]) -> bytes:
    """Write named events."""
    return sse(*events, event_names=True)


FULL = stream(
    START,
    BLOCK,
    PING,
    delta("Hi"),
    delta(" there"),
    {"type": "content_block_stop", "index": 0},
    message_delta(
        output_tokens=80,
        input_tokens=25,
        cache_read_input_tokens=1000,
        cache_creation_input_tokens=100,
        output_tokens_details={"thinking_tokens": 40},
    ),
    STOP,
)
FIGURES = Usage(
    input_tokens=1125,
    output_tokens=80,
    cached_tokens=1000,
    cache_write_tokens=100,
    cache_write_5m_tokens=60,
    cache_write_1h_tokens=40,
    reasoning_tokens=40,
)


def test_later_usage_is_laid_over_the_first() -> None:
    """Totals hold cached and written tokens; the split by lifetime stays from the start."""
    seen = read_stream("anthropic", MESSAGES, FULL)
    assert seen.answer.usage == FIGURES
    assert seen.answer.final
    assert seen.answer.response_id == "msg_1"
    assert seen.answer.response_model == "claude-opus-5-5"
    assert seen.answer.service_tier == "standard"
    assert seen.answer.finish_reason == "end_turn"
    assert (seen.events, seen.token_seen, seen.ended) == (8, True, True)


def test_null_fields_of_a_later_usage_change_nothing() -> None:
    """A null in `message_delta` is not a figure."""
    end = message_delta(output_tokens=9, input_tokens=None, cache_read_input_tokens=None)
    seen = read_stream("anthropic", MESSAGES, stream(START, delta("x"), end, STOP))
    assert seen.answer.usage is not None
    assert seen.answer.usage.input_tokens == 1125
    assert seen.answer.usage.output_tokens == 9
    end = message_delta(input_tokens=30, cache_read_input_tokens=None)
    seen = read_stream("anthropic", MESSAGES, stream(START, delta("x"), end, STOP))
    assert seen.answer.usage is not None
    assert seen.answer.usage.input_tokens == 1130
    assert seen.answer.usage.output_tokens == 1


def test_a_later_figure_that_is_no_count_changes_nothing() -> None:
    """What is no count is not stated: the figure before it stays."""
    seen = read_stream(
        "anthropic",
        MESSAGES,
        stream(START, message_delta(output_tokens=80, input_tokens="?"), STOP),
    )
    assert seen.answer.usage == msgspec.structs.replace(FIGURES, reasoning_tokens=None)


def test_usage_without_end_is_read_once_and_kept_within_bounds() -> None:
    """C3, H4: however many usage objects come and however many names stand in them, each costs what
    it is long, so many are kept, and the figures are read all the same.
    """
    reader = reader_of("anthropic", MESSAGES)
    read = Mock(wraps=_anthropic_message.note_usage)
    with patch.object(_anthropic_message, "note_usage", read):
        reader.feed(stream(START))
        for place in range(300):
            names = {f"k{place}-{each}": 1 for each in range(50)}
            reader.feed(stream(message_delta(output_tokens=place, **names)))
        reader.feed(stream(message_delta(output_tokens=7, note="x" * USAGE_BYTES_MAX), STOP))
        usage = reader.answer.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (1125, 299)
    assert reader.answer.final
    (said,) = (each.args[1] for each in read.call_args_list)
    assert len(said) <= USAGE_MEMBERS_MAX + 11


def test_a_stream_that_breaks_off_has_partial_usage() -> None:
    """What `message_start` said is known, and known not to be the last word."""
    seen = read_stream("anthropic", MESSAGES, stream(START, BLOCK, delta("x")) + b"event: con")
    assert seen.answer.usage is not None
    assert seen.answer.usage.input_tokens == 1125
    assert not seen.answer.final
    assert not seen.ended


def test_the_first_token_is_a_delta_that_is_no_signature() -> None:
    """Neither a start nor a signature is a token; thinking is."""
    reader = reader_of("anthropic", MESSAGES)
    signature = {
        "type": "content_block_delta",
        "delta": {"type": "signature_delta", "signature": "x"},
    }
    reader.feed(stream(START, BLOCK, PING, signature))
    assert not reader.token_seen
    reader.feed(stream({"type": "content_block_delta", "delta": {"type": "thinking_delta"}}))
    assert reader.token_seen


def test_an_error_event_after_200_is_an_error() -> None:
    """`event: error` gives its type and ends the stream."""
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "m"}}
    seen = read_stream("anthropic", MESSAGES, stream(START, delta("x"), error))
    assert seen.answer.error == "overloaded_error"
    assert seen.ended


def test_unknown_events_are_let_be() -> None:
    """C10: an event of an unknown type changes nothing."""
    odd = {"type": "content_block_polish", "usage": {"input_tokens": 9}}
    seen = read_stream(
        "anthropic",
        MESSAGES,
        FULL.replace(b"event: message_stop", sse(odd) + b"event: message_stop"),
    )
    assert seen.answer.usage == FIGURES


def answer(body: object, status: int = 200) -> AnswerFacts:
    """Read a plain answer."""
    dialect = dialect_for("anthropic", MESSAGES)
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return dialect.read_answer(dialect.operation("POST", MESSAGES), None, status, JSON, data, None)


MESSAGE = {
    "id": "msg_2",
    "type": "message",
    "model": "claude-opus-5-5",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "tool_use",
    "usage": {
        "input_tokens": 10,
        "output_tokens": 5,
        "service_tier": "priority",
        "speed": "fast",
        "inference_geo": "us",
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
    },
}


def test_a_plain_answer_is_read() -> None:
    """Usage, tier and the modifiers of the price are told."""
    facts = answer(MESSAGE)
    assert facts.usage == Usage(input_tokens=10, output_tokens=5, web_searches=2)
    assert facts.service_tier == "priority"
    assert facts.price_variant == {"speed": "fast", "inference_geo": "us"}
    assert facts.finish_reason == "tool_use"
    assert facts.final


def test_ordinary_modifiers_are_none() -> None:
    """`standard` speed and an unstated place leave the price as it is."""
    usage = {
        "input_tokens": 1,
        "output_tokens": 1,
        "speed": "standard",
        "inference_geo": "not_available",
    }
    assert answer({**MESSAGE, "usage": usage}).price_variant == {}


def test_compactions_are_billed_beside_the_answer() -> None:
    """Tokens of a compaction are only in `iterations`; another model's are left out."""
    usage = {
        "input_tokens": 100,
        "output_tokens": 10,
        "iterations": [
            {"type": "compaction", "input_tokens": 1000, "output_tokens": 50},
            {"type": "message", "input_tokens": 100, "output_tokens": 10},
            {"type": "advisor_message", "model": "other", "input_tokens": 7, "output_tokens": 7},
        ],
    }
    assert answer({**MESSAGE, "usage": usage}).usage == Usage(input_tokens=1100, output_tokens=60)


def test_errors_are_told_by_their_code_or_type() -> None:
    """An error answer gives its own code; one that gives none is `unknown`."""
    error = {
        "type": "rate_limit_error",
        "message": "m",
        "details": {"error_code": "ramp_limit_exceeded"},
    }
    assert answer({"type": "error", "error": error}, 429).error == "ramp_limit_exceeded"
    assert answer({"type": "error", "error": {"type": "api_error"}}, 500).error == "api_error"
    assert answer({"what": 1}, 500).error == "unknown"
    assert answer(b"<html>502</html>", 502).error is None


def test_a_batch_is_deferred_until_it_has_ended() -> None:
    """A batch that is being processed will be fetched again."""
    assert answer({"id": "b", "type": "message_batch", "processing_status": "in_progress"}).deferred
    assert not answer({"id": "b", "type": "message_batch", "processing_status": "ended"}).deferred


def test_a_long_answer_is_read_by_its_ends() -> None:
    """Names come from the beginning, usage from the end."""
    text = msgspec.json.encode({**MESSAGE, "content": [{"type": "text", "text": "x" * 300_000}]})
    dialect = dialect_for("anthropic", MESSAGES)
    operation = dialect.operation("POST", MESSAGES)
    facts = dialect.read_answer(operation, None, 200, JSON, text[:4096], text[-4096:])
    assert facts.response_id == "msg_2"
    assert facts.response_model == "claude-opus-5-5"
    assert facts.usage == Usage(input_tokens=10, output_tokens=5, web_searches=2)
    assert facts.finish_reason == "tool_use"


def test_vertex_paths_name_model_and_stream() -> None:
    """Claude on Vertex AI: the path says which model, and whether it streams."""
    path = "/v1/projects/p/locations/l/publishers/anthropic/models/claude-opus-5-5:streamRawPredict"
    dialect = dialect_for("gemini", path)
    assert dialect.name == "anthropic"
    operation = dialect.operation("POST", path)
    assert operation.api == "messages"
    facts = dialect.read_request(operation, path, "", JSON, b'{"messages":[]}', True)
    assert (facts.model, facts.stream) == ("claude-opus-5-5", True)
