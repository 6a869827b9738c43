"""Requests that are odd and have one meaning: what the upstream must get of each, to the byte.

And those that have one meaning and go nowhere (`TURNED_AWAY`): refused, and the connection goes
on in step, since there is no doubt where they end.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.hostile._refused import CHUNKS, GET, INNER, POST
from tests.hostile._strict import Fields


@dataclass(frozen=True)
class Passed:
    """A client's bytes, and the one request that they are."""

    said: bytes
    method: bytes = b"GET"
    target: bytes = b"/v1/echo"
    body: bytes = b""
    fields: Fields = ()
    """Those that go on, beside `Host` and what frames the body."""
    follows: bool = True
    """Whether the connection can carry another request."""


def _get(target: bytes, goes_on_as: bytes | None = None) -> Passed:
    said = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target
    return Passed(said, target=goes_on_as or target)


def _post(said: bytes, body: bytes = b"hello", fields: Fields = ()) -> Passed:
    return Passed(POST + said, b"POST", body=body, fields=fields)


def _fields(said: bytes, *goes_on: tuple[bytes, bytes]) -> Passed:
    return Passed(GET + said + b"\r\n", fields=goes_on)


LENGTHS = {
    "sized": _post(b"Content-Length: 5\r\n\r\nhello"),
    "no space": _post(b"Content-Length:5\r\n\r\nhello"),
    "padded": _post(b"Content-Length: \t 5 \t \r\n\r\nhello"),
    "leading noughts": _post(b"Content-Length: 0005\r\n\r\nhello"),
    "in capitals": _post(b"CONTENT-LENGTH: 5\r\n\r\nhello"),
    "nought": _post(b"Content-Length: 0\r\n\r\n", b""),
    "none": _post(b"\r\n", b""),
    "a request for its body": _post(b"Content-Length: %d\r\n\r\n" % len(INNER) + INNER, INNER),
    "GET with a body": Passed(GET + b"Content-Length: 2\r\n\r\n{}", body=b"{}"),
    "HEAD with a body": Passed(
        b"HEAD /v1/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", b"HEAD", body=b"{}"
    ),
    "named by Connection": _post(b"Connection: Content-Length\r\nContent-Length: 5\r\n\r\nhello"),
    "an underscore": _post(
        b"Content_Length: 50\r\nContent-Length: 5\r\n\r\nhello",
        fields=((b"Content_Length", b"50"),),
    ),
    "a coding with an underscore": _post(
        b"Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
        fields=((b"Transfer_Encoding", b"chunked"),),
    ),
    "a coding in another field": _post(
        b"X-Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
        fields=((b"X-Transfer-Encoding", b"chunked"),),
    ),
    "TE is no Transfer-Encoding": _post(b"TE: chunked\r\nContent-Length: 5\r\n\r\nhello"),
}

CHUNKED = {
    "chunked": _post(CHUNKS + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    "no space": _post(b"Transfer-Encoding:chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    "padded in front": _post(b"Transfer-Encoding: \t chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    "in capitals": _post(b"transfer-ENCODING: ChunKed\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    "named by Connection": _post(
        b"Connection: Transfer-Encoding\r\n" + CHUNKS + b"5\r\nhello\r\n0\r\n\r\n"
    ),
    "extensions": _post(CHUNKS + b'5;a=b;c="d"\r\nhello\r\n0;x\r\n\r\n'),
    "an extension with a quoted pair": _post(CHUNKS + b'5;a="\\""\r\nhello\r\n0\r\n\r\n'),
    "leading noughts": _post(CHUNKS + b"00005\r\nhello\r\n000\r\n\r\n"),
    "a thousand noughts": _post(CHUNKS + b"0" * 1000 + b"5\r\nhello\r\n0\r\n\r\n"),
    "hexadecimal in capitals": _post(CHUNKS + b"A\r\nhellohello\r\n0\r\n\r\n", b"hellohello"),
    "chunks in a chunk": _post(CHUNKS + b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
    "a request in a chunk": _post(
        CHUNKS + b"%x\r\n" % len(INNER) + INNER + b"\r\n0\r\n\r\n", INNER
    ),
    "byte by byte": _post(CHUNKS + b"".join(b"1\r\n%c\r\n" % c for c in b"hello") + b"0\r\n\r\n"),
    "nothing": _post(CHUNKS + b"0\r\n\r\n", b""),
    "trailers": _post(CHUNKS + b"5\r\nhello\r\n0\r\nX-Api-Key: no\r\n\r\n"),
    "forbidden trailers": _post(
        CHUNKS + b"5\r\nhello\r\n0\r\nHost: b\r\nAuthorization: Bearer no\r\n"
        b"x-taximeter-user: eve\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    ),
    "a trailer that closes": Passed(
        POST + CHUNKS + b"5\r\nhello\r\n0\r\nConnection: close\r\n\r\n",
        b"POST",
        body=b"hello",
        follows=False,
    ),
    "a trailer that was announced": _post(
        b"Trailer: X-Sum\r\n" + CHUNKS + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
    ),
}

TARGETS = {
    "absolute form": _get(b"http://elsewhere.example/v1/echo?a=b", b"/v1/echo?a=b"),
    "absolute form in capitals": _get(b"HTTP://ELSEWHERE.example:81/v1/echo", b"/v1/echo"),
    "absolute form with TLS": _get(b"https://elsewhere.example/v1/echo", b"/v1/echo"),
    "absolute form with a user": _get(b"http://user:secret@b.example/v1/echo", b"/v1/echo"),
    "absolute form of IPv6": _get(b"http://[::1]:8401/v1/echo", b"/v1/echo"),
    "absolute form of metadata": _get(b"http://169.254.169.254/v1/echo", b"/v1/echo"),
    "dot segments": _get(b"/v1/%2e%2E/a%2Fb//c/./d?&&=%zz"),
    "plain dot segments": _get(b"/v1/../../etc/passwd"),
    "encoded slashes": _get(b"/v1/%2fecho/..%2f..%5c%00%0d%0aHost:%20b"),
    "two slashes": _get(b"/v1//elsewhere.example/echo"),
    "an at sign": _get(b"/v1/@elsewhere.example/"),
    "a backslash": _get(b"/v1/\\elsewhere.example"),
    "an address in the query": _get(
        b"/v1/echo?url=http://169.254.169.254/&host=b#c",
        b"/v1/echo?url=http://169.254.169.254/&host=b",
    ),
    "a fragment": _get(b"/v1/echo#@elsewhere.example", b"/v1/echo"),
    "a question mark alone": _get(b"/v1/echo?"),
    "question marks": _get(b"/v1/echo???a?b"),
    "odd and legal": _get(b"/v1/echo;a=b,c!$&'()*+~:@-._"),
    "odd and not legal": _get(b'/v1/"<>[]^`{|}'),
    "two spaces": Passed(b"GET  /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n"),
    "empty lines first": Passed(b"\r\n\r\n" + GET + b"\r\n"),
    "OPTIONS": Passed(b"OPTIONS /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS"),
    "DELETE": Passed(b"DELETE /v1/files/1 HTTP/1.1\r\nHost: a\r\n\r\n", b"DELETE", b"/v1/files/1"),
    "an uncommon method": Passed(b"QUERY /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n", b"QUERY"),
    "HTTP/1.0": Passed(b"GET /v1/echo HTTP/1.0\r\n\r\n", follows=False),
    "HTTP/1.0 that is kept": Passed(b"GET /v1/echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
    # The parser takes these names for HTTP/1.0's; what goes on is HTTP/1.1 in any case.
    "RTSP/1.0": Passed(b"GET /v1/echo RTSP/1.0\r\nHost: a\r\n\r\n", follows=False),
    "RTSP's own method": Passed(
        b"DESCRIBE /v1/echo RTSP/1.0\r\nHost: a\r\n\r\n", b"DESCRIBE", follows=False
    ),
    "ICE/1.0": Passed(b"SOURCE /v1/echo ICE/1.0\r\nHost: a\r\n\r\n", b"SOURCE", follows=False),
}

HOP_BY_HOP = {
    "all of them": _fields(
        b"Keep-Alive: timeout=5\r\nProxy-Authenticate: a\r\nProxy-Authorization: b\r\n"
        b"Proxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: X\r\nX-Kept: 1\r\n",
        (b"X-Kept", b"1"),
    ),
    "named by Connection": _fields(
        b"Connection: keep-alive, X-One\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\n"
        b"Connection: x-two\r\n",
        (b"X-Three", b"3"),
    ),
    "named in odd ways": _fields(
        b'Connection: ,, x-one ,\tX-TWO\t, ;x-three, "x-three"\r\nX-One: 1\r\nX-Two: 2\r\n'
        b"X-Three: 3\r\n",
        (b"X-Three", b"3"),
    ),
    "every line of a name": _fields(
        b"X-One: 1\r\nConnection: x-one\r\nX-One: 2\r\nx-ONE: 3\r\nX-Kept: 4\r\n",
        (b"X-Kept", b"4"),
    ),
    "a credential": _fields(b"Connection: Authorization\r\nAuthorization: Bearer sk-named\r\n"),
    "the Host": _fields(b"Connection: Host, keep-alive\r\n"),
    "Connection itself": _fields(b"Connection: connection, keep-alive\r\nX: 1\r\n", (b"X", b"1")),
    "ours": _fields(
        b"X-Taximeter-User: eve\r\nx-taximeter-call-id: 1\r\nX-TAXIMETER-Team: t\r\n"
        b"x-taximeter-: 2\r\nx-taximeter-summary: 1\r\nx-taximeters: 3\r\n",
        (b"x-taximeters", b"3"),
    ),
    "a second request for 100": _fields(b"Expect: 100-Continue\r\n"),
    "others' overrides": _fields(
        b"X-Forwarded-Host: b\r\nForwarded: host=b\r\nX-Original-URL: /v1/b\r\n"
        b"X-Rewrite-URL: /b\r\n"
        b"X-HTTP-Method-Override: DELETE\r\nX-Host: b\r\n",
        (b"X-Forwarded-Host", b"b"),
        (b"Forwarded", b"host=b"),
        (b"X-Original-URL", b"/v1/b"),
        (b"X-Rewrite-URL", b"/b"),
        (b"X-HTTP-Method-Override", b"DELETE"),
        (b"X-Host", b"b"),
    ),
    "order, case and repetition": _fields(
        b"b: 2\r\nA: 1\r\nB: 3\r\na: \r\nc:4\r\nd:  5\t\r\n",
        (b"b", b"2"),
        (b"A", b"1"),
        (b"B", b"3"),
        (b"a", b""),
        (b"c", b"4"),
        (b"d", b"5"),
    ),
}

_H2C = b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"

UPGRADES = {
    "h2c": _fields(b"Connection: Upgrade, HTTP2-Settings\r\n" + _H2C),
    "h2c with settings that are not named": _fields(
        b"Connection: Upgrade\r\n" + _H2C, (b"HTTP2-Settings", b"AAMAAABkAAQAAP__")
    ),
    "h2c with a body": _post(
        b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello"
    ),
    "h2c with chunks": _post(
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
        + CHUNKS
        + b"%x\r\n" % len(INNER)
        + INNER
        + b"\r\n0\r\n\r\n",
        INNER,
    ),
    "h2c with chunks and trailers": _post(
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
        + CHUNKS
        + b"5;x=y\r\nhello\r\n0\r\nHost: b\r\n\r\n"
    ),
    "another protocol": _fields(b"Connection: Upgrade\r\nUpgrade: TLS/1.0, foo/2\r\n"),
    "not named by Connection": _fields(b"Upgrade: h2c\r\n"),
    "websocket, not named by Connection": _fields(b"Upgrade: websocket\r\n"),
    "named by Connection and absent": _fields(b"Connection: Upgrade\r\n"),
    "websocket by POST": _post(
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello"
    ),
    "websocket behind another protocol": _fields(
        b"Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n"
    ),
    "websocket twice": _fields(
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n"
    ),
    "websocket among others": _fields(b"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n"),
}

PASSED_FAMILIES: dict[str, dict[str, Passed]] = {
    "lengths": LENGTHS,
    "chunks": CHUNKED,
    "targets": TARGETS,
    "hop by hop": HOP_BY_HOP,
    "upgrades": UPGRADES,
}
PASSED: dict[str, Passed] = {
    f"{family}: {name}": case
    for family, cases in PASSED_FAMILIES.items()
    for name, case in cases.items()
}

TURNED_AWAY: dict[str, bytes] = {
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "asterisk in a GET": b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "another scheme": b"GET ftp://elsewhere.example/v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "a file": b"GET file:///etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
    "a host for a path": b"GET //elsewhere.example/v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "an address for an upstream": b"GET /http://169.254.169.254/v1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "an unknown upstream": b"GET /no/such HTTP/1.1\r\nHost: a\r\n\r\n",
    "an upstream in another case": b"GET /OpenAI/v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "an upstream that is encoded": b"GET /%6fpenai/v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "dots before the upstream": b"GET /../openai/v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "nothing": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "absolute form of nothing": b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n",
    "a request for its body": b"POST /no/such HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
    % len(INNER)
    + INNER,
    "a request in a chunk": b"POST /no/such HTTP/1.1\r\nHost: a\r\n"
    + CHUNKS
    + b"%x\r\n" % len(INNER)
    + INNER
    + b"\r\n0\r\n\r\n",
}
