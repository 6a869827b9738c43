"""The sections that compare ways: every way in turns, the order turned about from round to round.

Each section starts its ways, measures them `rounds` times, and adds to a table of lists: by way,
by figure, a value a round. A ratio is later taken within a round, where both had the same machine.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench._targets import Target
from bench.peers._cost import Cost, cost, job_for, memory_a_stream
from bench.peers._ways import Setting, Way, running

CALLS_PER_SECOND = 2_000
"""The steady load, of the ways that carry it."""
CALLS, DELTAS = 5_000, 200
CONNECTIONS, STREAMS = 32, 64
SLOW_SHARE = 0.1
"""A way with a smaller share is spared what would take it minutes."""
FIRST_RATES = (10, 200)
"""Streams begun in a second, by the clock."""
FIRST_SECONDS = 4
FIRST_DELTAS = 20
IDLE_STREAMS = (1_000, 5_000)
WORKERS = (1, 2)
BODY_BYTES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
BODIES_BYTES = 40_000_000
"""Sent in all, of one size, by a fast way, within the bounds of `BODIES`."""
BODIES = (8, 1_000)
STREAM_DELTAS = {1: 256, 10: 128, 100: 32, 1_000: 16}
"""Deltas of a stream, and how many such streams there are at once."""


Table = dict[str, dict[str, list[float]]]
"""By way, by figure: a value a round."""


@dataclass(slots=True)
class Section:
    """What a section measures with, and what it has found."""

    ways: list[Way]
    setting: Setting
    folder: Path
    rounds: int
    scale: float = 1.0
    """Below 1, less of everything: for a look, not for figures."""
    left_out: dict[str, str] = field(default_factory=dict)
    table: Table = field(default_factory=dict)

    def add(self, way: Way, figure: str, value: float | None) -> None:
        """Note a value; None is none."""
        if value is not None:
            self.table.setdefault(way.name, {}).setdefault(figure, []).append(value)

    def count(self, way: Way, whole: int, least: int = 8) -> int:
        """Scale a number of calls, or of deltas, to what the way can do."""
        return max(least, int(whole * way.share * self.scale))

    def turns(self, name: str) -> Iterator[tuple[Way, Target]]:
        """Start the section's ways together, and give them in turns, round by round."""
        ways = [way for way in self.ways if name in way.sections]
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))
        setting = self.setting
        with running(ways, setting, folder, self.left_out) as targets:
            order = list(targets.items())
            for number in range(self.rounds):
                for way, target in order if number % 2 == 0 else order[::-1]:
                    print(f"{name} {number + 1}/{self.rounds}: {way.name}", file=sys.stderr)
                    yield way, target


def call(section: Section) -> None:
    """CPU a call."""
    for way, target in section.turns("call"):
        count = section.count(way, CALLS, 50)
        plain = {"kind": "calls", "connections": CONNECTIONS, "calls": count}
        if way.share == 1:
            spent = cost(target, job_for(target, **plain, calls_per_second=CALLS_PER_SECOND))
            _add_cost(section, way, "call_steady", spent, count)
            if spent is not None:
                section.add(way, "call_steady_p50_us", spent.seen["p50_us"])
                section.add(way, "call_steady_p99_us", spent.seen["p99_us"])
        _add_cost(section, way, "call", cost(target, job_for(target, **plain)), count)


def delta(section: Section) -> None:
    """CPU a delta: of as many, in as long streams, over every way."""
    for way, target in section.turns("delta"):
        deltas = max(2, int(DELTAS * section.scale))
        streams = job_for(target, kind="streams", connections=STREAMS, deltas=deltas)
        _add_cost(section, way, "delta", cost(target, streams), STREAMS * deltas)


def first(section: Section) -> None:
    """Time to the first token, of streams that begin when it is time and wait for no other."""
    for way, target in section.turns("first"):
        for rate in FIRST_RATES:
            if rate > min(FIRST_RATES) and way.share < SLOW_SHARE:
                continue
            job = job_for(
                target,
                kind="arrivals",
                connections=1,
                calls=max(10, int(rate * FIRST_SECONDS * section.scale)),
                calls_per_second=rate,
                deltas=FIRST_DELTAS,
                warm_up_calls=200 if way.share == 1 else 50,
            )
            spent = cost(target, job)
            if spent is not None:
                waits = spent.seen["first_us"]
                section.add(way, f"p50_us_{rate}", waits[len(waits) // 2])
                section.add(way, f"p99_us_{rate}", waits[len(waits) * 99 // 100])


def idle(section: Section) -> None:
    """Memory of an idle stream. Once: it hardly differs from time to time."""
    for streams in IDLE_STREAMS:
        setting = replace(section.setting, many_streams=True)
        few = streams == min(IDLE_STREAMS)
        ways = [way for way in section.ways if few or way.share >= SLOW_SHARE]
        once = replace(section, ways=ways, rounds=1, setting=setting)  # the table is the same one
        for way, target in once.turns("idle"):
            held = max(50, int(streams * section.scale))
            if target.root is None:
                continue
            section.add(way, f"kib_{streams}", memory_a_stream(target, held))


def full(section: Section) -> None:
    """Calls a second, as many as go, with one worker and with two."""
    for workers in WORKERS:
        ways = [way for way in section.ways if way.workers_max >= workers]
        setting = replace(section.setting, workers=workers)
        for way, target in replace(section, ways=ways, setting=setting).turns("full"):
            count = section.count(way, CALLS, 100)
            job = job_for(target, kind="calls", connections=STREAMS, calls=count)
            spent = cost(target, job)
            if spent is not None:
                section.add(way, f"calls_per_second_{workers}", count / spent.seen["seconds"])


def growth(section: Section) -> None:
    """CPU of a call as bodies grow, and of a stream as it grows longer."""
    for way, target in section.turns("growth"):
        if target.root is None:
            continue
        for size in BODY_BYTES:
            fewest, most = BODIES
            count = section.count(way, min(most, BODIES_BYTES // size), fewest)
            plain = {"kind": "calls", "connections": 4, "calls": count, "warm_up_calls": 16}
            sent = cost(target, job_for(target, **plain, request_bytes=size))
            _add_cost(section, way, f"request_{size}", sent, count)
            had = cost(target, job_for(target, **plain, answer_bytes=size))
            _add_cost(section, way, f"answer_{size}", had, count)
        for deltas, streams in STREAM_DELTAS.items():
            if deltas > 100 and way.share < SLOW_SHARE:
                continue
            count = section.count(way, streams)
            words = {"connections": count, "deltas": deltas, "every_ms": 5, "warm_up_calls": 16}
            spent = cost(target, job_for(target, kind="streams", **words))
            _add_cost(section, way, f"stream_{deltas}", spent, count)


def _add_cost(section: Section, way: Way, figure: str, spent: Cost | None, count: int) -> None:
    if spent is not None and way.name != "direct":
        section.add(way, f"{figure}_relaying_us", spent.relaying * 1e6 / count)
        section.add(way, f"{figure}_whole_us", spent.whole * 1e6 / count)


SECTIONS: dict[str, Callable[[Section], None]] = {
    "call": call,
    "delta": delta,
    "first": first,
    "idle": idle,
    "full": full,
    "growth": growth,
}
