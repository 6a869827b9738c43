"""The OpenAI family: OpenAI itself, Azure, and the many servers that speak its API."""

from __future__ import annotations

from taximeter.dialects import _edit, _operations, _output
from taximeter.dialects._contract import (
    AnswerFacts,
    Countable,
    Dialect,
    Operation,
    RequestFacts,
    StreamReader,
)
from taximeter.dialects._errors import error_line, openai_error
from taximeter.dialects._media import is_event_stream
from taximeter.dialects._openai_answer import read_openai_answer
from taximeter.dialects._openai_stream import OpenAiReader
from taximeter.dialects._openai_usual import USUAL_APIS, read_usual_answer
from taximeter.dialects._requests import read_json_request, read_multipart_request
from taximeter.dialects._text_openai import openai_countable


class OpenAi(Dialect):
    """Chat, completions, Responses, embeddings, images, audio, video, batches, files."""

    name = "openai"

    def operation(self, method: str, path: str) -> Operation:
        """See `Dialect.operation`."""
        return _operations.look_up(_operations.OPENAI, method, path)

    def read_request(
        self,
        operation: Operation,
        path: str,
        query: str,
        content_type: str,
        body: bytes,
        whole: bool,
    ) -> RequestFacts:
        """See `Dialect.read_request`. A classic Azure path names the deployment as the model."""
        if content_type.lower().startswith("multipart/"):
            facts = read_multipart_request(operation, content_type, body)
        else:
            facts = read_json_request(operation, body, whole)
        if facts.model is None:
            facts = _operations.with_model(facts, _operations.model_of(path, query))
        return facts

    def ask_usage(self, body: bytes) -> bytes | None:
        """See `Dialect.ask_usage`."""
        return _edit.ask_usage(body)

    def limit_output(self, operation: Operation, body: bytes, tokens_max: int) -> bytes | None:
        """See `Dialect.limit_output`."""
        return _output.limit_flat(_output.OPENAI, operation, body, tokens_max)

    def refuses_usage(self, status: int, body: bytes) -> bool:
        """See `Dialect.refuses_usage`."""
        return _edit.refuses_usage(status, body)

    def stream_reader(
        self, operation: Operation, provider: str | None, content_type: str, drop_usage: bool
    ) -> StreamReader | None:
        """See `Dialect.stream_reader`."""
        return OpenAiReader(provider, drop_usage) if is_event_stream(content_type) else None

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
        if tail is None and status < 400 and operation.api in USUAL_APIS:
            usual = read_usual_answer(head, provider)
            if usual is not None:
                return usual
        return read_openai_answer(operation, provider, status, head, tail)

    def refusal(self, status: int, code: str, message: str) -> bytes:
        """See `Dialect.refusal`."""
        return openai_error(status, code, message)

    def error_event(
        self, operation: Operation, content_type: str, code: str, message: str, call_id: str
    ) -> bytes | None:
        """See `Dialect.error_event`.

        The same for every endpoint: SDKs raise on an object with `error` in it, and on nothing
        else - the Responses API's own error event is handed to the caller like any other.
        """
        if not is_event_stream(content_type):
            return None
        body = openai_error(502, code, message, partial=True, call_id=call_id)
        return b"data: " + body + b"\n\n"

    def error_as_event(self, operation: Operation, body: bytes) -> bytes | None:
        """See `Dialect.error_as_event`."""
        said = error_line(body)
        return None if said is None else b"data: " + said + b"\n\n"

    def ping(self, operation: Operation, content_type: str) -> bytes | None:
        """See `Dialect.ping`."""
        return b": ping\n" if is_event_stream(content_type) else None

    def countable(
        self, operation: Operation, request: bytes | None, answer_type: str, answer: bytes | None
    ) -> Countable:
        """See `Dialect.countable`."""
        return openai_countable(operation, request, answer_type, answer)
