"""The form of a stream's dull events: what stands around their text, the same in all of them.

Most events of a stream differ from the one before in their text alone. A reader that has found
one dull, by whatever it takes to tell, remembers what stood around its text. The next is then
told by cutting that off and looking at what is left: some ten bytes, with nothing in them that
could end a string or a line. The relay does the same in place (`relay/_splice.py`), where a call
of a function is worth sparing.
"""

from __future__ import annotations

from typing import Final

_BYTES: Final = bytes(range(256))
NO_LINE_END: Final = _BYTES.translate(bytes.maketrans(b"\r\n", b"  "))
"""A table for `bytes.translate`: it changes a text in which a line ends."""
NO_QUOTE: Final = NO_LINE_END.translate(bytes.maketrans(b'"', b" "))
"""The same for a text in which a line or a string of JSON ends."""


class Form:
    """What stands `before`, in the `middle` of (if there is such), and `after` an event's text.

    `plain` is a table that changes every text that may not stand there.
    """

    __slots__ = ("after", "around_bytes", "before", "middle", "plain")

    def __init__(self, before: bytes, after: bytes, plain: bytes, middle: bytes = b"") -> None:
        self.before = before
        self.middle = middle
        self.after = after
        self.plain = plain
        self.around_bytes = len(before) + len(middle) + len(after)
        """Length of all that stands around a text."""

    def fits(self, event: bytes) -> bool:
        """Tell whether a whole event has this form."""
        if not event.startswith(self.before):
            return False
        # What is not there is not cut off: only if all of it was is the length right.
        text = event.removeprefix(self.before).removesuffix(self.after)
        if self.middle:
            text = text.replace(self.middle, b"", 1)
        return len(text) == len(event) - self.around_bytes and text.translate(self.plain) == text
