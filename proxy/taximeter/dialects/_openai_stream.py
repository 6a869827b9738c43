"""Streams of the OpenAI family: chat, legacy completions, Responses, images, audio.

A chat stream ends with `data: [DONE]`. Its usage, if any, comes in a chunk of its own with
`choices: []` just before that; only that chunk may be taken out. Vendors differ: usage on the
last content chunk, on every chunk, or in `x_groq`; whatever comes later replaces.

A stream of the Responses API or of a media endpoint has typed events and ends with one of
`TERMINAL`; the usage stands in that event.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from taximeter.dialects import _scan
from taximeter.dialects._errors import UNKNOWN, error_code, error_word
from taximeter.dialects._form import NO_LINE_END, NO_QUOTE, Form
from taximeter.dialects._json import ABSENT, is_set, is_true, name, tree
from taximeter.dialects._openai_message import (
    Message,
    is_empty_array,
    note_choices,
    note_message,
    note_status,
    note_usage,
    read_message,
)
from taximeter.dialects._openai_usual import read_usual_chunk, read_usual_usage
from taximeter.dialects._sse import SseReader, ending

TERMINAL: Final = frozenset(
    {
        "response.completed",
        "response.incomplete",
        "response.failed",
        "response.cancelled",
        "error",
        "transcript.text.done",
        "speech.audio.done",
    }
)
"""Typed events after which a stream has nothing more to say about its cost."""

_IMAGES_DONE: Final = frozenset({"image_generation.completed", "image_edit.completed"})
"""The end of one image. Another may follow, so the stream ends when its bytes do."""

_TOKEN_SUFFIXES: Final = (
    ".delta",
    ".partial_image",
    "image_generation.completed",
    "image_edit.completed",
)


_TELLING: Final = re.compile(rb'"(?:usage|error|finish_reason)"(?!\s*:\s*null\b)')
"""A member that makes a chunk worth reading: with a value, or where that cannot be told."""

_ENDING: Final = re.compile(rb'"finish_reason"(?!\s*:\s*null\b)')

_CONTENT: Final = b'"content":"'
_PADDING: Final = b'"obfuscation":"'
"""Random text by which OpenAI hides how long a token is: the last member of its chunks."""
_CLOSE: Final = b"}\n\n"
_PADDING_END: Final = b'"' + _CLOSE
_REMEMBERED_BYTES_MAX: Final = 2048
"""Chunks longer than this are not taken for a form."""


class OpenAiReader(SseReader):
    """Reads any stream of the OpenAI family."""

    __slots__ = (
        "_chunks",
        "_image_done",
        "_late_usage",
        "_provider",
        "_usual",
    )

    _ending = ending(TERMINAL, rb"\[DONE\]", rb'\{\s*"error"')

    def __init__(self, provider: str | None, drop_usage: bool) -> None:
        super().__init__(drop_usage)
        self._provider = provider
        self._usual = True
        """Nothing but usual chunks came so far, and no usage."""
        self._chunks = False
        """Chunks with `choices` have been seen: this is a chat or a completion."""
        self._image_done = False
        """At least one image has been made."""
        self._late_usage = ABSENT
        """Usage of a chunk with choices (sent with every chunk by some), not yet looked at."""

    def is_dull(self, data: bytes) -> bool:
        """See `StreamReader.is_dull`."""
        form = self.form
        if form is not None and form.fits(data):
            return True
        if data[-3:] != _CLOSE:
            return False
        if self._chunks and data[:5] == b"data:":
            dull = (
                _TELLING.search(data) is None
                and data.find(b"\n") == len(data) - 2
                and data.find(b"\r") < 0
            )
            if dull:
                self._remember(data)
            return dull
        # Typed events: the name is in the first line, and a delta has nothing but text.
        line_end = data.find(b"\n")
        dull = (
            data[:7] == b"event: "
            and data.startswith(b".delta", line_end - 6)
            and data.startswith(b"data:", line_end + 1)
            and data.find(b"\n", line_end + 1) == len(data) - 2
            and data.find(b"\r") < 0
        )
        if dull and line_end <= _REMEMBERED_BYTES_MAX:
            self.form = Form(data[: line_end + 6], _CLOSE, NO_LINE_END)
        return dull

    def _remember(self, data: bytes) -> None:
        """Keep what surrounds the content of a dull chunk: the next one likely has the same."""
        start = data.find(_CONTENT)
        if start < 0 or len(data) > _REMEMBERED_BYTES_MAX:
            return
        start += len(_CONTENT)
        end = data.find(b'"', start)
        if end > start and data.find(b"\\", start, end) < 0:
            before, after = data[:start], data[end:]
            padding = after.find(_PADDING)
            if padding >= 0 and after.endswith(_PADDING_END):
                # The padding is a text, too: what stands between the two is the middle.
                middle = after[: padding + len(_PADDING)]
                self.form = Form(before, _PADDING_END, NO_QUOTE, middle)
            else:
                self.form = Form(before, after, NO_QUOTE)

    def _read_event(self, event: bytes, data: bytes) -> bool:
        if data.startswith(b"[DONE]"):
            self.ended = True
            facts = self.answer
            facts.final = facts.usage is not None
            return False
        if self._usual and not event:
            takes = self._read_usual(data)
            if takes is not None:
                return takes
        self._usual = False
        message = read_message(data)
        if message is None:
            return False
        if message.type or (event and not message.choices):
            self._read_typed(name(message.type) or event.decode("ascii", "replace"), message)
            return False
        return self._read_chunk(data, message)

    def _read_usual(self, data: bytes) -> bool | None:
        """Do what `_read_chunk` does, the short way; None, and nothing done, if that is not it."""
        chunk = read_usual_chunk(data)
        if chunk is None:
            return None
        facts = self._answer
        takes = is_set(chunk.usage)
        if takes:
            figures = None if chunk.choices else read_usual_usage(chunk.usage, self._provider)
            if figures is None:
                return None
            facts.usage, facts.raw_usage = figures
            facts.final = True
            self._usual = False
        facts.response_id = chunk.id or facts.response_id
        facts.response_model = chunk.model or facts.response_model
        facts.service_tier = chunk.service_tier or facts.service_tier
        for part in chunk.choices:
            self._chunks = True
            facts.finish_reason = part.finish_reason or facts.finish_reason
        self.token_seen = self.token_seen or chunk.has_token
        return takes

    def _read_chunk(self, data: bytes, message: Message) -> bool:
        """Take note of a chunk of a chat or completion; tell whether it is the extra one."""
        alone = is_empty_array(message.choices)
        facts = self._answer
        finished_before = facts.finish_reason
        if message.choices and not alone:
            self._chunks = True
            if not self.token_seen or _ENDING.search(data):
                token = note_choices(facts, tree(message.choices))
                self.token_seen = self.token_seen or token
        usage = message.usage
        if is_set(usage) and not alone and facts.finish_reason is None:
            self._late_usage = usage
            if self.token_seen and facts.response_model and not is_set(message.error):
                return False  # one of many alike
            message.usage = ABSENT
        elif is_set(usage) or facts.finish_reason != finished_before:
            self._settle()
        note_message(facts, message, self._provider)
        if facts.error is not None and is_set(message.error):
            self.ended = True
        facts.final = facts.usage is not None and (
            alone or facts.finish_reason is not None or self.ended
        )
        return alone and is_set(usage)

    def _read_typed(self, kind: str, message: Message) -> None:
        """Take note of an event of the Responses API or of a media endpoint."""
        facts = self._answer
        if kind.endswith(_TOKEN_SUFFIXES):
            self.token_seen = True
        inner = read_message(bytes(message.response)) if is_set(message.response) else None
        if inner is not None:
            note_message(facts, inner, self._provider)
            background = is_true(inner.background)
            facts.deferred = not note_status(facts, inner) and background
        if is_set(message.usage) or is_set(message.error):
            note_message(facts, msgspec.structs.replace(message, id=ABSENT), self._provider)
        if kind == "error" and facts.error is None:
            facts.error = error_code(tree(message.error)) or error_word(tree(message.code))
            facts.error = facts.error or UNKNOWN
        if kind in _IMAGES_DONE:
            self._image_done = True
            facts.final = facts.usage is not None
        elif kind in TERMINAL:
            self.ended = True
            facts.deferred = False
            facts.final = facts.usage is not None

    def finish(self) -> bytes:
        """Take note of the end of bytes: of a stream of images it is the only end."""
        held = super().finish()
        self.ended = self.ended or self._image_done
        return held

    def _read_large_event(self, head: bytes, tail: bytes) -> None:
        kinds = _scan.members(head[head.find(b"{") :])
        kind = name(tree(kinds.get("type", b"")))
        usage = _scan.last_object(tail, b"usage")
        note_usage(self.answer, usage, self._provider)
        if kind is None:
            self.token_seen = True
            return
        self.token_seen = self.token_seen or kind.endswith(_TOKEN_SUFFIXES)
        if kind in _IMAGES_DONE or kind in TERMINAL:
            self._image_done = kind in _IMAGES_DONE
            self.ended = self.ended or kind in TERMINAL
            self.answer.final = usage is not None
            self.answer.deferred = False

    def _settle(self) -> None:
        if self._late_usage:
            usage, self._late_usage = self._late_usage, ABSENT
            note_usage(self._answer, tree(usage), self._provider)
