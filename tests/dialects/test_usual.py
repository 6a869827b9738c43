"""The short way of reading the usual answer agrees with the patient one, wherever it answers."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taximeter.dialects import AnswerFacts, dialect_for
from taximeter.dialects import _openai_answer as patient
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
    """Read an answer without the short way."""
    operation = OPENAI.operation("POST", path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patient, "read_usual_answer", lambda body, provider: None)
        return OPENAI.read_answer(operation, None, 200, "application/json", body, None)


def _agree(said: object, path: str, *, indent: int | None = None) -> AnswerFacts | None:
    body = json.dumps(said, indent=indent).encode()
    short = read_usual_answer(body, None)
    if short is not None:
        assert short == _patiently(body, path)
    return short


def test_the_usual_answer_is_read_the_short_way() -> None:
    """A documented chat completion, compact or indented, takes the short way."""
    assert _agree(CHAT, PATHS[0]) is not None
    assert _agree(CHAT, PATHS[0], indent=2) is not None


counts = st.none() | st.integers(-1, 3000) | st.sampled_from([2**53, 2**53 + 1, 10**30])
odd = st.sampled_from([None, True, 1.5, "7", [], {}, "a\nb", "é", "x" * 200, 0])


def details(*names: str) -> st.SearchStrategy[Any]:
    """Details as documented, or with a figure too many, or of another type."""
    some = st.dictionaries(st.sampled_from([*names, "novel_tokens"]), counts, max_size=4)
    return st.none() | some | odd


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
        "service_tier": odd | st.text(max_size=8),
        "choices": st.lists(
            st.fixed_dictionaries({}, optional={"finish_reason": odd | st.text(max_size=6)}),
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
