"""A strict reader of HTTP/1.1 of the tests' own, and h11 for a second opinion.

It reads what the relay has written, on either side of it, and what a client wrote to it. It takes
only what RFC 9112 lets a sender write: no folding, no bare LF, no padding, no leniency at all. Two
readers that agree on every byte leave no room for a third that would read it in another way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import h11

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(%b) ([!-~\x80-\xff]+) HTTP/1\.([01])\Z" % _TOKEN)
_CLIENTS_LINE = re.compile(
    rb"(%b) +([!-~\x80-\xff]+) +(?:HTTP/1\.|RTSP/1\.(?=0)|ICE/1\.(?=0))([01])\Z" % _TOKEN
)
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-9][0-9][0-9]) ([\t -~\x80-\xff]*)\Z")
_FIELD = re.compile(
    rb"(%b):[ \t]*((?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?)[ \t]*\Z" % _TOKEN
)
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,15}\Z")

Fields = tuple[tuple[bytes, bytes], ...]


class Malformed(Exception):
    """These bytes are no HTTP/1.1, or may be read in two ways."""


class Unfinished(Exception):
    """So far they are, but they end before the message does."""


@dataclass(frozen=True)
class Message:
    """One message, read to its end."""

    start: tuple[bytes, ...]
    """Of a request: method, target, minor version. Of an answer: status, reason."""
    fields: Fields
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        """Give the values of a field, by its name in lower case."""
        return [value for field, value in self.fields if field.lower() == name]


def _head(data: bytes, at: int) -> tuple[bytes, Fields, int]:
    end = data.find(b"\r\n\r\n", at)
    said = data[at:] if end < 0 else data[at:end]
    if end < 0 and said.endswith(b"\r"):
        said = said[:-1]
    lines = said.split(b"\r\n")
    if any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines):
        raise Malformed("a bare CR, LF or a NUL")
    if end < 0:
        raise Unfinished
    fields = []
    for line in lines[1:]:
        found = _FIELD.match(line)
        if found is None:
            raise Malformed(f"no field: {line!r}")
        fields.append((found[1], found[2]))
    return lines[0], tuple(fields), end + 4


def _line(data: bytes, at: int, bytes_max: int = 16) -> tuple[bytes, int]:
    end = data.find(b"\r\n", at)
    line = data[at:] if end < 0 else data[at:end]
    if end < 0 and line.endswith(b"\r"):
        line = line[:-1]
    if b"\r" in line or b"\n" in line or len(line) > bytes_max:
        raise Malformed(f"no chunk's line: {line[:40]!r}")
    if end < 0:
        raise Unfinished
    return line, end + 2


def _exactly(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    if len(data) - at < size:
        raise Unfinished
    return data[at : at + size], at + size


def _chunks(data: bytes, at: int, of_client: bool) -> tuple[bytes, int]:
    """Read a chunked body. Extensions and trailers are malformed, but for those of a client."""
    body = b""
    while True:
        line, at = _line(data, at, 2000 if of_client else 16)
        said, extended, extension = line.partition(b";")
        if extended and (not of_client or b"\0" in extension):
            raise Malformed(f"an extension: {line!r}")
        said = said.lstrip(b"0") or b"0" if of_client else said
        if _CHUNK_SIZE.match(said) is None:
            raise Malformed(f"no chunk's size: {line!r}")
        size = int(said, 16)
        if not size and of_client:
            # The trailers are a head's fields, and it does not matter which.
            _, _, at = _head(data, at - 2)
            return body, at
        piece, at = _exactly(data, at, size)
        body += piece
        end, at = _exactly(data, at, 2)
        if end != b"\r\n":
            raise Malformed("a chunk that does not end where it says")
        if not size:
            return body, at


def _body(
    data: bytes, at: int, fields: Fields, *, of_client: bool = False
) -> tuple[bytes | None, int]:
    """Read a body; None if no field says that there is one."""
    named = {name.lower() for name, _ in fields}
    lengths = [value for name, value in fields if name.lower() == b"content-length"]
    codings = [value for name, value in fields if name.lower() == b"transfer-encoding"]
    if b"transfer-encoding" in named:
        if lengths or codings != [b"chunked"]:
            raise Malformed("chunks and a length, or another coding")
        return _chunks(data, at, of_client)
    if not lengths:
        return None, at
    if len(lengths) > 1 or re.fullmatch(rb"[0-9]{1,19}", lengths[0]) is None:
        raise Malformed(f"lengths: {lengths}")
    return _exactly(data, at, int(lengths[0]))


def request_at(data: bytes, at: int = 0, *, of_client: bool = False) -> tuple[Message, int]:
    """Read the request that begins at `at`; give it and where it ends.

    A request `of_client` may have more than one space around its target, the name of a protocol
    that the relay's parser takes for HTTP/1.0, and there no Host; and chunks with extensions and
    trailers. All of that has one meaning.

    Raises:
        Malformed, Unfinished: as they say.
    """
    line, fields, behind = _head(data, at)
    start = (_CLIENTS_LINE if of_client else _REQUEST_LINE).match(line)
    if start is None:
        raise Malformed(f"no request line: {line[:80]!r}")
    hosts = [name.lower() for name, _ in fields].count(b"host")
    if hosts != 1 and not (of_client and start[3] == b"0" and not hosts):
        raise Malformed("there must be one Host")
    body, end = _body(data, behind, fields, of_client=of_client)
    return Message((start[1], start[2], start[3]), fields, body or b""), end


def requests_of(data: bytes) -> tuple[list[Message], bytes]:
    """Read whole requests; give them, and what is unfinished behind them.

    Raises:
        Malformed: if anything is, also in what is unfinished.
    """
    found: list[Message] = []
    at = 0
    while at < len(data):
        try:
            request, at = request_at(data, at)
        except Unfinished:
            break
        found.append(request)
    return found, data[at:]


def by_h11(data: bytes) -> list[Message]:
    """Read whole requests as h11 does, which is a little more lenient.

    Raises:
        Malformed: if h11 says so.
    """
    found: list[Message] = []
    _read_by_h11(data, found)
    return found


def readings_of(data: bytes) -> tuple[list[Message], list[Message]]:
    """Give the requests at the beginning of a client's bytes, as each of the two readers has it.

    Before a request line ends are passed over, and halves of them: RFC 9112, 2.2, has a server do
    so with whole ones.
    """
    mine: list[Message] = []
    at = 0
    try:
        while True:
            while data[at : at + 1] in (b"\r", b"\n"):
                at += 1
            request, at = request_at(data, at, of_client=True)
            mine.append(request)
    except (Malformed, Unfinished):
        pass
    theirs: list[Message] = []
    try:
        _read_by_h11(data, theirs)
    except Malformed:
        pass
    return mine, theirs


def _read_by_h11(data: bytes, found: list[Message]) -> None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    start: tuple[bytes, ...] = ()
    fields: Fields = ()
    body = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                start = (event.method, event.target, event.http_version[-1:])
                fields, body = tuple(event.headers.raw_items()), b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                found.append(Message(start, fields, body))
                # Answered, so that the connection can carry the next one; and never with an
                # agreement to an upgrade.
                connection.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE:
                    return
                connection.start_next_cycle()
            else:
                return
    except h11.RemoteProtocolError as error:
        raise Malformed(str(error)) from error


@dataclass(frozen=True)
class Answers:
    """What a client has heard on one connection."""

    interim: list[Message]
    whole: list[Message]
    """Final answers read to their ends."""
    left: bytes
    """What is unfinished behind them."""


def answers_of(data: bytes, *, bodiless: int | None = None) -> Answers:
    """Read answers; the one of that number, from 0, is an answer to HEAD.

    Raises:
        Malformed: if anything is. An answer without a stated end counts as unfinished.
    """
    interim: list[Message] = []
    whole: list[Message] = []
    at = 0
    while at < len(data):
        try:
            line, fields, behind = _head(data, at)
            start = _STATUS_LINE.match(line)
            if start is None:
                raise Malformed(f"no status line: {line[:80]!r}")
            status = int(start[1])
            if status < 200:
                interim.append(Message((start[1], start[2]), fields, b""))
                at = behind
                continue
            if status in (204, 304) or len(whole) == bodiless:
                body, end = b"", behind
            else:
                found, end = _body(data, behind, fields)
                if found is None:
                    raise Unfinished
                body = found
        except Unfinished:
            break
        whole.append(Message((start[1], start[2]), fields, body))
        at = end
    return Answers(interim, whole, data[at:])
