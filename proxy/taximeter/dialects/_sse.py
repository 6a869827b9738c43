"""Server-sent events, read as they pass: cut anywhere, in linear time, with bounded memory.

The format (WHATWG HTML, section 9.2): lines end in LF, CRLF or a lone CR, in any mixture; a
blank line ends an event; a line that begins with a colon is a comment; a byte-order mark may
stand at the very start. The bytes arrive cut at any place, also between CR and LF.

How it is read. Whole events are cut out of the read at hand without being copied together;
only what follows the last blank line is carried over. What is carried is searched for its
blank line once: each search goes on where the last one stopped, two bytes earlier because a
blank line may begin with a CRLF that was already there. So a megabyte that comes byte by byte
costs a megabyte of work.

- An event's blank line may end in a CR that is the first half of a CRLF. The event is taken as
  ended at once; a LF that follows then looks like one more blank line, which means nothing.
- Blank lines and whole comment lines between events belong to no event. They are never held
  back, and they leave the stream at a boundary.
- An event that outgrows `EVENT_BYTES_MAX` is no longer kept, only its beginning and a rolling
  end of it, where a usage object may still be found.

Taking an event out (`drops`). Bytes of an event whose end has not come are held back, at most
`HELD_BYTES_MAX`; an event larger than that is released and can then not be taken out. That is
safe: the event to be taken out is a usage chunk of a few hundred bytes.

The end (`ending_bytes`). An event that is the stream's end and has not come whole yet is told by
how it begins: whoever passes the bytes on may have to do something before its line is out.

The steady state: one read holds one whole event in which nothing is of interest. A family
tells that with a few byte searches (`is_dull`), and the read is passed on unparsed. The test
must only ever err towards reading an event in full.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar, Final

from taximeter.dialects._contract import AnswerFacts, StreamReader

EVENT_BYTES_MAX: Final = 1 << 20
"""Most bytes of one unfinished event that are kept."""

HELD_BYTES_MAX: Final = 64 << 10
"""Most bytes held back from the client while it is not known whether to take an event out."""

END_BYTES: Final = 64 << 10
"""Bytes kept of the beginning, and of the end, of an event too large to be kept whole."""

_BOM: Final = b"\xef\xbb\xbf"
# Two line ends in a row, spelled so that a search can skip to the first CR or LF.
_BLANK: Final = re.compile(rb"\n(?:\n|\r\n?)|\r(?:\n(?:\n|\r\n?)|\r\n?)")
_BETWEEN: Final = re.compile(rb"[\r\n]+|:[^\r\n]*[\r\n]+")
# An event of one or two lines that end in LF: all events, of nearly all streams. It says what
# `parse_event` would of a buffer in which there is no CR.
_USUAL: Final = re.compile(rb"(?:event: ?(.*)\n)?data: ?(.*)\n\n")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_LINES_BEFORE: Final = rb"(?:(?!data)[^\r\n]{0,256}(?:\r\n?|\n)){0,4}?"


def ending(kinds: Iterable[str], *data: bytes) -> re.Pattern[bytes]:
    """Give what tells an event that ends a stream by its beginning.

    It has one of `kinds` for its name or for the first member, `type`, of its data, or its data
    matches one of the patterns `data`. A few lines may stand before that.
    """
    named = "|".join(map(re.escape, kinds)).encode()
    typed = rb'\{\s*"type"\s*:\s*"(?:%b)"' % named
    return re.compile(
        rb"%b(?:event: ?(?:%b)[\r\n]|data: ?(?:%b))"
        % (_LINES_BEFORE, named, b"|".join((typed, *data)))
    )


def parse_event(block: bytes) -> tuple[bytes, bytes | None]:
    """Give an event's name (b"" if it has none) and its data, None if it has no data field."""
    if block.startswith(b"data:") and b"\n" not in block and b"\r" not in block:
        return b"", block[6:] if block[5:6] == b" " else block[5:]
    event = b""
    data: list[bytes] = []
    for line in _LINE_END.split(block):
        field, colon, value = line.partition(b":")
        if colon and not field:
            continue  # a comment
        value = value[1:] if value[:1] == b" " else value
        if field == b"data":
            data.append(value)
        elif field == b"event":
            event = value
    return event, b"\n".join(data) if data else None


def _skip_between(buffer: bytes, position: int) -> int:
    """Give where the next event begins, behind blank lines and whole lines of comment."""
    while (between := _BETWEEN.match(buffer, position)) is not None:
        position = between.end()
    return position


def events_of(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give name and data of each event of a whole stream, also of a last one left open."""
    position = 3 if body.startswith(_BOM) else 0
    while True:
        position = _skip_between(body, position)
        if position >= len(body):
            return
        blank = _BLANK.search(body, position)
        event, data = parse_event(body[position : blank.start() if blank else len(body)])
        if data is not None:
            yield event, data
        position = blank.end() if blank else len(body)


class SseReader(StreamReader):
    """Reads a stream of server-sent events; what they mean is a subclass's business."""

    __slots__ = (
        "_answer",
        "_at_start",
        "_carry",
        "_drops",
        "_eats_line_feed",
        "_head",
        "_line_feeds",
        "_passing",
        "_searched",
        "_tail",
    )

    _ending: ClassVar[re.Pattern[bytes]] = re.compile(rb"(?!)")
    """What tells the stream's last event by its beginning (`ending`)."""

    def __init__(self, drops: bool = False) -> None:
        super().__init__()
        self._drops = drops
        self._at_start = True
        self._line_feeds = False
        """A LF has been seen: a CR at a read's end may be the first half of a CRLF."""
        self._carry = bytearray()
        self._searched = 0
        """Bytes of `_carry` already searched for a blank line."""
        self._passing = False
        """The unfinished event is being released: too large, or none is to be taken out."""
        self._eats_line_feed = False
        """An event taken out ended in CR; a LF that comes next belongs to it."""
        self._head = b""
        """The beginning of an event too large to be kept; empty if there is none such."""
        self._tail = bytearray()

    # What a family says -------------------------------------------------------------------

    @abstractmethod
    def _read_event(self, event: bytes, data: bytes) -> bool:
        """Take note of an event and tell whether it is to be taken out."""

    @abstractmethod
    def _read_large_event(self, head: bytes, tail: bytes) -> None:
        """Take note of an event of which only the beginning and the end were kept."""

    def _settle(self) -> None:
        """Do now what was put off until somebody asks for the answer."""

    @property
    def answer(self) -> AnswerFacts:
        """What the stream has said so far."""
        self._settle()
        return self._answer

    @answer.setter
    def answer(self, facts: AnswerFacts) -> None:
        self._answer = facts

    # The bytes ----------------------------------------------------------------------------

    @property
    def ending_bytes(self) -> int:
        """See `StreamReader.ending_bytes`."""
        size = len(self._carry)
        if self._drops or not 0 < size <= HELD_BYTES_MAX:
            return 0
        return size if self._ending.match(self._carry) else 0

    def feed(self, data: bytes) -> bytes:
        """Read `data` and give what to release: see `StreamReader.feed`."""
        if self.is_steady and self.is_dull(data):
            self.events += 1
            return data
        if self._eats_line_feed and data:
            self._eats_line_feed = False
            if data[:1] == b"\n":
                data = data[1:]
        if not data:
            return data
        if self._head:
            return self._feed_large(data)
        if self._carry:
            return self._feed_carried(data)
        return self._feed_blocks(data, 0)

    def finish(self) -> bytes:
        """Read what was left open, and give back what is still held back."""
        held = b"" if self._passing or not self._drops else bytes(self._carry)
        if self._head:
            self._read_large_event(self._head, bytes(self._tail))
            self._head = b""
            self._tail = bytearray()
        elif self._carry:
            block = bytes(self._carry).removeprefix(_BOM)
            self._carry = bytearray()
            event, payload = parse_event(block.rstrip(b"\r\n"))
            if payload is not None and self._read_event(event, payload):
                held = b""
        self.at_boundary = self.at_boundary and not held
        return held

    def _feed_carried(self, data: bytes) -> bytes:
        """Go on with an event of which a part came before."""
        carry = self._carry
        before = len(carry)
        carry += data
        blank = _BLANK.search(carry, max(0, self._searched - 2))
        comment = carry[0] == 0x3A and (b"\n" in data or b"\r" in data)
        mark = self._at_start and (before < len(_BOM) <= len(carry))
        if blank is None and not comment and not mark:
            self._searched = len(carry)
            return self._keep_open(data)
        whole = bytes(carry)
        self._carry = bytearray()
        released = before if self._passing or not self._drops else 0
        return self._feed_blocks(whole, released)

    def _feed_blocks(self, buffer: bytes, released: int) -> bytes:
        """Read the events of `buffer`, whose first `released` bytes the client already has."""
        position = 0
        if self._at_start and (len(buffer) >= len(_BOM) or not _BOM.startswith(buffer)):
            self._at_start = False
            position = len(_BOM) if buffer.startswith(_BOM) else 0
        pieces: list[bytes] = []
        """What is released around the events taken out so far."""
        size = len(buffer)
        line_feeds_only = b"\r" not in buffer
        self._line_feeds = self._line_feeds or b"\n" in buffer
        while position < size:
            usual = _USUAL.match(buffer, position) if line_feeds_only else None
            if usual is not None:
                end = stop = usual.end()
            else:
                position = _skip_between(buffer, position)
                blank = _BLANK.search(buffer, position) if position < size else None
                if blank is None:
                    break
                end, stop = blank.span()
            if self.token_seen and self.is_dull(buffer[position:stop]):
                self.events += 1
                position = stop
                continue
            if usual is not None:
                event, payload = usual[1] or b"", usual[2]
            else:
                event, payload = parse_event(buffer[position:end])
            if payload is not None:
                if payload != b"[DONE]":
                    self.events += 1
                if self._read_event(event, payload) and self._drops and position >= released:
                    pieces.append(buffer[released:position])
                    released = stop
                    self._eats_line_feed = released == size and buffer.endswith(b"\r")
            position = stop
        if position == size:
            self.at_boundary = line_feeds_only or self._ends_whole(buffer)
            self._passing = False
            self.is_steady = self.token_seen and self.at_boundary
            if not pieces:
                return buffer[released:] if released else buffer
            pieces.append(buffer[released:])
            return b"".join(pieces)
        rest = buffer[position:]
        self._carry = bytearray(rest)
        self._searched = len(rest)
        self.is_steady = False
        self._passing = not self._drops or len(rest) > HELD_BYTES_MAX
        self.at_boundary = not self._passing
        if len(rest) > EVENT_BYTES_MAX:
            self._begin_large()
        pieces.append(buffer[released:] if self._passing else buffer[released:position])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _keep_open(self, data: bytes) -> bytes:
        """Keep an event that is still open, and give what of it to release."""
        size = len(self._carry)
        out = data if self._passing else b""
        if not self._passing and (not self._drops or size > HELD_BYTES_MAX):
            out = bytes(self._carry) if self._drops else data
            self._passing = True
        self.at_boundary = not self._passing
        if size > EVENT_BYTES_MAX:
            self._begin_large()
        return out

    def _ends_whole(self, data: bytes) -> bool:
        """Tell that `data` does not end in half a CRLF: after that nothing may be put in."""
        return not (self._line_feeds and data.endswith(b"\r"))

    # Events too large to be kept ----------------------------------------------------------

    def _begin_large(self) -> None:
        self._head = bytes(self._carry[:END_BYTES])
        self._tail = self._carry[-END_BYTES:]
        self._carry = bytearray()
        self._searched = 0

    def _feed_large(self, data: bytes) -> bytes:
        joint = bytes(self._tail[-2:])
        blank = _BLANK.search(joint + data)
        if blank is None:
            self._tail += data
            if len(self._tail) > 2 * END_BYTES:
                del self._tail[:-END_BYTES]
            return data
        end = max(0, blank.end() - len(joint))
        self._tail += data[:end]
        if not self._head.startswith(b":"):
            self.events += 1
        self._read_large_event(self._head, bytes(self._tail[-END_BYTES:]))
        self._head = b""
        self._tail = bytearray()
        self._passing = False
        self.at_boundary = self._ends_whole(blank[0])
        self.is_steady = False
        if end == len(data):
            return data
        return data[:end] + self._feed_blocks(data[end:], 0)
