"""The Ollama family: its native API, whose streams are one JSON object a line.

`/api/chat` and `/api/generate` stream unless they are told not to. The last line has
`"done": true` and the counts; its durations (nanoseconds) are kept with the raw usage.
"""

from __future__ import annotations

from typing import Final

import msgspec

from taximeter.call import Usage
from taximeter.dialects import _json, _operations, _output, _scan, _usage
from taximeter.dialects._contract import (
    AnswerFacts,
    Countable,
    Dialect,
    Operation,
    RequestFacts,
    StreamReader,
)
from taximeter.dialects._errors import UNKNOWN, error_code, ollama_error
from taximeter.dialects._json import ABSENT, is_set, is_true, mapping, name, tree, word
from taximeter.dialects._media import is_json_lines
from taximeter.dialects._output import stated
from taximeter.dialects._requests import read_json_request
from taximeter.dialects._sse import EVENT_BYTES_MAX
from taximeter.dialects._text_others import ollama_countable
from taximeter.dialects._usage import count


class Message(msgspec.Struct):
    """The fields looked at of a line or an answer, each still as its JSON text."""

    model: msgspec.Raw = ABSENT
    message: msgspec.Raw = ABSENT
    response: msgspec.Raw = ABSENT
    thinking: msgspec.Raw = ABSENT
    done: msgspec.Raw = ABSENT
    done_reason: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT
    prompt_eval_count: msgspec.Raw = ABSENT
    prompt_eval_cached_count: msgspec.Raw = ABSENT
    eval_count: msgspec.Raw = ABSENT
    total_duration: msgspec.Raw = ABSENT
    load_duration: msgspec.Raw = ABSENT
    prompt_eval_duration: msgspec.Raw = ABSENT
    eval_duration: msgspec.Raw = ABSENT


_decoder: Final = msgspec.json.Decoder(Message)

_USAGE_FIELDS: Final = Message.__struct_fields__[-7:]
_MESSAGE_TEXTS: Final = ("content", "thinking", "tool_calls")


def _note(facts: AnswerFacts, message: Message) -> None:
    facts.response_model = name(message.model) or facts.response_model
    facts.finish_reason = word(message.done_reason) or facts.finish_reason
    if is_set(message.error):
        facts.error = error_code(tree(message.error)) or facts.error
    usage = {field: tree(raw) for field in _USAGE_FIELDS if is_set(raw := getattr(message, field))}
    figures = Usage(
        input_tokens=count(usage.get("prompt_eval_count")),
        output_tokens=count(usage.get("eval_count")),
        cached_tokens=count(usage.get("prompt_eval_cached_count")),
    )
    _usage.note(facts, figures, usage)


def _has_token(message: Message) -> bool:
    parts = mapping(tree(message.message))
    return (
        bool(tree(message.response))
        or bool(tree(message.thinking))
        or any(parts.get(field) for field in _MESSAGE_TEXTS)
    )


class LineReader(StreamReader):
    """Reads one JSON object a line. A line longer than 1 MiB is passed on unread."""

    __slots__ = ("_carry", "_skips")

    def __init__(self) -> None:
        super().__init__()
        self._carry = bytearray()
        self._skips = False
        """The unfinished line has outgrown what is kept."""

    def feed(self, data: bytes) -> bytes:
        """Read `data` and give it back: nothing is ever taken out here."""
        if (
            self.token_seen
            and self.at_boundary
            and data[-2:] == b"}\n"
            and data.find(b"\n") == len(data) - 1
            and data.find(b'"done":false') >= 0
            and data.find(b'"error"') < 0
        ):
            self.events += 1
            return data
        lines = data.split(b"\n")
        for line in lines[:-1]:
            if self._carry:
                line = bytes(self._carry) + line
                self._carry = bytearray()
            if self._skips:
                self._skips = False
                self.events += 1
            elif line.strip():
                self.events += 1
                self._read_line(line)
        rest = lines[-1]
        if not self._skips and rest:
            self._carry += rest
            if len(self._carry) > EVENT_BYTES_MAX:
                self._carry = bytearray()
                self._skips = True
        if data:
            self.at_boundary = not rest
        return data

    def finish(self) -> bytes:
        """Read a last line that no line end closed."""
        if self._carry.strip():
            self._read_line(bytes(self._carry))
        self._carry = bytearray()
        return b""

    def _read_line(self, line: bytes) -> None:
        message = _json.read(_decoder, line)
        if message is None:
            return
        self.token_seen = self.token_seen or _has_token(message)
        _note(self.answer, message)
        if is_true(message.done) or is_set(message.error):
            self.ended = True
            self.answer.final = self.answer.usage is not None


class Ollama(Dialect):
    """Chat, generation and embeddings of Ollama's own API."""

    name = "ollama"

    def operation(self, method: str, path: str) -> Operation:
        """See `Dialect.operation`."""
        return _operations.look_up(_operations.OLLAMA, method, path)

    def read_request(
        self,
        operation: Operation,
        path: str,
        query: str,
        content_type: str,
        body: bytes,
        whole: bool,
    ) -> RequestFacts:
        """See `Dialect.read_request`. Chat and generation stream unless `stream` is false."""
        facts = read_json_request(operation, body, whole)
        streams = operation.api in ("ollama_chat", "ollama_generate")
        own = (_json.read(_request_decoder, body) if whole else None) or _NOTHING
        text = bytes(own.options)
        options = (_json.read(_options_decoder, text) if text else None) or _NO_OPTIONS
        return msgspec.structs.replace(
            facts,
            stream=streams and bytes(own.stream) != b"false",
            output_tokens_max=stated(options.num_predict),
        )

    def limit_output(self, operation: Operation, body: bytes, tokens_max: int) -> bytes | None:
        """See `Dialect.limit_output`."""
        return _output.limit_ollama(operation, body, tokens_max)

    def stream_reader(
        self, operation: Operation, provider: str | None, content_type: str, drop_usage: bool
    ) -> StreamReader | None:
        """See `Dialect.stream_reader`."""
        return LineReader() if is_json_lines(content_type) else None

    def read_answer(
        self,
        operation: Operation,
        provider: str | None,
        status: int,
        content_type: str,
        head: bytes,
        tail: bytes | None,
    ) -> AnswerFacts:
        """See `Dialect.read_answer`."""
        facts = AnswerFacts()
        body = head if tail is None else b""
        message = _json.read(_decoder, body)
        if message is None:
            members = _scan.members(head)
            message = Message(
                **{
                    key: msgspec.Raw(members[key])
                    for key in Message.__struct_fields__
                    if key in members
                }
            )
        _note(facts, message)
        if status >= 400 and facts.error is None and head.lstrip()[:1] == b"{":
            facts.error = UNKNOWN
        facts.final = facts.usage is not None
        return facts

    def refusal(self, status: int, code: str, message: str) -> bytes:
        """See `Dialect.refusal`."""
        return ollama_error(code, message)

    def error_event(
        self, operation: Operation, content_type: str, code: str, message: str, call_id: str
    ) -> bytes | None:
        """See `Dialect.error_event`. The error is a text here, so the rest stands beside it."""
        if not is_json_lines(content_type):
            return None
        return ollama_error(code, message, partial=True, call_id=call_id) + b"\n"

    def ping(self, operation: Operation, content_type: str) -> bytes | None:
        """See `Dialect.ping`. A line cannot be a comment."""
        return None

    def countable(
        self, operation: Operation, request: bytes | None, answer_type: str, answer: bytes | None
    ) -> Countable:
        """See `Dialect.countable`."""
        return ollama_countable(operation, request, answer_type, answer)


class _Request(msgspec.Struct):
    """The fields that mean something else here, or nothing elsewhere."""

    stream: msgspec.Raw = ABSENT
    options: msgspec.Raw = ABSENT


class _Options(msgspec.Struct):
    num_predict: msgspec.Raw = ABSENT


_request_decoder: Final = msgspec.json.Decoder(_Request)
_options_decoder: Final = msgspec.json.Decoder(_Options)
_NOTHING: Final = _Request()
_NO_OPTIONS: Final = _Options()
