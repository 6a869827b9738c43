"""Takes a chunked body out of its frame. Pure.

llhttp reads it: it is given a head of our own first, and told of fields only to catch those of
the trailer. But nearly every read of a stream is one whole chunk, an event in it, framed the one
way that everybody frames it. Such a read is told by its length alone: the frame that it must have
then is known to the byte, and so the relay, which would frame it in the very same bytes, can pass
it on as it is (`whole_chunk`). That holds only where llhttp stands between two chunks, and it is
not told of them: to it they never were.
"""

from __future__ import annotations

import httptools

BARE_BYTES_MAX = 128 * 1024
"""Bytes in a row that may come without being body: chunk extensions, trailers. llhttp itself
would read them without end."""

_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_NO_FRAME = (b"", -1)
PREPARED_BYTES_MAX = 2048
"""Frames of reads shorter than this are prepared."""


def _frame(read_bytes: int) -> tuple[bytes, int]:
    """Give the size line, and the size, of a read of this length that is exactly one chunk."""
    for digits in range(1, 9):
        size = read_bytes - digits - 4
        line = b"%x\r\n" % max(size, 0)
        if size > 0 and len(line) == digits + 2:
            return line, size
    return _NO_FRAME


FRAMES = tuple(_frame(read_bytes) for read_bytes in range(PREPARED_BYTES_MAX))
"""By a read's length: the line that it begins with, and the size of its payload, if it is exactly
one usual chunk. A size of -1 says that no such chunk has this length."""


class MalformedAnswer(Exception):
    """The upstream does not speak HTTP/1.1; its connection is of no further use."""


class ChunkedBody:
    """Reads one chunked body. `feed` it bytes until it is `complete`."""

    __slots__ = (
        "_bare_bytes",
        "_body",
        "_parser",
        "_trailers",
        "between",
        "complete",
        "surplus",
    )

    def __init__(self) -> None:
        self._body: list[bytes] = []
        self._bare_bytes = 0
        self._trailers: list[bytes] | None = None
        """Lines of the trailer; None as long as our own head is being read."""
        self.between = True
        """Whether llhttp stands between two chunks."""
        self.complete = False
        self.surplus = False
        """Bytes came after the body's end."""
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._parser.feed_data(_HEAD)
        self._trailers = []

    def whole_chunk(self, data: bytes) -> int:
        """Tell where the payload of `data` begins if it is exactly one usual chunk, else 0.

        The payload ends two bytes before the end of `data`.
        """
        size = len(data)
        line, length = FRAMES[size] if size < PREPARED_BYTES_MAX else _frame(size)
        if length > 0 and self.between and data.startswith(line) and data.endswith(b"\r\n"):
            return len(line)
        return 0

    def feed(self, data: bytes) -> bytes:
        """Read bytes; give the body bytes among them.

        Raises:
            MalformedAnswer: if they are no chunks, or too much around them.
        """
        begin = self.whole_chunk(data)
        if begin:
            self._bare_bytes = 0
            return data[begin:-2]
        parser = self._parser
        if parser is None or self.complete:
            self.surplus = True
            return b""
        self.between = False
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.complete:
                raise MalformedAnswer(type(error).__name__) from None
            self.surplus = True
        # Behind a chunk's end there is nothing of a next one only if the bytes end there, too.
        self.between = self.between and data[-2:] == b"\r\n"
        body = self._body
        if not body:
            self._bare_bytes += len(data)
            if self._bare_bytes > BARE_BYTES_MAX:
                raise MalformedAnswer("the body does not go on")
            return b""
        self._bare_bytes = 0
        if len(body) == 1:
            return body.pop()
        joined = b"".join(body)
        body.clear()
        return joined

    @property
    def trailers(self) -> bytes:
        """Whole field lines that came behind the body."""
        return b"".join(self._trailers or ())

    def close(self) -> None:
        """Let llhttp go: it and this object hold each other, which is work for the collector."""
        self._parser = None

    # -- for llhttp -------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field of the trailer."""
        if self._trailers is not None and not self.complete:
            self._trailers.append(b"%b: %b\r\n" % (name, value))

    def on_chunk_header(self) -> None:
        """Take note of a chunk's beginning."""
        self.between = False

    def on_body(self, body: bytes) -> None:
        """Keep payload."""
        if self.complete:
            self.surplus = True
        else:
            self._body.append(body)

    def on_chunk_complete(self) -> None:
        """Take note of a chunk's end."""
        self.between = True

    def on_message_complete(self) -> None:
        """Take note of the body's end."""
        self.complete = True
        self.between = False

    def on_message_begin(self) -> None:
        """Take note of what begins behind the end."""
        if self.complete:
            self.surplus = True
