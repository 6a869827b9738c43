"""The text of requests and answers of the OpenAI family."""

from __future__ import annotations

from taximeter.dialects._contract import Countable, Operation
from taximeter.dialects._json import mapping, sequence
from taximeter.dialects._text import (
    MESSAGE_TOKENS,
    REPLY_TOKENS,
    Collector,
    answer_objects,
    chat_message,
    request_members,
)


def openai_countable(
    operation: Operation, request: bytes | None, answer_type: str, answer: bytes | None
) -> Countable:
    """Give the text of a call: see `Dialect.countable`."""
    collector = Collector()
    _read_request(collector, operation, request_members(request))
    for event, item in answer_objects(collector, answer_type, answer):
        _read_answer(collector, event, item)
    return collector.result()


def _read_request(collector: Collector, operation: Operation, body: dict[str, object]) -> None:
    if "messages" in body:
        for message in sequence(body["messages"]):
            chat_message(collector, message)
        collector.overhead(REPLY_TOKENS)
    if "prompt" in body:
        _strings_or_ids(collector, body["prompt"])
    if "input" in body:
        if operation.api == "responses":
            _responses_input(collector, body)
        else:
            _strings_or_ids(collector, body["input"])
    for tool in [*sequence(body.get("tools")), *sequence(body.get("functions"))]:
        collector.schema(tool)
    schema = mapping(body.get("response_format")).get("json_schema")
    collector.schema(schema or mapping(mapping(body.get("text")).get("format")).get("schema"))


def _responses_input(collector: Collector, body: dict[str, object]) -> None:
    if isinstance(body.get("instructions"), str):
        collector.overhead(MESSAGE_TOKENS)
        collector.text(body["instructions"])
    given = body["input"]
    for item in [given] if isinstance(given, str) else sequence(given):
        collector.overhead(MESSAGE_TOKENS)
        collector.text(mapping(item).get("role"))
        collector.content(item)
    collector.overhead(REPLY_TOKENS)


def _strings_or_ids(collector: Collector, value: object, depth: int = 2) -> None:
    """Count a text, a list of texts, or lists of token ids: each id is one token."""
    if isinstance(value, str):
        collector.text(value)
    elif depth:
        items = sequence(value)
        collector.overhead(sum(1 for item in items if isinstance(item, int)))
        for item in items:
            _strings_or_ids(collector, item, depth - 1)


def _read_answer(collector: Collector, event: str, item: dict[str, object]) -> None:
    for value in sequence(item.get("choices")):
        choice = mapping(value)
        index = choice.get("index")
        collector.output(choice.get("text"), "text", str(index))
        _message(collector, mapping(choice.get("delta") or choice.get("message")), str(index))
    kind = item.get("type")
    kind = kind if isinstance(kind, str) else event
    if kind.endswith(".delta"):
        collector.output(
            item.get("delta"),
            kind,
            str(item.get("item_id")),
            str(item.get("output_index")),
            str(item.get("content_index")),
        )
    elif kind == "response.output_item.added":
        added = mapping(item.get("item"))
        collector.output(added.get("name"), "name", str(item.get("output_index")))
    if not event and "output" in item:
        _responses_output(collector, sequence(item["output"]))
    if not event and not kind and "choices" not in item:
        collector.output(item.get("text"), "text")


def _message(collector: Collector, message: dict[str, object], index: str) -> None:
    for field in ("content", "refusal"):
        collector.output(message.get(field), field, index)
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    collector.output(reasoning, "reasoning", index)
    collector.output(mapping(message.get("audio")).get("transcript"), "audio", index)
    calls = [mapping(call) for call in sequence(message.get("tool_calls"))]
    for position, call in enumerate(calls):
        function = mapping(call.get("function"))
        number = str(call.get("index", position))
        collector.output(function.get("name"), "name", index, number)
        collector.output(function.get("arguments"), "arguments", index, number)
    function = mapping(message.get("function_call"))
    collector.output(function.get("name"), "name", index)
    collector.output(function.get("arguments"), "arguments", index)


def _responses_output(collector: Collector, items: list[object]) -> None:
    for number, value in enumerate(items):
        item = mapping(value)
        collector.output(item.get("name"), "name", number)
        collector.output(item.get("arguments"), "arguments", number)
        parts = [*sequence(item.get("content")), *sequence(item.get("summary"))]
        for position, part in enumerate(parts):
            for field in ("text", "refusal", "transcript"):
                collector.output(mapping(part).get(field), field, number, position)
