r"""Tells an answer's head by those that its upstream gave before. Pure.

The answers of one upstream have the same fields in the same order, and differ in the values of a
few: a date, an id, the length. So of a head that `plain_head` has told a pattern is made, which is
its lines one after the other: each name as it stood, and for its value whatever may stand in one.
The two values that mean something here (`Content-Type`, `Connection`) are as they stood, too. It
tells such a head in a third of the time and gives the same of it.

It accepts nothing that `plain_head` would not. That asks of a line nothing beside its name, but of
those two and of the length, and of a head how often and in which order lines of some names stand in
it: all of that is letter for letter what it was in the head that was told.

A stream's head is told in the same way by those of streams before (`UsualStreamHead`). What it says
is what the usual way (llhttp, then `read_head`) has found in the head that its pattern was made of,
and there is a pattern only of heads whose every line that could mean something is in it letter for
letter: the framing, the kind, a connection that is kept. A test holds it against the usual way.

To make a pattern takes as long as to tell some hundred heads. So it is made when some heads have
not been told by the last one, and each time twice as many: no upstream, however its heads differ,
has many of them made.
"""

from __future__ import annotations

import re

from taximeter.relay._answer import CHUNKED, Head
from taximeter.relay._plain_head import VALUE, PlainHead, plain_head

HEAD_BYTES_MAX = 8 * 1024
"""Length up to which an answer's head is a plain one."""

MISSED_FIRST = 8
"""Heads that have come before the first pattern is made."""

FIELDS_MAX = 64
"""Fields of a head that a pattern is made of: it takes some 40 us for each."""

_SIMPLE = re.compile(
    rb"http/1\.1 [^\r]*\r\n"
    rb"(?:(?:connection:[\t ]*keep-alive|transfer-encoding:[\t ]*chunked"
    rb"|(?!connection:|content-(?:length|encoding):|proxy-|te:|trailer:|transfer-encoding:|upgrade:"
    rb"|x-taximeter-)[^\r]*)\r\n)*\r\n"
)
"""Tells, in lower case, whether a head that was accepted has no field beside the framing that
means something to the relay, or to llhttp, by its value."""

_NONE = re.compile(rb"(?!)").match


class HeadForm:
    """The form that the heads of one kind of an upstream's answers mostly have."""

    __slots__ = ("_groups", "_match", "_missed", "_missed_max")

    def __init__(self) -> None:
        self._match = _NONE
        self._groups: tuple[int, ...] = ()
        """The numbers of its groups: the length (0 without one), and what goes on, in runs of
        lines, the reason in front."""
        self._missed = 0
        self._missed_max = MISSED_FIRST

    def _miss(self, said: bytes) -> bool:
        """Take note of a head that could be of this form and is not; give whether it is by now."""
        self._missed += 1
        if self._missed < self._missed_max:
            return False
        self._missed_max *= 2
        self._missed = 0
        return self._take_on(said)

    def _take_on(self, said: bytes) -> bool:
        """Make the pattern of a whole head, unless it is too long for one."""
        lines = said.split(b"\r\n")[1:-2]
        if len(lines) > FIELDS_MAX:
            return False
        pattern = rb"HTTP/1\.1 200 (" + VALUE + rb"\r\n"
        length, passed = 0, [1]
        for line in lines:
            name = line.partition(b":")[0]
            field, word, last = re.escape(name) + rb":", name.lower(), passed[-1]
            if word == b"content-length":
                pattern += rb")" + field + rb" ?([0-9]{1,9})\r\n("
                length = last + 1
                passed.append(last + 2)
            elif word in (b"connection", b"transfer-encoding"):
                pattern += rb")" + re.escape(line) + rb"\r\n("
                passed.append(last + 1)
            elif word == b"keep-alive":
                pattern += rb")" + field + VALUE + rb"\r\n("
                passed.append(last + 1)
            elif word == b"content-type":
                pattern += re.escape(line) + rb"\r\n"
            else:
                pattern += field + VALUE + rb"\r\n"
        self._match = re.compile(pattern + rb")\r\n").match
        self._groups = (length, *passed)
        return True


class UsualHead(HeadForm):
    """The form that the heads of an upstream's plain answers mostly have."""

    __slots__ = ()

    def read(self, data: bytes) -> PlainHead | None:
        """Read the head that `data` begins with; None if it is no plain one."""
        found = self._match(data, 0, HEAD_BYTES_MAX)
        if found is None:
            return self._read_any(data)
        length, *passed = found.group(*self._groups)
        return PlainHead(b"".join(passed), int(length), found.end())

    def _read_any(self, data: bytes) -> PlainHead | None:
        """Read a head that is not of the form, and take on its form when it is time to."""
        said = data[: data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX) + 4]
        head = plain_head(said)
        if head is not None:
            self._miss(said)
        return head


class UsualStreamHead(HeadForm):
    """The form that the heads of an upstream's streams mostly have: good answers in chunks.

    What such a head means is what the head meant that the form was made of.
    """

    __slots__ = ("_content_type",)

    def __init__(self) -> None:
        super().__init__()
        self._content_type = ""

    def read(self, data: bytes) -> tuple[Head, int] | None:
        """Read the head that `data` begins with, and tell where it ends; None for any other."""
        found = self._match(data, 0, HEAD_BYTES_MAX)
        if found is None:
            return None
        reason, _, lines = b"".join(found.groups()).partition(b"\r\n")
        head = Head(200, reason, lines, self._content_type, "", CHUNKED, None, True)
        return head, found.end()

    def note(self, said: bytes, head: Head) -> None:
        """Take note of a whole head in chunks that was read the usual way, and of what it says."""
        if (
            head.status == 200
            and head.persistent
            and not head.content_encoding
            and len(said) <= HEAD_BYTES_MAX
            and _SIMPLE.fullmatch(said.lower()) is not None
            and self._miss(said)
        ):
            self._content_type = head.content_type
