"""Paths that say one thing here and another there.

Servers take out `.` and `..` segments, and many empty ones, before they look a path up. Some do
so before `%2e` and `%2f` are decoded, some after, some twice, and some take a backslash for `/`.
So a path with such segments means what its reader makes of it: nothing is concluded from one.
"""

from __future__ import annotations

import re
from typing import Final

_DOT: Final = r"(?:\.|%(?:25)*2e)"
_SLASH: Final = r"(?:/|\\|%(?:25)*(?:2f|5c))"
_DOTS: Final = re.compile(rf"(?:^|{_SLASH}){_DOT}{{1,2}}(?:;|%3b|{_SLASH}|$)", re.IGNORECASE)
_EMPTY: Final = re.compile(_SLASH * 2, re.IGNORECASE)


def has_dot_segments(path: str) -> bool:
    """Tell whether a raw path has a segment `.` or `..`, in any spelling."""
    return _DOTS.search(path) is not None


def is_ambiguous(path: str) -> bool:
    """Tell whether a raw path has a dot segment, or an empty one that is not its last."""
    return has_dot_segments(path) or _EMPTY.search(path) is not None
