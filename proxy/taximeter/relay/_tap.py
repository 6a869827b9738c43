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

_EDGES = Gaps.EDGES_NS


class Tap:
    """Watches one answer."""

    __slots__ = (
        "_budget",
        "_decoded_bytes",
        "_decoder",
        "_dialect",
        "_head",
        "_head_bytes",
        "_head_bytes_max",
        "_operation",
        "_provider",
        "_reader",
        "_status",
        "_tail",
        "_tail_bytes",
        "body_bytes",
        "content_type",
        "facts",
        "first_token_ns",
        "gaps",
        "last_token_ns",
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
        self._reader: StreamReader | None = None
        if status < 400:
            self._reader = dialect.stream_reader(operation, provider, content_type, drop_usage)
        self.facts: set[Fact] = set()
        self._decoder = _decoder_for(content_encoding, self.facts)
        self._decoded_bytes = 0
        self._budget = budget
        self._head: list[bytes] = []
        self._head_bytes = 0
        self._head_bytes_max = kept_bytes_max
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self.body_bytes = 0
        """Body bytes seen, decoded."""
        self.first_token_ns: int | None = None
        self.last_token_ns = 0
        self.gaps: Gaps | None = None

    @property
    def steady_reader(self) -> StreamReader | None:
        """The reader of a stream that is under way and not coded, None if there is none."""
        reader = self._reader
        return None if reader is None or self._decoder is not None or reader.ended else reader

    @property
    def keeps(self) -> bool:
        """Whether a copy of the stream's beginning is still being kept."""
        return self._head_bytes < self._head_bytes_max

    def gaps_from_now_on(self) -> Gaps:
        """Give the tally of gaps between tokens, begun if it has not been."""
        if self.gaps is None:
            self.gaps = Gaps(buckets=[0] * (len(_EDGES) + 1))
        return self.gaps

    @property
    def is_stream(self) -> bool:
        """Whether the answer is a stream of events or lines."""
        return self._reader is not None

    @property
    def ended(self) -> bool:
        """Whether the stream's end marker is among the bytes released, or about to be."""
        return self._reader is not None and self._reader.ended

    @property
    def whole(self) -> bool:
        """Whether a stream whose bytes have ended had come to its own end too."""
        reader = self._reader
        return reader is None or reader.ended or reader.answer.final

    @property
    def at_boundary(self) -> bool:
        """Whether an event of our own could follow the bytes released so far."""
        return self._reader is not None and self._decoder is None and self._reader.at_boundary

    @property
    def events(self) -> int:
        """Events seen in a stream."""
        return 0 if self._reader is None else self._reader.events

    def feed(self, data: bytes, now_ns: int) -> bytes:
        """Watch `data` go by; give the bytes to release."""
        reader = self._reader
        if self._decoder is not None:
            decoded = self._decode(data)
            if decoded:
                self._watch(decoded, now_ns)
            return data
        if reader is None:
            self.body_bytes += len(data)
            self.keep(data, with_tail=True)
            return data
        return self._watch(data, now_ns)

    def _watch(self, data: bytes, now_ns: int) -> bytes:
        self.body_bytes += len(data)
        reader = self._reader
        if reader is None:
            self.keep(data, with_tail=True)
            return data
        if self._head_bytes < self._head_bytes_max:
            self.keep(data)
        before = reader.events
        released = reader.feed(data)
        if reader.token_seen:
            if self.first_token_ns is None:
                self.first_token_ns = self.last_token_ns = now_ns
            elif reader.events != before:
                self._note_gap(now_ns)
        return released

    def _note_gap(self, now_ns: int) -> None:
        gaps = self.gaps_from_now_on()
        gap = now_ns - self.last_token_ns
        self.last_token_ns = now_ns
        gaps.count += 1
        gaps.sum_ns += gap
        if gap > gaps.max_ns:
            gaps.max_ns = gap
        gaps.buckets[bisect_left(_EDGES, gap)] += 1

    def keep(self, data: bytes, *, with_tail: bool = False) -> None:
        """Keep a copy of the beginning, and with `with_tail` of the end."""
        size = len(data)
        if (
            not self._tail
            and self._head_bytes + size <= self._head_bytes_max
            and self._budget.try_take(size)
        ):
            self._head.append(data)
            self._head_bytes += size
            return
        if not with_tail:
            self._head_bytes_max = 0  # what is kept must have no hole in it
            return
        self.facts.add(Fact.TAP_OVERFLOW)
        piece = data[-TAIL_BYTES_MAX:]
        self._tail.append(piece)
        self._tail_bytes += len(piece)
        while self._tail_bytes - len(self._tail[0]) >= TAIL_BYTES_MAX:
            self._tail_bytes -= len(self._tail.popleft())

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
        if self._reader is None:
            return b""
        held = self._reader.finish()
        return held if self._decoder is None else b""

    def answer(self) -> AnswerFacts:
        """Give what the answer has said."""
        if self._reader is not None:
            return self._reader.answer
        return self._dialect.read_answer(
            self._operation,
            self._provider,
            self._status,
            self.content_type,
            b"".join(self._head),
            b"".join(self._tail) if self._tail else None,
        )

    def kept(self) -> tuple[bytes, int]:
        """Give the beginning of the decoded body that was kept, and the whole body's length."""
        return b"".join(self._head), self.body_bytes

    def release(self) -> None:
        """Give back what was kept. The tap is of no use afterwards."""
        self._budget.give_back(sum(map(len, self._head)))
        self._head, self._head_bytes, self._head_bytes_max = [], 0, 0
        self._tail.clear()


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
