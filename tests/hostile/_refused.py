"""Requests that must reach no upstream, by family: what could be read in two ways, or not at all.

Behind most of them stands `INNER`: a request that another reader might take for one of its own.
The names are the rows of the report of a failing test.
"""

from __future__ import annotations

POST = b"POST /v1/echo HTTP/1.1\r\nHost: a\r\n"
GET = b"GET /v1/echo HTTP/1.1\r\nHost: a\r\n"
NEXT = b"GET /v1/next HTTP/1.1\r\nHost: a\r\n\r\n"
INNER = b"GET /v1/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n"
EMPTY = b"0\r\n\r\n"

LENGTH_AND_CHUNKS = {
    "CL and TE": POST + b"Content-Length: 5\r\n" + CHUNKS + EMPTY + INNER,
    "TE and CL": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + EMPTY + INNER,
    "CL of nought and TE": POST + b"Content-Length: 0\r\n" + CHUNKS + EMPTY + INNER,
    "CL and TE with a field between": POST
    + b"Content-Length: 5\r\nX: y\r\n"
    + CHUNKS
    + EMPTY
    + INNER,
    "CL and TE in a GET": GET + b"Content-Length: 5\r\n" + CHUNKS + EMPTY + INNER,
    "CL and TE in small letters": POST
    + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n"
    + EMPTY
    + INNER,
    "CL and TE named by Connection": POST
    + b"Connection: Content-Length\r\nContent-Length: 5\r\n"
    + CHUNKS
    + EMPTY
    + INNER,
    "upgrade with CL and TE": POST
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n"
    + CHUNKS
    + EMPTY
    + INNER,
    "h2c with CL and TE": POST
    + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n"
    + CHUNKS
    + EMPTY
    + INNER,
}

_CODINGS = {
    "gzip, chunked": b"gzip, chunked",
    "chunked, gzip": b"chunked, gzip",
    "chunked, chunked": b"chunked, chunked",
    "chunked, identity": b"chunked, identity",
    "identity": b"identity",
    "identity, chunked": b"identity, chunked",
    "xchunked": b"xchunked",
    "chunkedx": b"chunkedx",
    "chunk": b"chunk",
    "chunked;q=1": b"chunked;q=1",
    "chunked; a=b": b"chunked; a=b",
    "chunked,": b"chunked,",
    ", chunked": b", chunked",
    "quoted": b'"chunked"',
    "in single quotes": b"'chunked'",
    "in brackets": b"[chunked]",
    "empty": b"",
    "cow": b"cow",
    "vertical tab in front": b"\x0bchunked",
    "vertical tab behind": b"chunked\x0b",
    "form feed in front": b"\x0cchunked",
    "no-break space in front": b"\xa0chunked",
    "next line behind": b"chunked\x85",
    "a byte-order mark in front": b"\xef\xbb\xbfchunked",
    "a Kelvin sign": "chun\u212aed".encode(),
    "a long s": "chunked\u017f".encode(),
    "NUL behind": b"chunked\0",
    "a lone CR in front": b"\rchunked",
    "a lone LF in front": b"\nchunked",
    "folded": b"\r\n chunked",
    "folded by a tab": b"\r\n\tchunked",
    "folded behind": b"chunked\r\n ,identity",
    "an empty fold": b"chunked\r\n ",
    "padded behind": b"chunked \t",
}

TRANSFER_CODINGS = {
    **{
        f"TE {name}": POST + b"Transfer-Encoding: " + value + b"\r\n\r\n" + EMPTY + INNER
        for name, value in _CODINGS.items()
    },
    "TE twice": POST + b"Transfer-Encoding: chunked\r\n" + CHUNKS + EMPTY + INNER,
    "TE twice in two cases": POST + b"transfer-encoding: chunked\r\n" + CHUNKS + EMPTY + INNER,
    "TE chunked then identity": POST
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"
    + EMPTY
    + INNER,
    "TE identity then chunked": POST + b"Transfer-Encoding: identity\r\n" + CHUNKS + EMPTY + INNER,
    "TE chunked then nothing": POST
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n\r\n"
    + EMPTY
    + INNER,
    "TE in HTTP/1.0": b"POST /v1/echo HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n"
    + CHUNKS
    + EMPTY
    + INNER,
    "TE, space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n" + EMPTY + INNER,
    "TE, tab before the colon": POST + b"Transfer-Encoding\t: chunked\r\n\r\n" + EMPTY + INNER,
    "TE, CR before the colon": POST + b"Transfer-Encoding\r: chunked\r\n\r\n" + EMPTY + INNER,
    "TE, NUL before the colon": POST + b"Transfer-Encoding\0: chunked\r\n\r\n" + EMPTY + INNER,
    "TE behind a space": POST + b" Transfer-Encoding: chunked\r\n\r\n" + EMPTY + INNER,
    "TE behind a fold": POST + b"X: y\r\n Transfer-Encoding: chunked\r\n\r\n" + EMPTY + INNER,
    "TE behind a lone LF": POST + b"X: y\nTransfer-Encoding: chunked\r\n\r\n" + EMPTY + INNER,
    "TE behind a lone CR": POST + b"X: y\rTransfer-Encoding: chunked\r\n\r\n" + EMPTY + INNER,
    "TE without a colon": POST + b"Transfer-Encoding chunked\r\n\r\n" + EMPTY + INNER,
    "TE with no body and an end at once": POST + b"Transfer-Encoding: identity\r\n\r\n" + INNER,
}

_LENGTHS = {
    "list": b"5, 5",
    "list without a space": b"5,5",
    "list of two": b"5, 6",
    "list with nothing": b"5,",
    "plus": b"+5",
    "minus": b"-5",
    "minus nought": b"-0",
    "hexadecimal": b"0x5",
    "hexadecimal digits": b"a",
    "octal": b"0o5",
    "binary": b"0b101",
    "underscore": b"1_0",
    "fraction": b"5.0",
    "exponent": b"5e0",
    "words": b"five",
    "empty": b"",
    "spaces only": b"   ",
    "inner space": b"1 0",
    "inner tab": b"1\t0",
    "semicolon": b"5;",
    "quoted": b'"5"',
    "2^64 and five": b"18446744073709551621",
    "2^64": b"18446744073709551616",
    "2^128 and five": b"340282366920938463463374607431768211461",
    "twenty nines": b"99999999999999999999",
    "noughts without end": b"0" * 5000 + b"5",
    "Arabic digit": "\u0665".encode(),
    "fullwidth digit": "\uff15".encode(),
    "superscript": "\u00b2".encode(),
    "superscript in latin-1": b"\xb2",
    "no-break space": b"\xa05",
    "next line": b"5\x85",
    "vertical tab": b"\x0b5",
    "form feed": b"5\x0c",
    "NUL": b"5\0",
    "a lone CR": b"5\r6",
    "a lone LF": b"5\n6",
    "folded": b"\r\n 5",
    "folded digits": b"1\r\n 0",
}

LENGTHS = {
    **{
        f"CL {name}": POST + b"Content-Length: " + value + b"\r\n\r\nhello" + INNER
        for name, value in _LENGTHS.items()
    },
    "CL twice": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello" + INNER,
    "CL twice the same": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello" + INNER,
    "CL twice in two cases": POST + b"content-length: 5\r\nCONTENT-LENGTH: 5\r\n\r\nhello" + INNER,
    "CL twice, nought first": POST + b"Content-Length: 0\r\nContent-Length: 43\r\n\r\n" + INNER,
    "CL twice, apart": POST
    + b"Content-Length: 5\r\nX: y\r\nContent-Length: 6\r\n\r\nhello"
    + INNER,
    "CL twice in a GET": GET + b"Content-Length: 0\r\nContent-Length: 43\r\n\r\n" + INNER,
    "CL, space before the colon": POST + b"Content-Length : 5\r\n\r\nhello" + INNER,
    "CL, tab before the colon": POST + b"Content-Length\t: 5\r\n\r\nhello" + INNER,
    "CL, vertical tab before the colon": POST + b"Content-Length\x0b: 5\r\n\r\nhello" + INNER,
    "CL, NUL before the colon": POST + b"Content-Length\0: 5\r\n\r\nhello" + INNER,
    "CL behind a space": POST + b" Content-Length: 5\r\n\r\nhello" + INNER,
    "CL behind a lone LF": POST + b"X: y\nContent-Length: 5\r\n\r\nhello" + INNER,
    "CL behind a lone CR": POST + b"X: y\rContent-Length: 5\r\n\r\nhello" + INNER,
}

LINE_ENDS = {
    "bare LF": b"GET /v1/echo HTTP/1.1\nHost: a\n\n",
    "bare LF behind the request line": b"GET /v1/echo HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF behind a field": GET[:-2] + b"\nX: y\r\n\r\n",
    "bare LF for the empty line": GET + b"\n",
    "bare LF twice at the end": GET[:-2] + b"\n\n" + INNER,
    "bare CR": POST + b"X: a\rb\r\nContent-Length: 0\r\n\r\n",
    "bare CR behind the request line": b"GET /v1/echo HTTP/1.1\rHost: a\r\n\r\n",
    "bare CR for a line's end": POST + b"X: a\rY: b\r\n\r\n",
    "bare CR at a line's beginning": POST + b"\rX: a\r\nContent-Length: 0\r\n\r\n",
    "CR twice": POST + b"X: a\r\r\nContent-Length: 0\r\n\r\n",
    "CR twice at the end": GET + b"\r\r\n" + INNER,
    "LF and CR": POST + b"X: a\n\rContent-Length: 0\n\r\n\r",
    "CR between names": b"GET /v1/echo HTTP/1.1\r\nHost\r: a\r\n\r\n",
    "folded": POST + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "folded by a tab": POST + b"X: a\r\n\tb\r\nContent-Length: 0\r\n\r\n",
    "folded Host": b"GET /v1/echo HTTP/1.1\r\nHost:\r\n a\r\n\r\n",
    "folded first": b"POST /v1/echo HTTP/1.1\r\n Host: a\r\nContent-Length: 0\r\n\r\n",
    "a line of a space": POST + b" \r\nContent-Length: 0\r\n\r\n",
    "a line of a tab": GET + b"\t\r\n\r\n" + INNER,
    "a request line that is folded": b"GET /v1/echo\r\n HTTP/1.1\r\nHost: a\r\n\r\n",
    "next line for a line's end": b"GET /v1/echo HTTP/1.1\x85Host: a\x85\x85",
    "line separators": "GET /v1/echo HTTP/1.1\u2028Host: a\u2028\u2028".encode(),
}

FIELDS = {
    "space before colon": POST + b"X : a\r\nContent-Length: 0\r\n\r\n",
    "no colon": POST + b"nonsense\r\nContent-Length: 0\r\n\r\n",
    "no name": POST + b": a\r\nContent-Length: 0\r\n\r\n",
    "a space for a name": POST + b" : a\r\nContent-Length: 0\r\n\r\n",
    "two words for a name": POST + b"X Y: a\r\nContent-Length: 0\r\n\r\n",
    "a name in quotes": POST + b'"X": a\r\nContent-Length: 0\r\n\r\n',
    "a name in UTF-8": POST + "X-\u00fc: a\r\nContent-Length: 0\r\n\r\n".encode(),
    "a comma in a name": POST + b"X,Y: a\r\nContent-Length: 0\r\n\r\n",
    "HTTP/2's colon": POST + b":path: /v1/smuggled\r\nContent-Length: 0\r\n\r\n",
    "a request line among the fields": POST + INNER,
    "NUL in a value": POST + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "control in a value": POST + b"X: a\x01b\r\nContent-Length: 0\r\n\r\n",
    "delete in a value": POST + b"X: a\x7fb\r\nContent-Length: 0\r\n\r\n",
    "escape in a value": POST + b"X: \x1b[2J\r\nContent-Length: 0\r\n\r\n",
    "NUL in a name": POST + b"X\0Y: a\r\nContent-Length: 0\r\n\r\n",
}

HOSTS = {
    "no Host": b"GET /v1/echo HTTP/1.1\r\n\r\n" + INNER,
    "two Hosts": b"GET /v1/echo HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n" + INNER,
    "two Hosts that differ": b"GET /v1/echo HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n" + INNER,
    "two Hosts in HTTP/1.0": b"GET /v1/echo HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    "Host, space before the colon": b"GET /v1/echo HTTP/1.1\r\nHost : a\r\n\r\n" + INNER,
    "Host in two, one of them folded": b"GET /v1/echo HTTP/1.1\r\nHost: a\r\n Host: b\r\n\r\n",
    "absolute form without a Host": b"GET http://a/v1/echo HTTP/1.1\r\n\r\n" + INNER,
}

_SIZES = {
    "nothing": b"",
    "a sign": b"+1",
    "minus": b"-1",
    "0x": b"0x1",
    "not hexadecimal": b"g",
    "fullwidth digit": "\uff11".encode(),
    "space behind": b"1 ",
    "space in front": b" 1",
    "tab behind": b"1\t",
    "a comma": b"1,1",
    "an underscore": b"0_1",
    "a fraction": b"1.0",
    "NUL behind": b"1\0",
    "CR behind": b"1\r",
    "2^64 and one": b"10000000000000001",
    "2^64": b"10000000000000000",
    "2^128 and one": b"1" + b"0" * 31 + b"1",
    "a million digits": b"f" * 1000,
}

CHUNKED = {
    **{
        f"chunk size: {name}": POST + CHUNKS + size + b"\r\na\r\n" + EMPTY + INNER
        for name, size in _SIZES.items()
    },
    "chunk longer than said": POST + CHUNKS + b"1\r\nab\r\n" + EMPTY + INNER,
    "chunk shorter than said": POST + CHUNKS + b"3\r\nab\r\n" + EMPTY + INNER,
    "chunk without its end": POST + CHUNKS + b"1\r\na" + EMPTY + INNER,
    "chunk with bare LF": POST + CHUNKS + b"1\na\n0\n\n" + INNER,
    "bare LF behind a size": POST + CHUNKS + b"1\na\r\n" + EMPTY + INNER,
    "bare LF behind a chunk": POST + CHUNKS + b"1\r\na\n" + EMPTY + INNER,
    "bare LF behind the last": POST + CHUNKS + b"1\r\na\r\n0\n\r\n" + INNER,
    "bare LF at the very end": POST + CHUNKS + b"1\r\na\r\n0\r\n\n" + INNER,
    "bare CR behind a size": POST + CHUNKS + b"1\ra\r\n" + EMPTY + INNER,
    "CR twice behind a size": POST + CHUNKS + b"1\r\r\na\r\n" + EMPTY + INNER,
    "extension with LF": POST + CHUNKS + b"1;a\nb\r\na\r\n" + EMPTY + INNER,
    "extension with CR": POST + CHUNKS + b"1;a\rb\r\na\r\n" + EMPTY + INNER,
    "extension with NUL": POST + CHUNKS + b"1;a\0b\r\na\r\n" + EMPTY + INNER,
    "extension with a line in quotes": POST + CHUNKS + b'1;a="\r\n0\r\n\r\n' + INNER,
    "extension with a lone LF in quotes": POST + CHUNKS + b'1;a="\n"\r\na\r\n' + EMPTY + INNER,
    "extension behind a space": POST + CHUNKS + b"1 ;a\r\na\r\n" + EMPTY + INNER,
    "trailer: space before colon": POST + CHUNKS + b"0\r\nX : a\r\n\r\n" + INNER,
    "trailer: folded": POST + CHUNKS + b"0\r\nX: a\r\n b\r\n\r\n" + INNER,
    "trailer: bare LF": POST + CHUNKS + b"0\r\nX: a\nY: b\r\n\r\n" + INNER,
    "trailer: NUL": POST + CHUNKS + b"0\r\nX: a\0\r\n\r\n" + INNER,
    "trailer: no colon": POST + CHUNKS + b"0\r\nnonsense\r\n\r\n" + INNER,
    "trailer: a request line": POST + CHUNKS + b"0\r\n" + INNER,
    "trailer: a length": POST + CHUNKS + b"0\r\nContent-Length: 38\r\n\r\n" + INNER,
    "trailer: a coding": POST + CHUNKS + b"0\r\n" + CHUNKS + EMPTY + INNER,
    "a last chunk of minus nought": POST + CHUNKS + b"-0\r\n\r\n" + INNER,
}

REQUEST_LINES = {
    "HTTP/0.9": b"GET /v1/echo\r\n\r\n",
    "HTTP/0.9 said so": b"GET /v1/echo HTTP/0.9\r\nHost: a\r\n\r\n",
    "HTTP/1.2": b"GET /v1/echo HTTP/1.2\r\nHost: a\r\n\r\n" + INNER,
    "HTTP/1.10": b"GET /v1/echo HTTP/1.10\r\nHost: a\r\n\r\n" + INNER,
    "HTTP/1": b"GET /v1/echo HTTP/1\r\nHost: a\r\n\r\n",
    "HTTP/1.": b"GET /v1/echo HTTP/1.\r\nHost: a\r\n\r\n",
    "HTTP/11": b"GET /v1/echo HTTP/11\r\nHost: a\r\n\r\n",
    "HTTP/01.1": b"GET /v1/echo HTTP/01.1\r\nHost: a\r\n\r\n",
    "HTTP/2.0": b"GET /v1/echo HTTP/2.0\r\nHost: a\r\n\r\n" + INNER,
    "HTTP/3": b"GET /v1/echo HTTP/3\r\nHost: a\r\n\r\n",
    "HTTP/-1.1": b"GET /v1/echo HTTP/-1.1\r\nHost: a\r\n\r\n",
    "HTTP/1.1 with digits of Arabic": "GET /v1/echo HTTP/1.\u0661\r\nHost: a\r\n\r\n".encode(),
    "http in small letters": b"GET /v1/echo http/1.1\r\nHost: a\r\n\r\n",
    "HTTPS/1.1": b"GET /v1/echo HTTPS/1.1\r\nHost: a\r\n\r\n",
    "RTSP's own method in HTTP": b"PLAY /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n" + INNER,
    "a version twice": b"GET /v1/echo HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n" + INNER,
    "a space behind the version": b"GET /v1/echo HTTP/1.1 \r\nHost: a\r\n\r\n" + INNER,
    "a tab behind the version": b"GET /v1/echo HTTP/1.1\t\r\nHost: a\r\n\r\n" + INNER,
    "no version and a space": b"GET /v1/echo \r\nHost: a\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\nHost: a\r\n\r\n",
    "no method": b" /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "nothing but a method": b"GET\r\n\r\n",
    "tab for space": b"GET\t/v1/echo\tHTTP/1.1\r\nHost: a\r\n\r\n",
    "vertical tab for space": b"GET\x0b/v1/echo\x0bHTTP/1.1\r\nHost: a\r\n\r\n",
    "no-break space for space": b"GET\xa0/v1/echo\xa0HTTP/1.1\r\nHost: a\r\n\r\n",
    "space in target": b"GET /v1/e cho HTTP/1.1\r\nHost: a\r\n\r\n",
    "tab in target": b"GET /v1/e\tcho HTTP/1.1\r\nHost: a\r\n\r\n",
    "NUL in target": b"GET /v1/e\0cho HTTP/1.1\r\nHost: a\r\n\r\n",
    "a space in front": b" GET /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "a byte-order mark in front": b"\xef\xbb\xbfGET /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT": b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n" + INNER,
    "CONNECT with a path": b"CONNECT /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n" + INNER,
    "CONNECT with a length": b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345"
    + INNER,
    "TRACE": b"TRACE /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n" + INNER,
    "unknown method": b"FETCH /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "lower-case method": b"get /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "method with a line in it": b"GET\r\nHost: a\r\n /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "method with NUL": b"GET\0 /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method of ten thousand letters": b"G" * 10_000 + b" /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "target without a slash": b"GET v1/echo HTTP/1.1\r\nHost: a\r\n\r\n" + INNER,
    "authority form": b"GET elsewhere.example:80 HTTP/1.1\r\nHost: a\r\n\r\n" + INNER,
    "a backslash first": b"GET \\v1\\echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "a scheme without slashes": b"GET http:/v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "a query first": b"GET ?a=/v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "a fragment first": b"GET #/v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
}

UPGRADES = {
    "websocket with a length": b"GET /v1/realtime HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nContent-Length: 3\r\n\r\nabc" + INNER,
    "websocket with chunks": b"GET /v1/realtime HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\n" + CHUNKS + b"3\r\nabc\r\n" + EMPTY + INNER,
    "websocket with a request for its body": b"GET /v1/realtime HTTP/1.1\r\nHost: a\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: %d\r\n\r\n" % len(INNER) + INNER,
    "websocket and keep-alive with a length": b"GET /v1/realtime HTTP/1.1\r\nHost: a\r\n"
    b"Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nContent-Length: 3\r\n\r\nabc"
    + INNER,
    "h2c with a malformed length": POST
    + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: +3\r\n\r\nabc"
    + INNER,
    "h2c with a malformed chunk": POST
    + b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
    + CHUNKS
    + b"zz\r\n"
    + INNER,
    "h2c with two lengths": POST
    + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"
    + INNER,
    "h2c with a coding we lack": POST
    + b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: gzip\r\n\r\nabc"
    + INNER,
}

OTHER_PROTOCOLS = {
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "h2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "h2 preface and a frame": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    "h2 preface and a request": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + INNER,
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n" + INNER,
    "PROXY protocol": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + INNER,
    "PROXY protocol 2": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12) + INNER,
    "SMTP": b"EHLO a\r\nMAIL FROM:<a@b>\r\n" + INNER,
    "Redis": b"*1\r\n$4\r\nPING\r\n" + INNER,
    "a memcached line": b"set a 0 0 1\r\na\r\n" + INNER,
    "NULs": bytes(64) + INNER,
    "an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + INNER,
    "JSON": b'{"method": "GET"}\r\n\r\n' + INNER,
}

_EXPECTS = {
    "miracles": b"Expect: miracles\r\n",
    "a list": b"Expect: 100-continue, miracles\r\n",
    "a parameter": b"Expect: 100-continue;a=b\r\n",
    "empty": b"Expect:\r\n",
    "another number": b"Expect: 200-ok\r\n",
    "quoted": b'Expect: "100-continue"\r\n',
    "no number": b"Expect: continue\r\n",
    "two that differ": b"Expect: 100-continue\r\nExpect: miracles\r\n",
}

EXPECTS = {
    f"Expect: {name}": POST + value + b"Content-Length: %d\r\n\r\n" % len(INNER) + INNER
    for name, value in _EXPECTS.items()
}

BEHIND_AN_ERROR = {
    "an error and a request": b"GET /v1/echo HTTP/1.1\r\n\r\n" + INNER * 3,
    "an unknown upstream with no end": b"POST /no/such HTTP/1.1\r\nHost: a\r\n"
    b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n" + INNER,
    "a refused method and a request": b"TRACE /v1/echo HTTP/1.1\r\nHost: a\r\n"
    b"Content-Length: %d\r\n\r\n" % len(INNER) + INNER + INNER,
    "a refused coding and chunks": POST
    + b"Transfer-Encoding: gzip\r\n\r\n%x\r\n" % len(INNER)
    + INNER
    + b"\r\n"
    + EMPTY
    + INNER,
}

REFUSED_FAMILIES: dict[str, dict[str, bytes]] = {
    "length and chunks": LENGTH_AND_CHUNKS,
    "transfer codings": TRANSFER_CODINGS,
    "lengths": LENGTHS,
    "line ends": LINE_ENDS,
    "fields": FIELDS,
    "hosts": HOSTS,
    "chunks": CHUNKED,
    "request lines": REQUEST_LINES,
    "upgrades": UPGRADES,
    "other protocols": OTHER_PROTOCOLS,
    "expectations": EXPECTS,
    "behind an error": BEHIND_AN_ERROR,
}
REFUSED: dict[str, bytes] = {
    f"{family}: {name}": said
    for family, cases in REFUSED_FAMILIES.items()
    for name, said in cases.items()
}
