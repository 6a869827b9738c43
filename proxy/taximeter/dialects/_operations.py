"""What a request asks for: literal tables, one for each family, read from top to bottom.

A row is its methods (`*` for any), a pattern for the end of the path, and what it means. Patterns
are matched against whole segments at the path's end, so it does not matter whether the prefix
is `/v1`, `/api/v1`, `/openai/v1`, `/openai/deployments/NAME` or nothing at all.

What is free is written down for each method and shape, and nothing else is: a call that counts as
free is asked for no model and held to no budget. A POST that no row knows may make anything.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

import msgspec

from taximeter.dialects._contract import Operation, RequestFacts
from taximeter.dialects._json import name as name_of
from taximeter.dialects._paths import is_ambiguous

OTHER: Final = Operation(name="other", api="other")
"""A request nothing is known of: relayed like any other, its usage read if there is any."""

_FREE: Final = Operation(name="other", api="other", free=True)

Row = tuple[frozenset[str], re.Pattern[str], Operation]


def _row(
    methods: str,
    pattern: str,
    name: str,
    api: str,
    *,
    free: bool = False,
    fetch: bool = False,
    stream: bool = False,
) -> Row:
    compiled = re.compile(rf"(?:^|/){pattern}/?$")
    operation = Operation(name=name, api=api, free=free, fetch=fetch, stream=stream)
    return frozenset(methods.split()), compiled, operation


_ID: Final = r"[^/]+"
_READ: Final = "GET HEAD DELETE OPTIONS"
"""Methods that make nothing: they show, or take away, what is there."""

OPENAI: Final[Sequence[Row]] = (
    _row("POST", r"chat/completions", "chat", "chat_completions"),
    _row("GET", rf"chat/completions/{_ID}", "fetch_response", "chat_completions", fetch=True),
    _row(_READ, r"chat/completions(?:/.*)?", "other", "chat_completions", free=True),
    _row("POST", r"responses", "chat", "responses"),
    _row("GET", r"responses", "chat", "realtime"),
    _row("POST", r"responses/compact", "compaction", "responses"),
    _row("POST", r"responses/input_tokens", "count_tokens", "count_tokens", free=True),
    _row("GET", rf"responses/{_ID}", "fetch_response", "responses", fetch=True),
    _row("POST", rf"responses/{_ID}/cancel", "fetch_response", "responses", fetch=True),
    _row(_READ, r"responses/.*", "other", "responses", free=True),
    _row("POST", r"completions", "text_completion", "completions"),
    _row("POST", r"embeddings", "embeddings", "embeddings"),
    _row("POST", r"moderations", "moderation", "moderations", free=True),
    _row("POST", r"images/(?:generations|edits|variations)", "generate_content", "images"),
    _row("POST", r"audio/transcriptions", "transcription", "transcriptions"),
    _row("POST", r"audio/translations", "translation", "translations"),
    _row("POST", r"audio/speech", "speech", "speech"),
    _row("POST", r"videos(?:/edits|/extensions|/[^/]+/remix)?", "generate_content", "videos"),
    _row("GET", rf"videos/{_ID}", "fetch_response", "videos", fetch=True),
    _row(_READ, r"videos(?:/.*)?", "other", "videos", free=True),
    _row("POST", r"batches", "batch", "batches"),
    _row("GET", rf"batches/{_ID}", "fetch_response", "batches", fetch=True),
    _row("POST", rf"batches/{_ID}/cancel", "fetch_response", "batches", fetch=True),
    _row(_READ, r"batches(?:/.*)?", "other", "batches", free=True),
    _row(_READ, r"(?:files|uploads)(?:/.*)?", "other", "files", free=True),
    _row("POST", r"(?:files|uploads)", "other", "files", free=True),
    _row("POST", rf"uploads/{_ID}/(?:parts|complete|cancel)", "other", "files", free=True),
    _row(_READ, r"models(?:/.*)?", "other", "models", free=True),
    # Free itself, but what it gives is good for any model, at the provider and past every limit.
    _row("*", r"realtime/client_secrets", "other", "realtime"),
    _row("*", r"realtime(?:/.*)?", "chat", "realtime"),
    _row("*", r"live/sessions", "chat", "realtime"),
)

ANTHROPIC: Final[Sequence[Row]] = (
    _row("POST", r"messages", "chat", "messages"),
    _row("POST", r"models/[^/]+:(?:streamR|r)awPredict", "chat", "messages"),
    _row("POST", r"messages/count_tokens", "count_tokens", "count_tokens", free=True),
    _row("POST", r"messages/batches", "batch", "batches"),
    _row("GET", rf"messages/batches/{_ID}", "fetch_response", "batches", fetch=True),
    _row("POST", rf"messages/batches/{_ID}/cancel", "fetch_response", "batches", fetch=True),
    _row(_READ, r"messages/batches(?:/.*)?", "other", "batches", free=True),
    _row("POST", r"complete", "text_completion", "completions"),
    _row(_READ, r"files(?:/.*)?", "other", "files", free=True),
    _row("POST", r"files", "other", "files", free=True),
    _row(_READ, r"models(?:/.*)?", "other", "models", free=True),
)

_MODEL: Final = r"(?:models|tunedModels|endpoints)/[^/:]+"

GEMINI: Final[Sequence[Row]] = (
    _row("POST", rf"{_MODEL}:generateContent", "generate_content", "generate_content"),
    _row(
        "POST",
        rf"{_MODEL}:streamGenerateContent",
        "generate_content",
        "generate_content",
        stream=True,
    ),
    _row("POST", rf"{_MODEL}:(?:batchE|e)mbedContents?", "embeddings", "embed_content"),
    _row("POST", rf"{_MODEL}:countTokens", "count_tokens", "count_tokens", free=True),
    _row("POST", rf"{_MODEL}:computeTokens", "count_tokens", "count_tokens", free=True),
    _row("POST", rf"{_MODEL}:(?:asyncB|b)atch\w+", "batch", "batches"),
    _row("POST", rf"{_MODEL}:predictLongRunning", "generate_content", "videos"),
    _row("POST", rf"{_MODEL}:predict", "generate_content", "images"),
    _row("POST", r"interactions", "generate_content", "generate_content"),
    _row("GET", rf"interactions/{_ID}", "fetch_response", "generate_content", fetch=True),
    _row("GET", rf"batches/{_ID}", "fetch_response", "batches", fetch=True),
    _row("GET", rf"(?:.*/)?operations/{_ID}", "fetch_response", "videos", fetch=True),
    _row(_READ, r"files(?:/.*)?", "other", "files", free=True),
    _row("POST PUT", r"files", "other", "files", free=True),
    _row("GET", r"models(?:/.*)?", "other", "models", free=True),
)

OLLAMA: Final[Sequence[Row]] = (
    _row("POST", r"chat", "chat", "ollama_chat"),
    _row("POST", r"generate", "text_completion", "ollama_generate"),
    _row("POST", r"(?:embed|embeddings)", "embeddings", "ollama_embed"),
    _row(_READ, r"(?:tags|ps|version|delete)", "other", "models", free=True),
    _row("POST", r"(?:show|pull|push|create|copy)", "other", "models", free=True),
    _row(f"{_READ} POST", r"blobs/sha256[:-][0-9a-f]+", "other", "files", free=True),
)


_MAKES: Final = re.compile(
    r"(?:^|/)(?:chat|complete|completions|responses|messages|generate|embed|embeddings|images"
    r"|audio|videos|realtime|interactions)/|/(?:models|tunedModels|endpoints)/[^/]+:",
    re.IGNORECASE,
)
"""Endpoints that make something. Behind one, what would be free elsewhere may be a mere suffix."""


def look_up(table: Sequence[Row], method: str, path: str) -> Operation:
    """Give what the first row that fits says, `OTHER` (free if it cannot cost) if none does.

    No row fits a path that may mean another one at the upstream.
    """
    method = method.upper()
    nothing_known = _FREE if method in ("HEAD", "OPTIONS") else OTHER
    if is_ambiguous(path):
        return nothing_known
    for methods, pattern, operation in table:
        if method not in methods and "*" not in methods:
            continue
        found = pattern.search(path)
        if found is None:
            continue
        if (
            operation.free
            and method in ("POST", "PUT")
            and _MAKES.search(path, 0, found.start() + 1)
        ):
            return nothing_known
        return operation
    return nothing_known


_PATH_MODEL: Final = re.compile(r"(?:^|/)(?:deployments|models|endpoints)/([^/:]+)")
_QUERY_MODEL: Final = re.compile(r"(?:^|&)(?:model|deployment)=([^&]+)")


def model_of(path: str, query: str) -> str | None:
    """Give the model that a path (Azure, Gemini) or a query (realtime) names."""
    found = _PATH_MODEL.search(path) or _QUERY_MODEL.search(query)
    return name_of(unquote(found[1])) if found else None


def with_model(facts: RequestFacts, model: str | None) -> RequestFacts:
    """Give `facts` with a model found elsewhere than in the body."""
    return msgspec.structs.replace(facts, model=model) if model else facts
