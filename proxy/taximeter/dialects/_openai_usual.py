"""The usual answer, read the short way.

Nine answers in ten are a chat completion, a response or a list of embeddings whose every field is
of its documented type, with a usage object of documented figures alone. Those are decoded straight
into typed structs, at a tenth of the time that the patient reading in `_openai_message` takes:
this is on the relay's path. At the first thing out of the ordinary (an unknown figure, a wrong
type, a part larger than its whole, an error, a vendor's extension) the short way gives None, and
the patient one decides. Both give the same facts; a test holds them against each other.
"""

from __future__ import annotations

from typing import Final

import msgspec

from taximeter.call import Usage
from taximeter.dialects._contract import AnswerFacts
from taximeter.dialects._json import ABSENT, NAME_CHARACTERS_MAX, word
from taximeter.dialects._usage import COUNT_MAX, RAW_USAGE_CHARACTERS_MAX

_PECULIAR_PROVIDERS: Final = frozenset({"x-ai", "perplexity"})


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    """An answer's fields. Those after `usage` mark the unusual: they must not be there."""

    id: str | None = None
    model: str | None = None
    service_tier: str | None = None
    choices: list[_Choice] = []
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT
    code: msgspec.Raw = ABSENT
    status: msgspec.Raw = ABSENT
    tool_usage: msgspec.Raw = ABSENT
    response: msgspec.Raw = ABSENT
    x_groq: msgspec.Raw = ABSENT


class _InputDetails(msgspec.Struct, forbid_unknown_fields=True):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None
    text_tokens: int | None = None


class _OutputDetails(msgspec.Struct, forbid_unknown_fields=True):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None
    text_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None


class _Figures(msgspec.Struct, forbid_unknown_fields=True):
    prompt_tokens: int
    total_tokens: int
    completion_tokens: int | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


class _NewerFigures(msgspec.Struct, forbid_unknown_fields=True):
    input_tokens: int
    total_tokens: int
    output_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


_answer_decoder: Final = msgspec.json.Decoder(_Answer)
_figures_decoder: Final = msgspec.json.Decoder(_Figures)
_newer_decoder: Final = msgspec.json.Decoder(_NewerFigures)
_NO_INPUT_DETAILS: Final = _InputDetails()
_NO_OUTPUT_DETAILS: Final = _OutputDetails()
_FINISH_REASONS: Final = frozenset({"stop", "length", "tool_calls", "content_filter"})


def read_usual_answer(body: bytes, provider: str | None) -> AnswerFacts | None:
    """Read a plain answer; None if anything about it is out of the ordinary."""
    try:
        answer = _answer_decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if (
        answer.error
        or answer.status
        or answer.x_groq
        or answer.tool_usage
        or answer.response
        or answer.code
        or not answer.usage
    ):
        return None
    usage = read_usual_usage(answer.usage, provider)
    if usage is None:
        return None
    for name in (answer.id, answer.model):
        if name is not None and not (0 < len(name) <= NAME_CHARACTERS_MAX and name.isprintable()):
            return None
    reason = None
    for choice in answer.choices:
        found = choice.finish_reason
        reason = found if found in _FINISH_REASONS else word(found) or reason
    tier = answer.service_tier
    return AnswerFacts(
        response_id=answer.id,
        response_model=answer.model,
        service_tier=tier if tier is None or tier == "default" else word(tier),
        finish_reason=reason,
        usage=usage[0],
        raw_usage=usage[1],
        final=True,
    )


def read_usual_usage(raw: msgspec.Raw, provider: str | None) -> tuple[Usage, str] | None:
    """Read a usage object and its compact text; None if anything is out of the ordinary."""
    text = bytes(raw)
    try:
        if b'"prompt_tokens"' in text:
            figures = _figures_decoder.decode(text)
            whole_in, whole_out = figures.prompt_tokens, figures.completion_tokens
            parts_in, parts_out = figures.prompt_tokens_details, figures.completion_tokens_details
            total = figures.total_tokens
        else:
            newer = _newer_decoder.decode(text)
            whole_in, whole_out = newer.input_tokens, newer.output_tokens
            parts_in, parts_out = newer.input_tokens_details, newer.output_tokens_details
            total = newer.total_tokens
    except msgspec.MsgspecError:
        return None
    parts_in = parts_in or _NO_INPUT_DETAILS
    parts_out = parts_out or _NO_OUTPUT_DETAILS
    out = whole_out or 0
    if (
        provider in _PECULIAR_PROVIDERS
        or total != whole_in + out
        or len(text) > (RAW_USAGE_CHARACTERS_MAX)
    ):
        return None
    cached, written = parts_in.cached_tokens, parts_in.cache_write_tokens
    if not (
        0 <= whole_in <= COUNT_MAX
        and 0 <= out <= COUNT_MAX
        and (cached or 0) >= 0
        and (written or 0) >= 0
        and (cached or 0) + (written or 0) <= whole_in
        and 0 <= (parts_in.audio_tokens or 0) <= whole_in
        and 0 <= (parts_in.image_tokens or 0) <= whole_in
        and 0 <= (parts_out.reasoning_tokens or 0) <= out
        and 0 <= (parts_out.audio_tokens or 0) <= out
        and 0 <= (parts_out.image_tokens or 0) <= out
    ):
        return None
    if b" " in text or b"\n" in text or b"\t" in text or b"\r" in text:
        text = msgspec.json.encode(msgspec.json.decode(text))
    usage = Usage(
        input_tokens=whole_in,
        output_tokens=whole_out,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=parts_out.reasoning_tokens,
        input_audio_tokens=parts_in.audio_tokens,
        input_image_tokens=parts_in.image_tokens,
        output_audio_tokens=parts_out.audio_tokens,
        output_image_tokens=parts_out.image_tokens,
    )
    return usage, text.decode("ascii")
