"""The tap: what is learned from an answer while its bytes go by. Pure.

It gets every body byte once, with the time it came, and says which bytes to release. In a
stream that is the very object it was given, but for the one event that may be taken out. It
notes the first token, the gaps between tokens, and keeps what usage needs: of a stream what
its reader holds; of a plain answer the beginning and the end. A copy of a stream's beginning is
kept for counting, should the upstream never state its usage.

A compressed answer goes through as it is; the tap decompresses a copy of its own, up to
`DECODED_BYTES_MAX`, and gives up on it beyond. Everything it keeps is bounded per call
(`kept_bytes_max`) and per worker (the `ByteBudget`).
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections import deque
from typing import Any

import brotli

from taximeter.call import Fact, Gaps
from taximeter.dialects import AnswerFacts, Dialect, Operation, StreamReader
from taximeter.relay._budget import ByteBudget

try:
    from compression import zstd  # type: ignore[import-not-found,unused-ignore]
except ImportError:  # Python < 3.14
    from backports import zstd  # type: ignore[no-redef,unused-ignore]

DECODED_BYTES_MAX = 64 * 1024 * 1024
"""Bytes a compressed answer may grow to before the tap gives up on reading it."""
TAIL_BYTES_MAX = 64 * 1024
"""End of a long plain answer that is kept: usage stands there."""

KEPT_BLOCK_BYTES = 4096
"""Room for what is kept is taken from the worker's budget so much at a time."""
ARRIVALS_MAX = 64
"""Arrivals of tokens that are put by until the gaps between them are tallied, in one go."""

_EDGES = Gaps.EDGES_NS


class Tap:
    """Watches one answer."""

    __slots__ = (
        "_budget",
        "_decoded_bytes",
        "_decoder",
        "_dialect",
        "_gaps",
        "_head_bytes_max",
        "_last_token_ns",
        "_operation",
        "_provider",
        "_status",
        "_tail",
        "_tail_bytes",
        "_taken_bytes",
        "arrivals",
        "body_bytes",
        "content_type",
        "facts",
        "first_token_ns",
        "keeps",
        "pieces",
        "reader",
        "room_bytes",
    )

    def __init__(
        self,
        dialect: Dialect,
        operation: Operation,
        provider: str | None,
        *,
        status: int,
        content_type: str,
        content_encoding: str,
        drop_usage: bool,
        kept_bytes_max: int,
        budget: ByteBudget,
    ) -> None:
        self._dialect = dialect
        self._operation = operation
        self._provider = provider
        self._status = status
        self.content_type = content_type
        self.reader: StreamReader | None = None
        """Reads the answer, if it is a stream."""
        if status < 400:
            self.reader = dialect.stream_reader(operation, provider, content_type, drop_usage)
        self.facts: set[Fact] = set()
        self._decoder: Any = None
        if content_encoding:
            self._decoder = _decoder_for(content_encoding, self.facts)
        self._decoded_bytes = 0
        self._budget = budget
        self.pieces: list[bytes] = []
        """What is kept of the body's beginning."""
        self.keeps = True
        """Whether more of the beginning is to be kept."""
        self.room_bytes = 0
        """Room taken for it and not filled yet."""
        self._taken_bytes = 0
        self._head_bytes_max = kept_bytes_max
        self._tail: deque[bytes] | None = None
        self._tail_bytes = 0
        self.body_bytes = 0
        """Body bytes seen, decoded."""
        self.first_token_ns: int | None = None
        self._last_token_ns = 0
        self.arrivals: list[int] = []
        """When tokens came, after the first, whose gaps are not tallied yet."""
        self._gaps: Gaps | None = None

    @property
    def is_steady(self) -> bool:
        """Whether it watches a stream that is under way, and neither coded nor ended."""
        reader = self.reader
        return (
            reader is not None
            and self._decoder is None
            and self.first_token_ns is not None
            and not reader.ended
        )

    @property
    def is_stream(self) -> bool:
        """Whether the answer is a stream of events or lines."""
        return self.reader is not None

    @property
    def ended(self) -> bool:
        """Whether the stream's end marker is among the bytes released, or about to be."""
        return self.reader is not None and self.reader.ended

    @property
    def whole(self) -> bool:
        """Whether a stream whose bytes have ended had come to its own end too."""
        reader = self.reader
        return reader is None or reader.ended or reader.answer.final

    @property
    def at_boundary(self) -> bool:
        """Whether an event of our own could follow the bytes released so far."""
        return self.reader is not None and self._decoder is None and self.reader.at_boundary

    @property
    def events(self) -> int:
        """Events seen in a stream."""
        return 0 if self.reader is None else self.reader.events

    def feed(self, data: bytes, now_ns: int) -> bytes:
        """Watch `data` go by; give the bytes to release."""
        if self._decoder is not None:
            decoded = self._decode(data)
            if decoded:
                self._watch(decoded, now_ns)
            return data
        return self._watch(data, now_ns)

    def _watch(self, data: bytes, now_ns: int) -> bytes:
        self.body_bytes += len(data)
        reader = self.reader
        if reader is None:
            self.keep(data, with_tail=True)
            return data
        if self.keeps:
            self.keep(data)
        before = reader.events
        released = reader.feed(data)
        if reader.token_seen:
            if self.first_token_ns is None:
                self.first_token_ns = self._last_token_ns = now_ns
            elif reader.events != before:
                self.arrivals.append(now_ns)
                if len(self.arrivals) >= ARRIVALS_MAX:
                    self.tally()
        return released

    def tally(self) -> None:
        """Sort the gaps between the tokens that have come since this was done last."""
        gaps = self._gaps
        if gaps is None:
            gaps = self._gaps = Gaps(buckets=[0] * (len(_EDGES) + 1))
        last, buckets = self._last_token_ns, gaps.buckets
        for arrived in self.arrivals:
            gap, last = arrived - last, arrived
            if gap > gaps.max_ns:
                gaps.max_ns = gap
            buckets[bisect_left(_EDGES, gap)] += 1
        gaps.count += len(self.arrivals)
        gaps.sum_ns += last - self._last_token_ns
        self._last_token_ns = last
        self.arrivals.clear()

    @property
    def gaps(self) -> Gaps | None:
        """The gaps between tokens so far; None if there were none."""
        if self.arrivals:
            self.tally()
        return self._gaps

    def keep(self, data: bytes, *, with_tail: bool = False) -> None:
        """Keep a copy of the beginning, and with `with_tail` of the end."""
        room = self.room_bytes - len(data)
        if room >= 0 or (self.keeps and self._make_room(-room)):
            self.pieces.append(data)
            self.room_bytes -= len(data)
            return
        self.keeps = False  # what is kept must have no hole in it
        if not with_tail:
            return
        tail = self._tail
        if tail is None:
            tail = self._tail = deque()
            self.facts.add(Fact.TAP_OVERFLOW)
        piece = data[-TAIL_BYTES_MAX:]
        tail.append(piece)
        self._tail_bytes += len(piece)
        while self._tail_bytes - len(tail[0]) >= TAIL_BYTES_MAX:
            self._tail_bytes -= len(tail.popleft())

    def _make_room(self, missing: int) -> bool:
        """Take the room that is missing, and if there is some a little more; False if it is not."""
        left = self._head_bytes_max - self._taken_bytes
        if missing > left:
            return False
        for block in (min(left, max(missing, KEPT_BLOCK_BYTES)), missing):
            if self._budget.try_take(block):
                self._taken_bytes += block
                self.room_bytes += block
                return True
        return False

    def _decode(self, data: bytes) -> bytes:
        if self._decoded_bytes > DECODED_BYTES_MAX:
            return b""
        try:
            decoded = self._decoder.decode(data)
        except Exception:  # whatever a foreign decoder raises on rubbish: we stop reading along
            self._decoded_bytes = DECODED_BYTES_MAX + 1
            self.facts.add(Fact.TAP_FAILED)
            return b""
        self._decoded_bytes += len(decoded)
        if self._decoded_bytes > DECODED_BYTES_MAX:
            self.facts.add(Fact.TAP_OVERFLOW)
        return bytes(decoded)

    def finish(self) -> bytes:
        """Take note of the end of bytes; give what was still held back."""
        if self.reader is None:
            return b""
        held = self.reader.finish()
        return held if self._decoder is None else b""

    def answer(self) -> AnswerFacts:
        """Give what the answer has said."""
        if self.reader is not None:
            return self.reader.answer
        return self._dialect.read_answer(
            self._operation,
            self._provider,
            self._status,
            self.content_type,
            b"".join(self.pieces),
            b"".join(self._tail) if self._tail is not None else None,
        )

    def kept(self) -> tuple[bytes, int]:
        """Give the beginning of the decoded body that was kept, and the whole body's length."""
        return b"".join(self.pieces), self.body_bytes

    def release(self) -> None:
        """Give back what was kept. The tap is of no use afterwards."""
        self._budget.give_back(self._taken_bytes)
        self._taken_bytes = self.room_bytes = 0
        self.keeps = False
        self.pieces = []
        self._tail = None


class _Zlib:
    """gzip or deflate; one member, which is what servers send."""

    def __init__(self, window_bits: int) -> None:
        self._inflate = zlib.decompressobj(window_bits)

    def decode(self, data: bytes) -> bytes:
        return self._inflate.decompress(data, DECODED_BYTES_MAX)


class _Brotli:
    def __init__(self) -> None:
        self._brotli = brotli.Decompressor()

    def decode(self, data: bytes) -> bytes:
        return bytes(self._brotli.process(data, output_buffer_limit=DECODED_BYTES_MAX))


class _Zstandard:
    def __init__(self) -> None:
        self._zstandard = zstd.ZstdDecompressor()

    def decode(self, data: bytes) -> bytes:
        return bytes(self._zstandard.decompress(data, DECODED_BYTES_MAX))


class _Unreadable:
    """A coding we do not know: nothing can be learned from the body."""

    def decode(self, data: bytes) -> bytes:
        return b""


def _decoder_for(encoding: str, facts: set[Fact]) -> Any:
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return _Zlib(16 + zlib.MAX_WBITS)
        case "deflate":
            return _Zlib(zlib.MAX_WBITS)
        case "br":
            return _Brotli()
        case "zstd":
            return _Zstandard()
        case _:
            facts.add(Fact.TAP_FAILED)
            return _Unreadable()
