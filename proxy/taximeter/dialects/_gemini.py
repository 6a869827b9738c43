"""The Gemini family: Google's native API, at the Gemini API and on Vertex AI."""

from __future__ import annotations

from typing import Final

import msgspec

from taximeter.dialects import _json, _operations, _output
from taximeter.dialects._contract import (
    AnswerFacts,
    Countable,
    Dialect,
    Operation,
    RequestFacts,
    StreamReader,
)
from taximeter.dialects._errors import gemini_error
from taximeter.dialects._gemini_message import read_gemini_answer
from taximeter.dialects._gemini_stream import GeminiArrayReader, GeminiSseReader
from taximeter.dialects._media import is_event_stream, is_json
from taximeter.dialects._output import most
from taximeter.dialects._requests import read_json_request
from taximeter.dialects._text_others import gemini_countable


class _Request(msgspec.Struct, rename="camel"):
    """The fields that other families do not have."""

    service_tier: msgspec.Raw = _json.ABSENT
    generation_config: msgspec.Raw = _json.ABSENT
    snake_config: msgspec.Raw = msgspec.field(default=_json.ABSENT, name="generation_config")


class _Config(msgspec.Struct, rename="camel"):
    max_output_tokens: msgspec.Raw = _json.ABSENT
    candidate_count: msgspec.Raw = _json.ABSENT
    snake_tokens: msgspec.Raw = msgspec.field(default=_json.ABSENT, name="max_output_tokens")
    snake_count: msgspec.Raw = msgspec.field(default=_json.ABSENT, name="candidate_count")


_decoder: Final = msgspec.json.Decoder(_Request)
_config_decoder: Final = msgspec.json.Decoder(_Config)
_NOTHING: Final = _Request()
_NO_CONFIG: Final = _Config()


class Gemini(Dialect):
    """generateContent and its stream, embeddings, token counting, interactions."""

    name = "gemini"

    def operation(self, method: str, path: str) -> Operation:
        """See `Dialect.operation`."""
        return _operations.look_up(_operations.GEMINI, method, path)

    def read_request(
        self,
        operation: Operation,
        path: str,
        query: str,
        content_type: str,
        body: bytes,
        whole: bool,
    ) -> RequestFacts:
        """See `Dialect.read_request`. The model is in the path, but for interactions."""
        facts = read_json_request(operation, body, whole)
        model = _operations.model_of(path, "") or facts.model
        own = (_json.read(_decoder, body) if whole else None) or _NOTHING
        text = bytes(own.generation_config or own.snake_config)
        config = (_json.read(_config_decoder, text) if text else None) or _NO_CONFIG
        counts = (config.candidate_count, config.snake_count)
        answers = most(counts) if any(map(_json.is_set, counts)) else 1
        output = most((config.max_output_tokens, config.snake_tokens))
        return msgspec.structs.replace(
            facts,
            model=model,
            stream=operation.stream or facts.stream,
            service_tier=facts.service_tier or _json.word(own.service_tier),
            output_tokens_max=None if answers is None else output,
            answers=answers or 1,
        )

    def limit_output(self, operation: Operation, body: bytes, tokens_max: int) -> bytes | None:
        """See `Dialect.limit_output`."""
        return _output.limit_gemini(operation, body, tokens_max)

    def stream_reader(
        self, operation: Operation, provider: str | None, content_type: str, drop_usage: bool
    ) -> StreamReader | None:
        """See `Dialect.stream_reader`. Without `alt=sse` a stream is a JSON array."""
        if is_event_stream(content_type):
            return GeminiSseReader()
        return GeminiArrayReader() if operation.stream and is_json(content_type) else None

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
        return read_gemini_answer(operation, status, head, tail)

    def refusal(self, status: int, code: str, message: str) -> bytes:
        """See `Dialect.refusal`."""
        return gemini_error(status, code, message)

    def error_event(
        self, operation: Operation, content_type: str, code: str, message: str, call_id: str
    ) -> bytes | None:
        """See `Dialect.error_event`. Google's SDK raises only if `error` is the first key."""
        if not is_event_stream(content_type):
            return None
        body = gemini_error(503, code, message, partial=True, call_id=call_id)
        return b"data: " + body + b"\r\n\r\n"

    def ping(self, operation: Operation, content_type: str) -> bytes | None:
        """See `Dialect.ping`. Google's SDK takes a comment for JSON: there is no harmless one."""
        return None

    def countable(
        self, operation: Operation, request: bytes | None, answer_type: str, answer: bytes | None
    ) -> Countable:
        """See `Dialect.countable`."""
        return gemini_countable(request, answer_type, answer)
