"""The usual answer, and the usual chunk of a stream, read the short way.

Nine answers in ten are a chat completion, a response or a list of embeddings whose every field is
of its documented type, with a usage object of documented figures alone. Those are decoded straight
into typed structs, at a tenth of the time that the patient reading in `_openai_message` takes:
this is on the relay's path. At the first thing out of the ordinary (an unknown figure, a wrong
type, a part larger than its whole, an error, a vendor's extension) the short way gives None, and
the patient one decides. Both give the same facts; a test holds them against each other.

The same goes for the few chunks of a chat's stream that are read at all: its first ones, the one
with the reason why it ended, and the one with its usage.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from taximeter.call import FIGURE_MAX, Usage
from taximeter.dialects._contract import AnswerFacts
from taximeter.dialects._json import ABSENT, NAME_CHARACTERS_MAX
from taximeter.dialects._usage import RAW_USAGE_CHARACTERS_MAX

_PECULIAR_PROVIDERS: Final = frozenset({"x-ai", "perplexity"})


_Count = Annotated[int, msgspec.Meta(ge=0, le=FIGURE_MAX)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_CHARACTERS_MAX)]
_NameOrNone = Annotated[str, msgspec.Meta(max_length=NAME_CHARACTERS_MAX)]
"""A name, or an empty text where there is none (Azure's first chunk)."""


_Reason = Literal[
    "stop",
    "length",
    "tool_calls",
    "content_filter",
    "function_call",
    "abort",  # vLLM, SGLang
    "eos",  # Together
    "model_length",  # Mistral
]
_Tier = Literal["default", "auto", "flex", "priority", "scale", "standard"]


class _Choice(msgspec.Struct):
    finish_reason: _Reason | None = None


class _Answer(msgspec.Struct, gc=False):  # it holds nothing that could hold it
    """An answer's fields. Those after `usage` mark the unusual: they must not be there, or null."""

    id: _Name | None = None
    model: _Name | None = None
    service_tier: _Tier | None = None
    choices: list[_Choice] = []
    usage: msgspec.Raw = ABSENT
    error: None = None
    code: None = None
    status: None = None
    tool_usage: None = None
    response: None = None
    x_groq: None = None


class _ToolCall(msgspec.Struct, gc=False):
    """An object of which nothing is looked at."""


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: None = None
    reasoning_details: None = None
    audio: None = None


class _Part(msgspec.Struct, gc=False):
    """What a chunk adds to one of the choices."""

    delta: _Delta | None = None
    text: str | None = None
    finish_reason: _Reason | None = None


class UsualChunk(msgspec.Struct, gc=False):
    """A chunk's fields. Those after `usage` mark the unusual, as they do in an answer."""

    choices: list[_Part]
    id: _NameOrNone = ""
    model: _NameOrNone = ""
    service_tier: _Tier | None = None
    usage: msgspec.Raw = ABSENT
    type: msgspec.UnsetType = msgspec.UNSET
    error: None = None
    tool_usage: None = None
    x_groq: None = None

    @property
    def has_token(self) -> bool:
        """Whether one of the choices carries a token: see `_openai_message.note_choices`."""
        for part in self.choices:
            delta = part.delta
            if part.text or (
                delta is not None
                and (
                    delta.content
                    or delta.refusal
                    or delta.tool_calls
                    or delta.reasoning
                    or delta.reasoning_content
                )
            ):
                return True
        return False


class _InputDetails(msgspec.Struct, forbid_unknown_fields=True):
    cached_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    image_tokens: _Count | None = None
    text_tokens: _Count | None = None


class _OutputDetails(msgspec.Struct, forbid_unknown_fields=True):
    reasoning_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    image_tokens: _Count | None = None
    text_tokens: _Count | None = None
    accepted_prediction_tokens: _Count | None = None
    rejected_prediction_tokens: _Count | None = None


class _Figures(msgspec.Struct, forbid_unknown_fields=True):
    input_tokens: _Count = msgspec.field(name="prompt_tokens")
    total_tokens: _Count
    output_tokens: _Count | None = msgspec.field(name="completion_tokens", default=None)
    input_details: _InputDetails | None = msgspec.field(name="prompt_tokens_details", default=None)
    output_details: _OutputDetails | None = msgspec.field(
        name="completion_tokens_details", default=None
    )


class _NewerFigures(msgspec.Struct, forbid_unknown_fields=True):
    input_tokens: _Count
    total_tokens: _Count
    output_tokens: _Count | None = None
    input_details: _InputDetails | None = msgspec.field(name="input_tokens_details", default=None)
    output_details: _OutputDetails | None = msgspec.field(
        name="output_tokens_details", default=None
    )


_FAULTS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_decode_answer: Final = msgspec.json.Decoder(_Answer).decode
_decode_chunk: Final = msgspec.json.Decoder(UsualChunk).decode
_decode_figures: Final = msgspec.json.Decoder(_Figures).decode
_decode_newer: Final = msgspec.json.Decoder(_NewerFigures).decode
_NO_INPUT_DETAILS: Final = _InputDetails()
_NO_OUTPUT_DETAILS: Final = _OutputDetails()
USUAL_APIS: Final = frozenset({"chat_completions", "completions", "embeddings"})
"""Endpoints whose answer, if it is whole and no error, may be asked to be read here."""

_SPACES: Final = b" \t\r\n"
_NOT_ASCII: Final = 0xFF
_UNUSUAL: Final = bytes(_NOT_ASCII if byte in b"\\-" else byte for byte in range(256))
"""Makes what no usual text of figures has (an escape in a name, a minus) what is not ASCII."""


def read_usual_answer(body: bytes, provider: str | None) -> AnswerFacts | None:
    """Read a plain answer; None if anything about it is out of the ordinary."""
    try:
        answer = _decode_answer(body)
    except _FAULTS:
        return None
    read = read_usual_usage(answer.usage, provider)
    name, model = answer.id, answer.model
    if (
        read is None
        or not (name is None or name.isprintable())
        or not (model is None or model.isprintable())
    ):
        return None
    usage, raw = read
    reason = None
    for choice in answer.choices:
        reason = choice.finish_reason or reason
    return AnswerFacts(
        response_id=name,
        response_model=model,
        service_tier=answer.service_tier,
        finish_reason=reason,
        usage=usage,
        raw_usage=raw,
        final=True,
    )


def read_usual_chunk(data: bytes) -> UsualChunk | None:
    """Read a chunk of a chat or a completion; None if it is out of the ordinary.

    Its usage is still to be read, by `read_usual_usage`.
    """
    if data.find(b"\\") >= 0:
        return None  # an escape may stand in a name, which the patient way looks for as it is
    try:
        chunk = _decode_chunk(data)
    except _FAULTS:
        return None
    return chunk if chunk.id.isprintable() and chunk.model.isprintable() else None


def read_usual_usage(raw: msgspec.Raw, provider: str | None) -> tuple[Usage, str] | None:
    """Read a usage object and its compact text; None if anything is out of the ordinary."""
    text = bytes(raw)
    if len(text) > RAW_USAGE_CHARACTERS_MAX or provider in _PECULIAR_PROVIDERS:
        return None
    figures: _Figures | _NewerFigures
    try:
        figures = (_decode_figures if text.find(b'"prompt_tokens"') > 0 else _decode_newer)(text)
        # Nothing but numbers, null and names stands in it: no space of it is a string's.
        compact = text.translate(_UNUSUAL, _SPACES).decode("ascii")
    except _FAULTS:
        return None
    whole_in, whole_out = figures.input_tokens, figures.output_tokens
    if figures.total_tokens != whole_in + (whole_out or 0):
        return None
    if figures.input_details is None and figures.output_details is None:
        return Usage(input_tokens=whole_in, output_tokens=whole_out), compact
    usage = _with_details(figures)
    return None if usage is None else (usage, compact)


def _with_details(figures: _Figures | _NewerFigures) -> Usage | None:
    """Read a usage object that tells parts of its totals, too; None if one is larger than its."""
    whole_in, whole_out = figures.input_tokens, figures.output_tokens or 0
    parts_in = figures.input_details or _NO_INPUT_DETAILS
    parts_out = figures.output_details or _NO_OUTPUT_DETAILS
    cached, written = parts_in.cached_tokens, parts_in.cache_write_tokens
    if (
        (cached or 0) + (written or 0) > whole_in
        or (parts_in.audio_tokens or 0) > whole_in
        or (parts_in.image_tokens or 0) > whole_in
        or (parts_out.reasoning_tokens or 0) > whole_out
        or (parts_out.audio_tokens or 0) > whole_out
        or (parts_out.image_tokens or 0) > whole_out
    ):
        return None
    return Usage(
        input_tokens=whole_in,
        output_tokens=figures.output_tokens,
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=parts_out.reasoning_tokens,
        input_audio_tokens=parts_in.audio_tokens,
        input_image_tokens=parts_in.image_tokens,
        output_audio_tokens=parts_out.audio_tokens,
        output_image_tokens=parts_out.image_tokens,
    )
