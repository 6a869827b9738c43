"""Reading JSON that strangers wrote, without ever raising.

Three rules. A field of an unexpected type must not lose the others, so the outer object is
read into a struct of raw fields and each field is looked at on its own. What strict JSON
forbids but real servers send (a lone surrogate cut out of an emoji, NaN, a raw control
character, a byte-order mark, bytes that are not UTF-8) is repaired once and read again.
What cannot be read even then is None.

Numbers with a fraction or an exponent are read as `Decimal`, from their own digits: money is
among them.
"""

from __future__ import annotations

import decimal
import re
from decimal import Decimal
from typing import Final, TypeVar

import msgspec

ABSENT: Final = msgspec.Raw(b"")
"""What a raw field holds when its object did not have it."""

NAME_CHARACTERS_MAX: Final = 128
"""Longest model name, id or user kept, in characters (`taximeter.call`)."""

_T = TypeVar("_T")

_FAULTS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_BEGINNINGS: Final = (b"{", b"[", b'"', b"\xef")
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_CONTROLS_TO_SPACES: Final = bytes([0x20] * 0x20) + bytes(range(0x20, 0x100))
_CONSTANT: Final = re.compile(rb"(?<=[:,\[\s])-?(?:NaN|Infinity)(?=[,\]}\s])")
_WORD: Final = re.compile(r"[A-Za-z0-9_.\-]+")


def _decimal(digits: str) -> Decimal | None:
    try:
        return Decimal(digits)
    except decimal.InvalidOperation:  # an exponent beyond what Decimal holds
        return None


_tree_decoder: Final = msgspec.json.Decoder(float_hook=_decimal)


def repair(body: bytes) -> bytes:
    """Make the usual trespasses against JSON legal. Text may come out altered, keys do not."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    body = _SURROGATE.sub(rb"\\ufffd", body)
    body = body.translate(_CONTROLS_TO_SPACES)
    if b"NaN" in body or b"Infinity" in body:
        body = _CONSTANT.sub(b"null", body)
    return body.decode("utf-8", "replace").encode()


def read(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T | None:
    """Decode `body`, repairing it if need be; None if it is not what `decoder` reads."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:  # sound JSON of another shape: no repair will change that
        return None
    except _FAULTS:
        if body.lstrip()[:1] not in _BEGINNINGS:
            return None  # no object, array or text: not worth a repair
    try:
        return decoder.decode(repair(body))
    except _FAULTS:
        return None


def tree(body: bytes | msgspec.Raw) -> object:
    """Give `body` as plain Python values, None if it cannot be read (or is empty, or null)."""
    if not body:
        return None
    return read(_tree_decoder, bytes(body))


def mapping(value: object) -> dict[str, object]:
    """Give `value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[object]:
    """Give `value` if it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def is_set(raw: msgspec.Raw) -> bool:
    """Tell whether a raw field was there and is not null."""
    return bool(raw) and bytes(raw) != b"null"


def is_true(raw: msgspec.Raw) -> bool:
    """Tell whether a raw field is `true`."""
    return bytes(raw) == b"true"


def name(value: object, characters_max: int = NAME_CHARACTERS_MAX) -> str | None:
    """Give a printable name of bounded length, None if `value` is no text or nothing is left.

    What does not print (line ends, terminal escapes, NUL) is taken out.
    """
    if isinstance(value, msgspec.Raw):
        value = tree(value)
    if not isinstance(value, str):
        return None
    value = value[: 4 * characters_max]
    if not value.isprintable():
        value = "".join(character for character in value if character.isprintable())
    return value[:characters_max] or None


def word(value: object, characters_max: int = 64) -> str | None:
    """Give a short word of [A-Za-z0-9_.-], None if `value` is anything else."""
    if isinstance(value, msgspec.Raw):
        value = tree(value)
    if isinstance(value, str) and len(value) <= characters_max and _WORD.fullmatch(value):
        return value
    return None
