"""Streams of Gemini's native API: server-sent events, or one JSON array that comes in pieces.

Events have no end marker here. A `finishReason` does not make one: with several candidates the
others go on. So such a stream has ended when its bytes have, if a reason had come by then. Every
chunk carries the usage so far; only the latest is looked at, and only when somebody asks.
"""

from __future__ import annotations

import re
from typing import Final

from taximeter.dialects import _scan
from taximeter.dialects._contract import StreamReader
from taximeter.dialects._gemini_message import note_message, note_usage, read_message
from taximeter.dialects._json import is_set, word
from taximeter.dialects._sse import END_BYTES, EVENT_BYTES_MAX, SseReader, ending, parse_event

_ENDINGS: Final = (b"}\r\n\r\n", b"}\n\n")
_TOKEN_EVENTS: Final = frozenset({"step.delta", "content.delta"})
_ENDS: Final = frozenset({"interaction.completed", "interaction.complete", "error"})


class GeminiSseReader(SseReader):
    """Reads `alt=sse` streams and the Interactions API."""

    __slots__ = ("_finished", "_latest")

    _ending = ending(_ENDS, rb'\{\s*"error"', rb'\{\s*"event_type"\s*:\s*"interaction\.complete')

    def __init__(self) -> None:
        super().__init__()
        self._finished = False
        """A candidate has ended, or the prompt was blocked."""
        self._latest = b""
        """The latest event passed on unparsed."""

    def is_dull(self, data: bytes) -> bool:
        line_feed = data.find(b"\n")
        carriage_return = data.find(b"\r")
        line_end = line_feed if carriage_return < 0 else carriage_return
        if (
            data[:5] != b"data:"
            or line_feed - line_end > 1
            or data[line_end - 1 :] not in _ENDINGS
            or data.find(b'"candidates"') < 0
            or data.find(b'"finishReason"') >= 0
            or data.find(b'"error"') >= 0
            or data.find(b'"promptFeedback"') >= 0
        ):
            return False
        self._latest = data
        return True

    def _read_event(self, event: bytes, data: bytes) -> bool:
        self._latest = b""
        message = read_message(data)
        if message is None:
            return False
        token, ends = note_message(self._answer, message)
        kind = word(message.event_type) or event.decode("ascii", "replace")
        self.token_seen = self.token_seen or token or kind in _TOKEN_EVENTS
        self._finished = self._finished or ends
        self.ended = self.ended or kind in _ENDS or is_set(message.error)
        return False

    def finish(self) -> bytes:
        """Take note of the end of bytes: it is the stream's own if a reason to end had come."""
        held = super().finish()
        self.ended = self.ended or self._finished
        return held

    def _read_large_event(self, head: bytes, tail: bytes) -> None:
        self.token_seen = True
        note_usage(self.answer, _scan.last_object(tail, b"usageMetadata"))
        reason = _scan.last_word(tail, b"finishReason")
        if reason is not None:
            self._answer.finish_reason = reason
            self._answer.final = self._answer.usage is not None
            self._finished = True

    def _settle(self) -> None:
        if self._latest:
            latest, self._latest = self._latest, b""
            _, payload = parse_event(latest.rstrip(b"\r\n"))
            message = read_message(payload or b"")
            if message is not None:
                note_message(self._answer, message)


_OUTSIDE: Final = re.compile(rb'["{}\[\]]')
_IN_STRING: Final = re.compile(rb'["\\]')


class GeminiArrayReader(StreamReader):
    """Reads a JSON array whose elements come in pieces, or a single object."""

    __slots__ = ("_base", "_depth", "_element", "_escaped", "_in_string", "_large", "_started")

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._started = False
        self._base = 0
        """The depth at which elements stand: 1 in an array, 0 if the body is an object."""
        self._element = bytearray()
        """The unfinished element so far."""
        self._large = False
        """The unfinished element has outgrown what is kept; only its end is."""

    def feed(self, data: bytes) -> bytes:
        """Read `data` and give it back: nothing is ever taken out here."""
        position = 0
        start = 0
        size = len(data)
        while position < size:
            if self._escaped:
                self._escaped = False
                position += 1
                continue
            found = (_IN_STRING if self._in_string else _OUTSIDE).search(data, position)
            if found is None:
                break
            byte = data[found.start()]
            position = found.end()
            if self._in_string:
                self._escaped = byte == 0x5C
                self._in_string = byte != 0x22
            elif byte == 0x22:
                self._in_string = True
            elif byte in b"{[":
                if not self._started and byte == 0x5B:
                    self._base = 1
                elif self._depth == self._base:
                    start = found.start()
                self._started = True
                self._depth += 1
            elif self._depth > 0:
                self._depth -= 1
                if self._depth == self._base:
                    self._element += data[start:position]
                    self._read_element()
                self.ended = self.ended or self._depth == 0
        self.at_boundary = self._depth <= self._base
        if not self.at_boundary:
            self._element += data[start:]
            if len(self._element) > (2 * END_BYTES if self._large else EVENT_BYTES_MAX):
                self._large = True
                del self._element[:-END_BYTES]
        return data

    def finish(self) -> bytes:
        """Take note of the end: an unfinished element may still hold usage."""
        if self._element:
            note_usage(self.answer, _scan.last_object(bytes(self._element), b"usageMetadata"))
            self._element = bytearray()
        return b""

    def _read_element(self) -> None:
        element = bytes(self._element)
        self._element = bytearray()
        self.events += 1
        if self._large:
            self._large = False
            self.token_seen = True
            note_usage(self.answer, _scan.last_object(element, b"usageMetadata"))
            return
        message = read_message(element)
        if message is not None:
            token, _ = note_message(self.answer, message)
            self.token_seen = self.token_seen or token
