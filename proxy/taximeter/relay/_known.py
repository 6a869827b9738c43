"""Heads that have been seen before: told by their bytes, not parsed again. Pure.

A head that llhttp has accepted, and that said nothing unusual, means the same every time. So it
is kept with what followed from it (`Intake`), and a read that begins with the very same bytes is
taken for it. Two values may differ, and differ in nearly every call: the digits of the length,
and the trace that a call is part of. They are cut out before heads are compared.

This accepts nothing that llhttp would not. The length is one to nine digits in place of one to
nine digits, behind a name that stands in the head once (a head with two was refused, and is not
here); the trace is 55 bytes of one strict form in place of 55 of the same form. Every other byte
is equal to one that was accepted there.

What is kept holds credentials, as a connection's buffers do. It is forgotten when it has not been
asked for within two generations, and at `HEADS_MAX`.
"""

from __future__ import annotations

import re

import msgspec

from taximeter.relay._intake import Intake

HEADS_MAX = 1024
"""Heads of one generation. At the bound the older generation is forgotten."""
GENERATION_SECONDS = 60.0
KEPT_BYTES_MAX = 8 * 1024
"""Length of a head that is kept."""

_LENGTH_FIELD = b"\r\nContent-Length: "
_DIGITS_MAX = 9
_TRACE_FIELD = b"\r\ntraceparent: "
_TRACE = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\r\n")
_TRACE_BYTES = 55


class Cut(msgspec.Struct):
    """A head, cut into what must be equal and what may differ."""

    key: bytes
    length: int
    traceparent: bytes | None
    body_start: int


def cut(data: bytes) -> Cut | None:
    """Cut the head that `data` begins with; None if it is not whole, or of no usual form."""
    end = data.find(b"\r\n\r\n", 0, KEPT_BYTES_MAX)
    start = data.find(_LENGTH_FIELD, 0, end + 2)
    if start < 0:
        start = data.find(_LENGTH_FIELD.lower(), 0, end + 2)
    if end < 0 or start < 0:
        return None
    start += len(_LENGTH_FIELD)
    stop = data.find(b"\r\n", start)
    digits = data[start:stop]
    if not digits.isdigit() or len(digits) > _DIGITS_MAX or digits.startswith(b"0"):
        return None
    key = data[:start] + data[stop : end + 2]
    traceparent = None
    at = key.find(_TRACE_FIELD)
    if at >= 0:
        at += len(_TRACE_FIELD)
        if _TRACE.match(key, at) is None:
            return None
        traceparent = key[at : at + _TRACE_BYTES]
        key = key[:at] + key[at + _TRACE_BYTES :]
    return Cut(key, int(digits), traceparent, end + 4)


class KnownHeads:
    """What followed from the heads seen lately, in two generations."""

    __slots__ = ("_began", "_old", "_young")

    def __init__(self) -> None:
        self._young: dict[bytes, Intake] = {}
        self._old: dict[bytes, Intake] = {}
        self._began = 0.0

    def get(self, key: bytes) -> Intake | None:
        """Give what followed from a head; None if it is not known."""
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is not None:
                self.keep(key, found)
        return found

    def keep(self, key: bytes, intake: Intake) -> None:
        """Remember what followed from a head that llhttp has accepted."""
        if len(self._young) >= HEADS_MAX:
            self._age()
        self._young[key] = intake

    def tick(self, now: float) -> None:
        """Begin a new generation when it is time; `now` is monotonic."""
        if now - self._began >= GENERATION_SECONDS:
            self._began = now
            self._age()

    def forget(self) -> None:
        """Forget all of them."""
        self._old, self._young = {}, {}

    def _age(self) -> None:
        self._old, self._young = self._young, {}
