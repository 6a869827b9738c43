"""What the Anthropic Messages API says of an answer, and its streams.

Usage comes twice in a stream: whole in `message_start`, then as running totals in each
`message_delta`. Fields of the later one that are not null are laid over the earlier ones; they
are cumulative and never added. The split of cache writes by lifetime comes at the start only.

`input_tokens` here leaves out what was read from or written to the cache; our total holds it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from taximeter.call import Usage
from taximeter.dialects import _scan, _usage
from taximeter.dialects._contract import AnswerFacts
from taximeter.dialects._errors import UNKNOWN, error_code
from taximeter.dialects._form import NO_LINE_END, Form
from taximeter.dialects._json import ABSENT, is_set, mapping, name, read, sequence, tree, word
from taximeter.dialects._sse import SseReader, ending
from taximeter.dialects._usage import count, total


class Message(msgspec.Struct):
    """The fields looked at of an answer or an event, each still as its JSON text."""

    id: msgspec.Raw = ABSENT
    type: msgspec.Raw = ABSENT
    model: msgspec.Raw = ABSENT
    stop_reason: msgspec.Raw = ABSENT
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT
    message: msgspec.Raw = ABSENT
    delta: msgspec.Raw = ABSENT
    processing_status: msgspec.Raw = ABSENT


_decoder: Final = msgspec.json.Decoder(Message)

_ORDINARY: Final = frozenset({"standard", "global", "not_available"})
"""Values of `speed` and `inference_geo` that leave the price as it is."""

USAGE_BYTES_MAX: Final = 16 << 10
"""Largest usage object of a stream's event that is looked at; one has some hundred bytes."""

USAGE_MEMBERS_MAX: Final = 64
"""Members of a stream's usage up to which such are kept as mean nothing here."""

_COUNTS: Final = frozenset(
    {
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
    }
)
_OTHERS: Final = frozenset(
    {
        "cache_creation",
        "server_tool_use",
        "output_tokens_details",
        "iterations",
        "service_tier",
        "speed",
        "inference_geo",
    }
)
"""What else means something in a usage object."""


def read_message(body: bytes) -> Message | None:
    """Read an object, None if `body` is none."""
    return read(_decoder, body)


def read_usage(usage: dict[str, object]) -> Usage:
    """Give the figures of a (laid-over) usage object.

    Tokens of compactions stand in `iterations` alone and are added; an iteration that names a
    model of its own is not, for its price is another one.
    """
    written = mapping(usage.get("cache_creation"))
    tools = mapping(usage.get("server_tool_use"))
    details = mapping(usage.get("output_tokens_details"))
    fresh = count(usage.get("input_tokens"))
    cached = count(usage.get("cache_read_input_tokens"))
    writes = count(usage.get("cache_creation_input_tokens"))
    input_tokens = total(fresh, cached, writes) if fresh is not None else None
    output_tokens = count(usage.get("output_tokens"))
    for item in sequence(usage.get("iterations")):
        iteration = mapping(item)
        if iteration.get("type") == "compaction" and "model" not in iteration:
            input_tokens = total(input_tokens, count(iteration.get("input_tokens")))
            output_tokens = total(output_tokens, count(iteration.get("output_tokens")))
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=cached,
        cache_write_tokens=writes,
        cache_write_5m_tokens=count(written.get("ephemeral_5m_input_tokens")),
        cache_write_1h_tokens=count(written.get("ephemeral_1h_input_tokens")),
        reasoning_tokens=count(details.get("thinking_tokens")),
        web_searches=count(tools.get("web_search_requests")),
    )


def note_usage(facts: AnswerFacts, usage: dict[str, object]) -> None:
    """Take note of a (laid-over) usage object and of the price modifiers in it."""
    _usage.note(facts, read_usage(usage), usage)
    facts.service_tier = word(usage.get("service_tier")) or facts.service_tier
    for key in ("speed", "inference_geo"):
        modifier = word(usage.get(key), 32)
        if modifier is not None and modifier not in _ORDINARY:
            facts.price_variant[key] = modifier


def note_identity(facts: AnswerFacts, message: Message) -> None:
    """Take note of the answer's id, its model and why it stopped."""
    facts.response_id = name(message.id) or facts.response_id
    facts.response_model = name(message.model) or facts.response_model
    facts.finish_reason = word(message.stop_reason) or facts.finish_reason


def read_anthropic_answer(status: int, head: bytes, tail: bytes | None) -> AnswerFacts:
    """Read a plain answer: see `Dialect.read_answer`."""
    facts = AnswerFacts()
    if head.lstrip().removeprefix(b"\xef\xbb\xbf")[:1] != b"{":
        return facts
    message = read_message(head) if tail is None else None
    if message is None:
        fields = {key: msgspec.Raw(value) for key, value in _scan.members(head).items()}
        known = {key: fields[key] for key in Message.__struct_fields__ if key in fields}
        message = Message(**known)
        usage = _scan.last_object(tail or b"", b"usage") or _scan.last_object(head, b"usage")
        facts.finish_reason = _scan.last_word(tail or head, b"stop_reason")
    else:
        usage = mapping(tree(message.usage))
    note_identity(facts, message)
    if usage:
        note_usage(facts, usage)
    processing = word(message.processing_status)
    facts.deferred = processing is not None and processing != "ended"
    facts.error = error_code(tree(message.error))
    if status >= 400 and facts.error is None:
        facts.error = UNKNOWN
    facts.final = facts.usage is not None
    return facts


_KINDS: Final = {
    f'"{kind}"'.encode(): kind
    for kind in (
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
    )
}
"""The documented kinds of events, by their names as they stand in JSON."""

_DELTA: Final = Form(b"event: content_block_delta\ndata:", b"}\n\n", NO_LINE_END)


class AnthropicReader(SseReader):
    """Reads a stream of the Messages API."""

    __slots__ = ("_is_over", "_is_unread", "_merged")

    _ending = ending(("message_stop", "error"), rb'\{\s*"error"')

    def __init__(self) -> None:
        super().__init__()
        self._merged: dict[str, object] = {}
        """The usage object so far, later fields laid over earlier ones."""
        self._is_unread = False
        """Something was laid over since it was last read."""
        self._is_over = False
        """The message is over: the usage so far is all of it."""
        self.form = _DELTA

    def is_dull(self, data: bytes) -> bool:
        return _DELTA.fits(data)

    def _read_event(self, event: bytes, data: bytes) -> bool:
        message = read_message(data)
        if message is None:
            return False
        kind = (
            _KINDS.get(bytes(message.type))
            or name(message.type)
            or event.decode("ascii", "replace")
        )
        facts = self._answer
        if kind == "content_block_delta":
            if not self.token_seen:
                delta = mapping(tree(message.delta))
                self.token_seen = delta.get("type") != "signature_delta"
        elif kind == "message_start":
            start = read_message(bytes(message.message))
            if start is not None:
                note_identity(facts, start)
                self._lay_over(start.usage)
        elif kind == "message_delta":
            self._lay_over(message.usage)
            reason = word(mapping(tree(message.delta)).get("stop_reason"))
            facts.finish_reason = reason or facts.finish_reason
            self._is_over = facts.finish_reason is not None
        elif kind == "message_stop":
            self.ended = self._is_over = True
        elif kind == "error" or is_set(message.error):
            self.ended = True
            facts.error = error_code(tree(message.error)) or UNKNOWN
        return False

    def _lay_over(self, said: msgspec.Raw) -> None:
        """Lay a usage object over those before: the whole is read when somebody asks for it."""
        usage = tree(said) if len(bytes(said)) <= USAGE_BYTES_MAX else None
        merged = self._merged
        for key, value in mapping(usage).items():
            if key in _COUNTS:
                keeps = count(value) is not None
            else:
                keeps = key in _OTHERS or key in merged or len(merged) < USAGE_MEMBERS_MAX
            if keeps and value is not None:
                merged[key] = value
                self._is_unread = True

    def _settle(self) -> None:
        facts = self._answer
        if self._is_unread:
            self._is_unread = False
            note_usage(facts, self._merged)
        if self._is_over:
            facts.final = facts.usage is not None

    def _read_large_event(self, head: bytes, tail: bytes) -> None:
        """A large event here is a delta or a block of text: none of them carries usage."""
        self.token_seen = True
