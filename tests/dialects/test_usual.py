"""The short ways of reading the usual agree with the patient ones, wherever they answer."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taximeter.dialects import AnswerFacts, _openai_stream, _usage, dialect_for
from taximeter.dialects import _openai_message as patient
from taximeter.dialects._openai_answer import read_openai_answer
from taximeter.dialects._openai_usual import read_usual_answer, read_usual_chunk
from tests.dialects.transcript import Seen, patiently, reader_of, run

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
OPENAI = dialect_for("openai", PATHS[0])

CHAT: dict[str, Any] = {
    "id": "chatcmpl-A1",
    "object": "chat.completion",
    "model": "gpt-5.4-mini-2026-03-17",
    "choices": [{"index": 0, "message": {"content": "Hi."}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 1200,
        "completion_tokens": 80,
        "total_tokens": 1280,
        "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 64},
    },
    "service_tier": "default",
}


def _patiently(body: bytes, path: str) -> AnswerFacts:
    """Read an answer without the short way, nor that of its usage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patient, "read_usual_usage", lambda raw, provider: None)
        return read_openai_answer(OPENAI.operation("POST", path), None, 200, body, None)


def _agree(said: object, path: str, *, indent: int | None = None) -> AnswerFacts | None:
    return _agree_on(json.dumps(said, indent=indent).encode(), path)


def _agree_on(body: bytes, path: str) -> AnswerFacts | None:
    short = read_usual_answer(body, None)
    whole = _patiently(body, path)
    assert short is None or short == whole
    read = OPENAI.read_answer(
        OPENAI.operation("POST", path), None, 200, "application/json", body, None
    )
    assert read == whole
    return short


def test_the_usual_answer_is_read_the_short_way() -> None:
    """A documented chat completion, compact or indented, takes the short way."""
    assert _agree(CHAT, PATHS[0]) is not None
    assert _agree(CHAT, PATHS[0], indent=2) is not None


@pytest.mark.parametrize(
    "usage",
    [
        b'{"prompt_tokens":-0,"completion_tokens":2,"total_tokens":2}',
        b'{"prompt_tokens":3.0,"completion_tokens":2,"total_tokens":5}',
        b'{"prompt_tokens":3e0,"completion_tokens":2,"total_tokens":5}',
        b'{"prompt\\u005ftokens":3,"completion_tokens":2,"total_tokens":5}',
        b'{"prompt_tokens":3,"\\u0063ompletion_tokens":2,"total_tokens":5}',
        b'{"prompt_tokens":3,"total_tokens":3,"prompt_tokens_details":{"text_tokens":-1}}',
        b'{"prompt_tokens":3,"total_tokens":3,"prompt_tokens_details":{"text_tokens":1%b}}'
        % (b"0" * 40),
        b'{"prompt_tokens":3,"total_tokens":3}' + b" " * 5000,
        b'{"prompt_tokens":3,' + b" " * 5000 + b'"total_tokens":3}',
        b'{"input_tokens":3,"output_tokens":2,"total_tokens":5}',
        b'{"prompt_tokens":3,"input_tokens":3,"output_tokens":2,"total_tokens":5}',
        b"{}",
        b"null",
        b"[]",
    ],
)
def test_figures_written_in_an_unusual_way_are_read_the_same(usage: bytes) -> None:
    """However a figure or a name is spelled, both ways tell the same, down to the text kept."""
    for path in PATHS:
        _agree_on(b'{"id":"a","usage":' + usage + b"}", path)


def test_an_answer_cut_anywhere_is_read_the_same() -> None:
    """Cut off at each of its bytes, or without one of them, an answer reads the same both ways."""
    body = json.dumps(CHAT).encode()
    for place in range(len(body)):
        _agree_on(body[:place], PATHS[0])
        _agree_on(body[:place] + body[place + 1 :], PATHS[0])


counts = st.none() | st.integers(-1, 3000) | st.sampled_from([2**53, 2**53 + 1, 10**30])
odd = st.sampled_from([None, True, 1.5, "7", [], {}, "a\nb", "é", "x" * 200, 0])


def details(*names: str) -> st.SearchStrategy[Any]:
    """Details as documented, or with a figure too many, or of another type."""
    some = st.dictionaries(st.sampled_from([*names, "novel_tokens"]), counts, max_size=4)
    return st.none() | some | odd


reasons = st.text(max_size=6) | st.sampled_from(["stop", "length", "abort", "STOP"])
usages = st.dictionaries(
    st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "cost"]),
    counts,
) | st.fixed_dictionaries(
    {"prompt_tokens": counts, "completion_tokens": counts, "total_tokens": counts},
    optional={
        "prompt_tokens_details": details("cached_tokens", "cache_write_tokens", "audio_tokens"),
        "completion_tokens_details": details("reasoning_tokens", "audio_tokens"),
        "queue_time": odd,
    },
)
answers = st.fixed_dictionaries(
    {"usage": usages | odd},
    optional={
        "id": odd | st.text(max_size=20),
        "model": odd | st.text(max_size=20),
        "service_tier": odd | st.text(max_size=8) | st.sampled_from(["default", "flex"]),
        "choices": st.lists(
            st.fixed_dictionaries({}, optional={"finish_reason": odd | reasons}),
            max_size=3,
        )
        | odd,
        "error": odd,
        "status": odd,
        "x_groq": odd,
    },
)


@given(answers, st.sampled_from(PATHS))
@example(CHAT, PATHS[0])
@example({**CHAT, "usage": {**CHAT["usage"], "total_tokens": 1344}}, PATHS[0])
def test_both_ways_agree_on_whatever_is_said(said: object, path: str) -> None:
    """Whatever an answer holds, the short way gives the patient one's facts, or gives up."""
    _agree(said, path)


@given(st.binary(max_size=200))
def test_the_short_way_survives_rubbish(body: bytes) -> None:
    """Bytes that are no answer make the short way give up, never raise."""
    found = read_usual_answer(body, None)
    assert found is None or msgspec.json.decode(body) is not None


DELTA: dict[str, Any] = {"role": "assistant", "content": "Hi", "refusal": None}
CHUNK: dict[str, Any] = {
    "id": "chatcmpl-A1",
    "object": "chat.completion.chunk",
    "model": "gpt-5.4-mini-2026-03-17",
    "service_tier": "default",
    "choices": [{"index": 0, "delta": DELTA, "logprobs": None, "finish_reason": None}],
    "usage": None,
    "obfuscation": "aB3",
}
EXTRA = {**CHUNK, "choices": [], "usage": CHAT["usage"]}
CALLS = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "f", "arguments": ""}}],
}


def _with(delta: object, reason: object = None) -> dict[str, Any]:
    return {**CHUNK, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def _agree_on_stream(chunks: list[bytes], provider: str | None = None) -> Seen:
    """Read a stream both ways, a chunk a read and all in one, and compare after each read."""

    def read(reads: list[bytes]) -> Seen:
        return run(reader_of("openai", PATHS[0], provider=provider, drop=True), reads)

    events = [b"data: " + data + b"\n\n" for data in chunks]
    for reads in (*(events[:place] for place in range(1, len(events))), [b"".join(events)], events):
        short = read(reads)
        assert short == patiently(partial(read, reads))
    return short


@pytest.mark.parametrize(
    ("said", "token"),
    [
        (CHUNK, True),
        (_with({"role": "assistant", "content": "", "refusal": None}), False),
        (_with({}, "stop"), False),
        (_with({"content": None, "reasoning_content": "Hm"}), True),
        (_with(CALLS), True),
        (_with({**CALLS, "tool_calls": []}), False),
        ({**CHUNK, "choices": [{"index": 0, "text": "Hi", "finish_reason": None}]}, True),
        (
            {"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
            False,
        ),
        (EXTRA, False),
    ],
)
def test_a_usual_chunk_is_read_the_short_way(said: object, token: bool) -> None:
    """Chunks as documented take the short way, whatever of a stream they tell."""
    data = json.dumps(said).encode()
    chunk = read_usual_chunk(data)
    assert chunk is not None
    assert chunk.has_token is token
    _agree_on_stream([data])


def test_a_usual_stream_is_read_the_short_way_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a role to the usage, nothing of a documented stream is left to the patient way."""
    stream = [_with({"role": "assistant", "content": ""}), CHUNK, CHUNK, _with({}, "stop"), EXTRA]
    chunks = [json.dumps(said).encode() for said in stream]
    seen = _agree_on_stream([*chunks, b"[DONE]"])
    assert (seen.answer.final, seen.answer.finish_reason, seen.ended) == (True, "stop", True)
    monkeypatch.setattr(_openai_stream, "read_message", lambda data: pytest.fail("patient"))
    assert (
        run(
            reader_of("openai", PATHS[0], drop=True),
            [b"data: " + data + b"\n\n" for data in [*chunks, b"[DONE]"]],
        )
        == seen
    )


def test_a_chunk_cut_anywhere_is_read_the_same() -> None:
    """Cut off at each of its bytes, or without one of them, a chunk reads the same both ways."""
    for said in (_with(DELTA, "stop"), EXTRA):
        body = json.dumps(said).encode()
        for place in range(len(body)):
            _agree_on_stream([body[:place]])
            _agree_on_stream([body[:place] + body[place + 1 :]])


@pytest.mark.parametrize(
    "data",
    [
        b'{"choices":[{"delta":{"content":"a"},"finish\\u005freason":"stop"}]}',
        b'{"choices":[{"delta":{"content":"a"},"finish_reason":"stop","x":"\\q"}]}',
        # The space at the end keeps it from being told dull, whatever came before.
        b'{"choices":[{"delta":{"content":"a"},"finish\\u005freason":"stop"}]} ',
        b'{"choices":[{"delta":{"content":"a"},"finish_reason":"stop","x":"\\q"}]} ',
        b'{"id":"a\xe2\x80\x8bb","choices":[]}',
        b'{"model":"a\xe2\x80\x8bb","choices":[{"delta":{"content":"a"}}]}',
        b'{"choices":[{"delta":{"content":"\xff"},"finish_reason":"stop"}]}',
        b'{"choices":[{"delta":{"content":"a"},"finish_reason":"stop","x":"\xff"}],"y":"\xff"}',
        b'{"choices":[{"delta":{"content":"a"},"finish_reason":"stop","x":NaN}]}',
        b'{"choices":[{"delta":{"content":"a"},"finish_reason":"stop","x":1e999999999}]}',
        b'{"choices":[{"delta":{"content":"a\x01"},"finish_reason" : null}]}',
        b'{"choices":[{"delta":{"content":"a"},"finish_reason":"stop","finish_reason":null}]}',
        b'{"choices":[{"delta":{"content":"a"}}],"choices":[]}',
        b'{"choices":[],"choices":[{"delta":{"content":"a"}}]}',
        b'{"choices":[],"usage":null,"usage":{"prompt_tokens":3,"total_tokens":3}}',
        b'\xef\xbb\xbf{"choices":[{"delta":{"content":"a"}}]}',
        b'{"type":null,"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}',
        b'{"choices":[{"finish_reason":"stop","x":' + b"[" * 2000 + b"]" * 2000 + b"}]}",
    ],
)
def test_a_chunk_written_in_an_unusual_way_is_read_the_same(data: bytes) -> None:
    """However it is spelled, and whatever came before, a chunk says the same both ways."""
    usual = json.dumps(CHUNK).encode()
    for before in ([], [usual], [usual, json.dumps(EXTRA).encode()]):
        _agree_on_stream([*before, data, usual])


texts = st.text(max_size=4) | st.sampled_from(["", "Hi", "gpt-x", 'a"b', "\n"])
deltas = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("content", "refusal", "reasoning", "reasoning_content", "function_call"), texts | odd
    )
    | {
        "tool_calls": st.lists(st.dictionaries(texts, odd, max_size=1) | odd, max_size=2) | odd,
        "reasoning_details": odd,
        "audio": st.dictionaries(st.sampled_from(["data", "transcript"]), texts) | odd,
    },
)
parts = st.fixed_dictionaries(
    {},
    optional={"delta": deltas | odd, "text": texts | odd, "finish_reason": odd | reasons},
)
chunks = st.fixed_dictionaries(
    {"choices": st.lists(parts | odd, max_size=2) | odd},
    optional={
        "id": texts | odd,
        "model": texts | odd,
        "service_tier": odd | st.sampled_from(["default", "flex"]),
        "usage": st.none() | usages,
        "error": odd | st.just({"code": "overloaded"}),
        "type": odd | st.just("response.completed"),
        "x_groq": odd | st.fixed_dictionaries({"id": texts, "usage": usages}),
        "tool_usage": odd,
    },
)
stages = st.sampled_from([CHUNK, _with({"content": ""}), _with(CALLS), _with({}, "length"), EXTRA])


@given(st.lists(chunks | stages, min_size=1, max_size=5), st.sampled_from([None, "x-ai"]))
def test_both_ways_agree_on_whatever_a_stream_says(
    said: list[object], provider: str | None
) -> None:
    """Whatever chunks a stream holds, both ways come to the same facts after each of them."""
    _agree_on_stream([json.dumps(chunk).encode() for chunk in said], provider)


words = st.sampled_from(
    ["a", "cost", "é", "with space", 'quo"te', "x" * 32, "x" * 33, "x" * 65, ""]
)
figures = st.integers(-1, 9) | st.sampled_from([10**14, 10**15, 2**53, 2**53 + 1, 10**30])
leaves = figures | words | st.none() | st.booleans() | st.decimals(allow_nan=False, places=2)
nested = st.recursive(
    leaves, lambda inner: st.dictionaries(words, inner, max_size=3) | st.lists(inner, max_size=2)
)


@given(nested | st.dictionaries(st.sampled_from(["a", "b"]), nested))
@example({"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}})
@example({"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}})
@example({"a": 10**15 - 1, "b": 2**53})
@example({"a": 1, "b": 2**53 + 1})
@example({f"figure_{number}": number for number in range(400)})
def test_a_usage_object_of_harmless_parts_is_kept_as_the_patient_way_keeps_it(said: object) -> None:
    """Where a glance says that nothing need be taken out, the patient way takes nothing out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_usage, "_harmless", lambda value: None)
        patiently_kept = _usage.raw_usage(said)
    assert _usage.raw_usage(said) == patiently_kept
