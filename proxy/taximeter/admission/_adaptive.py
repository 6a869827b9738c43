"""Finding how many calls an upstream can take at once, from what it does.

Nobody tells a client the capacity of a model server, and it changes. Two signs show that there
are too many calls under way: refusals (429, 503, 529) and answers that begin later. The limit
goes up while neither shows, and down when one does.

*Refusals*: additive increase, multiplicative decrease (Chiu and Jain, 1989): the limit is cut to
`CUT` of itself, at most once a round (until those that are too many have ended, a refusal tells
nothing new), and to `CUT_AGAIN` when a whole round brought nothing else. Below the last cut it
grows fast again, near it slowly.

*Latency*: what is watched is the time to the answer's head, which for a language model is
queueing and reading the prompt, not the length of the answer. A server that is full shows it
there, and by Little's law how many are too many: answers begin at a rate of X a second, each by
`d` later than with the server unloaded, so X * d calls are waiting in it. The limit is lowered by
that many. (TCP Vegas, Brakmo and Peterson, 1995, and the gradient limits that services use
compare latencies for the same end.) Prompts differ, so latencies scatter: medians are compared,
of windows of some two rounds of calls, and up to `TOLERANCE` nothing is concluded. Against a
server that makes calls wait, what is found is within a few calls of its places; against one that
shares its time out, it is above its capacity by up to the tolerance.

*The unloaded value* is the hard part: under steady load nobody sees it, and it changes with the
model and the prompts. So every `DIP_EVERY` windows the limit dips to `DIP` of itself for one
window; a queue of a few per cent runs empty, and the median then is the new unloaded value. When
the limit has been cut by a third and latency has not come down, it was not our queue: a dip is
made at once and believed. (BBR, 2016, finds its round-trip time so.)

A limit that is not used says nothing: it grows only when most of it was in use.

*Long answers*: a stream holds its place for minutes and tells its latency once, at its beginning.
Windows would take for ever to fill. But where every call under way has begun to be answered,
nobody waits at the upstream, and its limit is not reached: so a call that finds ours reached is
let go all the same, and the limit stretched, up to where refusals were last met (`stretch`).

What it does not know: limits by the minute, which look like refusals here and are waited out by
`_door`; and what other clients of the same server do, which is part of what is found.
"""

from __future__ import annotations

from statistics import median
from typing import Final

from taximeter.admission._model import Adaptive

CUT: Final = 0.9
CUT_AGAIN: Final = 0.7
TOLERANCE: Final = 1.15
"""Medians of some 60 latencies that scatter as prompts do differ by less, mostly."""
NOISE_NS: Final = 10_000_000
"""Answers that begin sooner tell nothing: what they differ by is the machines' own."""
LOWER_MOST: Final = 0.67
"""What is left at least of the limit when latency has risen."""
DIP: Final = 0.75
DIP_EVERY: Final = 25
"""Windows from dip to dip: a quarter of the limit for one window in 25 is 1 % of throughput."""
SAMPLES_MIN: Final = 30
SAMPLES_MAX: Final = 200
"""Bounds of a window, in answers; between them, twice the limit."""
GROWTH_FAST: Final = 1.25
GROWTH_SLOW: Final = 1.03


class AdaptiveLimit:
    """A concurrency limit that is found."""

    __slots__ = (
        "_base_ns",
        "_before_dip",
        "_bounds",
        "_cut_at",
        "_cut_from",
        "_cuts_in_a_row",
        "_dipped_at",
        "_most_in_flight",
        "_refused_at",
        "_samples",
        "_since_ns",
        "_windows",
        "limit",
    )

    def __init__(self, bounds: Adaptive, now_ns: int) -> None:
        self._bounds = bounds
        self.limit = bounds.initial
        self._base_ns = 0.0
        self._samples: list[int] = []
        self._since_ns = now_ns
        """Calls begun before this saw another limit, and are not looked at."""
        self._most_in_flight = 0
        self._cut_from: float = bounds.most
        self._refused_at: float = bounds.most / CUT
        """The limit under which a call was last refused; it rises again with the limit."""
        self._cut_at = now_ns
        self._cuts_in_a_row = 0
        self._windows = 0
        self._before_dip = 0
        """The limit to go back to after a dip; 0 when there is none."""
        self._dipped_at = bounds.initial
        """The limit at the last dip, or the highest since."""

    def answered(self, started_ns: int, now_ns: int, in_flight: int) -> bool:
        """Take in that a call begun at `started_ns` has its head. Give whether the limit rose."""
        if in_flight > self._most_in_flight:
            self._most_in_flight = in_flight
        if started_ns < self._since_ns:
            return False
        self._samples.append(now_ns - started_ns)
        if len(self._samples) < min(max(SAMPLES_MIN, 2 * self.limit), SAMPLES_MAX):
            return False
        before = self.limit
        self._end_window(now_ns)
        return self.limit > before

    def stretch(self) -> bool:
        """Raise the limit because nobody waits at the upstream. Give whether it rose.

        Not where refusals have shown the end to be near: there it grows by windows alone.
        """
        before, most = self.limit, int(CUT * self._refused_at)
        if before >= most or self._before_dip:
            return False
        self._set(min(max(before + 1, int(before * GROWTH_FAST)), most))
        return self.limit > before

    def refused(self, started_ns: int, now_ns: int, in_flight: int) -> None:
        """Take in that a call begun at `started_ns` was refused for load.

        While more are under way than the limit has it, the last cut has not shown its effect.
        """
        if started_ns < self._cut_at or in_flight > (self._before_dip or self.limit):
            return
        self._cuts_in_a_row += 1
        self._cut_from = self._refused_at = self._before_dip or self.limit
        share = CUT if self._cuts_in_a_row == 1 else CUT_AGAIN
        self._before_dip = 0
        self._set(min(int(self._cut_from * share), self.limit))
        self._cut_at = now_ns
        self._begin_window(now_ns)

    def _end_window(self, now_ns: int) -> None:
        latency_ns = median(self._samples)
        used = self._most_in_flight >= 0.9 * self.limit
        self._windows += 1
        self._cuts_in_a_row = 0
        if self._before_dip:
            self._base_ns = latency_ns
            self.limit, self._before_dip = self._before_dip, 0
            self._dipped_at = self.limit
        elif not self._base_ns or self.limit <= self._bounds.least or latency_ns < NOISE_NS:
            self._base_ns = latency_ns
            self._grow(used)
        else:
            base_ns = self._base_ns
            ratio = latency_ns / base_ns
            self._base_ns = min(self._base_ns, (latency_ns + 3 * self._base_ns) / 4)
            if ratio > TOLERANCE:
                rate = len(self._samples) / max(1, now_ns - self._since_ns)
                waiting = int(rate * (latency_ns - base_ns) + 0.5)
                self._cut_from = self.limit
                self._set(max(self.limit - max(1, waiting), int(self.limit * LOWER_MOST)))
            else:
                self._grow(used)
            self._dipped_at = max(self._dipped_at, self.limit)
            if self._windows % DIP_EVERY == 0 or self.limit < LOWER_MOST * self._dipped_at:
                self._dip()
        self._begin_window(now_ns)

    def _grow(self, used: bool) -> None:
        if used:
            fast = self.limit < 0.8 * self._cut_from
            grown = int(self.limit * (GROWTH_FAST if fast else GROWTH_SLOW))
            self._set(max(self.limit + 1, grown))
            if self.limit > self._refused_at:
                self._refused_at = self._bounds.most / CUT

    def _dip(self) -> None:
        lower = max(self._bounds.least, int(self.limit * DIP))
        if lower < self.limit:
            self._before_dip, self.limit = self.limit, lower

    def _set(self, limit: int) -> None:
        self.limit = min(max(limit, self._bounds.least), self._bounds.most)

    def _begin_window(self, now_ns: int) -> None:
        self._samples.clear()
        self._since_ns = now_ns
        self._most_in_flight = 0
