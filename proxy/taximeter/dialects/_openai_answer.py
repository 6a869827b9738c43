"""Plain answers of the OpenAI family: whole, or as much of them as was kept.

A body of many megabytes (images) is kept as its beginning and its end; it is not decoded.
Names are then taken from the beginning, usage from the last usage object of the end.
"""

from __future__ import annotations

from taximeter.dialects import _scan
from taximeter.dialects._contract import AnswerFacts, Operation
from taximeter.dialects._errors import UNKNOWN, error_code, error_word
from taximeter.dialects._json import is_set, name, tree, word
from taximeter.dialects._openai_message import (
    Message,
    note_choices,
    note_message,
    note_status,
    note_usage,
    read_message,
)


def read_openai_answer(
    operation: Operation, provider: str | None, status: int, head: bytes, tail: bytes | None
) -> AnswerFacts:
    """Read an answer: see `Dialect.read_answer`."""
    facts = AnswerFacts()
    body = head.lstrip()
    if body.removeprefix(b"\xef\xbb\xbf")[:1] != b"{":
        return facts
    message = read_message(body) if tail is None else None
    if message is None:
        _read_ends(facts, provider, head, tail or b"")
    else:
        _read_whole(facts, message, operation, provider)
    if status >= 400 and facts.error is None and message is not None:
        # Some servers put the error's fields at the top (older vLLM: {"object": "error", ...}).
        facts.error = error_word(tree(message.code)) or word(message.type) or UNKNOWN
    return facts


def _read_whole(
    facts: AnswerFacts, message: Message, operation: Operation, provider: str | None
) -> None:
    note_message(facts, message, provider)
    finished = note_status(facts, message)
    if is_set(message.choices):
        note_choices(facts, tree(message.choices))
    # A batch counts up while it runs: its usage is its last word only when it has ended.
    facts.final = facts.usage is not None and finished
    if operation.free:
        facts.deferred = False


def _read_ends(facts: AnswerFacts, provider: str | None, head: bytes, tail: bytes) -> None:
    members = _scan.members(head)
    facts.response_id = name(tree(members.get("id", b"")))
    facts.response_model = name(tree(members.get("model", b"")))
    facts.service_tier = word(tree(members.get("service_tier", b""))) or _scan.last_word(
        tail, b"service_tier"
    )
    facts.finish_reason = _scan.last_word(tail or head, b"finish_reason")
    facts.error = error_code(tree(members.get("error", b"")))
    usage = _scan.last_object(tail, b"usage") or _scan.last_object(head, b"usage")
    note_usage(facts, usage, provider)
    facts.final = facts.usage is not None
