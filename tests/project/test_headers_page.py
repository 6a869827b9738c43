"""docs/headers.md names every header that is read or written."""

from __future__ import annotations

import re
from pathlib import Path

from taximeter.relay._heads import _REQUEST_FIELDS

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "headers.md").read_text(encoding="utf-8")
READ, WRITTEN = PAGE.partition("\n## In an answer\n")[::2]
TOLD_BY_OTHERS = {
    "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect",
    "sec-websocket-protocol", "transfer-encoding", "upgrade",
}  # fmt: skip
"""HTTP's own: what they say is not for us to lay down."""
CREDENTIALS = {"authorization", "x-api-key", "api-key", "x-goog-api-key"}


def rows(text: str) -> set[str]:
    """Give the headers that a table of the page is about, in lower case."""
    found: set[str] = set()
    for first in re.findall(r"^\| (`[^|]+`) \|", text, re.M):
        found |= {name.lower() for name in re.findall(r"`([^`]+)`", first)}
    return found


def literals() -> set[str]:
    """Give the names in the source that are headers of our own."""
    found: set[str] = set()
    for path in (ROOT / "proxy" / "taximeter" / "relay").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        code = re.sub(r'"""(.|\n)*?"""|#.*', "", text)
        found |= set(re.findall(r"x-taximeter-[a-z][a-z-]*", code))
        found |= {
            name.lower()
            for name in re.findall(r"\b(Server-Timing|Idempotent-[A-Za-z]+|x-should-retry)\b", code)
        }
    return found


def test_every_header_of_our_own_is_on_the_page() -> None:
    """One that comes into the source is put into one of the two tables, and none is made up."""
    told = rows(READ) | rows(WRITTEN)
    assert len(literals()) > 10, "none were found: the search is broken"
    assert literals() <= told
    assert {name for name in told if name.startswith("x-taximeter-")} <= literals()


def test_every_field_that_is_read_is_on_the_page() -> None:
    """What a request's head may say, and is heeded, is told."""
    noted = {name.decode() for name, kind in _REQUEST_FIELDS.items() if kind in (0, 2)}
    assert noted - TOLD_BY_OTHERS - CREDENTIALS <= rows(READ)
