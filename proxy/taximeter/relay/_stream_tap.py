"""The tap of a stream: when its tokens came, and what its events say. Pure.

What is released is the very object that was given, but for the one event that may be taken out,
and for an end marker that comes in pieces: it is held back until it is whole.
The tap notes the first token and the gaps between tokens; what usage needs, the stream's reader
holds. A copy of the beginning is kept for counting, should the upstream never state its usage.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import repeat
from operator import sub

from taximeter.call import Gaps
from taximeter.dialects import AnswerFacts, StreamReader
from taximeter.relay._budget import ByteBudget
from taximeter.relay._decoders import STREAM_READ_BYTES_MAX
from taximeter.relay._tap import Subject, Tap

ARRIVALS_MAX = 64
"""Arrivals of tokens that are put by until they are tallied, in one go. What a splice puts by until
it needs room (some twenty, `KEPT_BLOCK_BYTES`) comes on top."""

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

    __slots__ = (
        "_gaps",
        "_held",
        "_last_token_ns",
        "_told",
        "arrivals",
        "first_token_ns",
        "reader",
        "withholds",
    )

    is_stream = True
    decoded_read_bytes_max = STREAM_READ_BYTES_MAX

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
        """When tokens came, after the first, that are not tallied yet."""
        self._told = 0
        """How many of these the reader knows of: the others are events it was spared."""
        self._gaps: Gaps | None = None
        self._held = b""
        """The last bytes of an open event that begins like the stream's end marker: the line that
        tells a client of the end may not be out before the call is closed."""

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
        if self.gave_up or self.subject.operation.name == "other":
            return True  # by all that is known: HTTP's own end has come
        answer = self.reader.answer
        return self.reader.ended or answer.final or answer.finish_reason is not None

    @property
    def at_boundary(self) -> bool:
        """See `Tap.at_boundary`."""
        return self._decoder is None and self.reader.at_boundary

    @property
    def events(self) -> int:
        """See `Tap.events`."""
        return self.reader.events + len(self.arrivals) - self._told

    def _watch(self, data: bytes, now_ns: int) -> bytes:
        self.keep(data)
        reader = self.reader
        before = reader.events
        released = reader.feed(data)
        if reader.token_seen:
            if self.first_token_ns is None:
                self.first_token_ns = self._last_token_ns = now_ns
            elif reader.events != before:
                self._told += 1
                self.arrivals.append(now_ns)
                if len(self.arrivals) >= ARRIVALS_MAX:
                    self.tally()
        if reader.at_boundary and not self._held:
            return released
        return self._hold_ending(released)

    def _hold_ending(self, released: bytes) -> bytes:
        """Hold back what of an end marker has come, until it is whole."""
        if self._decoder is not None:
            return released
        data = self._with_held(released)
        place = max(0, len(data) - self.reader.ending_bytes)
        self._held = data[place:]
        return data[:place]

    def _with_held(self, data: bytes) -> bytes:
        held, self._held = self._held, b""
        return held + data if held else data

    def note_token(self, data: bytes, now_ns: int) -> None:
        """Take note of a whole event with a token that needs no reading.

        The splice does this itself as long as there is room to keep what it is given.
        """
        self.keep(data)
        self.arrivals.append(now_ns)
        if len(self.arrivals) >= ARRIVALS_MAX:
            self.tally()

    def tally(self) -> None:
        """Count the events the reader was spared, and sort the gaps between all that came."""
        gaps = self._gaps
        if gaps is None:
            gaps = self._gaps = Gaps(buckets=[0] * (len(_EDGES) + 1))
        arrivals, last = self.arrivals, self._last_token_ns
        found = list(map(sub, arrivals, [last, *arrivals]))
        places = list(map(bisect_left, repeat(_EDGES), found))
        for place in set(places):
            gaps.buckets[place] += places.count(place)
        gaps.max_ns = max(gaps.max_ns, *found)
        gaps.count += len(found)
        gaps.sum_ns += arrivals[-1] - last
        self._last_token_ns = arrivals[-1]
        self.reader.events += len(arrivals) - self._told
        self._told = 0
        arrivals.clear()

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
        return self._with_held(held if self._decoder is None else b"")

    def answer(self) -> AnswerFacts:
        """Give what the stream has said."""
        return self.reader.answer
