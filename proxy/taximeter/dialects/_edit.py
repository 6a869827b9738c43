"""Asking for usage on the client's behalf: one change to a request, every other byte kept.

The option is spliced into the body's text. The result is then read back: it must be sound
JSON in which the option is set, else the body is left as it is and its tokens are counted.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

_OPTIONS: Final = re.compile(rb'"stream_options"\s*:\s*')
_INCLUDE: Final = re.compile(rb'"include_usage"\s*:\s*(true|false|null)')
_ASKED: Final = b'{"include_usage":true}'
_BEGINNING: Final = re.compile(rb"[\x20\t\r\n]*\{")


class _Body(msgspec.Struct):
    stream_options: msgspec.Raw = msgspec.Raw(b"")


class _Options(msgspec.Struct):
    include_usage: bool | None = None


_body_decoder: Final = msgspec.json.Decoder(_Body)
_options_decoder: Final = msgspec.json.Decoder(_Options)


def ask_usage(body: bytes) -> bytes | None:
    """Give `body` with `stream_options.include_usage` set, None to leave it as it is.

    None where the option is set already, where the body is no JSON object, and where it cannot
    be told for certain which bytes to change (the key stands in the body more than once).
    """
    hits = body.count(b'"stream_options"')
    options = _read_options(body) if hits else b""
    if options is None:
        return None
    if not options:
        beginning = _BEGINNING.match(body)
        if beginning is None:
            return None
        return _checked(_splice_in(body, beginning.end(), b'"stream_options":' + _ASKED))
    found = _OPTIONS.search(body)
    if hits > 1 or found is None:
        return None
    start, size = found.end(), len(options)
    if options == b"null":
        edited = body[:start] + _ASKED + body[start + size :]
    elif options[:1] != b"{":
        return None
    elif b'"include_usage"' not in options:
        edited = _splice_in(body, start + 1, b'"include_usage":true')
    else:
        setting = _INCLUDE.search(body, start, start + size)
        if setting is None or setting[1] == b"true":
            return None
        edited = body[: setting.start(1)] + b"true" + body[setting.end(1) :]
    return _checked(edited)


def _splice_in(body: bytes, position: int, member: bytes) -> bytes:
    """Put a member in first place of the object that opens just before `position`."""
    empty = body[position:].lstrip()[:1] == b"}"
    return body[:position] + member + (b"" if empty else b",") + body[position:]


def _read_options(body: bytes) -> bytes | None:
    try:
        return bytes(_body_decoder.decode(body).stream_options)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _checked(edited: bytes) -> bytes | None:
    options = _read_options(edited)
    if not options:
        return None
    try:
        asked = _options_decoder.decode(options).include_usage
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return edited if asked else None


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
