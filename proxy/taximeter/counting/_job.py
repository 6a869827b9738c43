"""What is asked of the counting process, what it answers, and the rule of last resort."""

from __future__ import annotations

import msgspec

from taximeter.dialects import Operation

BYTES_RULE = "bytes/4"
"""Name of the rule of last resort: see `tokens_from_bytes`."""

COUNTABLE_APIS = frozenset(
    {
        "chat_completions",
        "completions",
        "responses",
        "embeddings",
        "messages",
        "generate_content",
        "embed_content",
        "ollama_chat",
        "ollama_generate",
        "ollama_embed",
    }
)
"""Calls whose tokens are a matter of text."""

LENGTH_BYTES = 4
"""A frame between the two processes is its length, big endian, and its bytes."""


class CountJob(msgspec.Struct, frozen=True, kw_only=True):
    """A call whose tokens are to be counted. Holds its text: lives in memory only."""

    dialect: str
    """The dialect's name."""
    path: str
    """Path below the upstream's base, without query."""
    operation: Operation
    model: str | None
    request: bytes | None = None
    """The request's body, decoded from any content coding; None if it was not kept."""
    request_bytes_total: int | None = None
    """Its whole size, if `request` is its beginning only."""
    answer_type: str = ""
    """The answer's content type."""
    answer: bytes | None = None
    """The answer, or a stream as far as it was kept; None if none of it was."""
    answer_bytes_total: int | None = None
    """Its whole size, if `answer` is its beginning only."""
    text_bytes_in: int | None = None
    """Size of the request's text, for the rule of last resort; None if not known."""
    text_bytes_out: int | None = None

    @property
    def bytes_held(self) -> int:
        """What it takes of memory."""
        return len(self.request or b"") + len(self.answer or b"")


class TokenCount(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of a call, counted or estimated by us. None is unknown, 0 is none."""

    input_tokens: int | None
    output_tokens: int | None
    rule: str
    """How they were counted: `o200k_base`, `cl100k_base`, one of them with ` (assumed)`, or
    `bytes/4`; two of them joined by `, ` where input and output differ, and with ` (partial)`
    at the end if `partial`."""
    partial: bool = False
    """Not all of the text was there to count, or it was too long: the rest in proportion."""


class Success(msgspec.Struct, frozen=True, tag="success"):
    """A job's count."""

    count: TokenCount


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """A job could not be counted. Names the kind of error, never its words: they may quote."""

    kind: str


Answer = Success | Failure
"""What the counting process makes of a job."""


def tokens_from_bytes(text_bytes: int) -> int:
    """Estimate the tokens of a text from its size: a quarter of its UTF-8 bytes, rounded up.

    English comes to four or five bytes a token, code to three or four, Chinese and Japanese
    to three: the estimate may be a third off either way. It is used only where text cannot
    be counted, and is named `bytes/4` wherever it was.
    """
    return -(-text_bytes // 4)


def by_bytes(job: CountJob) -> TokenCount:
    """Estimate a job by the rule of last resort, as far as its sizes are known."""
    return TokenCount(
        input_tokens=None if job.text_bytes_in is None else tokens_from_bytes(job.text_bytes_in),
        output_tokens=(
            None if job.text_bytes_out is None else tokens_from_bytes(job.text_bytes_out)
        ),
        rule=BYTES_RULE,
    )
