r"""Setting one member of a JSON object's text, every other byte kept.

A body that is decoded and encoded again is another body: numbers lose digits, escapes and
spaces change, and a signature over its bytes no longer fits. So a member is set in the text
itself, and all that has to be known is where its value stands.

That is told from two readings. The decoder checks the whole text and gives each member's value
as the bytes it has there. The walk then goes from member to member, over those very bytes, and
so learns their places without looking into them. A name may be written with escapes; the walk
compares names as they are meant.

Readers of JSON do not agree on everything. Where two of them may take different members for
the one that counts, the text is `Unclear`, for whoever sets a member must know that the other
end reads the same one:

- A name that stands twice in the object: most take the last value, some the first.
- A name written another way (`Max_Tokens`, `maxTokens` for `max_tokens`): Go's reader does not
  look at case, Google's takes either style.
- A text that is not JSON to the letter (a byte-order mark, a lone surrogate, NaN, a tail).

What was set is read back, from the new text, before it is given out.
"""

from __future__ import annotations

import functools
import re
from typing import Final

import msgspec

MEMBERS_MAX: Final = 1024
"""Most members of one object that are walked over. A request has a few dozen."""

_FAULTS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_BEFORE: Final = re.compile(rb'[\x20\t\r\n]*"')
_QUOTE: Final = re.compile(rb'"|\\.', re.DOTALL)
"""What may end a string, or stands in it and does not."""
_COLON: Final = re.compile(rb"[\x20\t\r\n]*:[\x20\t\r\n]*")
_AFTER: Final = re.compile(rb"[\x20\t\r\n]*([,}])")

_values_decoder: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_name_decoder: Final = msgspec.json.Decoder(str)


class Unclear(Exception):
    """It cannot be told for certain which bytes to change. Says nothing of the text itself."""


class Members:
    """The members of the outermost object of a text, and where a value stands.

    Raises:
        Unclear: if the text is no JSON object, or has more than `MEMBERS_MAX` members.
    """

    __slots__ = ("_starts", "_text", "_values")

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._values = _read(text)
        self._starts: dict[str, int] | None = None
        """Where the values stand, once it had to be found out."""

    def spelling(self, *spellings: str) -> str | None:
        """Give the one of `spellings` by which a member is there, None if there is none.

        Raises:
            Unclear: if it is there twice, or by a name that only some take for one of these.
        """
        folded = _folded(spellings)
        found = [name for name in self._values if _fold(name) in folded]
        if not found:
            return None
        if len(found) > 1 or found[0] not in spellings:
            raise Unclear
        if self._starts is None:
            self._starts = self._walk()
        return found[0]

    def value(self, name: str) -> bytes | None:
        """Give the text of a member's value, None if it is not there."""
        value = self._values.get(name)
        return None if value is None else bytes(value)

    def having(self, name: str, value: bytes) -> bytes:
        """Give the text with a member set: in its place, or in first place if it is new.

        `name` is one that `spelling` gave, or one for which it gave None.

        Raises:
            Unclear: if the new text, read back, is not the same but for that member.
        """
        text = self._text
        before = self._values.get(name)
        if before is None:
            first = text.index(b"{") + 1
            member = b'"%b":%b%b' % (name.encode(), value, b"," if self._values else b"")
            edited = text[:first] + member + text[first:]
        else:
            if self._starts is None:
                self._starts = self._walk()
            start = self._starts[name]
            edited = text[:start] + value + text[start + len(bytes(before)) :]
        if _read(edited) != {**self._values, name: msgspec.Raw(value)}:
            raise Unclear
        return edited

    def _walk(self) -> dict[str, int]:
        """Find each value's place.

        Raises:
            Unclear: if a name stands twice. Either another value's bytes stand at its first
                place, for the decoder gives its last; or the walk, which takes one step for
                each name, ends before the object does.
        """
        text, position, closed = self._text, self._text.index(b"{") + 1, False
        starts: dict[str, int] = {}
        for _ in range(len(self._values)):
            name, start = _read_name(text, position)
            value = bytes(self._values[name])
            after = _AFTER.match(text, start + len(value))
            if after is None or not text.startswith(value, start):
                raise Unclear
            starts[name] = start
            position, closed = after.end(), after[1] == b"}"
        if not closed:
            raise Unclear
        return starts


def _read_name(text: bytes, position: int) -> tuple[str, int]:
    """Read the name that comes next, and tell where its value begins.

    Raises:
        Unclear: if there is none.
    """
    before = _BEFORE.match(text, position)
    if before is not None:
        # From escape to escape: one expression for the whole string takes memory for each of them.
        for quote in _QUOTE.finditer(text, before.end()):
            if quote[0] == b'"':
                colon = _COLON.match(text, quote.end())
                if colon is None:
                    break
                return _name_decoder.decode(text[before.end() - 1 : quote.end()]), colon.end()
    raise Unclear


def _read(text: bytes) -> dict[str, msgspec.Raw]:
    try:
        values = _values_decoder.decode(text)
    except _FAULTS:
        raise Unclear from None
    if len(values) > MEMBERS_MAX:
        raise Unclear
    return values


@functools.lru_cache(maxsize=64)  # the spellings are written in our own tables
def _folded(spellings: tuple[str, ...]) -> frozenset[str]:
    return frozenset(_fold(spelling) for spelling in spellings)


def _fold(name: str) -> str:
    return name.casefold().replace("_", "")
