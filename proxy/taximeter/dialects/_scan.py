r"""Finding an object in a body too large, or too broken, to be read whole.

The search goes for a key in quotes. Inside a JSON string every quote is escaped, so the bytes
`"usage"` can stand in a text only as `\"usage\"`, which does not contain them: a hit is a key,
or a string that is just that word. A hit whose value is no object is passed over.
"""

from __future__ import annotations

import re
from typing import Final

from taximeter.dialects import _json

HITS_MAX: Final = 8
"""Most hits looked at, from the end: a body full of the key costs no more than that."""

OBJECT_BYTES_MAX: Final = 32 << 10
"""Largest object taken out of a body. A usage object has a few hundred bytes."""

MEMBERS_BYTES_MAX: Final = 64 << 10
"""How much of a cut-off body is read for its outermost members."""

_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],"]', re.DOTALL)
_COLON: Final = re.compile(rb"\s*:\s*")


def object_end(body: bytes, start: int) -> int | None:
    """Give the end of the object or array that begins at `start`, None if it is cut off."""
    depth = 0
    for token in _TOKEN.finditer(body, start, start + OBJECT_BYTES_MAX):
        byte = body[token.start()]
        if byte in b"{[":
            depth += 1
        elif byte in b"}]":
            depth -= 1
            if depth <= 0:
                return token.end()
        elif token.end() - token.start() == 1 and byte == 0x22:
            return None  # a string that does not end
    return None


def last_object(body: bytes, key: bytes) -> dict[str, object] | None:
    """Give the last object in `body` that is the value of `key`, None if there is none."""
    quoted = b'"' + key + b'"'
    position = len(body)
    for _ in range(HITS_MAX):
        position = body.rfind(quoted, 0, position)
        if position < 0:
            return None
        colon = _COLON.match(body, position + len(quoted))
        if colon is None or body[colon.end() : colon.end() + 1] != b"{":
            continue
        end = object_end(body, colon.end())
        if end is not None:
            found = _json.tree(body[colon.end() : end])
            if isinstance(found, dict) and found:
                return found
    return None


def last_word(body: bytes, key: bytes) -> str | None:
    """Give the last short word in `body` that is the value of `key`."""
    found = None
    for match in re.finditer(rb'"' + re.escape(key) + rb'"\s*:\s*"([A-Za-z0-9_.\-]{1,64})"', body):
        found = match[1].decode()
    return found


def members(body: bytes) -> dict[str, bytes]:
    """Give the outermost members, whole ones only, of an object that may be cut off.

    At most the first 64 KiB of `body` are looked at.
    """
    body = body[:MEMBERS_BYTES_MAX]
    start = body.find(b"{")
    found: dict[str, bytes] = {}
    if start < 0 or body[:start].strip(b" \t\r\n\xef\xbb\xbf"):
        return found
    depth = 0
    key: str | None = None
    value_start = 0
    for token in _TOKEN.finditer(body, start):
        byte = body[token.start()]
        if byte == 0x22:
            if token.end() - token.start() == 1:
                break  # a string that does not end
            if key is None:  # only between the outermost members
                colon = _COLON.match(body, token.end())
                if colon is None:
                    break
                name = _json.tree(token[0])
                key = name if isinstance(name, str) else ""
                value_start = colon.end()
        elif byte in b"{[":
            depth += 1
        else:
            closes = byte in b"}]"
            if depth == 1 and key is not None:
                found[key] = body[value_start : token.start()].strip()
                key = None
            if closes:
                depth -= 1
                if depth == 0:
                    break
    return found
