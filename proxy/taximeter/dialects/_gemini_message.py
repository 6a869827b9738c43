"""What Gemini's native API says of an answer: one chunk of a stream has the shape of a whole one.

`usageMetadata` comes with every chunk and is cumulative: the last one counts. Its
`candidatesTokenCount` leaves out the thoughts, and `promptTokenCount` the results of tools;
our totals hold both. The Interactions API names the same figures in its own way.
"""

from __future__ import annotations

from typing import Final

import msgspec

from taximeter.call import Usage
from taximeter.dialects import _scan, _usage
from taximeter.dialects._contract import AnswerFacts, Operation
from taximeter.dialects._errors import UNKNOWN, error_word
from taximeter.dialects._json import ABSENT, is_set, mapping, name, read, sequence, tree, word
from taximeter.dialects._usage import count, first, total


class Message(msgspec.Struct):
    """The fields looked at of an answer, a chunk or an event, each still as its JSON text."""

    responseId: msgspec.Raw = ABSENT  # noqa: N815 - the name on the wire
    modelVersion: msgspec.Raw = ABSENT  # noqa: N815
    usageMetadata: msgspec.Raw = ABSENT  # noqa: N815
    candidates: msgspec.Raw = ABSENT
    promptFeedback: msgspec.Raw = ABSENT  # noqa: N815
    error: msgspec.Raw = ABSENT
    done: msgspec.Raw = ABSENT
    name: msgspec.Raw = ABSENT
    event_type: msgspec.Raw = ABSENT
    interaction: msgspec.Raw = ABSENT
    id: msgspec.Raw = ABSENT
    model: msgspec.Raw = ABSENT
    status: msgspec.Raw = ABSENT
    usage: msgspec.Raw = ABSENT


_decoder: Final = msgspec.json.Decoder(Message)

_UNFINISHED: Final = frozenset({"in_progress", "queued", "requires_action"})


def read_message(body: bytes) -> Message | None:
    """Read an object, None if `body` is none."""
    return read(_decoder, body)


def read_usage(usage: dict[str, object]) -> Usage:
    """Give the figures of a `usageMetadata` object."""
    prompt = _modalities(usage.get("promptTokensDetails"))
    cached = _modalities(usage.get("cacheTokensDetails"))
    made = _modalities(usage.get("candidatesTokensDetails") or usage.get("responseTokensDetails"))
    thoughts = count(usage.get("thoughtsTokenCount"))
    answer = first(usage.get("candidatesTokenCount"), usage.get("responseTokenCount"))
    return Usage(
        input_tokens=total(
            count(usage.get("promptTokenCount")), count(usage.get("toolUsePromptTokenCount"))
        ),
        output_tokens=total(answer, thoughts),
        cached_tokens=count(usage.get("cachedContentTokenCount")),
        reasoning_tokens=thoughts,
        input_audio_tokens=prompt.get("AUDIO"),
        input_image_tokens=prompt.get("IMAGE"),
        input_video_tokens=prompt.get("VIDEO"),
        cached_audio_tokens=cached.get("AUDIO"),
        output_audio_tokens=made.get("AUDIO"),
        output_image_tokens=made.get("IMAGE"),
        output_video_tokens=made.get("VIDEO"),
    )


def read_interaction_usage(usage: dict[str, object]) -> Usage:
    """Give the figures of an interaction's `usage` object."""
    made = count(usage.get("total_output_tokens"))
    asked = count(usage.get("total_input_tokens"))
    thoughts = count(usage.get("total_thought_tokens"))
    tools = count(usage.get("total_tool_use_tokens"))
    stated = count(usage.get("total_tokens"))
    # As in the native shape, unless the total says that the thoughts are inside.
    inside = stated is not None and stated == total(asked, made, tools) and bool(thoughts)
    return Usage(
        input_tokens=total(asked, tools),
        output_tokens=made if inside else total(made, thoughts),
        cached_tokens=count(usage.get("total_cached_tokens")),
        reasoning_tokens=thoughts,
    )


def _modalities(value: object) -> dict[str, int]:
    """Give tokens by modality from a list of `{"modality": ..., "tokenCount": ...}`."""
    found: dict[str, int] = {}
    for item in sequence(value):
        entry = mapping(item)
        tokens = count(entry.get("tokenCount"))
        modality = entry.get("modality")
        if tokens is not None and isinstance(modality, str):
            found[modality] = found.get(modality, 0) + tokens
    return found


def note_usage(facts: AnswerFacts, usage: object) -> None:
    """Take note of a `usageMetadata` object, and of the service tier in it."""
    if not isinstance(usage, dict):
        return
    _usage.note(facts, read_usage(usage), usage)
    tier = word(usage.get("serviceTier"))
    traffic = word(usage.get("trafficType"))
    if tier is None and traffic is not None:
        tier = traffic.removeprefix("ON_DEMAND_").lower()
    facts.service_tier = tier or facts.service_tier


def note_message(facts: AnswerFacts, message: Message) -> tuple[bool, bool]:
    """Take note of a chunk or an answer; tell whether it has a token, and whether it is the end."""
    facts.response_id = name(message.responseId) or facts.response_id
    facts.response_model = name(message.modelVersion) or facts.response_model
    if message.usageMetadata:
        note_usage(facts, tree(message.usageMetadata))
    token = False
    ends = False
    for item in sequence(tree(message.candidates)):
        candidate = mapping(item)
        reason = word(candidate.get("finishReason"))
        facts.finish_reason = reason or facts.finish_reason
        ends = ends or reason is not None
        parts = sequence(mapping(candidate.get("content")).get("parts"))
        token = token or any(_is_token(mapping(part)) for part in parts)
    blocked = word(mapping(tree(message.promptFeedback)).get("blockReason"))
    if blocked is not None:
        facts.finish_reason = blocked
        ends = True
    if is_set(message.error):
        facts.error = read_error(tree(message.error))
        ends = True
    if is_set(message.interaction) or is_set(message.event_type) or is_set(message.status):
        ends = _note_interaction(facts, message) or ends
    facts.final = facts.usage is not None and ends
    return token, ends


def _note_interaction(facts: AnswerFacts, message: Message) -> bool:
    """Take note of an interaction, or of an event that holds one; tell whether it has ended."""
    inner = read_message(bytes(message.interaction)) if is_set(message.interaction) else None
    inner = message if inner is None else inner
    facts.response_id = name(inner.id) or facts.response_id
    facts.response_model = name(inner.model) or facts.response_model
    usage = tree(inner.usage)
    if isinstance(usage, dict):
        _usage.note(facts, read_interaction_usage(usage), usage)
    status = word(inner.status)
    if status is None:
        return False
    facts.deferred = status in _UNFINISHED
    if not facts.deferred:
        facts.finish_reason = facts.finish_reason or status
    return not facts.deferred


def read_error(error: object) -> str:
    """Give the status word of an error object, else its code."""
    members = mapping(error)
    return error_word(members.get("status")) or error_word(members.get("code")) or UNKNOWN


def _is_token(part: dict[str, object]) -> bool:
    return any(key not in ("thought", "thoughtSignature") and part[key] for key in part)


def read_gemini_answer(
    operation: Operation, status: int, head: bytes, tail: bytes | None
) -> AnswerFacts:
    """Read a plain answer: see `Dialect.read_answer`. An array's last word is its last element."""
    facts = AnswerFacts()
    body = head.lstrip().removeprefix(b"\xef\xbb\xbf")
    if body[:1] == b"[" and tail is None:
        elements = sequence(tree(body))
        for element in elements:
            message = read_message(msgspec.json.encode(element))
            if message is not None:
                note_message(facts, message)
    elif body[:1] == b"{" or tail is not None:
        message = read_message(body) if tail is None else None
        if message is not None:
            note_message(facts, message)
            if operation.api in ("batches", "videos"):
                facts.deferred = bytes(message.done) != b"true"
                facts.response_id = facts.response_id or name(message.name)
        else:
            _read_ends(facts, head, tail or b"")
    else:
        return facts
    facts.final = facts.usage is not None and not facts.deferred
    if status >= 400 and facts.error is None:
        facts.error = UNKNOWN
    return facts


def _read_ends(facts: AnswerFacts, head: bytes, tail: bytes) -> None:
    key = b"usageMetadata"
    note_usage(facts, _scan.last_object(tail, key) or _scan.last_object(head, key))
    facts.response_model = _scan.last_word(tail, b"modelVersion")
    facts.response_id = _scan.last_word(tail, b"responseId")
    facts.finish_reason = _scan.last_word(tail or head, b"finishReason")
