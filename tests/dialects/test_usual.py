"""The short way of reading the usual answer agrees with the patient one, wherever it answers."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taximeter.dialects import AnswerFacts, dialect_for
from taximeter.dialects import _openai_message as patient
from taximeter.dialects._openai_answer import read_openai_answer
from taximeter.dialects._openai_usual import read_usual_answer

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
