"""The Anthropic family: the Messages API, at Anthropic and wherever else it is spoken."""

from __future__ import annotations

import msgspec

from taximeter.dialects import _operations, _output
from taximeter.dialects._anthropic_message import AnthropicReader, read_anthropic_answer
from taximeter.dialects._contract import (
    AnswerFacts,
    Countable,
    Dialect,
    Operation,
    RequestFacts,
    StreamReader,
)
from taximeter.dialects._errors import anthropic_error, error_line
from taximeter.dialects._media import is_event_stream
from taximeter.dialects._requests import read_json_request
from taximeter.dialects._text_others import anthropic_countable


class Anthropic(Dialect):
    """Messages, their batches, token counting."""

    name = "anthropic"

    def operation(self, method: str, path: str) -> Operation:
        """See `Dialect.operation`. On Vertex AI the path says whether it streams."""
        found = _operations.look_up(_operations.ANTHROPIC, method, path)
        if path.endswith(":streamRawPredict"):
            return msgspec.structs.replace(found, stream=True)
        return found

    def read_request(
        self,
        operation: Operation,
        path: str,
        query: str,
        content_type: str,
        body: bytes,
        whole: bool,
    ) -> RequestFacts:
        """See `Dialect.read_request`."""
        facts = read_json_request(operation, body, whole)
        if facts.model is None:
            facts = _operations.with_model(facts, _operations.model_of(path, ""))
        if operation.stream:
            facts = msgspec.structs.replace(facts, stream=True)
        return facts

    def limit_output(self, operation: Operation, body: bytes, tokens_max: int) -> bytes | None:
        """See `Dialect.limit_output`."""
        return _output.limit_flat(_output.ANTHROPIC, operation, body, tokens_max)

    def stream_reader(
        self, operation: Operation, provider: str | None, content_type: str, drop_usage: bool
    ) -> StreamReader | None:
        """See `Dialect.stream_reader`."""
        return AnthropicReader() if is_event_stream(content_type) else None

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
        return read_anthropic_answer(status, head, tail)

    def refusal(self, status: int, code: str, message: str) -> bytes:
        """See `Dialect.refusal`."""
        return anthropic_error(status, code, message)

    def error_event(
        self, operation: Operation, content_type: str, code: str, message: str, call_id: str
    ) -> bytes | None:
        """See `Dialect.error_event`."""
        if not is_event_stream(content_type):
            return None
        body = anthropic_error(502, code, message, partial=True, call_id=call_id)
        return b"event: error\ndata: " + body + b"\n\n"

    def error_as_event(self, operation: Operation, body: bytes) -> bytes | None:
        """See `Dialect.error_as_event`."""
        said = error_line(body)
        return None if said is None else b"event: error\ndata: " + said + b"\n\n"

    def ping(self, operation: Operation, content_type: str) -> bytes | None:
        """See `Dialect.ping`."""
        return b": ping\n" if is_event_stream(content_type) else None

    def countable(
        self, operation: Operation, request: bytes | None, answer_type: str, answer: bytes | None
    ) -> Countable:
        """See `Dialect.countable`."""
        return anthropic_countable(request, answer_type, answer)
