"""What a dialect answers: the contract between the relay and an API family's words.

A dialect says what the bodies and streams of one API family mean. It is pure: bytes in,
facts out, no clock, no I/O, no exception for anything an upstream or a client may send.
What it cannot read it leaves as None.

The relay passes bytes on whatever a dialect makes of them. A dialect has a say in them at
four places only: `ask_usage` (the request of a chat stream), `limit_output` (the request of
a caller whose output is limited), `StreamReader.feed` (which takes the extra usage event out
again) and the events of our own (`error_event`, `ping`, `refusal`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import msgspec

from taximeter.call import Usage
from taximeter.dialects._form import Form


class Operation(msgspec.Struct, frozen=True):
    """What a request asks for, told from its method and path alone."""

    name: str
    """`gen_ai.operation.name`: chat, text_completion, embeddings, generate_content,
    fetch_response, ... or `other`."""
    api: str
    """The endpoint family, a word of a closed set: chat_completions, responses, completions,
    embeddings, moderations, images, transcriptions, translations, speech, videos, batches,
    files, models, messages, generate_content, embed_content, count_tokens, ollama_chat,
    ollama_generate, ollama_embed, realtime, other."""
    free: bool = False
    """Its provider does not charge for it (models, files, moderations, token counting). True of
    listed methods and shapes alone: what is free is held to no model and to no budget."""
    fetch: bool = False
    """It fetches, or changes, what an earlier call made (`GET /responses/{id}`,
    `GET /batches/{id}`): billed only if that was not billed yet."""
    stream: bool = False
    """The path itself asks for a stream (Gemini's `:streamGenerateContent`)."""


class RequestFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says. Strings are at most 128 characters and printable."""

    model: str | None = None
    stream: bool = False
    service_tier: str | None = None
    user: str | None = None
    """`safety_identifier`, else `user`, else `metadata.user_id`: printable, and at most 128
    characters, for it is booked as it stands here."""
    asks_usage: bool = False
    """The client itself asked for usage in the stream."""
    can_ask_usage: bool = False
    """A stream that carries usage only if asked, and has not been asked."""
    batch: bool = False
    """Batch prices apply to what it makes."""
    input_characters: int | None = None
    """Length of the text to be spoken (speech), where that is what is priced."""
    images: int | None = None
    """Number of images asked for, where that is what is priced."""
    output_tokens_max: int | None = None
    """Most tokens asked for in one answer, from 1 on; None where no such number is given."""
    answers: int = 1
    """How many answers are asked for at once, each of up to `output_tokens_max`."""


class AnswerFacts(msgspec.Struct, kw_only=True):
    """What an answer says, whole or as far as it came."""

    response_id: str | None = None
    response_model: str | None = None
    service_tier: str | None = None
    price_variant: dict[str, str] = {}
    finish_reason: str | None = None
    usage: Usage | None = None
    final: bool = False
    """The usage is the generation's last word, not a figure on the way."""
    raw_usage: str | None = None
    """The usage object as compact JSON with every string longer than 32 characters or not
    matching [A-Za-z0-9_.-]+ taken out; at most 4,096 characters, else None."""
    error: str | None = None
    """The error's code, else its type, at most 64 characters of [A-Za-z0-9_.-]; for an error
    answer or an error event."""
    deferred: bool = False
    """The answer is not finished and will be fetched later (background run, batch)."""
    clamped: bool = False
    """The usage contradicted itself and was clamped."""


class Countable(msgspec.Struct, kw_only=True):
    """The text of a call, for counting its tokens. Lives in memory only."""

    input_parts: list[str] = []
    """Texts whose tokens are counted one by one and summed."""
    input_overhead_tokens: int = 0
    """Tokens of framing and of parts that are not text (images at a flat stated figure)."""
    output_parts: list[str] = []


class StreamReader(ABC):
    """Reads a stream's bytes as they pass. The relay's hot path: see `feed`."""

    __slots__ = ("answer", "at_boundary", "ended", "events", "form", "is_steady", "token_seen")

    def __init__(self) -> None:
        self.events = 0
        """Whole events (SSE) or lines (NDJSON) seen so far."""
        self.token_seen = False
        """An event that carries a token has been seen: not a role, not a `created`."""
        self.ended = False
        """The stream's end marker (`[DONE]`, `message_stop`, a terminal event, `done:true`)
        has been read; set in the very `feed` whose returned bytes hold it. A stream that has
        none (Gemini's events, images) is ended by `finish`, if its answer was complete."""
        self.at_boundary = True
        """The bytes released so far end between two events: after a blank line or a whole
        comment, and not between the two halves of a CRLF."""
        self.is_steady = False
        """A token has been seen and no event is open: whole events may be asked about."""
        self.form: Form | None = None
        """What the dull events of this stream look like, as far as is known. Whatever has this
        form is dull, and nothing need be asked about it."""
        self.answer = AnswerFacts()

    @property
    def ending_bytes(self) -> int:
        """How many of the last bytes fed, 64 KiB at most, are of an event that is still open and
        begins like the stream's end marker; 0 where `feed` holds such an event back itself.
        """
        return 0

    def is_dull(self, data: bytes) -> bool:
        """Tell, quickly, that `data` is exactly one event of a token, and of no other interest.

        To be asked of a reader that `is_steady`. Such data need not go through `feed`, which
        would give it back as it is; it is then the caller who counts the event.
        """
        return False

    @abstractmethod
    def feed(self, data: bytes) -> bytes:
        """Read `data` and give back the bytes to release to the client.

        That is `data` itself unless an event is to be taken out; then at most one event, and
        never more than 64 KiB, is held back until it is known. Never raises; takes time in
        proportion to `len(data)`, however the stream is cut; keeps at most 1 MiB.
        """

    @abstractmethod
    def finish(self) -> bytes:
        """Take note of the end of bytes and give back what is still held back.

        An event left open (no blank line) is still read for its usage.
        """


class Dialect(ABC):
    """One API family."""

    name: str

    @abstractmethod
    def operation(self, method: str, path: str) -> Operation:
        """Tell what a request asks for. `path` is below the upstream's base, without query."""

    @abstractmethod
    def read_request(
        self,
        operation: Operation,
        path: str,
        query: str,
        content_type: str,
        body: bytes,
        whole: bool,
    ) -> RequestFacts:
        """Read a request's body, or its beginning if not `whole`."""

    def ask_usage(self, body: bytes) -> bytes | None:
        """Give the body with `stream_options.include_usage` set, or None to leave it as it is.

        Nothing else of the body changes, byte for byte. In most families usage comes unasked.
        """
        return None

    @abstractmethod
    def limit_output(self, operation: Operation, body: bytes, tokens_max: int) -> bytes | None:
        """Give the body with each answer held to `tokens_max` (from 1 on) tokens.

        `body` itself where it asks for no more already, and where the operation writes no text
        (embeddings, images, files, ...). None, for the call to be refused, where it cannot be
        told for certain which bytes to change, and where the operation writes text but has no
        such field in its body (batches, realtime, a path that is not known). Nothing else of
        the body changes, byte for byte, so that `ask_usage` goes before it or after it.

        To be asked of every call under a limit, whatever `RequestFacts.output_tokens_max` says:
        that is what one reader makes of a body that two may read in two ways.
        """

    def refuses_usage(self, status: int, body: bytes) -> bool:
        """Tell whether an error answer says that `stream_options` is not known there."""
        return False

    @abstractmethod
    def stream_reader(
        self, operation: Operation, provider: str | None, content_type: str, drop_usage: bool
    ) -> StreamReader | None:
        """Make a reader for an answer of this content type; None if it is not a stream.

        With `drop_usage` the extra usage event (`choices` empty and `usage` non-null) is
        taken out of what `feed` releases.
        """

    @abstractmethod
    def read_answer(
        self,
        operation: Operation,
        provider: str | None,
        status: int,
        content_type: str,
        head: bytes,
        tail: bytes | None,
    ) -> AnswerFacts:
        """Read a plain answer: `head` is all of it, or its beginning with `tail` its end."""

    @abstractmethod
    def refusal(self, status: int, code: str, message: str) -> bytes:
        """Give the body of an error answer of our own, in the family's shape (JSON)."""

    @abstractmethod
    def error_event(
        self, operation: Operation, content_type: str, code: str, message: str, call_id: str
    ) -> bytes | None:
        """Give the event that ends a broken stream honestly (`partial: true`, the call id)."""

    def error_as_event(self, operation: Operation, body: bytes) -> bytes | None:
        """Give an error answer's body as the event that says it inside a stream.

        None if it is not of the family's shape, and where no stream is opened before its answer.
        """
        return None

    @abstractmethod
    def ping(self, operation: Operation, content_type: str) -> bytes | None:
        """Give the comment that keeps an idle stream alive, or None where none is harmless."""

    @abstractmethod
    def countable(
        self, operation: Operation, request: bytes | None, answer_type: str, answer: bytes | None
    ) -> Countable:
        """Give the text of a request's body and of an answer (whole, or a stream so far)."""
