"""The tap of a stream: when its tokens came, and what its events say. Pure.

What is released is the very object that was given, but for the one event that may be taken out.
The tap notes the first token and the gaps between tokens; what usage needs, the stream's reader
holds. A copy of the beginning is kept for counting, should the upstream never state its usage.
"""

from __future__ import annotations

from bisect import bisect_left

from taximeter.call import Gaps
from taximeter.dialects import AnswerFacts, StreamReader
from taximeter.relay._budget import ByteBudget
from taximeter.relay._tap import Subject, Tap

ARRIVALS_MAX = 64
"""Arrivals of tokens that are put by until the gaps between them are tallied, in one go. What a
splice puts by until it needs room (some twenty, `KEPT_BLOCK_BYTES`) comes on top."""

_EDGES = Gaps.EDGES_NS


def tap_for(subject: Subject, kept_bytes_max: int, budget: ByteBudget, *, drop_usage: bool) -> Tap:
    """Make the tap of an answer. With `drop_usage` a stream's extra event is taken out of it."""
    reader = None
    if subject.status < 400:
        reader = subject.dialect.stream_reader(
            subject.operation, subject.provider, subject.content_type, drop_usage
        )
    if reader is None:
        return Tap(subject, kept_bytes_max, budget)
    return StreamTap(reader, subject, kept_bytes_max, budget, drop_usage)


class StreamTap(Tap):
    """Watches one stream of events or lines."""

    __slots__ = ("_gaps", "_last_token_ns", "arrivals", "first_token_ns", "reader", "withholds")

    is_stream = True

    def __init__(
        self,
        reader: StreamReader,
        subject: Subject,
        kept_bytes_max: int,
        budget: ByteBudget,
        withholds: bool,
    ) -> None:
        super().__init__(subject, kept_bytes_max, budget)
        self.reader = reader
        self.withholds = withholds
        self.first_token_ns: int | None = None
        """When the first token came."""
        self._last_token_ns = 0
        self.arrivals: list[int] = []
        """When tokens came, after the first, whose gaps are not tallied yet."""
        self._gaps: Gaps | None = None

    @property
    def is_steady(self) -> bool:
        """Whether the stream is under way, and neither coded nor ended."""
        return self._decoder is None and self.first_token_ns is not None and not self.reader.ended

    @property
    def ended(self) -> bool:
        """See `Tap.ended`."""
        return self.reader.ended

    @property
    def whole(self) -> bool:
        """See `Tap.whole`."""
        if self.fault is not None:
            return True  # by all that is known: HTTP's own end has come
        return self.reader.ended or self.reader.answer.final

    @property
    def at_boundary(self) -> bool:
        """See `Tap.at_boundary`."""
        return self._decoder is None and self.reader.at_boundary

    @property
    def events(self) -> int:
        """See `Tap.events`."""
        return self.reader.events

    def _watch(self, data: bytes, now_ns: int) -> bytes:
        self.keep(data)
        reader = self.reader
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

    def note_token(self, data: bytes, now_ns: int) -> None:
        """Take note of a whole event with a token that needs no reading.

        The splice does this itself as long as there is room to keep what it is given.
        """
        self.keep(data)
        self.reader.events += 1
        self.arrivals.append(now_ns)
        if len(self.arrivals) >= ARRIVALS_MAX:
            self.tally()

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
        """See `Tap.gaps`."""
        if self.arrivals:
            self.tally()
        return self._gaps

    def finish(self) -> bytes:
        """See `Tap.finish`."""
        held = b""
        try:
            held = self.reader.finish()
        except Exception as fault:
            self.go_blind(fault)
        return held if self._decoder is None else b""

    def answer(self) -> AnswerFacts:
        """Give what the stream has said."""
        return self.reader.answer
