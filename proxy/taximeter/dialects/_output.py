"""Holding a request to an output limit: the one field that says so, every other byte kept.

Each family has its own word for the most tokens an answer may have, and some have two. Here
are those words, endpoint by endpoint. An endpoint that makes text and is not in its family's
table cannot be held to a limit by its body; whoever must hold it refuses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from taximeter.dialects import _json
from taximeter.dialects._contract import Operation
from taximeter.dialects._members import Members, Unclear
from taximeter.dialects._usage import COUNT_MAX, count

_WITHOUT_OUTPUT: Final = frozenset(
    {
        "count_tokens",
        "embed_content",
        "embeddings",
        "files",
        "images",
        "models",
        "moderations",
        "ollama_embed",
        "speech",
        "transcriptions",
        "translations",
        "videos",
    }
)
"""Endpoints that write no text of a length to be chosen: no output limit is about them."""

_DIGITS_MAX: Final = len(str(COUNT_MAX))


class Caps(msgspec.Struct, frozen=True):
    """The fields by which an object limits output, each by all its spellings."""

    fields: tuple[tuple[str, ...], ...]
    """Each that is there is held down; where none is, the first is added."""
    also: tuple[str, ...] = ()
    """Held down where they are there, but known to few servers: none stands for a limit."""


_MAX_TOKENS: Final = ("max_tokens",)

OPENAI: Final[Mapping[str, Caps]] = {
    # llama.cpp reads its own word on the OpenAI endpoints as well, and before the usual one.
    "chat_completions": Caps((("max_completion_tokens",), _MAX_TOKENS), also=("n_predict",)),
    "completions": Caps((_MAX_TOKENS,), also=("n_predict",)),
    "responses": Caps((("max_output_tokens",),)),
}
ANTHROPIC: Final[Mapping[str, Caps]] = {
    "messages": Caps((_MAX_TOKENS,)),
    "completions": Caps((("max_tokens_to_sample",),)),
}
_GEMINI_CONFIG: Final = ("generationConfig", "generation_config")
_GEMINI: Final = {
    "generationConfig": Caps((("maxOutputTokens", "max_output_tokens"),)),
    "generation_config": Caps((("max_output_tokens", "maxOutputTokens"),)),
}
_OLLAMA: Final = {"options": Caps((("num_predict",),))}


def positive(value: object) -> int | None:
    """Give `value` if it is a whole number from 1 on that can be believed, else None."""
    return count(value) or None


def stated(raw: msgspec.Raw) -> int | None:
    """Give the same of a raw field, be it written as 7, 7.0 or "7": many servers read them all."""
    digits: str | bytes = bytes(raw)
    if not digits.isdigit():
        value = _json.tree(raw)
        if isinstance(value, Decimal):
            whole = 1 <= value <= COUNT_MAX and value == value.to_integral_value()
            return int(value) if whole else None
        digits = value.strip() if isinstance(value, str) and value.isascii() else ""
    return positive(int(digits)) if digits.isdigit() and len(digits) <= _DIGITS_MAX else None


def most(own: Iterable[msgspec.Raw], others: Iterable[msgspec.Raw] = ()) -> int | None:
    """Give the largest number of several fields, for nobody knows which of them a server reads.

    None where none of its endpoint's `own` is there, or any of all is there and cannot be read.
    `others` are read by few servers: none stands for a limit, but may be the larger number.
    """
    found = [stated(raw) for raw in own if _json.is_set(raw)]
    if not found:
        return None
    known: list[int] = []
    for number in (*found, *(stated(raw) for raw in others if _json.is_set(raw))):
        if number is None:
            return None
        known.append(number)
    return max(known)


def makes_no_output(operation: Operation, body: bytes) -> bool:
    """Tell whether an output limit has nothing to say about a request.

    So it is with what its provider gives for nothing, what only fetches an earlier answer, and
    what makes no text. An endpoint that nothing is known of is given the benefit of the doubt
    if nothing is sent to it.
    """
    return (
        operation.free
        or operation.fetch
        or operation.api in _WITHOUT_OUTPUT
        or (operation.api == "other" and not body)
    )


def limit_flat(
    table: Mapping[str, Caps], operation: Operation, body: bytes, tokens_max: int
) -> bytes | None:
    """Limit the output of an endpoint whose fields stand in the outermost object.

    For the arguments and the result see `Dialect.limit_output`.
    """
    if makes_no_output(operation, body):
        return body
    caps = table.get(operation.api)
    if caps is None or operation.name == "compaction":  # it takes no such field
        return None
    try:
        return _held(body, caps, tokens_max)
    except Unclear:
        return None


def limit_gemini(operation: Operation, body: bytes, tokens_max: int) -> bytes | None:
    """Limit the output of `generateContent`, its stream, and an interaction.

    For the arguments and the result see `Dialect.limit_output`.
    """
    if makes_no_output(operation, body):
        return body
    if operation.api != "generate_content":
        return None
    try:
        members = Members(body)
        # Google refuses a field it does not know, so `input` stands in an interaction only.
        style = _GEMINI_CONFIG[1 if members.value("input") is not None else 0]
        name = members.spelling(*_GEMINI_CONFIG) or style
        return _held_within(body, members, name, _GEMINI[name], tokens_max)
    except Unclear:
        return None


def limit_ollama(operation: Operation, body: bytes, tokens_max: int) -> bytes | None:
    """Limit the output of Ollama's own chat and generation.

    For the arguments and the result see `Dialect.limit_output`.
    """
    if makes_no_output(operation, body):
        return body
    if operation.api not in ("ollama_chat", "ollama_generate"):
        return None
    try:
        members = Members(body)
        name = members.spelling("options") or "options"
        return _held_within(body, members, name, _OLLAMA[name], tokens_max)
    except Unclear:
        return None


def _held_within(body: bytes, members: Members, name: str, caps: Caps, tokens_max: int) -> bytes:
    """Give `body` with the caps of one of its members, an object, at most `tokens_max`."""
    value = members.value(name)
    before = b"{}" if value is None or value == b"null" else value
    after = _held(before, caps, tokens_max)
    return body if after is before else members.having(name, after)


def _held(text: bytes, caps: Caps, tokens_max: int) -> bytes:
    """Give an object's text with its caps at most `tokens_max`; `text` itself if they are."""
    members = Members(text)
    cap = b"%d" % tokens_max
    limits = [name for field in caps.fields if (name := members.spelling(*field)) is not None]
    others = [name for name in caps.also if members.spelling(name) is not None]
    changed = [name for name in limits + others if not _is_within(members.value(name), tokens_max)]
    for name in changed if limits else [caps.fields[0][0], *changed]:
        text = Members(text).having(name, cap)
    return text


def _is_within(value: bytes | None, tokens_max: int) -> bool:
    """Tell whether a value is a limit, and low enough.

    A text, a fraction, null, nothing and less than nothing are not: servers differ in what
    they make of them, and several take 0, -1 and -2 for no limit at all.
    """
    return value is not None and value.isdigit() and 0 < int(value[:_DIGITS_MAX]) <= tokens_max
