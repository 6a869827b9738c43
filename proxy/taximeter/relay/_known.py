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
asked for within two generations, and at `HEADS_MAX`; a connection's own last head (`Usual`) goes by
the same generation, and stays until its next call or its end.
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
_LENGTH_BYTES_MAX = _DIGITS_MAX + len(b"\r")
_TRACE_FIELDS = (b"\r\ntraceparent: ", b"\r\nTraceparent: ")
_TRACE = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\r\n")
_TRACE_BYTES = 55


class Cut(msgspec.Struct):
    """A head, cut into what must be equal and what may differ."""

    length: int
    body_start: int
    key: bytes = b""
    """What must be equal; empty where it has been found to be."""
    traceparent: bytes | None = None
    length_start: int = 0
    length_stop: int = 0
    """Where the digits of the length stand, in a head that is looked up."""


class Usual(msgspec.Struct):
    """A head without a trace, as it stands around the digits of its length.

    A connection keeps the last one it had, and tells by it at a glance when it comes again: most
    often that is the next time. It holds for one generation; then the head is looked up anew.
    """

    before: bytes
    behind: bytes
    intake: Intake

    def cut(self, data: bytes) -> Cut | None:
        """Cut the head that `data` begins with; None if it is not this one again."""
        before, behind = self.before, self.behind
        if not data.startswith(before):
            return None
        start = len(before)
        stop = data.find(b"\r", start, start + _LENGTH_BYTES_MAX)
        digits = data[start:stop]
        # Digits from "1" on are those without a nought in front.
        if digits >= b"1" and digits.isdigit() and data.startswith(behind, stop):
            return Cut(int(digits), stop + len(behind))
        return None


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
    at = key.find(_TRACE_FIELDS[0])
    if at < 0:
        at = key.find(_TRACE_FIELDS[1])
    if at >= 0:
        at += len(_TRACE_FIELDS[0])
        if _TRACE.match(key, at) is None:
            return None
        traceparent = key[at : at + _TRACE_BYTES]
        key = key[:at] + key[at + _TRACE_BYTES :]
    return Cut(int(digits), end + 4, key, traceparent, start, stop)


def usual_of(data: bytes, head: Cut, intake: Intake) -> Usual | None:
    """Give by what a connection tells a head when it comes again; None for one with a trace.

    It is made once for each head, and shared by the connections that have it.
    """
    if head.traceparent is not None:
        return None
    usual = intake.usual
    if usual is None:
        behind = data[head.length_stop : head.body_start]
        usual = intake.usual = Usual(data[: head.length_start], behind, intake)
    return usual


class KnownHeads:
    """What followed from the heads seen lately, in two generations."""

    __slots__ = ("_began", "_old", "young")

    def __init__(self) -> None:
        self.young: dict[bytes, Intake] = {}
        """The younger generation: another object as soon as a head must be looked up anew."""
        self._old: dict[bytes, Intake] = {}
        self._began = 0.0

    def get(self, key: bytes) -> Intake | None:
        """Give what followed from a head; None if it is not known."""
        found = self.young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is not None:
                self.keep(key, found)
        return found

    def keep(self, key: bytes, intake: Intake) -> None:
        """Remember what followed from a head that llhttp has accepted."""
        if len(self.young) >= HEADS_MAX:
            self._age()
        self.young[key] = intake

    def tick(self, now: float) -> None:
        """Begin a new generation when it is time; `now` is monotonic."""
        if now - self._began >= GENERATION_SECONDS:
            self._began = now
            self._age()

    def forget(self) -> None:
        """Forget all of them."""
        self._old, self.young = {}, {}

    def _age(self) -> None:
        self._old, self.young = self.young, {}
