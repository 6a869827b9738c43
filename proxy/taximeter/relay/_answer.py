"""Reads an upstream's answer as its bytes come: head, body, end. Pure.

llhttp (`httptools`) judges every head and every chunk's frame, and refuses what is not HTTP. It
is not asked to take a head to pieces: a field that goes on to the client goes on as the bytes it
came in, so all that is looked for, by one search over the head, are the few fields that do not,
or that say how the body ends. What llhttp leaves open is decided here: which answers have no
body whatever their head says, that a body without a length ends with the connection, how many
interim answers are too many.

The body is given without its chunk framing; the relay frames it anew. So nothing an upstream
writes between chunks (extensions, odd sizes, padding) reaches a client.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httptools
import msgspec

from taximeter.call import Word
from taximeter.relay._chunks import ChunkedBody, MalformedAnswer
from taximeter.relay._heads import answer_fields
from taximeter.relay._message import LENGTH_DIGITS_MAX

if TYPE_CHECKING:
    from taximeter.relay._usual_head import UsualStreamHead

__all__ = ["AnswerParser", "Framing", "Head", "MalformedAnswer"]

INTERIM_ANSWERS_MAX = 16
HEAD_BYTES_MAX = 128 * 1024
"""An answer's head and its interim heads; the number of fields is bound by it, too."""

_END = b"\r\n\r\n"
_REASON = re.compile(rb"[\t -~\x80-\xff]*")
_UPGRADE = re.compile(rb"\r\nupgrade:([^\r\n]*)")
_VERSIONS = (b"HTTP/1.1 ", b"HTTP/1.0 ")


class Framing(Word):
    """How an answer's end is told."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"
    """With the connection: only an orderly end of bytes completes it."""


# Taken out of the class once: to look into an Enum is a call of its own.
NONE, LENGTH, CHUNKED, CLOSE = Framing


class Head(msgspec.Struct):
    """An answer's status line, what its fields say, and those that go on to the client."""

    status: int
    reason: bytes
    lines: bytes
    """Those that go on."""
    content_type: str
    content_encoding: str
    framing: Framing
    length: int | None
    persistent: bool
    """Whether the connection stays after this answer, as far as its head says."""

    def fields(self) -> Iterator[tuple[bytes, bytes]]:
        """Give the fields that go on to the client, one by one."""
        for line in self.lines.splitlines():
            name, _, value = line.partition(b":")
            yield name, value.strip()


def read_head(status: int, said: bytes) -> Head:
    """Read a head that llhttp has accepted, without its last, empty line.

    Raises:
        MalformedAnswer: if it is not HTTP/1.1, or framed in a way that cannot be undone.
    """
    if not said.startswith(_VERSIONS):
        raise MalformedAnswer("not HTTP/1.1")
    end = said.find(b"\r\n")
    reason = said[13:end]
    if status < 100 or (reason != b"OK" and not _REASON.fullmatch(reason)):
        raise MalformedAnswer("no status, or a control character in its reason")
    if status == 101 and [each.strip() for each in _UPGRADE.findall(said.lower())] != [
        b"websocket"
    ]:
        raise MalformedAnswer("it agreed to another protocol")
    fields = answer_fields(said, end + 2)
    options, coding = fields.connection, fields.coding
    framing, length = CLOSE, None
    if coding is not None:
        if coding != b"chunked":
            # A coding that we did not ask for (TE is never sent) and cannot undo.
            raise MalformedAnswer("unknown transfer coding")
        framing = CHUNKED
    elif fields.length is not None:
        if len(fields.length.rstrip()) > LENGTH_DIGITS_MAX:
            raise MalformedAnswer("a length of too many digits")
        framing, length = LENGTH, int(fields.length)
    persistent = b"close" not in options and (
        # HTTP/1.0 knows no chunks: where an answer of such an upstream ends is its guess.
        said.startswith(b"HTTP/1.1") or (b"keep-alive" in options and coding is None)
    )
    return Head(
        status,
        reason,
        fields.passed,
        fields.content_type,
        fields.content_encoding,
        framing,
        length,
        persistent,
    )


class AnswerParser:
    """Reads one answer. `feed` it bytes; then look at what has become known."""

    __slots__ = (
        "_chunks",
        "_has_no_body",
        "_is_judged",
        "_judge",
        "_left",
        "_unread",
        "_usual",
        "complete",
        "head",
        "interim",
        "surplus",
        "upgraded_tail",
    )

    def __init__(self, *, head_request: bool = False, usual: UsualStreamHead | None = None) -> None:
        """Begin to read. `usual`: tells the head of a stream by those before it."""
        self._has_no_body = head_request
        self._usual = None if head_request else usual
        self._judge: httptools.HttpResponseParser | None = None
        self._is_judged = False
        self._unread = b""
        """The beginning of a head whose end has not come."""
        self._left: int | None = None
        """What is still to come of a body whose length was stated."""
        self._chunks: ChunkedBody | None = None
        self.head: Head | None = None
        self.interim: list[Head] = []
        """Interim answers (1xx) that came before; the relay takes them out as it passes them on."""
        self.complete = False
        self.surplus = False
        """Bytes came after the answer's end."""
        self.upgraded_tail: bytes | None = None
        """After 101: the first bytes of what the connection has become."""

    # -- for the relay ----------------------------------------------------------------------

    def feed(self, data: bytes) -> bytes:
        """Read bytes; give the body bytes among them.

        Raises:
            MalformedAnswer: if they are not HTTP, or too much of a head.
        """
        if self.head is None:
            data = self._read_head(data)
            if not data:
                return data
        if self.complete:
            self.surplus = True
            return b""
        left = self._left
        if left is not None:
            more = left - len(data)
            self._left = more
            if more > 0:
                return data
            self.complete = True
            if more < 0:
                self.surplus = True
                return data[:left]
            return data
        chunks = self._chunks
        if chunks is None:
            return data  # to the connection's end
        body = chunks.feed(data)
        if chunks.complete:
            self.complete = True
            self.surplus = chunks.surplus
        return body

    @property
    def chunks(self) -> ChunkedBody | None:
        """What takes a chunked body out of its frame."""
        return self._chunks

    @property
    def trailers(self) -> bytes:
        """Whole field lines that came behind a chunked body."""
        return b"" if self._chunks is None else self._chunks.trailers

    def end_of_bytes(self) -> bool:
        """Take note of an orderly end of the connection; tell whether the answer is whole."""
        if self.head is not None and self.head.framing is CLOSE:
            self.complete = True
        return self.complete

    def close(self) -> None:
        """Let llhttp go: it and its owner hold each other, which is work for the collector."""
        self._judge = None
        if self._chunks is not None:
            self._chunks.close()

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another exchange."""
        head = self.head
        return (
            self.complete
            and not self.surplus
            and head is not None
            and head.persistent
            and head.framing is not CLOSE
        )

    # -- heads ------------------------------------------------------------------------------

    def _read_head(self, data: bytes) -> bytes:
        """Read the answer's head, or some of it; give what follows it."""
        usual = self._usual
        if usual is not None and self._judge is None:
            found = usual.read(data)
            if found is not None:
                self.head, end = found
                self._chunks = ChunkedBody()
                return data[end:]
        while True:
            known = len(self._unread)
            # Most heads come in one read, and nothing is copied then.
            said = self._unread + data if known else data
            end = said.find(_END, known - 3 if known > 3 else 0)
            if end < 0:
                self._unread = said
                self._judge_bytes(data)
                if len(said) > HEAD_BYTES_MAX or self._is_judged:
                    raise MalformedAnswer("the head does not go on")
                return b""
            if end > HEAD_BYTES_MAX:
                raise MalformedAnswer("the head is too large")
            self._unread = b""
            behind = said[end + 4 :]
            status = self._judge_bytes(said[known : end + 4])
            if not self._is_judged:
                raise MalformedAnswer("a head that begins with its end")
            self._is_judged = False
            head = read_head(status, said[: end + 2])
            if status == 101 or not 100 <= status < 200:
                if usual is not None and head.framing is CHUNKED:
                    usual.note(said[: end + 4], head)
                self._begin_body(head, behind)
                return b"" if status == 101 else behind
            if len(self.interim) >= INTERIM_ANSWERS_MAX:
                raise MalformedAnswer("too many interim answers")
            self.interim.append(head)
            if not behind:
                return b""
            data = behind

    def _judge_bytes(self, data: bytes) -> int:
        """Let llhttp refuse what is not HTTP; give the status, as far as it is known."""
        judge = self._judge
        if judge is None:
            judge = self._judge = httptools.HttpResponseParser(self)
        try:
            judge.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # after 101 it reads no further: nor does anybody
        except httptools.HttpParserError as error:
            raise MalformedAnswer(type(error).__name__) from None
        status: int = judge.get_status_code()
        return status

    def on_headers_complete(self) -> None:
        """Take note that llhttp, which calls this, has accepted a head."""
        self._is_judged = True

    def _begin_body(self, head: Head, behind: bytes) -> None:
        status = head.status
        self._judge = None
        self.head = head
        if status == 101:
            head.framing = NONE
            self.upgraded_tail = behind
        elif self._has_no_body or status in (204, 304):
            head.framing = NONE
            if status == 204:
                head.length = None  # RFC 9110, 8.6: there must be none
            self.complete = True
        elif head.framing is LENGTH:
            self._left = head.length
            self.complete = not head.length
        elif head.framing is CHUNKED:
            self._chunks = ChunkedBody()
