"""The text of requests and answers, for counting tokens where none were reported.

Rules, stated because every count made this way is an estimate:

- A chat message costs `MESSAGE_TOKENS` beside its texts, a name one more, and the answer's
  beginning `REPLY_TOKENS` (OpenAI's published rule; taken for all families).
- Tools and schemas are counted as the compact JSON they come as.
- An image costs `IMAGE_TOKENS` whatever its size: its dimensions are not looked at. Audio, video
  and files are not counted; nor is reasoning that is not shown.
- Deltas of one stream that belong together are joined before they are counted, since a token
  may have been sent in two pieces.

Texts are handed over in memory and kept nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from taximeter.dialects._contract import Countable
from taximeter.dialects._json import mapping, sequence, tree
from taximeter.dialects._media import is_event_stream, is_json_lines
from taximeter.dialects._sse import events_of

MESSAGE_TOKENS: Final = 3
REPLY_TOKENS: Final = 3
IMAGE_TOKENS: Final = 85
"""What a small picture costs with most of OpenAI's models; larger ones cost more."""

_DEPTH_MAX: Final = 12

_IMAGE_TYPES: Final = frozenset({"image_url", "input_image", "image", "image_file"})
_TEXT_KEYS: Final = (
    "text",
    "content",
    "thinking",
    "refusal",
    "arguments",
    "output",
    "summary",
    "title",
    "context",
)
_BROKEN_TEXT: Final = re.compile(
    rb'"(?:content|text|refusal|reasoning|reasoning_content|thinking|arguments|response)"'
    rb'\s*:\s*("[^"\\]*(?:\\.[^"\\]*)*)("?)',
    re.DOTALL,
)


def compact(value: object) -> str:
    """Give a JSON value as compact text."""
    return msgspec.json.encode(value).decode()


class Collector:
    """Gathers a call's texts, the answer's by what they belong to."""

    def __init__(self) -> None:
        self._inputs: list[str] = []
        self._overhead_tokens = 0
        self._outputs: dict[tuple[object, ...], list[str]] = {}

    def text(self, value: object) -> None:
        """Count a text of the request, if it is one."""
        if isinstance(value, str) and value:
            self._inputs.append(value)

    def schema(self, value: object) -> None:
        """Count a JSON value of the request (a tool, a schema) as compact JSON text."""
        if value:
            self._inputs.append(compact(value))

    def overhead(self, tokens: int) -> None:
        """Count tokens of framing."""
        self._overhead_tokens += tokens

    def content(self, value: object, depth: int = _DEPTH_MAX) -> None:
        """Count what a message holds: a text, a list of parts, or one part."""
        if isinstance(value, str):
            self.text(value)
        elif depth == 0:
            return
        elif isinstance(value, list):
            for item in value:
                self.content(item, depth - 1)
        elif isinstance(value, dict):
            self._part(value, depth - 1)

    def _part(self, part: dict[str, object], depth: int) -> None:
        if part.get("type") in _IMAGE_TYPES:
            self.overhead(IMAGE_TOKENS)
            return
        for key in _TEXT_KEYS:
            if key in part:
                self.content(part[key], depth)
        if part.get("type") in ("tool_use", "function_call", "custom_tool_call", "mcp_call"):
            self.text(part.get("name"))
            given = part.get("input")
            self.content(given) if isinstance(given, str) else self.schema(given)

    def output(self, value: object, *owner: object) -> None:
        """Count a text of the answer; texts of one owner are one text."""
        if isinstance(value, str) and value:
            self._outputs.setdefault(owner, []).append(value)

    def result(self) -> Countable:
        """Give all that was gathered."""
        return Countable(
            input_parts=self._inputs,
            input_overhead_tokens=self._overhead_tokens,
            output_parts=["".join(pieces) for pieces in self._outputs.values()],
        )


def request_members(request: bytes | None) -> dict[str, object]:
    """Give a request's outermost members, none if it is no JSON object.

    A request that was kept in part only is not one: no part of it is counted for the whole.
    """
    return mapping(tree(request)) if request else {}


def chat_message(collector: Collector, value: object) -> None:
    """Count one message of a chat, in the shape most families share."""
    message = mapping(value)
    collector.overhead(MESSAGE_TOKENS)
    collector.text(message.get("role"))
    collector.content(message.get("content"))
    collector.content(message.get("refusal"))
    collector.content(message.get("thinking") or message.get("reasoning_content"))
    if isinstance(message.get("name"), str):
        collector.text(message["name"])
        collector.overhead(1)
    for call in sequence(message.get("tool_calls")):
        function = mapping(mapping(call).get("function"))
        collector.text(function.get("name"))
        arguments = function.get("arguments")
        collector.text(arguments) if isinstance(arguments, str) else collector.schema(arguments)
    for _ in sequence(message.get("images")):
        collector.overhead(IMAGE_TOKENS)


def answer_objects(
    collector: Collector, answer_type: str, answer: bytes | None
) -> Iterator[tuple[str, dict[str, object]]]:
    """Give the objects of an answer, whole or broken off, with the event's name if it has one.

    What is left of an object that was cut off is searched for texts, which are counted as one
    output each.
    """
    if not answer:
        return
    if is_event_stream(answer_type):
        for event, data in events_of(answer):
            yield from _object(collector, event.decode("ascii", "replace"), data)
    elif is_json_lines(answer_type):
        for line in answer.split(b"\n"):
            yield from _object(collector, "", line)
    else:
        whole = tree(answer)
        for item in whole if isinstance(whole, list) else [whole]:
            if isinstance(item, dict):
                yield "", item
        if whole is None:
            _broken(collector, answer)


def _object(
    collector: Collector, event: str, data: bytes
) -> Iterator[tuple[str, dict[str, object]]]:
    if not data.strip() or data.startswith(b"[DONE]"):
        return
    found = tree(data)
    if isinstance(found, dict):
        yield event, found
    elif found is None:
        _broken(collector, data)


def _broken(collector: Collector, data: bytes) -> None:
    for number, text in enumerate(_broken_texts(data)):
        collector.output(text, "broken", number)


def _broken_texts(data: bytes) -> Iterator[object]:
    """Give the texts that a cut-off JSON value holds, the last one as far as it came."""
    for match in _BROKEN_TEXT.finditer(data):
        closed = match[1] + b'"'
        text = tree(closed)
        if text is None and not match[2]:
            text = tree(closed.rstrip(b'"\\u0123456789abcdefABCDEF') + b'"')  # cut in an escape
        yield text
