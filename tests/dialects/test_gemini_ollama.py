"""Gemini's and Ollama's native APIs."""

from __future__ import annotations

import msgspec
import pytest

from taximeter.call import Usage
from taximeter.dialects import AnswerFacts, dialect_for
from tests.dialects.transcript import (
    GEMINI,
    JSON,
    LINES,
    OLLAMA,
    Seen,
    read_stream,
    reader_of,
    run,
)


def gemini_chunk(text: str, made: int | None, finish: str | None = None) -> dict[str, object]:
    """Write a chunk with the usage so far."""
    usage: dict[str, object] = {
        "promptTokenCount": 1200,
        "cachedContentTokenCount": 1024,
        "thoughtsTokenCount": 64,
        "totalTokenCount": 1280,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 1000},
            {"modality": "AUDIO", "tokenCount": 200},
        ],
        "trafficType": "ON_DEMAND_PRIORITY",
    }
    if made is not None:
        usage["candidatesTokenCount"] = made
    candidate: dict[str, object] = {"content": {"role": "model", "parts": [{"text": text}]}}
    if finish:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": "gemini-3-flash",
        "responseId": "r1",
    }


CHUNKS = [
    gemini_chunk("", None),
    *[gemini_chunk("a", made) for made in range(1, 16)],
    gemini_chunk("b", 16, "STOP"),
]
FIGURES = Usage(
    input_tokens=1200,
    output_tokens=80,
    cached_tokens=1024,
    reasoning_tokens=64,
    input_audio_tokens=200,
)


def gemini_sse(*chunks: object, end: bytes = b"\r\n") -> bytes:
    """Write chunks as Google does."""
    return b"".join(b"data: " + msgspec.json.encode(item) + end + end for item in chunks)


def whole_gemini(seen: Seen) -> None:
    """Check what any form of the stream must give."""
    assert seen.answer.usage == FIGURES
    assert seen.answer.final
    assert seen.answer.response_model == "gemini-3-flash"
    assert seen.answer.response_id == "r1"
    assert seen.answer.finish_reason == "STOP"
    assert seen.answer.service_tier == "priority"
    assert seen.token_seen
    assert seen.ended
    assert seen.events == len(CHUNKS)


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_the_last_usage_counts_and_thoughts_are_added(end: bytes) -> None:
    """Usage on every chunk is cumulative; output is candidates and thoughts."""
    whole_gemini(read_stream("gemini", GEMINI, gemini_sse(*CHUNKS, end=end)))


@pytest.mark.parametrize("indent", [0, 2])
def test_a_stream_that_is_one_json_array_is_read_alike(indent: int) -> None:
    """Without `alt=sse` the elements of an array come in pieces."""
    body = msgspec.json.format(msgspec.json.encode(CHUNKS), indent=indent)
    seen = read_stream("gemini", GEMINI, body, "application/json; charset=UTF-8")
    whole_gemini(seen)


def test_usage_so_far_is_known_when_a_stream_breaks_off() -> None:
    """An answer asked for in mid-stream has the latest figures, not marked as the last word."""
    reader = reader_of("gemini", GEMINI)
    for item in CHUNKS[:6]:
        reader.feed(gemini_sse(item))
    assert reader.answer.usage is not None
    assert reader.answer.usage.output_tokens == 64 + 5
    assert not reader.answer.final
    assert not reader.ended


def test_several_candidates_end_one_after_the_other() -> None:
    """The first candidate's end is not the stream's: that comes with the end of its bytes."""
    reader = reader_of("gemini", GEMINI)
    reader.feed(gemini_sse(*CHUNKS))
    assert reader.answer.final
    assert not reader.ended
    reader.feed(gemini_sse(gemini_chunk("c", 20, "STOP")))
    reader.finish()
    assert reader.ended
    assert reader.answer.usage is not None
    assert reader.answer.usage.output_tokens == 84


def test_brackets_in_texts_do_not_confuse_an_array() -> None:
    """Strings with brackets, quotes and backslashes are strings."""
    odd = [gemini_chunk('a]}"[{\\', 1), gemini_chunk("\\\\", 16, "STOP")]
    seen = read_stream("gemini", GEMINI, msgspec.json.encode(odd), JSON)
    assert seen.answer.usage == FIGURES
    assert seen.events == 2


def test_an_error_in_an_array_stream_is_an_error() -> None:
    """An error may come as an object, or in an array, over several lines."""
    error = {"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}}
    for body in (error, [error]):
        data = msgspec.json.format(msgspec.json.encode(body), indent=2)
        seen = read_stream("gemini", GEMINI, data, JSON)
        assert seen.answer.error == "RESOURCE_EXHAUSTED"
        assert seen.ended
    assert read_stream("gemini", GEMINI, gemini_sse(error)).answer.error == "RESOURCE_EXHAUSTED"


def test_a_large_element_of_an_array_gives_its_usage() -> None:
    """H4: an element of megabytes is not kept; the usage at its end is found."""
    body = msgspec.json.encode([gemini_chunk("x" * (3 << 20), 16, "STOP")])
    reads = [body[place : place + 50_000] for place in range(0, len(body), 50_000)]
    seen = run(reader_of("gemini", GEMINI, JSON), reads)
    assert seen.answer.usage == FIGURES
    assert seen.released == body


def test_a_blocked_prompt_is_the_end() -> None:
    """A prompt that was blocked has no candidates; its reason is why the answer ended."""
    blocked = {
        "promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": {"promptTokenCount": 4},
    }
    seen = read_stream("gemini", GEMINI, gemini_sse(blocked))
    assert seen.answer.finish_reason == "SAFETY"
    assert seen.answer.usage == Usage(input_tokens=4)
    assert seen.ended


def test_interactions_have_names_of_their_own() -> None:
    """An interaction's usage stands in its completed event."""
    usage = {
        "total_input_tokens": 100,
        "total_cached_tokens": 10,
        "total_output_tokens": 20,
        "total_thought_tokens": 30,
        "total_tool_use_tokens": 5,
        "total_tokens": 155,
    }
    done = {"id": "i1", "model": "gemini-3-pro", "status": "completed", "usage": usage}
    stream = gemini_sse(
        {"event_type": "interaction.created", "interaction": {"id": "i1", "status": "in_progress"}},
        {"event_type": "step.delta", "delta": {"type": "text", "text": "Hi"}},
        {"event_type": "interaction.completed", "interaction": done},
        end=b"\n",
    )
    seen = read_stream("gemini", "/v1beta/interactions", stream)
    assert seen.answer.usage == Usage(
        input_tokens=105, output_tokens=50, cached_tokens=10, reasoning_tokens=30
    )
    assert seen.answer.response_id == "i1"
    assert not seen.answer.deferred
    assert seen.ended
    assert seen.token_seen


def gemini_answer(body: object, status: int = 200, path: str = GEMINI) -> AnswerFacts:
    """Read a plain answer."""
    dialect = dialect_for("gemini", path)
    operation = dialect.operation("POST", path)
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return dialect.read_answer(operation, None, status, JSON, data, None)


def test_a_plain_answer_of_gemini_is_read() -> None:
    """One object, or an array whose last element has the last word."""
    assert gemini_answer(CHUNKS[-1]).usage == FIGURES
    assert gemini_answer(CHUNKS).usage == FIGURES
    assert gemini_answer(CHUNKS[-1]).final
    error = {"error": {"code": 503, "status": "UNAVAILABLE", "message": "m"}}
    assert gemini_answer(error, 503).error == "UNAVAILABLE"


def test_long_running_work_of_gemini_is_deferred() -> None:
    """A batch or a video is fetched until it is done."""
    path = "/v1beta/models/veo-3:predictLongRunning"
    assert gemini_answer({"name": "operations/1"}, path=path).deferred
    assert not gemini_answer({"name": "operations/1", "done": True}, path=path).deferred


def test_tool_results_are_input() -> None:
    """Tokens of tools' results are put to the prompt's."""
    usage = {"promptTokenCount": 10, "toolUsePromptTokenCount": 5, "candidatesTokenCount": 0}
    assert gemini_answer({"usageMetadata": usage}).usage == Usage(input_tokens=15, output_tokens=0)


# Ollama ---------------------------------------------------------------------------------------


def line(text: str, **more: object) -> bytes:
    """Write a line of a chat."""
    body = {
        "model": "llama3.2",
        "created_at": "2026",
        "message": {"role": "assistant", "content": text},
        "done": False,
    }
    return msgspec.json.encode({**body, **more}) + b"\n"


LAST = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 4_883_583_458,
    "prompt_eval_count": 26,
    "prompt_eval_cached_count": 20,
    "eval_count": 282,
}


def test_ollamas_last_line_has_the_counts() -> None:
    """Lines are read until the one that is done; durations are kept with the raw usage."""
    stream = line("") + line("Hi") + line(" there") + line("", **LAST)
    seen = read_stream("ollama", OLLAMA, stream, LINES)
    assert seen.answer.usage == Usage(input_tokens=26, output_tokens=282, cached_tokens=20)
    assert seen.answer.final
    assert seen.answer.finish_reason == "stop"
    assert seen.answer.response_model == "llama3.2"
    assert '"total_duration":4883583458' in (seen.answer.raw_usage or "")
    assert (seen.events, seen.token_seen, seen.ended) == (4, True, True)


def test_ollamas_absent_count_is_unknown() -> None:
    """Older servers leave the prompt's count out: unknown, not 0."""
    seen = read_stream("ollama", OLLAMA, line("Hi") + line("", done=True, eval_count=3), LINES)
    assert seen.answer.usage == Usage(output_tokens=3)


def test_ollamas_last_line_without_its_end_is_read() -> None:
    """A last line that no line end closed is read at the end."""
    seen = read_stream("ollama", OLLAMA, line("Hi") + line("", **LAST)[:-1], LINES)
    assert seen.answer.usage is not None
    assert seen.answer.usage.output_tokens == 282


def test_a_line_beyond_what_is_kept_is_passed_on() -> None:
    """H4: a huge line is relayed, counted and forgotten."""
    stream = line("Hi") + line("x" * (2 << 20)) + line("", **LAST)
    reads = [stream[place : place + 65_536] for place in range(0, len(stream), 65_536)]
    seen = run(reader_of("ollama", OLLAMA, LINES), reads)
    assert seen.released == stream
    assert seen.events == 3
    assert seen.answer.final


def test_ollamas_error_has_no_code() -> None:
    """Ollama's errors are texts: what they say goes no further."""
    seen = read_stream("ollama", OLLAMA, line("Hi") + b'{"error":"it broke, secretly"}\n', LINES)
    assert seen.answer.error == "unknown"
    assert seen.ended


def test_ollamas_plain_answers_are_read() -> None:
    """Chat without a stream, and embeddings."""
    dialect = dialect_for("ollama", OLLAMA)
    facts = dialect.read_answer(
        dialect.operation("POST", "/api/embed"),
        None,
        200,
        JSON,
        b'{"model":"e","embeddings":[[0.1]],"prompt_eval_count":8}',
        None,
    )
    assert facts.usage == Usage(input_tokens=8)
    assert facts.final
