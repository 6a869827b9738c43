"""Streams and bodies of a hostile upstream: what they say, and what of it is to be believed.

Each is an answer to a chat call that asked for usage itself, so that every byte is to go on.
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass

import brotli

from taximeter.relay._decoders import zstd

DONE = b"data: [DONE]\n\n"


def token(text: str = "a", **more: object) -> bytes:
    """Write an event with a token."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    said = {"id": "chatcmpl-1", "model": "none", "choices": [choice], **more}
    return b"data: " + json.dumps(said).encode() + b"\n\n"


def usage(said: str) -> bytes:
    """Write an event of usage; `said` is JSON, or is not."""
    return b'data: {"id":"chatcmpl-1","model":"none","choices":[],"usage":%b}\n\n' % said.encode()


@dataclass(frozen=True)
class Stream:
    """A stream, and what is booked of it."""

    said: bytes
    tokens: tuple[int | None, int | None] | None = None
    """Input and output as booked; None if no usage is."""
    outcome: str = "completed"
    encoding: bytes = b""


def _forged(said: str) -> Stream:
    return Stream(token() + usage(said) + DONE)


_FIVE_AND_TWO = '{"prompt_tokens":5,"completion_tokens":2}'

NONSENSE = {
    "negative": _forged('{"prompt_tokens":-5,"completion_tokens":-1}'),
    "fractions": _forged('{"prompt_tokens":5.5,"completion_tokens":1e-3}'),
    "not finite": _forged('{"prompt_tokens":NaN,"completion_tokens":-Infinity}'),
    "beyond all integers": _forged('{"prompt_tokens":1e400,"completion_tokens":%s}' % ("9" * 400)),
    "beyond what is believed": _forged('{"prompt_tokens":9007199254740993}'),
    "words": _forged('{"prompt_tokens":"5","completion_tokens":"1"}'),
    "truths": _forged('{"prompt_tokens":true,"completion_tokens":false}'),
    "lists": _forged('{"prompt_tokens":[5],"completion_tokens":{"a":1}}'),
    "nothing": _forged("{}"),
    "null": _forged("null"),
    "a list": _forged("[1,2,3]"),
    "a number": _forged("12"),
    "a text": _forged('"prompt_tokens: 5"'),
    "deep": _forged("[" * 5000 + "]" * 5000),
    "deep objects": _forged('{"a":' * 5000 + "1" + "}" * 5000),
    "broken off": Stream(token() + b'data: {"choices":[],"usage":{"prompt_tokens":5,\n\n' + DONE),
    "a key that is no UTF-8": Stream(
        token()
        + b'data: {"choices":[],"usage":{"prompt_tokens":-1,"completion_\xe9":2,"a":5}}\n\n'
        + DONE
    ),
    "in a text": Stream(token('"usage":{"prompt_tokens":5,"completion_tokens":1}') + DONE),
    "in a comment": Stream(token() + b":" + usage('{"prompt_tokens":5}')[6:] + DONE),
    "in a field of another name": Stream(
        token() + b"dat" + usage('{"prompt_tokens":5}')[4:] + DONE
    ),
}
"""Usage that says nothing that could be booked: it is counted, not believed."""

BELIEVED = {
    "the last one": Stream(
        token()
        + usage('{"prompt_tokens":1,"completion_tokens":1}')
        + usage(_FIVE_AND_TWO)
        + DONE,
        (5, 2),
    ),
    "good figures beside bad ones": Stream(
        token() + usage(_FIVE_AND_TWO.replace("}", ',"total_tokens":-9}')) + DONE, (5, 2)
    ),
    "details larger than their whole": Stream(
        token()
        + usage(
            '{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":99}}'
        )
        + DONE,
        (5, 2),
    ),
    "noughts": Stream(token() + usage('{"prompt_tokens":0,"completion_tokens":0}') + DONE, (0, 0)),
    "lines that end in CR alone": Stream(
        (token() + usage(_FIVE_AND_TWO) + DONE).replace(b"\n", b"\r"),
        (5, 2),
    ),
    "lines that end in CRLF": Stream(
        (token() + usage(_FIVE_AND_TWO) + DONE).replace(
            b"\n", b"\r\n"
        ),
        (5, 2),
    ),
    "a byte-order mark first": Stream(
        b"\xef\xbb\xbf" + token() + usage(_FIVE_AND_TWO) + DONE, (5, 2)
    ),
    "NULs and noise between": Stream(
        token()
        + b"\0\0\n\n:\xff\xfe\n\nid: 1\nretry: 0\nevent: \x1b[2J\n\ndata\n\n"
        + usage(_FIVE_AND_TWO)
        + DONE,
        (5, 2),
    ),
    "an event of two megabytes before it": Stream(
        token("x" * 2_000_000) + usage(_FIVE_AND_TWO) + DONE, (5, 2)
    ),
    "a line of two megabytes that is no event": Stream(
        b":" + b"x" * 2_000_000 + b"\n\n" + token()
        + usage(_FIVE_AND_TWO) + DONE,
        (5, 2),
    ),
    "twenty thousand comments": Stream(
        token() + b":\n" * 20_000 + usage(_FIVE_AND_TWO) + DONE,
        (5, 2),
    ),
    "five thousand tiny events": Stream(
        token() + b"data:\n\n" * 5_000 + usage(_FIVE_AND_TWO) + DONE,
        (5, 2),
    ),
    "data in many lines": Stream(
        token()
        + b'data: {"choices":[],\ndata: "usage":\n'
        + b'data:{"prompt_tokens":5,"completion_tokens":2}}\n\n'
        + DONE,
        (5, 2),
    ),
}  # fmt: skip
"""Streams that are odd and say their usage all the same."""

_TOLD = token() + usage(_FIVE_AND_TWO)
_BOMB = token() + b":" + b"x" * 40_000_000 + b"\n\n" + usage('{"prompt_tokens":5}') + DONE

CODED = {
    "gzip": Stream(gzip.compress(_TOLD + DONE), (5, 2), encoding=b"gzip"),
    "brotli": Stream(brotli.compress(_TOLD + DONE), (5, 2), encoding=b"br"),
    "zstandard": Stream(zstd.compress(_TOLD + DONE), (5, 2), encoding=b"zstd"),
    "a bomb of gzip": Stream(gzip.compress(_BOMB, 1), encoding=b"gzip"),
    "a bomb of brotli": Stream(brotli.compress(_BOMB, quality=1), encoding=b"br"),
    "a bomb of zstandard": Stream(zstd.compress(_BOMB), encoding=b"zstd"),
    "no gzip at all": Stream(_TOLD + DONE, encoding=b"gzip"),
    "half of a gzip": Stream(
        gzip.compress(_TOLD + DONE)[:-30], encoding=b"gzip", outcome="truncated"
    ),
    "gzip behind gzip": Stream(
        gzip.compress(token()) + gzip.compress(usage(_FIVE_AND_TWO) + DONE),
        (5, 2),
        encoding=b"gzip",
    ),
    "a gzip for each event, and padding": Stream(
        b"".join(gzip.compress(each) + b"\0" * 9 for each in (token(), usage(_FIVE_AND_TWO), DONE)),
        (5, 2),
        encoding=b"gzip",
    ),
    "two thousand gzips of nothing": Stream(
        gzip.compress(token()) + gzip.compress(b"") * 2000 + gzip.compress(DONE), encoding=b"gzip"
    ),
    "a coding and none": Stream(gzip.compress(_TOLD + DONE), (5, 2), encoding=b"gzip, identity"),
    "deflate without its frame": Stream(zlib.compress(_TOLD + DONE)[2:-4], encoding=b"deflate"),
    "a coding nobody knows": Stream(_TOLD + DONE, encoding=b"rot13"),
    "two codings": Stream(_TOLD + DONE, encoding=b"gzip, br"),
}
"""Streams in a coding. What cannot be read is as whole as HTTP says it is."""

CUT = {
    "an end in a text": token("data: [DONE]\n\n"),
    "an end in a comment": token() + b":data: [DONE]\n\n",
    "an end under another name": token() + b"id: [DONE]\n\n",
    "an end in quotes": token() + b'data: "[DONE]"\n\n',
    "an end without a colon": token() + b"data [DONE]\n\n",
    "an end in small letters": token() + b"data: [done]\n\n",
    "half an end": token() + b"data: [DON",
    "a chunk's end": token() + b"0\r\n\r\n",
    "an answer's end": token() + b"\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "another family's end": token() + b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    "usage and no end": token() + b'data: {"choices":[],"usage":null}\n\n',
}
"""Streams that break off: what looks like an end in them is none."""
