"""Usage objects of the OpenAI family, all shapes of it, as `Usage`.

Chat and its relatives say `prompt_tokens` and `completion_tokens`, the Responses API and the
media endpoints `input_tokens` and `output_tokens`; details are subsets of those totals. The
shapes differ by names only, so one reader serves all, and a vendor that mixes them is read too.

One thing cannot be told from the names: whether `completion_tokens` holds the reasoning. By
the API it does; some vendors leave it out (xAI's chat; Gemini's compatible endpoint at times;
Perplexity counts it apart). `total_tokens` tells: if it is input, output *and* reasoning, then
reasoning was left out. Where no total is stated, `_REASONING_APART` decides.
"""

from __future__ import annotations

from typing import Final

from taximeter.call import Usage
from taximeter.dialects._json import mapping
from taximeter.dialects._usage import cost_pico, count, first, milliseconds, total

_REASONING_APART: Final = frozenset({"x-ai", "perplexity"})
"""Providers whose chat usage counts reasoning beside `completion_tokens`, not inside it."""


def read_usage(usage: dict[str, object], provider: str | None) -> Usage:
    """Give the figures of a usage object of the OpenAI family.

    Args:
        usage: the object, numbers with a fraction as `Decimal`.
        provider: genai-prices' id of whose answer it is, where known.
    """
    details_in = mapping(
        usage.get("prompt_tokens_details")
        or usage.get("input_tokens_details")
        or usage.get("input_token_details")
    )
    details_out = mapping(
        usage.get("completion_tokens_details")
        or usage.get("output_tokens_details")
        or usage.get("output_token_details")
    )
    hit = count(usage.get("prompt_cache_hit_tokens"))
    miss = count(usage.get("prompt_cache_miss_tokens"))
    both = hit + miss if hit is not None and miss is not None else None
    reasoning = first(details_out.get("reasoning_tokens"), usage.get("reasoning_tokens"))
    cached_details = mapping(details_in.get("cached_tokens_details"))
    written = mapping(details_in.get("cache_creation"))
    return Usage(
        input_tokens=first(usage.get("prompt_tokens"), usage.get("input_tokens"), both),
        output_tokens=_output_tokens(usage, reasoning, provider),
        cached_tokens=first(details_in.get("cached_tokens"), hit),
        cache_write_tokens=count(details_in.get("cache_write_tokens")),
        cache_write_5m_tokens=count(written.get("ephemeral_5m_input_tokens")),
        cache_write_1h_tokens=count(written.get("ephemeral_1h_input_tokens")),
        reasoning_tokens=reasoning,
        input_audio_tokens=count(details_in.get("audio_tokens")),
        input_image_tokens=count(details_in.get("image_tokens")),
        input_video_tokens=count(details_in.get("video_tokens")),
        cached_audio_tokens=count(cached_details.get("audio_tokens")),
        output_audio_tokens=count(details_out.get("audio_tokens")),
        output_image_tokens=count(details_out.get("image_tokens")),
        output_video_tokens=count(details_out.get("video_tokens")),
        audio_milliseconds=_audio_milliseconds(usage),
        web_searches=_web_searches(usage),
        cost_pico=_cost(usage),
    )


def _output_tokens(
    usage: dict[str, object], reasoning: int | None, provider: str | None
) -> int | None:
    completion = count(usage.get("completion_tokens"))
    if completion is None:
        return count(usage.get("output_tokens"))
    if not reasoning:
        return completion
    prompt = count(usage.get("prompt_tokens"))
    stated = count(usage.get("total_tokens"))
    if prompt is not None and stated is not None:
        if stated == prompt + completion + reasoning:
            return completion + reasoning
        if stated == prompt + completion and provider != "perplexity":
            return completion
    return completion + reasoning if provider in _REASONING_APART else completion


def _audio_milliseconds(usage: dict[str, object]) -> int | None:
    if usage.get("type") == "duration":
        return milliseconds(usage.get("seconds"))
    return milliseconds(usage.get("prompt_audio_seconds"))


def _web_searches(usage: dict[str, object]) -> int | None:
    tools = mapping(usage.get("server_tool_use") or usage.get("server_tool_use_details"))
    return first(tools.get("web_search_requests"), usage.get("num_search_queries"))


def _cost(usage: dict[str, object]) -> int | None:
    """Give the cost stated: OpenRouter's number, or the total of Perplexity's object.

    With a key of the user's own (`is_byok`) OpenRouter's figure is its fee; the bill of the
    provider behind it comes on top.
    """
    stated = usage.get("cost")
    if isinstance(stated, dict):
        return cost_pico(stated.get("total_cost"))
    fee = cost_pico(stated)
    if usage.get("is_byok") is True:
        details = mapping(usage.get("cost_details"))
        return total(fee, cost_pico(details.get("upstream_inference_cost")))
    return fee
