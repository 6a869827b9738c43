"""Tells the head of a plain answer at one glance. Pure.

The usual way has llhttp judge a head and searches it then for the fields that are not passed on.
Most heads of whole answers are simpler than what that is made for: 200, JSON, a length, and fields
that concern nobody here. One regular expression tells such a head, and where its length stands. It
takes less than llhttp takes: names of tokens, values without a control character, one
`Content-Type`, one `Content-Length`, and no other field that speaks of how the body is framed or
coded, of the connection (but that it is kept), or that is named as ours. A head that it does not
tell is read the usual way; a test holds both against each other.
"""

from __future__ import annotations

import re

import msgspec

_BEGINNING = b"HTTP/1.1 200 "
VALUE = rb"[\t -~\x80-\xff]*"
"""What may stand behind a field's colon, and as a reason."""
_KEEPS_ALIVE = rb"(?:connection: ?keep-alive|keep-alive:" + VALUE + rb")\r\n"
_OTHER_FIELD = (
    rb"(?!connection:|content-(?:length|type|encoding):|keep-alive:|proxy-|te:|trailer:"
    rb"|transfer-encoding:|upgrade:|x-taximeter-)[a-z0-9!#$%&'*+.^_`|~-]+:" + VALUE + rb"\r\n"
)
_FIELDS = rb"(?:" + _OTHER_FIELD + rb"|" + _KEEPS_ALIVE + rb")*"
_TYPE = rb"content-type: ?application/json(?:[;\t ]" + VALUE + rb")?\r\n"
_NAME_BYTES = len(b"content-length:")
_LENGTH = rb"(content-length: ?[0-9]{1,9}\r\n)"
_PLAIN = re.compile(
    rb"http/1\.1 200 "
    + VALUE
    + rb"\r\n"
    + _FIELDS
    + rb"(?:"
    + (_TYPE + _FIELDS + _LENGTH)
    + rb"|"
    + (_LENGTH + _FIELDS + _TYPE)
    + rb")"
    + _FIELDS
    + rb"\r\n"
)
"""In lower case. No repetition can end in two places (a value ends at a line's end, other fields at
one that is none of them): it takes time in proportion to the head, whatever that says."""

_KEEPING = re.compile(rb"\r\n(?:" + _KEEPS_ALIVE + rb")+", re.IGNORECASE)


class PlainHead(msgspec.Struct):
    """The head of a plain answer."""

    passed: bytes
    """What goes on to the client, line by line: the reason, and all fields but that of the length
    and those of the connection."""
    length: int
    end: int
    """Where it ends, and the body begins."""


def plain_head(said: bytes) -> PlainHead | None:
    """Read a whole head, its last, empty line included; None if it is not told here."""
    lower = said.lower()
    found = _PLAIN.fullmatch(lower)
    if found is None or not said.startswith(_BEGINNING):
        return None
    start, stop = found.span(found.lastindex or 0)
    passed = said[len(_BEGINNING) : start] + said[stop:-2]
    if lower.find(b"keep-alive") > 0:
        passed = _KEEPING.sub(b"\r\n", passed)
    return PlainHead(passed, int(said[start + _NAME_BYTES : stop - 2]), len(said))
