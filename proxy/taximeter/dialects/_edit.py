"""Asking for usage on the client's behalf: one change to a request, every other byte kept.

The option is set in the body's text (`taximeter.dialects._members`). Where that cannot be done
for certain the body is left as it is, and its tokens are counted.
"""

from __future__ import annotations

import re
from typing import Final

from taximeter.dialects._json import tree
from taximeter.dialects._members import Members, Unclear

_STREAM_OPTIONS: Final = "stream_options"
_INCLUDE_USAGE: Final = "include_usage"
_ASKED: Final = b'{"include_usage":true}'


def ask_usage(body: bytes) -> bytes | None:
    """Give `body` with `stream_options.include_usage` set, None to leave it as it is.

    None where the option is set already, and where it cannot be told for certain which bytes
    to change (the body is no JSON object, or has the key more than once).
    """
    try:
        return _asked(body)
    except Unclear:
        return None


def _asked(body: bytes) -> bytes | None:
    members = Members(body)
    members.spelling(_STREAM_OPTIONS)
    before = members.value(_STREAM_OPTIONS)
    if before is None or before == b"null":
        return members.having(_STREAM_OPTIONS, _ASKED)
    options = Members(before)
    options.spelling(_INCLUDE_USAGE)
    if options.value(_INCLUDE_USAGE) not in (None, b"false", b"null"):
        return None
    return members.having(_STREAM_OPTIONS, options.having(_INCLUDE_USAGE, b"true"))


_OPTION_WORDS: Final = re.compile(rb"stream_options|include_usage")
_NOT_KNOWN: Final = re.compile(
    rb"extra[ _]?(?:fields?|inputs?|forbidden)|not permitted|unknown (?:field|parameter|argument)"
    rb"|unrecognized|unexpected (?:keyword|field|property)|additional propert",
    re.IGNORECASE,
)

_ECHOES: Final = ("input", "body")
"""Where validators put what they were sent, and with it what we have put in."""


def refuses_usage(status: int, body: bytes) -> bool:
    """Tell whether an error answer says that the option is not known there.

    It must be a 400 or 422 that names the option, or that speaks of unknown fields near a
    location naming the stream.
    """
    if status not in (400, 422):
        return False
    text = _said(body[: 64 << 10])
    if _OPTION_WORDS.search(text):
        return True
    return bool(_NOT_KNOWN.search(text)) and b"stream" in text


def _said(text: bytes) -> bytes:
    """Give the words of an error's JSON but for the request it echoes; else all of it."""
    read = tree(text)
    if read is None:
        return text
    words: list[str] = []
    ahead = [read]
    while ahead:
        value = ahead.pop()
        if isinstance(value, dict):
            for key, each in value.items():
                if key not in _ECHOES:
                    words.append(key)
                    ahead.append(each)
        elif isinstance(value, list):
            ahead += value
        elif isinstance(value, str):
            words.append(value)
    return "\n".join(words).encode("utf-8", "replace")
