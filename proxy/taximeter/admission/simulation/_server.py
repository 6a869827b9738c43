"""The model server of a simulation: places, a line before them, limits and outages."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from taximeter.admission._words import SECOND_NS
from taximeter.admission.simulation._scenario import Server

_ROUND_TRIP_NS = SECOND_NS // 50
"""What a refusal takes."""


@dataclass(slots=True)
class Job:
    """One attempt at the server."""

    output_tokens: int
    head: Callable[[int | None, dict[str, str]], None]
    """Called with the status of the answer and its headers."""
    end: Callable[[], None]
    """Called at the last byte of a good answer."""


class ModelServer:
    """Serves jobs in virtual time.

    `clock` gives the time, `later` calls something after so many nanoseconds.
    """

    def __init__(
        self,
        config: Server,
        chance: random.Random,
        clock: Callable[[], int],
        later: Callable[[int, Callable[[], None]], None],
    ) -> None:
        self._config = config
        self._clock = clock
        self._random = chance
        self._later = later
        self._line: deque[Job] = deque()
        self._served = 0
        self.arrivals = 0
        self.refusals = 0
        self._tat_ns = 0

    def submit(self, job: Job) -> None:
        """Take an attempt in."""
        now_ns = self._clock()
        self.arrivals += 1
        config = self._config
        second = now_ns / SECOND_NS
        for outage in config.outages:
            hit = outage.from_second <= second < outage.until_second
            if hit and self._random.random() < outage.share:
                headers = {}
                if outage.retry_after_seconds is not None:
                    headers["retry-after"] = str(outage.retry_after_seconds)
                self._answer(job, outage.status, headers)
                return
        headers = {}
        if config.requests_per_minute is not None:
            wait_ns = self._limit(config.requests_per_minute, now_ns, headers)
            if wait_ns:
                self.refusals += 1
                self._answer(job, 429, headers)
                return
        if not self._line and self._served < self._capacity(now_ns):
            self._serve(job, headers)
        elif config.full == "refuse":
            self.refusals += 1
            self._answer(job, 429, headers)
        else:
            self._line.append(job)

    def _capacity(self, now_ns: int) -> int:
        config = self._config
        if config.capacity_later is not None and now_ns >= config.capacity_changes_at * SECOND_NS:
            return config.capacity_later
        return config.capacity

    def _limit(self, limit: int, now_ns: int, headers: dict[str, str]) -> int:
        """Count a request against the minute's limit and tell what is left."""
        minute_ns = 60 * SECOND_NS
        tat_ns = max(self._tat_ns, now_ns) + minute_ns // limit
        wait_ns = max(0, tat_ns - now_ns - minute_ns)
        if not wait_ns:
            self._tat_ns = tat_ns
        ahead_ns = self._tat_ns - now_ns
        headers["x-ratelimit-limit-requests"] = str(limit)
        headers["x-ratelimit-remaining-requests"] = str(
            max(0, (minute_ns - ahead_ns) * limit // minute_ns)
        )
        headers["x-ratelimit-reset-requests"] = f"{ahead_ns / SECOND_NS:.3f}s"
        if wait_ns:
            headers["retry-after-ms"] = str(wait_ns // 1_000_000 + 1)
        return wait_ns

    def _answer(self, job: Job, status: int | None, headers: dict[str, str]) -> None:
        self._later(_ROUND_TRIP_NS, lambda: job.head(status, headers))

    def _serve(self, job: Job, headers: dict[str, str]) -> None:
        self._served += 1
        config = self._config
        scatter = self._random.lognormvariate(0.0, config.first_byte_spread)
        head_ns = int(config.first_byte_seconds * scatter * SECOND_NS)
        end_ns = head_ns + int(job.output_tokens / config.tokens_per_second * SECOND_NS)
        self._later(head_ns, lambda: job.head(200, headers))
        self._later(end_ns, lambda: self._end(job))

    def _end(self, job: Job) -> None:
        self._served -= 1
        while self._line and self._served < self._capacity(self._clock()):
            self._serve(self._line.popleft(), {})
        job.end()
