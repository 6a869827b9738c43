"""Anthropic's messages: plain, streamed, and counted."""

from __future__ import annotations

from typing import Any

from tests.rig._talk import Answer, Ask, compact, named, plain, sse


def start_usage(ask: Ask) -> dict[str, Any]:
    """The usage at a message's start. Its input leaves out what the cache read and wrote."""
    figures = ask.figures
    short = figures.cache_write // 2
    return {
        "input_tokens": figures.input - figures.cached - figures.cache_write,
        "cache_creation_input_tokens": figures.cache_write,
        "cache_read_input_tokens": figures.cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": short,
            "ephemeral_1h_input_tokens": figures.cache_write - short,
        },
        "output_tokens": 1,
        "service_tier": "standard",
    }


def end_usage(ask: Ask) -> dict[str, Any]:
    """The usage at a message's end: cumulative, without the split of the cache."""
    start = start_usage(ask)
    kept = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    return {
        **{name: start[name] for name in kept},
        "output_tokens": ask.figures.output,
        "output_tokens_details": {"thinking_tokens": ask.figures.reasoning},
    }


def error(status: int, code: str, message: str) -> bytes:
    """An error answer's body; `code` says nothing here, the type goes by the status."""
    kinds = {
        400: "invalid_request_error",
        401: "authentication_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        529: "overloaded_error",
    }
    kind = kinds.get(status, "api_error")
    said = {"type": "error", "error": {"type": kind, "message": message}}
    return compact({**said, "request_id": "req_rig"})


def messages(ask: Ask) -> Answer:
    """`POST /v1/messages`."""
    model = str(ask.said.get("model", "claude-opus-5-5"))
    base: dict[str, Any] = {
        "id": f"msg_{ask.id}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "stop_sequence": None,
    }
    if not ask.streams:
        content = [{"type": "text", "text": ask.figures.text}]
        usage = {**start_usage(ask), **end_usage(ask)}
        return plain({**base, "content": content, "stop_reason": "end_turn", "usage": usage})
    message = {**base, "content": [], "stop_reason": None, "usage": start_usage(ask)}
    block = {"type": "text", "text": ""}
    told: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "ping"},
    ]
    told.extend(
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": word},
        }
        for word in ask.figures.words
    )
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    told.extend(
        [
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": stop, "usage": end_usage(ask)},
            {"type": "message_stop"},
        ]
    )
    return sse([named(event) for event in told])


def count_tokens(ask: Ask) -> Answer:
    """`POST /v1/messages/count_tokens`, which costs nothing."""
    return plain({"input_tokens": ask.figures.input}, billed=False)
