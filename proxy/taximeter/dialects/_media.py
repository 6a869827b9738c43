"""Content types: which parser an answer needs."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

_REMEMBERED_MAX: Final = 64
"""Most content types of which it is remembered whether they are streams."""


def media_type(content_type: str) -> str:
    """Give the media type alone, in lower case, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


@lru_cache(_REMEMBERED_MAX)
def is_event_stream(content_type: str) -> bool:
    """Tell whether a body is server-sent events."""
    return media_type(content_type) == "text/event-stream"


def is_json_lines(content_type: str) -> bool:
    """Tell whether a body is one JSON object a line."""
    return media_type(content_type) in _JSON_LINES


def is_json(content_type: str) -> bool:
    """Tell whether a body is one JSON value."""
    media = media_type(content_type)
    return media == "application/json" or media.endswith("+json")


_JSON_LINES = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonl"}
)
