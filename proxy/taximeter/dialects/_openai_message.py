"""What one JSON object of the OpenAI family says: a plain answer, or an event of a stream.

The same fields stand in both, so one reader serves all endpoints. It goes by what an object
holds, not by the endpoint it came from: `choices` make it chat or a legacy completion, a
`response` an event of the Responses API, a `status` an object that may be fetched again.
"""

from __future__ import annotations

from typing import Final

import msgspec

from taximeter.call import Usage
from taximeter.dialects import _usage
from taximeter.dialects._contract import AnswerFacts
from taximeter.dialects._errors import error_code
from taximeter.dialects._json import (
    ABSENT,
    is_set,
    mapping,
    name,
    read,
    sequence,
    tree,
    word,
)
from taximeter.dialects._openai_usage import read_usage
from taximeter.dialects._openai_usual import read_usual_usage


class Message(msgspec.Struct):
    """The fields looked at, each still as its JSON text."""

    id: msgspec.Raw = ABSENT
    type: msgspec.Raw = ABSENT
    model: msgspec.Raw = ABSENT
    choices: msgspec.Raw = ABSENT
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT
    code: msgspec.Raw = ABSENT
    status: msgspec.Raw = ABSENT
    service_tier: msgspec.Raw = ABSENT
    background: msgspec.Raw = ABSENT
    incomplete_details: msgspec.Raw = ABSENT
    tool_usage: msgspec.Raw = ABSENT
    response: msgspec.Raw = ABSENT
    x_groq: msgspec.Raw = ABSENT


decoder: Final = msgspec.json.Decoder(Message)

UNFINISHED: Final = frozenset(
    {"queued", "in_progress", "validating", "finalizing", "cancelling", "pending", "processing"}
)
"""States of a response, batch or video that will be fetched again."""

_DELTA_TEXTS: Final = (
    "content",
    "refusal",
    "tool_calls",
    "function_call",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
)


def read_message(body: bytes) -> Message | None:
    """Read an object, None if `body` is none."""
    return read(decoder, body)


def note_message(facts: AnswerFacts, message: Message, provider: str | None) -> None:
    """Take note of who answered, of an error, and of usage, wherever in `message` it stands."""
    note_identity(facts, message)
    if is_set(message.error):
        facts.error = error_code(tree(message.error)) or facts.error
    if is_set(message.x_groq):
        groq = mapping(tree(message.x_groq))
        note_usage(facts, groq.get("usage"), provider)
        facts.response_id = facts.response_id or name(groq.get("id"))
        facts.error = error_code(groq.get("error")) or facts.error
    if is_set(message.usage):
        usual = read_usual_usage(message.usage, provider) if facts.usage is None else None
        if usual is not None:
            facts.usage, facts.raw_usage = usual
        else:
            note_usage(facts, tree(message.usage), provider)
    if is_set(message.tool_usage):
        searches = mapping(mapping(tree(message.tool_usage)).get("web_search"))
        if (found := _usage.count(searches.get("num_requests"))) is not None:
            before = facts.usage or Usage()
            facts.usage = msgspec.structs.replace(before, web_searches=found)


def note_identity(facts: AnswerFacts, message: Message) -> None:
    """Take note of the answer's id, model and service tier; the last one named counts."""
    if message.id:
        facts.response_id = name(message.id) or facts.response_id
    if message.model:
        facts.response_model = name(message.model) or facts.response_model
    if message.service_tier:
        facts.service_tier = word(message.service_tier) or facts.service_tier


def note_usage(facts: AnswerFacts, usage: object, provider: str | None) -> None:
    """Take note of a usage object."""
    if isinstance(usage, dict):
        _usage.note(facts, read_usage(usage, provider), usage)


def note_status(facts: AnswerFacts, message: Message) -> bool:
    """Take note of how far an object with a `status` has come; tell whether it is finished.

    An object without one (a chat completion) is finished.
    """
    status = word(message.status)
    if status is None:
        return True
    reason = mapping(tree(message.incomplete_details)).get("reason")
    facts.deferred = status in UNFINISHED
    if not facts.deferred:
        facts.finish_reason = word(reason) or status
    return not facts.deferred


def note_choices(facts: AnswerFacts, choices: object) -> bool:
    """Take note of why the choices ended, and tell whether one of them carries a token."""
    token = False
    for item in sequence(choices):
        choice = mapping(item)
        facts.finish_reason = word(choice.get("finish_reason")) or facts.finish_reason
        token = token or _has_token(choice)
    return token


def _has_token(choice: dict[str, object]) -> bool:
    delta = mapping(choice.get("delta"))
    if choice.get("text") or any(delta.get(field) for field in _DELTA_TEXTS):
        return True
    audio = mapping(delta.get("audio"))
    return bool(audio.get("data") or audio.get("transcript"))


def is_empty_array(raw: msgspec.Raw) -> bool:
    """Tell whether a raw field is `[]`, white space allowed."""
    text = bytes(raw)
    return text[:1] == b"[" and text[1:-1].strip() == b""
