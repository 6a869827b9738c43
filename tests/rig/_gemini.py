"""Gemini's own endpoints: the model and the verb stand in the path."""

from __future__ import annotations

from typing import Any

from tests.rig._talk import Answer, Ask, compact, plain


def usage(ask: Ask, words_said: int) -> dict[str, Any]:
    """`usageMetadata` after so many words: cumulative, thoughts beside the candidates."""
    figures = ask.figures
    return {
        "promptTokenCount": figures.input,
        "cachedContentTokenCount": figures.cached,
        "candidatesTokenCount": words_said,
        "thoughtsTokenCount": figures.reasoning,
        "totalTokenCount": figures.input + words_said + figures.reasoning,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": figures.input}],
    }


def error(status: int, code: str, message: str) -> bytes:
    """An error answer's body."""
    words = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL"}
    named = words.get(status, "UNAVAILABLE")
    return compact({"error": {"code": status, "message": message, "status": named}})


def _model(ask: Ask) -> str:
    return ask.path.rpartition("/")[2].partition(":")[0]


def _piece(ask: Ask, text: str, words_said: int, finish: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {
        "content": {"role": "model", "parts": [{"text": text}]},
        "index": 0,
    }
    if finish is not None:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": usage(ask, words_said),
        "modelVersion": _model(ask),
        "responseId": ask.id,
    }


def generate(ask: Ask) -> Answer:
    """`:generateContent`."""
    return plain(_piece(ask, ask.figures.text, len(ask.figures.words), "STOP"))


def stream(ask: Ask) -> Answer:
    """`:streamGenerateContent`: events with `alt=sse`, else one JSON array in pieces."""
    words = ask.figures.words
    pieces = [
        _piece(ask, word, place + 1, "STOP" if place + 1 == len(words) else None)
        for place, word in enumerate(words)
    ]
    if "alt=sse" in ask.query.split("&"):
        events = [b"data: " + compact(piece) + b"\r\n\r\n" for piece in pieces]
        return Answer(events=events, content_type="text/event-stream", streams=True)
    parts = [
        (b"[" if place == 0 else b",\r\n") + compact(piece) for place, piece in enumerate(pieces)
    ]
    return Answer(events=[*parts, b"]"], content_type="application/json", streams=True)


def embed(ask: Ask) -> Answer:
    """`:embedContent` and `:batchEmbedContents`, which state no usage."""
    numbers = [place / 8 for place in range(8)]
    if ask.path.endswith(":batchEmbedContents"):
        count = len(ask.said.get("requests") or [1])
        return plain({"embeddings": [{"values": numbers}] * count}, billed=False)
    return plain({"embedding": {"values": numbers}}, billed=False)


def count_tokens(ask: Ask) -> Answer:
    """`:countTokens`, which costs nothing."""
    return plain({"totalTokens": ask.figures.input}, billed=False)
