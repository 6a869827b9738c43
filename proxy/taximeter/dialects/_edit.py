"""Asking for usage on the client's behalf: one change to a request, every other byte kept.

The option is set in the body's text (`taximeter.dialects._members`). Where that cannot be done
for certain the body is left as it is, and its tokens are counted.
"""

from __future__ import annotations

import re
from typing import Final

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


def refuses_usage(status: int, body: bytes) -> bool:
    """Tell whether an error answer says that the option is not known there.

    It must be a 400 or 422 that names the option, or that speaks of unknown fields near a
    location naming the stream.
    """
    if status not in (400, 422):
        return False
    text = body[: 64 << 10]
    if _OPTION_WORDS.search(text):
        return True
    return bool(_NOT_KNOWN.search(text)) and b"stream" in text
