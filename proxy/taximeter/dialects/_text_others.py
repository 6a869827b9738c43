"""The text of requests and answers of the anthropic, gemini and ollama families."""

from __future__ import annotations

from taximeter.dialects._contract import Countable, Operation
from taximeter.dialects._json import mapping, sequence
from taximeter.dialects._text import (
    IMAGE_TOKENS,
    MESSAGE_TOKENS,
    REPLY_TOKENS,
    Collector,
    answer_objects,
    chat_message,
    compact,
    request_members,
)

# Anthropic ------------------------------------------------------------------------------------


def anthropic_countable(request: bytes | None, answer_type: str, answer: bytes | None) -> Countable:
    """Give the text of a call of the Messages API: see `Dialect.countable`."""
    collector = Collector()
    body = request_members(request)
    if "system" in body:
        collector.overhead(MESSAGE_TOKENS)
        collector.content(body["system"])
    for message in sequence(body.get("messages")):
        chat_message(collector, message)
    for tool in sequence(body.get("tools")):
        collector.schema(tool)
    collector.text(body.get("prompt"))
    if body:
        collector.overhead(REPLY_TOKENS)
    for _, item in answer_objects(collector, answer_type, answer):
        _anthropic_item(collector, item)
    return collector.result()


def _anthropic_item(collector: Collector, item: dict[str, object]) -> None:
    index = str(item.get("index"))
    delta = mapping(item.get("delta"))
    for field in ("text", "thinking", "partial_json", "content"):
        collector.output(delta.get(field), index)
    block = mapping(item.get("content_block"))
    for field in ("text", "thinking"):
        collector.output(block.get(field), index)
    collector.output(block.get("name"), "name", index)
    for number, value in enumerate(sequence(item.get("content"))):
        block = mapping(value)
        for field in ("text", "thinking", "name"):
            collector.output(block.get(field), field, number)
        if block.get("input"):
            collector.output(compact(block["input"]), "input", number)
    collector.output(item.get("completion"), "completion")


# Gemini ---------------------------------------------------------------------------------------


def gemini_countable(request: bytes | None, answer_type: str, answer: bytes | None) -> Countable:
    """Give the text of a call of Gemini's native API: see `Dialect.countable`."""
    collector = Collector()
    body = request_members(request)
    system = body.get("systemInstruction") or body.get("system_instruction")
    given = body.get("contents") or body.get("content")
    contents = given if isinstance(given, list) else [given]
    asked = [mapping(item).get("content") for item in sequence(body.get("requests"))]
    for content in [system, *contents, *asked]:
        if content:
            collector.overhead(MESSAGE_TOKENS)
            _gemini_content(collector, content)
    collector.content(body.get("input"))
    for tool in sequence(body.get("tools")):
        collector.schema(tool)
    if body:
        collector.overhead(REPLY_TOKENS)
    for event, item in answer_objects(collector, answer_type, answer):
        _gemini_item(collector, event, item)
    return collector.result()


def _gemini_content(collector: Collector, content: object) -> None:
    if isinstance(content, str):
        collector.text(content)
    for value in sequence(mapping(content).get("parts")):
        part = mapping(value)
        collector.text(part.get("text"))
        data = mapping(part.get("inlineData") or part.get("inline_data") or part.get("fileData"))
        kind = data.get("mimeType") or data.get("mime_type")
        if isinstance(kind, str) and kind.startswith("image/"):
            collector.overhead(IMAGE_TOKENS)
        for key in ("functionCall", "functionResponse"):
            collector.schema(part.get(key))


def _gemini_item(collector: Collector, event: str, item: dict[str, object]) -> None:
    for number, value in enumerate(sequence(item.get("candidates"))):
        candidate = mapping(value)
        index = str(candidate.get("index", number))
        for given in sequence(mapping(candidate.get("content")).get("parts")):
            part = mapping(given)
            thought = part.get("thought") is True
            collector.output(part.get("text"), "thought" if thought else "text", index)
            call = mapping(part.get("functionCall"))
            collector.output(call.get("name"), "name", index)
            if call.get("args"):
                collector.output(compact(call["args"]), "args", index)
    delta = mapping(item.get("delta"))
    collector.output(delta.get("text"), "delta", str(item.get("index")))
    if not event:
        for number, value in enumerate(sequence(item.get("outputs"))):
            collector.output(mapping(value).get("text"), "output", number)


# Ollama ---------------------------------------------------------------------------------------


def ollama_countable(
    operation: Operation, request: bytes | None, answer_type: str, answer: bytes | None
) -> Countable:
    """Give the text of a call of Ollama's own API: see `Dialect.countable`."""
    collector = Collector()
    body = request_members(request)
    for message in sequence(body.get("messages")):
        chat_message(collector, message)
    for field in ("system", "prompt", "suffix"):
        collector.text(body.get(field))
    collector.content(body.get("input"))
    for tool in sequence(body.get("tools")):
        collector.schema(tool)
    for _ in sequence(body.get("images")):
        collector.overhead(IMAGE_TOKENS)
    if body and operation.api != "ollama_embed":
        collector.overhead(REPLY_TOKENS)
    for _, item in answer_objects(collector, answer_type, answer):
        message = mapping(item.get("message"))
        for field, value in (
            ("thinking", item.get("thinking") or message.get("thinking")),
            ("content", item.get("response") or message.get("content")),
        ):
            collector.output(value, field)
        for call in sequence(message.get("tool_calls")):
            function = mapping(mapping(call).get("function"))
            collector.output(function.get("name"), "name")
            if function.get("arguments"):
                collector.output(compact(function["arguments"]), "arguments")
    return collector.result()
