"""Finding how many calls an upstream can take at once, from what it does.

Nobody tells a client the capacity of a model server, and it changes. Two signs show that there
are too many calls under way: refusals (429, 503, 529) and answers that begin later. The limit
goes up while neither shows, and down when one does.

*Refusals* alone are no sign: an API that answers one call in ten with 503 whatever one does would
be throttled to nothing by a rule that cuts at each. What tells is at how many calls at once it
refuses and at how many it does not. Each call remembers how many were at the upstream when it
began; the most of those that were answered well is what the upstream has been *proved* to take,
lately (`_proved`). A refusal above that cuts the limit to it, by `CUT_AGAIN` at most; one that is
not above it says nothing. It cuts at most once a round: until those that are too many have ended, a
refusal tells nothing new. Lately means two spells, each of a window of answers or of
`SUSPECT` refusals, so that a server that has lost places is found out soon.

Where nothing is answered well between refusals there is nothing to go by, and the limit is cut to
`CUT` of itself, then to `CUT_AGAIN` a round: multiplicative decrease (Chiu and Jain, 1989). When
answers are good again each one lets one more through, up to where it was when that began.

Above what was refused last, the limit tries again only after `RETRY_WINDOWS` windows: each such try
costs some call an attempt.

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
let go all the same, and the limit stretched, up to where refusals were last met (`stretch`). A
dip is not stretched; if it lasts because of streams, it is given up (`give_up_dip`).

What it does not know: limits by the minute, which look like refusals here and are waited out by
`_door`; and what other clients of the same server do, which is part of what is found.
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

from taximeter.admission._model import Adaptive
from taximeter.admission._words import SECOND_NS

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
DIP_NS_MAX: Final = 10 * SECOND_NS
"""Longest dip of a limit that is reached while nobody waits at the upstream."""
SAMPLES_MIN: Final = 30
SAMPLES_MAX: Final = 200
"""Bounds of a window, in answers; between them, twice the limit."""
REFUSED_MAX: Final = 64
"""Refusals that are remembered: those of the time that an answer takes to begin."""
SUSPECT: Final = 4
"""Refusals after which what was proved before them is in doubt."""
RETRY_WINDOWS: Final = 3
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
        "_doubts",
        "_most_in_flight",
        "_proved",
        "_proved_before",
        "_quiet_windows",
        "_recovers_to",
        "_refused",
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
        """With no good answer between them."""
        self._proved = 0
        self._proved_before = 0
        self._doubts = 0
        """Refusals of the present spell, since something was last proved."""
        self._refused: deque[tuple[int, int]] = deque(maxlen=REFUSED_MAX)
        """The last refusals: when each attempt began, and when it was refused."""
        self._quiet_windows = 0
        """Windows to go until more is tried than was refused last."""
        self._recovers_to = 0
        """Where good answers raise the limit to, one by one; 0 when they do not."""
        self._windows = 0
        self._before_dip = 0
        """The limit to go back to after a dip; 0 when there is none."""
        self._dipped_at = bounds.initial
        """The limit at the last dip, or the highest since."""

    def answered(self, started_ns: int, now_ns: int, in_flight: int, load: int = 0) -> bool:
        """Take in that a call begun at `started_ns` has its head. Give whether the limit rose.

        Args:
            started_ns: when its attempt began.
            now_ns: now.
            in_flight: calls under way.
            load: calls that were at the upstream when it began, itself included.
        """
        if in_flight > self._most_in_flight:
            self._most_in_flight = in_flight
        if load > self._proved or (self._doubts and load and load == self._proved):
            self._prove(started_ns, load)
        before = self.limit
        if (self._cuts_in_a_row or self._recovers_to) and started_ns >= self._cut_at:
            self._cuts_in_a_row = 0
            if self._recovers_to:
                self._recover()
        if started_ns >= self._since_ns:
            samples = self._samples
            samples.append(now_ns - started_ns)
            many = len(samples)
            if many >= SAMPLES_MIN and (many >= 2 * self.limit or many >= SAMPLES_MAX):
                self._end_window(now_ns)
        return self.limit > before

    def _prove(self, started_ns: int, load: int) -> None:
        # Calls that were refused a moment later stood beside it, and were not served.
        for began_ns, heard_ns in self._refused:
            if began_ns <= started_ns < heard_ns:
                load -= 1
        if load >= self._proved:
            self._proved = load
            self._doubts = 0

    def stretch(self) -> bool:
        """Raise the limit because nobody waits at the upstream. Give whether it rose.

        Not where refusals have shown the end to be near: there it grows by windows alone.
        """
        before, most = self.limit, int(CUT * self._refused_at)
        if before >= most or self._before_dip:
            return False
        self._set(min(max(before + 1, int(before * GROWTH_FAST)), most))
        return self.limit > before

    def give_up_dip(self, now_ns: int) -> bool:
        """End a dip that no answer will end: those under way are streams. Give whether it did."""
        if not self._before_dip or now_ns - self._since_ns < DIP_NS_MAX:
            return False
        self.limit, self._before_dip = self._before_dip, 0
        return True

    def _recover(self) -> None:
        if self.limit < self._recovers_to:
            self._set(self.limit + 1)
        else:
            self._recovers_to = 0

    def refused(self, started_ns: int, now_ns: int, in_flight: int, load: int = 0) -> None:
        """Take in that a call begun at `started_ns` was refused for load.

        While more are under way than the limit has it, the last cut has not shown its effect. The
        arguments are those of `answered`.
        """
        self._refused.append((started_ns, now_ns))
        self._doubts += 1
        if self._doubts >= SUSPECT:
            self._begin_spell()
        if started_ns < self._cut_at or in_flight > (self._before_dip or self.limit):
            return
        proved = max(self._proved, self._proved_before)
        if self._cuts_in_a_row == 0 and 0 < load <= proved:
            return
        limit = self._cut_from = self._before_dip or self.limit
        if self._cuts_in_a_row == 0 and proved:
            lower = max(int(limit * CUT_AGAIN), min(proved, limit - 1))
            self._recovers_to = 0
            if lower <= proved:
                self._cut_from = lower + 1  # One more than is served is one too many.
        else:
            lower = int(limit * (CUT_AGAIN if self._cuts_in_a_row else CUT))
            self._recovers_to = max(self._recovers_to, lower)
        self._cuts_in_a_row += 1
        self._refused_at = self._cut_from
        self._quiet_windows = RETRY_WINDOWS
        self._before_dip = 0
        self._set(min(lower, self.limit))
        self._cut_at = now_ns
        self._begin_window(now_ns)

    def _begin_spell(self) -> None:
        self._proved_before, self._proved = self._proved, 0
        self._doubts = 0

    def _end_window(self, now_ns: int) -> None:
        latency_ns = median(self._samples)
        used = self._most_in_flight >= 0.9 * self.limit
        self._windows += 1
        self._begin_spell()
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
                self._quiet_windows = self._recovers_to = 0
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
            grown = max(self.limit + 1, grown)
            if self._quiet_windows and grown >= self._cut_from:
                self._quiet_windows -= 1
                grown = max(self.limit, int(self._cut_from) - 1)
            self._set(grown)
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
