"""The tap: what is learned from an answer while its bytes go by. Pure.

It gets every body byte once, with the time it came, and says which bytes to release. Of a plain
answer it keeps the beginning and the end, where usage stands; what it does with a stream stands
in `_stream_tap`.

A compressed answer goes through as it is; the tap decompresses a copy of its own, up to
what `_decoders` allows, and gives up on it beyond. Everything it keeps is bounded per call
(`kept_bytes_max`) and per worker (the `ByteBudget`).
"""

from __future__ import annotations

from collections import deque

import msgspec

from taximeter.call import Fact, Gaps
from taximeter.dialects import AnswerFacts, Dialect, Operation
from taximeter.relay._budget import ByteBudget
from taximeter.relay._decoders import (
    DECODED_BYTES_MAX,
    Decoder,
    Unreadable,
    decoded_bytes_max,
    decoder_for,
)

TAIL_BYTES_MAX = 64 * 1024
"""End of a long plain answer that is kept: usage stands there."""
KEPT_BLOCK_BYTES = 4096
"""Room for what is kept is taken from the worker's budget so much at a time."""

_NO_FACTS: frozenset[Fact] = frozenset()


class Subject(msgspec.Struct, kw_only=True):
    """What is known of an answer before its body: how it is to be read."""

    dialect: Dialect
    operation: Operation
    provider: str | None
    status: int
    content_type: str
    content_encoding: str


class Tap:
    """Watches one plain answer."""

    __slots__ = (
        "_budget",
        "_coded_bytes",
        "_decoder",
        "_kept_bytes_max",
        "_tail",
        "_tail_bytes",
        "body_bytes",
        "facts",
        "fault",
        "gave_up",
        "keeps",
        "pieces",
        "subject",
        "taken_bytes",
    )

    is_stream = False
    """Whether the answer is a stream of events or lines."""
    withholds = False
    """Whether bytes may be held back, to be taken out."""
    decoded_read_bytes_max = DECODED_BYTES_MAX
    """Bytes that may come of one read of a coded answer, before the tap gives up on it."""

    def __init__(self, subject: Subject, kept_bytes_max: int, budget: ByteBudget) -> None:
        self.subject = subject
        self.facts = _NO_FACTS
        self.fault: Exception | None = None
        """The fault of ours after which nothing more was looked at, if there was one."""
        self._decoder: Decoder | None = None
        self._coded_bytes = 0
        self.gave_up = False
        """Not all of the answer is looked at: by all that is known, it is what HTTP says."""
        if subject.content_encoding:
            self._decoder = decoder_for(subject.content_encoding)
            if isinstance(self._decoder, Unreadable):
                self.gave_up = True
                self.facts |= {Fact.TAP_FAILED}
        self._budget = budget
        self._kept_bytes_max = kept_bytes_max
        self._tail_bytes = 0
        self._tail: deque[bytes] | None = None
        self.pieces: list[bytes] = []
        """What is kept of the body's beginning."""
        self.keeps = True
        """Whether more of the beginning is to be kept."""
        self.taken_bytes = 0
        """Room taken for it from the budget: how many of the first bytes may be kept."""
        self.body_bytes = 0
        """Body bytes seen, decoded."""

    # -- what only a stream has ---------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether the stream's end marker is among the bytes released, or about to be."""
        return False

    @property
    def whole(self) -> bool:
        """Whether a stream whose bytes have ended had come to its own end too."""
        return True

    @property
    def at_boundary(self) -> bool:
        """Whether an event of our own could follow the bytes released so far."""
        return False

    @property
    def events(self) -> int:
        """Events seen in a stream."""
        return 0

    @property
    def gaps(self) -> Gaps | None:
        """The gaps between a stream's tokens so far; None if there were none."""
        return None

    def finish(self) -> bytes:
        """Take note of the end of bytes; give what was still held back."""
        return b""

    # -- the bytes ----------------------------------------------------------------------------

    def feed(self, data: bytes, now_ns: int) -> bytes:
        """Watch `data` go by; give the bytes to release.

        Raises whatever a fault of ours is, where it is not known any more which bytes are held.
        """
        try:
            if self._decoder is None:
                return self._watch(data, now_ns)
            if not self.gave_up:
                self._watch_decoded(self._decoder, data, now_ns)
        except Exception as fault:
            self.go_blind(fault)
        return self._with_held(data)

    def _with_held(self, data: bytes) -> bytes:
        """Put before `data` what was held back for its sake."""
        return data

    def go_blind(self, fault: Exception) -> None:
        """Look at no further byte, and let all of them pass: a bug here costs no answer.

        Raises the fault again where bytes are held back: nobody can say which.
        """
        if self._decoder is None:
            if self.withholds:
                raise fault
            self._decoder = Unreadable()
        self.gave_up = True
        self.fault = fault
        self.facts |= {Fact.TAP_FAILED}

    def _watch_decoded(self, decoder: Decoder, data: bytes, now_ns: int) -> None:
        self._coded_bytes += len(data)
        most = decoded_bytes_max(self._coded_bytes)
        most = min(most, self.body_bytes + self.decoded_read_bytes_max)
        pieces = decoder.decode(data)
        while self.body_bytes <= most:
            try:
                piece = next(pieces, b"")
            except Exception:  # whatever a foreign decoder raises on rubbish: we read no further
                self.gave_up = True
                self.facts |= {Fact.TAP_FAILED}
                return
            if not piece:
                return
            self._watch(piece, now_ns)
        self.gave_up = True
        self.facts |= {Fact.TAP_OVERFLOW}

    def _watch(self, data: bytes, now_ns: int) -> bytes:
        if not self.keep(data):
            self._keep_in_tail(data)
        return data

    def keep(self, data: bytes) -> bool:
        """Count bytes, and keep them if all before them are kept; False if there is no room."""
        self.body_bytes = seen = self.body_bytes + len(data)
        missing = seen - self.taken_bytes
        if missing > 0 and not (self.keeps and self._make_room(missing)):
            self.keeps = False  # what is kept must have no hole in it
            return False
        self.pieces.append(data)
        return True

    def _make_room(self, missing: int) -> bool:
        """Take the room that is missing, and if there is some a little more; False if it is not."""
        left = self._kept_bytes_max - self.taken_bytes
        if missing > left:
            return False
        block = max(missing, min(left, KEPT_BLOCK_BYTES))
        if not self._budget.try_take(block):
            block = missing
            if not self._budget.try_take(block):
                return False
        self.taken_bytes += block
        return True

    def _keep_in_tail(self, data: bytes) -> None:
        tail = self._tail
        if tail is None:
            tail = self._tail = deque()
            self.facts |= {Fact.TAP_OVERFLOW}
        piece = data[-TAIL_BYTES_MAX:]
        tail.append(piece)
        self._tail_bytes += len(piece)
        while self._tail_bytes - len(tail[0]) >= TAIL_BYTES_MAX:
            self._tail_bytes -= len(tail.popleft())

    # -- what was learned ---------------------------------------------------------------------

    def answer(self) -> AnswerFacts:
        """Give what the answer has said."""
        subject, pieces = self.subject, self.pieces
        return subject.dialect.read_answer(
            subject.operation,
            subject.provider,
            subject.status,
            subject.content_type,
            pieces[0] if len(pieces) == 1 else b"".join(pieces),
            None if self._tail is None else b"".join(self._tail),
        )

    def kept(self) -> tuple[bytes, int]:
        """Give the beginning of the decoded body that was kept, and the whole body's length."""
        return b"".join(self.pieces), self.body_bytes

    def release(self) -> None:
        """Give back what was kept. The tap is of no use afterwards."""
        self._budget.give_back(self.taken_bytes)
        self.taken_bytes = 0
        self.keeps = False
        self.pieces = []
        self._tail = None
