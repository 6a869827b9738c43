"""What a hostile upstream answers, by family, and what the client may hear of it.

`Good`: it has one meaning, and goes on. `BAD`: it could be read in two ways, or not at all: the
client gets a 502, or an answer that visibly ends before its end.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.hostile._strict import Fields

OK = b"HTTP/1.1 200 OK\r\n"
FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Forged: 1\r\n\r\nforged"
"""A second answer, which must never be taken for the next caller's."""
CHUNKS = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Good:
    """An upstream's bytes, and the answer that they are."""

    said: bytes
    body: bytes = b"hello"
    status: int = 200
    fields: Fields = ()
    """Those that go on, beside what frames the body and what is ours."""
    interim: tuple[int, ...] = ()
    ends: bool = False
    """The upstream closes behind it."""
    spent: bool = False
    """Its connection carries no other answer, though it says that it could."""


def _sized(fields: bytes, *goes_on: tuple[bytes, bytes]) -> Good:
    return Good(OK + fields + b"Content-Length: 5\r\n\r\nhello", fields=goes_on)


GOOD_HEADS = {
    "hop by hop": _sized(
        b"Keep-Alive: timeout=5\r\nProxy-Authenticate: a\r\nTE: b\r\nTrailer: c\r\nUpgrade: h2c\r\n"
        b"Proxy-Connection: close\r\nProxy-Authorization: d\r\nX: y\r\n",
        (b"X", b"y"),
    ),
    "named by Connection": _sized(
        b"Connection: X-One, x-two\r\nX-One: 1\r\nX-TWO: 2\r\nConnection: keep-alive, x-three\r\n"
        b"x-three: 3\r\nX: y\r\n",
        (b"X", b"y"),
    ),
    "a cookie named by Connection": _sized(b"Set-Cookie: a=b\r\nConnection: set-cookie\r\n"),
    "the length named by Connection": _sized(b"Connection: Content-Length\r\n"),
    "ours, forged": _sized(
        b"x-taximeter-call-id: forged\r\nX-Taximeter-Error: forged\r\nx-taximeter-cost-usd: 0\r\n"
        b"X-TAXIMETER-INPUT-TOKENS: 0\r\nx-taximeter-: 1\r\nx-taximeters: 2\r\n",
        (b"x-taximeters", b"2"),
    ),
    "a field that looks like a line of ours": _sized(
        b"X: x-taximeter-error: forged\r\n", (b"X", b"x-taximeter-error: forged")
    ),
    "order, case and repetition": _sized(
        b"b: 1\r\nB: 2\r\nA:3\r\nc: \r\nd:  4\t\r\n",
        (b"b", b"1"),
        (b"B", b"2"),
        (b"A", b"3"),
        (b"c", b""),
        (b"d", b"4"),
    ),
    "bytes that are not ASCII": _sized(b"X: \xff\xfe \xc3\xa9\r\n", (b"X", b"\xff\xfe \xc3\xa9")),
    "a line separator of Unicode": _sized(
        b"X: a\xe2\x80\xa8b\x85c\r\nY: d\r\n", (b"X", b"a\xe2\x80\xa8b\x85c"), (b"Y", b"d")
    ),
    "a line separator beside Connection": _sized(
        b"Connection: y\r\nX: a\x85y: b\r\nY: d\r\n", (b"X", b"a\x85y: b")
    ),
    "a reason in words": Good(b"HTTP/1.1 200 All is, well: \xe9\r\nContent-Length: 5\r\n\r\nhello"),
    "no reason": Good(b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello"),
    "no space for a reason": Good(b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello"),
    "an odd status": Good(b"HTTP/1.1 299 Odd\r\nContent-Length: 5\r\n\r\nhello", status=299),
    "a status beyond all": Good(b"HTTP/1.1 999 Odd\r\nContent-Length: 5\r\n\r\nhello", status=999),
    "an error": Good(b"HTTP/1.1 418 I\r\nContent-Length: 5\r\n\r\nhello", status=418),
    "a way elsewhere": Good(
        b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n",
        b"",
        302,
        ((b"Location", b"http://169.254.169.254/"),),
    ),
    "a way elsewhere that repeats the body": Good(
        b"HTTP/1.1 307 T\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b"",
        307,
        ((b"Location", b"http://127.0.0.1:1/"),),
    ),
    "a refresh": _sized(b"Refresh: 0; url=http://b/\r\n", (b"Refresh", b"0; url=http://b/")),
    "HTTP/1.0": Good(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", ends=True),
}

GOOD_BODIES = {
    "no content with a length": Good(
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", b"", 204
    ),
    "no content with chunks": Good(
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", b"", 204
    ),
    "not modified with a length": Good(
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"", 304
    ),
    "by the connection's end": Good(OK + b"\r\nhello", ends=True),
    "surplus": Good(OK + b"Content-Length: 5\r\n\r\nhello" + b"x" * 100),
    "another answer behind it": Good(OK + b"Content-Length: 5\r\n\r\nhello" + FORGED),
    "another answer behind chunks": Good(CHUNKS + b"5\r\nhello\r\n0\r\n\r\n" + FORGED),
    "another answer behind no content": Good(b"HTTP/1.1 204 No Content\r\n\r\n" + FORGED, b"", 204),
    "an answer for a body": Good(OK + b"Content-Length: %d\r\n\r\n" % len(FORGED) + FORGED, FORGED),
    "an answer in a chunk": Good(
        CHUNKS + b"%x\r\n" % len(FORGED) + FORGED + b"\r\n0\r\n\r\n", FORGED
    ),
    "extensions": Good(CHUNKS + b'5;a=b;c="d"\r\nhello\r\n0;x=y\r\n\r\n'),
    "leading noughts": Good(CHUNKS + b"000005\r\nhello\r\n000\r\n\r\n"),
    "byte by byte": Good(CHUNKS + b"".join(b"1\r\n%c\r\n" % c for c in b"hello") + b"0\r\n\r\n"),
    "a coding in capitals": Good(OK + b"TRANSFER-ENCODING: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    "chunks of HTTP/1.0, and no end": Good(
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n0\r\n\r\n",
        spent=True,
    ),
    "noughts before the length": Good(OK + b"Content-Length: 005\r\n\r\nhello"),
    "one early hint": Good(
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\nx-taximeter-error: forged\r\n"
        b"Connection: X\r\nX: y\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello",
        interim=(103,),
    ),
    "a word to go on, unasked": Good(
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello"
    ),
    "sixteen early hints": Good(
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 16 + OK + b"Content-Length: 5\r\n\r\nhello",
        interim=(103,) * 16,
    ),
    "an early hint with a length": Good(
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n"
        + OK
        + b"Content-Length: 5\r\n\r\nhello",
        interim=(103,),
    ),
}

GOOD: dict[str, Good] = {**GOOD_HEADS, **GOOD_BODIES}

_LENGTHS = {
    "two that differ": b"Content-Length: 5\r\nContent-Length: 6",
    "two the same": b"Content-Length: 5\r\nContent-Length: 5",
    "two in two cases": b"content-length: 5\r\nContent-Length: 50",
    "a list": b"Content-Length: 5, 5",
    "plus": b"Content-Length: +5",
    "minus": b"Content-Length: -5",
    "hexadecimal": b"Content-Length: 0x5",
    "an underscore": b"Content-Length: 0_5",
    "a fraction": b"Content-Length: 5.0",
    "words": b"Content-Length: five",
    "empty": b"Content-Length:",
    "2^64 and five": b"Content-Length: 18446744073709551621",
    "noughts without end": b"Content-Length: " + b"0" * 5000 + b"5",
    "Arabic digit": "Content-Length: \u0665".encode(),
    "superscript": b"Content-Length: \xb2",
    "a semicolon": b"Content-Length: 5;",
    "a space before the colon": b"Content-Length : 5",
    "a NUL": b"Content-Length: 5\0",
    "folded": b"Content-Length:\r\n 5",
    "behind a lone LF": b"X: y\nContent-Length: 5",
    "behind a lone CR": b"X: y\rContent-Length: 5",
    "chunks beside it": b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    "chunks before it": b"Transfer-Encoding: chunked\r\nContent-Length: 5",
}
_CODINGS = {
    "gzip": b"gzip",
    "gzip, chunked": b"gzip, chunked",
    "chunked, gzip": b"chunked, gzip",
    "chunked, chunked": b"chunked, chunked",
    "identity": b"identity",
    "xchunked": b"xchunked",
    "quoted": b'"chunked"',
    "empty": b"",
    "a vertical tab": b"\x0bchunked",
    "a NUL": b"chunked\0",
    "folded": b"\r\n chunked",
    "twice": b"chunked\r\nTransfer-Encoding: chunked",
    "then identity": b"chunked\r\nTransfer-Encoding: identity",
    "identity first": b"identity\r\nTransfer-Encoding: chunked",
}
_HEADS = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP/0.9": b"hello",
    "HTTP/0.9 said so": b"HTTP/0.9 200 OK\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\n",
    "http in small letters": b"http/1.1 200 OK\r\n",
    "ICY": b"ICY 200 OK\r\n",
    "RTSP": b"RTSP/1.0 200 OK\r\n",
    "no status": b"HTTP/1.1 OK\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n",
    "a status below all": b"HTTP/1.1 099 OK\r\n",
    "a negative status": b"HTTP/1.1 -200 OK\r\n",
    "a status in hexadecimal": b"HTTP/1.1 0xc8 OK\r\n",
    "a status of Arabic": "HTTP/1.1 \u0662\u0660\u0660 OK\r\n".encode(),
    "a tab for a space": b"HTTP/1.1\t200\tOK\r\n",
    "a CR in the reason": b"HTTP/1.1 200 O\rK\r\n",
    "a NUL in the reason": b"HTTP/1.1 200 O\0K\r\n",
    "a line in the reason": b"HTTP/1.1 200 O\nX: y\r\n",
    "a bare LF behind the status": b"HTTP/1.1 200 OK\n",
    "a bare CR behind the status": b"HTTP/1.1 200 OK\r",
    "a bare LF behind a field": OK + b"X: y\n",
    "a field split by CR": OK + b"X: a\rSet-Cookie: b\r\n",
    "a field split by LF": OK + b"X: a\nSet-Cookie: b\r\n",
    "a fold": OK + b"X: a\r\n b\r\n",
    "a fold first": OK + b" X: a\r\n",
    "a NUL in a value": OK + b"X: a\0b\r\n",
    "an escape in a value": OK + b"X: \x1b[2J\r\n",
    "a delete in a value": OK + b"X: \x7f\r\n",
    "a space in a name": OK + b"X Y: a\r\n",
    "a space before the colon": OK + b"X : a\r\n",
    "no colon": OK + b"nonsense\r\n",
    "no name": OK + b": a\r\n",
    "an answer among the fields": OK + OK,
    "an empty line first": b"\r\n" + OK,
}
_FRAMES = {
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "no hexadecimal": b"zz\r\nhello\r\n0\r\n\r\n",
    "a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a space": b"5 \r\nhello\r\n0\r\n\r\n",
    "2^64 and five": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "longer than said": b"3\r\nhello\r\n0\r\n\r\n",
    "shorter than said": b"7\r\nhello\r\n0\r\n\r\n",
    "bare LF": b"5\nhello\n0\n\n",
    "bare LF behind a size": b"5\nhello\r\n0\r\n\r\n",
    "bare LF behind a chunk": b"5\r\nhello\n0\r\n\r\n",
    "bare CR": b"5\rhello\r0\r\r",
    "LF in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "a trailer with a fold": b"5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n",
    "a trailer with a NUL": b"5\r\nhello\r\n0\r\nX: a\0\r\n\r\n",
    "a trailer without a colon": b"5\r\nhello\r\n0\r\nnonsense\r\n\r\n",
    "an answer for a trailer": b"5\r\nhello\r\n0\r\n" + FORGED,
    "a length for a trailer": b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
}

BAD: dict[str, bytes] = {
    **{f"length: {name}": OK + said + b"\r\n\r\nhello" + FORGED for name, said in _LENGTHS.items()},
    **{
        f"coding: {name}": OK
        + b"Transfer-Encoding: "
        + said
        + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        + FORGED
        for name, said in _CODINGS.items()
    },
    **{
        f"head: {name}": said + b"Content-Length: 5\r\n\r\nhello" + FORGED
        for name, said in _HEADS.items()
    },
    **{f"chunks: {name}": CHUNKS + said + FORGED for name, said in _FRAMES.items()},
    "interim: another protocol, unasked": b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + FORGED,
    "interim: too many": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17 + FORGED,
    "interim: a flood": b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * 20_000,
    "interim: and no more": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "size: a head without end": OK + b"X: " + b"x" * 300_000,
    "size: fields without end": OK + b"X: y\r\n" * 60_000,
    "size: a reason without end": b"HTTP/1.1 200 " + b"x" * 300_000,
    "size: a trailer without end": CHUNKS + b"5\r\nhello\r\n0\r\nX: " + b"x" * 300_000,
    "size: an extension without end": CHUNKS + b"5;" + b"x" * 300_000,
    "size: noughts without end": CHUNKS + b"0" * 300_000,
    "cut: nothing": b"",
    "cut: half a head": OK + b"Content-Le",
    "cut: a head": OK + b"Content-Length: 5\r\n",
    "cut: no body": OK + b"Content-Length: 5\r\n\r\n",
    "cut: half a body": OK + b"Content-Length: 5\r\n\r\nhel",
    "cut: a body of 2^62": OK + b"Content-Length: 4611686018427387904\r\n\r\nhello",
    "cut: before the last chunk": CHUNKS + b"5\r\nhello\r\n",
    "cut: in the last chunk": CHUNKS + b"5\r\nhello\r\n0\r\n",
    "cut: in a chunk": CHUNKS + b"5\r\nhel",
    "cut: in the trailers": CHUNKS + b"5\r\nhello\r\n0\r\nX: y\r\n",
}
