"""Counts the tokens of text, bounded in time and memory.

A text is counted in slices. tiktoken first splits text into words by a pattern, and a space
before a word belongs to it; so a slice that ends just before a space which has no other white
space beside it ends between two words, and the counts of slices add up exactly. Where no such
place is near (text without spaces, a wall of one letter), the cut falls anywhere, and may make
a few tokens more of what it cut: at most 8 for a cut, against some 16,000 in the slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import tiktoken

SLICE_CHARS_MAX = 64 * 1024
TEXT_CHARS_MAX = 4 * 1024 * 1024
"""Characters counted of one call's input, and of its output: half a second of work."""
_LOOK_BACK_CHARS = 4096
"""How far before its end a slice is searched for a place to cut."""


class TextCount(NamedTuple):
    """Tokens of a text."""

    tokens: int
    whole: bool
    """All of it was counted; else the rest was taken in proportion."""


def count_text(
    parts: Iterable[str], encoding: tiktoken.Encoding, chars_max: int = TEXT_CHARS_MAX
) -> TextCount:
    """Count the tokens of each part and sum them.

    Text that spells a special token is counted as the text it is. Of more than `chars_max`
    characters the rest is taken in proportion.
    """
    tokens = chars = counted = 0
    for part in parts:
        chars += len(part)
        room = chars_max - counted
        if room <= 0:
            continue
        for piece in slices(part[:room] if len(part) > room else part):
            tokens += len(encoding.encode_ordinary(piece))
            counted += len(piece)
    if chars > counted:
        # `counted` is 0 only with `chars_max` 0.
        return TextCount(-(-tokens * chars // max(counted, 1)), False)
    return TextCount(tokens, True)


def slices(text: str) -> Iterator[str]:
    """Cut a text into slices of at most `SLICE_CHARS_MAX` characters, between words if it can."""
    start = 0
    while len(text) - start > SLICE_CHARS_MAX:
        end = _cut(text, start + SLICE_CHARS_MAX)
        yield text[start:end]
        start = end
    yield text[start:] if start else text


def _cut(text: str, end: int) -> int:
    """Find the last place to cut at or before `end`, and else `end`."""
    place = end
    while (place := text.rfind(" ", end - _LOOK_BACK_CHARS, place)) != -1:
        if not text[place - 1].isspace() and not text[place + 1].isspace():
            return place
    return end
