"""Reads an upstream's answer as its bytes come: head, body, end. Pure.

llhttp (`httptools`) tells where things are and refuses what is not HTTP. What it leaves open
is decided here: which answers have no body whatever their head says, that a body without a
length ends with the connection, how many interim answers are too many.

The body is given without its chunk framing; the relay frames it anew. So nothing an upstream
writes between chunks (extensions, odd sizes, padding) reaches a client.
"""

from __future__ import annotations

import httptools

from taximeter.call import Word

INTERIM_ANSWERS_MAX = 16
HEAD_BYTES_MAX = 128 * 1024
"""Head, interim heads and trailers of one answer; the number of fields is bound by it, too."""


class MalformedAnswer(Exception):
    """The upstream does not speak HTTP/1.1; its connection is of no further use."""


class Framing(Word):
    """How an answer's end is told."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"
    """With the connection: only an orderly end of bytes completes it."""


class Head:
    """An answer's status line and header fields, as received."""

    __slots__ = ("fields", "framing", "length", "reason", "status")

    def __init__(self, status: int, reason: bytes, fields: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.reason = reason
        self.fields = fields
        self.framing = Framing.NONE
        self.length: int | None = None


class AnswerParser:
    """Reads one answer. `feed` it bytes; then look at what has become known."""

    __slots__ = (
        "_bare_bytes",
        "_body",
        "_fields",
        "_has_no_body",
        "_keep_alive",
        "_parser",
        "_reason",
        "complete",
        "head",
        "interim",
        "surplus",
        "trailers",
        "upgraded_tail",
    )

    def __init__(self, *, head_request: bool = False) -> None:
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._has_no_body = head_request
        self._fields: list[tuple[bytes, bytes]] = []
        self._reason = b""
        self._body: list[bytes] = []
        self._bare_bytes = 0
        self._keep_alive = False
        self.head: Head | None = None
        self.interim: list[Head] = []
        """Interim answers (1xx) that came before; the relay takes them out as it passes them on."""
        self.trailers: list[tuple[bytes, bytes]] = []
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
        parser = self._parser
        if parser is None:
            self.surplus = True
            return b""
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.upgraded_tail = data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            if not self.complete:
                raise MalformedAnswer(type(error).__name__) from None
            self.surplus = True
        body = self._body
        if not body:
            # A head, trailers, chunk extensions: llhttp itself would read them without end.
            self._bare_bytes += len(data)
            if self._bare_bytes > HEAD_BYTES_MAX:
                raise MalformedAnswer("neither the head nor the body goes on")
            return b""
        self._bare_bytes = 0
        if len(body) == 1:
            return body.pop()
        joined = b"".join(body)
        body.clear()
        return joined

    def end_of_bytes(self) -> bool:
        """Take note of an orderly end of the connection; tell whether the answer is whole."""
        if self.head is not None and self.head.framing is Framing.CLOSE:
            self.complete = True
        return self.complete

    def close(self) -> None:
        """Let llhttp go: it and this object hold each other, which is work for the collector."""
        self._parser = None

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another exchange."""
        return (
            self.complete
            and not self.surplus
            and self.upgraded_tail is None
            and self.head is not None
            and self.head.framing is not Framing.CLOSE
            and self._keep_alive
        )

    # -- for llhttp -------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.complete:
            self.surplus = True

    def on_status(self, status: bytes) -> None:
        self._reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head is not None:
            self.trailers.append((name, value))
        else:
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        if self.surplus:
            return
        parser = self._parser
        if parser is None or parser.get_http_version() not in ("1.1", "1.0"):
            raise MalformedAnswer("not HTTP/1.1")
        # llhttp knows this only now: at the message's end it has forgotten.
        self._keep_alive = bool(parser.should_keep_alive())
        status = parser.get_status_code()
        head = Head(status, self._reason, self._fields)
        self._fields, self._reason = [], b""
        if 100 <= status < 200 and status != 101:
            if len(self.interim) >= INTERIM_ANSWERS_MAX:
                raise MalformedAnswer("too many interim answers")
            self.interim.append(head)
            return
        if status == 101:
            self.head = head
            return
        _decide_framing(head)
        if self._has_no_body or status in (204, 304):
            head.framing = Framing.NONE
            if status == 204:
                head.length = None  # RFC 9110, 8.6: there must be none
            self.complete = True
        self.head = head

    def on_body(self, body: bytes) -> None:
        if self.complete:
            self.surplus = True
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self.head is not None and self.head.framing is not Framing.CLOSE:
            self.complete = True


def _decide_framing(head: Head) -> None:
    """Tell how the body ends. llhttp has refused a length beside chunks, or two lengths."""
    head.framing = Framing.CLOSE
    for name, value in head.fields:
        lowered = name.lower()
        if lowered == b"transfer-encoding":
            if value.lower().strip() != b"chunked":
                # A coding that we did not ask for (TE is never sent) and cannot undo.
                raise MalformedAnswer("unknown transfer coding")
            head.framing = Framing.CHUNKED
            head.length = None
            return
        if lowered == b"content-length":
            head.framing = Framing.LENGTH
            head.length = int(value)
