"""Ollama's own endpoints: one JSON object a line, streamed unless asked not to."""

from __future__ import annotations

from typing import Any

from tests.rig._talk import Answer, Ask, compact, plain

MADE_AT = "2026-11-18T14:26:40Z"


def error(status: int, code: str, message: str) -> bytes:
    """An error answer's body."""
    return compact({"error": message})


def _last(ask: Ask) -> dict[str, Any]:
    return {
        "done": True,
        "done_reason": "stop",
        "total_duration": 4_883_583_458,
        "load_duration": 1_334_875,
        "prompt_eval_count": ask.figures.input,
        "prompt_eval_cached_count": ask.figures.cached,
        "prompt_eval_duration": 342_546_000,
        "eval_count": ask.figures.output,
        "eval_duration": 4_535_599_000,
    }


def generate(ask: Ask) -> Answer:
    """`POST /api/chat` and `POST /api/generate`."""
    base = {"model": str(ask.said.get("model", "llama3.2")), "created_at": MADE_AT}
    is_chat = ask.path.endswith("/chat")

    def text(word: str) -> dict[str, Any]:
        if is_chat:
            return {"message": {"role": "assistant", "content": word}}
        return {"response": word}

    if ask.said.get("stream", True) is False:
        return plain({**base, **text(ask.figures.text), **_last(ask)})
    lines = [{**base, **text(word), "done": False} for word in ask.figures.words]
    lines.append({**base, **text(""), **_last(ask)})
    events = [compact(line) + b"\n" for line in lines]
    return Answer(events=events, content_type="application/x-ndjson", streams=True)


def embed(ask: Ask) -> Answer:
    """`POST /api/embed`."""
    given = ask.said.get("input", "")
    count = len(given) if isinstance(given, list) else 1
    rows = [[place / 8 for place in range(8)]] * count
    said = {"model": str(ask.said.get("model", "llama3.2")), "embeddings": rows}
    return plain({**said, "total_duration": 14_143_917, "prompt_eval_count": ask.figures.input})
