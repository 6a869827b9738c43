"""Which header fields go on, which stay, and which are ours. Pure.

Fields are relayed from the bytes that came: order, case and repetition kept. Taken out are
those that speak of one connection only (RFC 9110, section 7.6.1), those by which a body is
framed (the relay frames it anew), and everything named `x-taximeter-*`, both ways.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus

import msgspec

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Never passed on, either way."""

_OPTIONS = frozenset({b"", b"close", b"keep-alive", b"upgrade"})
"""What `Connection` may say that is not the name of a field."""
_JOINED = frozenset({b"connection", b"expect"})
"""Fields of a request that are read as one list, however many lines they come in."""
_SAYS_NOTHING: frozenset[bytes] = frozenset()
_OURS = b"x-taximeter-"

_PASSED_NOTED, _TAKEN, _TAKEN_NOTED = range(3)

_REQUEST_FIELDS: dict[bytes, int] = {
    **dict.fromkeys(HOP_BY_HOP, _TAKEN),
    **dict.fromkeys((b"host",), _TAKEN),
    **dict.fromkeys(
        (b"connection", b"content-length", b"expect", b"transfer-encoding", b"upgrade"),
        _TAKEN_NOTED,
    ),
    **dict.fromkeys((b"baggage", b"traceparent", b"tracestate"), _TAKEN_NOTED),
    **dict.fromkeys(
        (
            b"accept-encoding",
            b"api-key",
            b"authorization",
            b"content-encoding",
            b"content-type",
            b"idempotency-key",
            b"openai-safety-identifier",
            b"sec-websocket-protocol",
            b"x-api-key",
            b"x-client-request-id",
            b"x-goog-api-key",
            b"x-stainless-read-timeout",
            b"x-stainless-retry-count",
            b"x-stainless-timeout",
        ),
        _PASSED_NOTED,
    ),
}
"""What becomes of request fields that the relay knows; any other is passed on unread."""


def field_plan(
    noted: Iterable[bytes], *, forward_trace: bool, own_span: bool = False
) -> dict[bytes, int]:
    """Make the plan by which an upstream's requests are sorted.

    Args:
        noted: further fields (lower case) that are to be read.
        forward_trace: pass trace context and baggage on.
        own_span: the client's `traceparent` ends here all the same; one of ours goes on.
    """
    plan = dict(_REQUEST_FIELDS)
    for name in noted:
        plan.setdefault(name, _PASSED_NOTED)
    if forward_trace:
        plan |= dict.fromkeys((b"baggage", b"traceparent", b"tracestate"), _PASSED_NOTED)
    if own_span:
        plan[b"traceparent"] = _TAKEN_NOTED
    return plan


Field = tuple[bytes, bytes]


class RequestHead:
    """A request's fields, sorted into what goes upstream and what the relay reads."""

    __slots__ = ("noted", "passed")

    def __init__(self, fields: Iterable[Field], plan: dict[bytes, int]) -> None:
        passed: list[Field] = []
        noted: dict[bytes, bytes] = {}
        for field in fields:
            name = field[0].lower()
            kind = plan.get(name)
            if kind is None:
                if name.startswith(_OURS):
                    noted.setdefault(name, field[1])
                else:
                    passed.append(field)
            else:
                if name in _JOINED and name in noted:
                    noted[name] += b"," + field[1]
                elif kind != _TAKEN:
                    noted.setdefault(name, field[1])
                if kind == _PASSED_NOTED:
                    passed.append(field)
        connection = noted.get(b"connection")
        if connection is not None:
            passed = _without_named(passed, connection)
        self.passed = passed
        self.noted = noted

    def text(self, name: bytes) -> str:
        """Give a noted field as text, '' if there is none."""
        return self.noted.get(name, b"").decode("latin-1")


def _without_named(fields: list[Field], connection: bytes) -> list[Field]:
    """Take out the fields that `Connection` names."""
    named = {token.strip() for token in connection.lower().split(b",")} - _OPTIONS
    if not named:
        return fields
    return [field for field in fields if field[0].lower() not in named]


def request_start(
    method: bytes,
    target: bytes,
    host: bytes,
    head: RequestHead,
    credential: bytes,
    *,
    uncoded: bool,
) -> bytes:
    """Give the beginning of a request's head as the upstream gets it, up to its framing.

    With `uncoded` the answer is asked for uncompressed. `credential` is a whole line, or nothing.
    """
    parts = [method, b" ", target, b" HTTP/1.1\r\nHost: ", host, b"\r\n"]
    for name, value in head.passed:
        if uncoded and name.lower() == b"accept-encoding":
            continue
        parts += (name, b": ", value, b"\r\n")
    if uncoded:
        parts.append(b"Accept-Encoding: identity\r\n")
    parts.append(credential)
    return b"".join(parts)


def request_end(length: int | None, *, chunked: bool, upgrade: bytes | None) -> bytes:
    """Give the end of that head: how the body is framed, and what is asked of the connection.

    `length` is that of the body, None for no body and no statement of one.
    """
    framing = b""
    if chunked:
        framing = b"Transfer-Encoding: chunked\r\n"
    elif length is not None:
        framing = b"Content-Length: %d\r\n" % length
    if upgrade is not None:
        return b"%bConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % (framing, upgrade)
    return framing + b"\r\n"


_READ_IN_ANSWERS = re.compile(
    rb"\r\n(connection|content-(?:length|type|encoding)|keep-alive"
    rb"|proxy-(?:authenticate|authorization|connection)|te|trailer|transfer-encoding|upgrade"
    rb"|x-taximeter-[^:\r\n]*):[ \t]*([^\r\n]*)"
)
"""The fields of an answer that are taken out or read, in lower case."""


class AnswerFields(msgspec.Struct):
    """An answer's fields, or its trailers': what goes on to the client, and what they say."""

    passed: bytes
    """Whole lines."""
    content_type: str
    content_encoding: str
    length: bytes | None
    coding: bytes | None
    """The transfer coding."""
    connection: frozenset[bytes]
    """What `Connection` says, in lower case."""


def answer_fields(said: bytes, begin: int) -> AnswerFields:
    """Read the whole lines of `said` that begin at `begin`, just behind a line's end."""
    coding = length = None
    connection = _SAYS_NOTHING
    content_type = content_encoding = ""
    passed: list[bytes] = []
    for found in _READ_IN_ANSWERS.finditer(said.lower(), begin - 2):
        name, value = found.groups()
        if name == b"content-type":
            start, end = found.span(2)
            content_type = said[start:end].rstrip().decode("latin-1")
            continue
        if name == b"content-encoding":
            content_encoding = value.decode("latin-1")
            continue
        if name == b"content-length":
            length = value
        elif name == b"transfer-encoding":
            # In two lines it is a list of two codings, and no list is ever taken.
            coding = value.rstrip() if coding is None else coding + b", " + value
        elif name == b"connection":
            connection |= {token.strip() for token in value.split(b",")}
        start, end = found.span()
        passed.append(said[begin : start + 2])
        begin = end + 2
    passed.append(said[begin:])
    lines = b"".join(passed)
    if connection and connection - _OPTIONS:
        lines = _without_lines(lines, connection)
    return AnswerFields(lines, content_type, content_encoding, length, coding, connection)


def _without_lines(lines: bytes, named: frozenset[bytes]) -> bytes:
    """Take out the fields that `Connection` names."""
    return b"".join(
        line
        for line in lines.splitlines(keepends=True)
        if line.partition(b":")[0].lower() not in named
    )


def answer_head(
    status: int,
    reason: bytes,
    lines: bytes,
    *,
    length: int | None = None,
    chunked: bool = False,
    close: bool = False,
    keep_alive: bool = False,
    upgrade: bytes | None = None,
) -> bytes:
    """Give the bytes of an answer's head as the client gets it; `lines` are whole lines."""
    framing = connection = b""
    if chunked:
        framing = b"Transfer-Encoding: chunked\r\n"
    elif length is not None:
        framing = b"Content-Length: %d\r\n" % length
    if upgrade is not None:
        connection = b"Connection: Upgrade\r\nUpgrade: %b\r\n" % upgrade
    elif close:
        connection = b"Connection: close\r\n"
    elif keep_alive:
        connection = b"Connection: keep-alive\r\n"
    return b"HTTP/1.1 %d %b\r\n%b%b%b\r\n" % (status, reason, lines, framing, connection)


def reason_of(status: int) -> bytes:
    """Give the standard reason phrase of a status of ours."""
    return HTTPStatus(status).phrase.encode()


def chunk(data: bytes) -> bytes:
    """Give `data` as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
"""The terminator of a chunked body without a trailer."""


def last_chunk(trailers: bytes) -> bytes:
    """Give the terminator of a chunked body; `trailers` are whole lines."""
    if not trailers:
        return LAST_CHUNK
    return b"0\r\n%b\r\n" % answer_fields(b"\r\n" + trailers, 2).passed
