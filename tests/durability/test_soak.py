"""L4: a mix of calls and faults for a while, and what the processes hold in the meantime."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.durability._load import PRICES, Load
from tests.rig import Script, checkers
from tests.rig.exposition import Exposition
from tests.rig.length import share
from tests.rig.tally import Tally
from tests.rig.taximeter import Taximeter
from tests.rig.upstream import Upstream
from tests.rig.vitals import Vitals, vitals

SECONDS = share(6.0, 0.25)
LOOK_SECONDS = 0.25
GROWTH_BYTES_MAX = 12 * 1024 * 1024
"""Between the second quarter and the last: what allocators do in the meantime is less."""
FILES_MORE_MAX = 24
SERIES_MAX = 4000
FAULTS = (
    Script(cut_after_events=2, cut="rst"),
    Script(cut_after_events=3, cut="fin"),
    Script(cut_before_head=True),
    Script(status=500),
    Script(status=429, headers=[("retry-after", "0")]),
    Script(error_after_events=2),
    Script(length_delta=5, framing="length", close=True),
    Script(raw="no HTTP\r\n\r\n"),
    Script(usage_missing=True),
    Script(encoding="gzip", encoding_forced=True),
)


class Watch:
    """Looks at the relay and the recorder now and then, from outside, in a thread of its own."""

    def __init__(self, meter: Taximeter) -> None:
        self._meter = meter
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.seen: dict[str, list[Vitals]] = {"relay": [], "recorder": []}
        self.series: list[int] = []

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(20)

    def _look(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            for kind, pid in self._meter.children().items():
                with contextlib.suppress(OSError):
                    self.seen[kind].append(vitals(pid))
            with contextlib.suppress(OSError):
                self.series.append(Exposition.of(self._meter.console_url).series)

    def held_to_be_flat(self) -> None:
        """Hold the last quarter against the second: the first is for warming up."""
        for kind, looks in self.seen.items():
            quarter = len(looks) // 4
            early, late = looks[quarter : 2 * quarter], looks[-quarter:]
            assert quarter >= 3, f"too few looks at the {kind}"
            for what, most in (
                ("resident_bytes", GROWTH_BYTES_MAX),
                ("files", FILES_MORE_MAX),
                ("threads", 2),
            ):
                before, after = (
                    statistics.median(getattr(each, what) for each in part)
                    for part in (early, late)
                )
                assert after - before <= most, f"{kind}: {what} went from {before} to {after}"
        assert max(self.series) < SERIES_MAX


@pytest.mark.timeout(120)
def test_a_mix_of_faults_leaves_everything_flat(tmp_path: Path, seed: int, tally: Tally) -> None:
    """L4: memory, files, threads and series stay flat, and every promise of the books holds."""
    chance = random.Random(seed)
    with Upstream() as upstream:
        upstreams = {
            "openai": {
                "url": upstream.url,
                "dialect": "openai",
                "breaker": {"enabled": False},
                "limits": {"concurrency": 32},
            }
        }
        tiers = {"default": {"budget": {"usd": 1000, "per": "day"}}}
        with Taximeter(tmp_path, upstreams, prices=PRICES, tiers=tiers) as meter:
            assert meter.process is not None
            load = Load(meter.url, clients=8, pause_seconds=0.02, seed=seed, scripted=0.7)
            load.start()
            done: Counter[str] = Counter()
            with Watch(meter) as watch:
                ends_at = time.monotonic() + SECONDS
                next_reload = next_kill = time.monotonic() + SECONDS / 3
                while time.monotonic() < ends_at:
                    upstream.queue(chance.choice(FAULTS))
                    done["faults"] += 1
                    if time.monotonic() > next_reload:
                        meter.process.send_signal(signal.SIGHUP)
                        done["reloads"] += 1
                        next_reload += max(1.0, SECONDS / 30)
                    if time.monotonic() > next_kill and SECONDS > 60:
                        # A new process begins anew: in the quick form there is no time for that.
                        with contextlib.suppress(KeyError, ProcessLookupError):
                            os.kill(meter.children()[chance.choice(("relay", "recorder"))], 9)
                        done["kills"] += 1
                        next_kill += SECONDS / 10
                    time.sleep(chance.uniform(0.01, 0.1))
            seen = load.stop()
            # Requests that were retried are several at the upstream, and one call.
            whole = [each for each in seen if each.whole]
            rows = checkers.at_rest(meter, len(whole))
            outcomes = dict(Counter(row["outcome"] for row in rows))
            tally.tell(f"soak: {len(seen)} calls, {dict(done)}; booked {outcomes}; seed {seed}")
            for what, count in done.items():
                tally.add(f"soak {what}", count)
            checkers.closes_once(rows)
            checkers.booked_as_seen(seen, rows, arrived=0)
            checkers.outcomes_within(rows, checkers.OUTCOMES)
            checkers.sums_agree(meter.ledger)
            shown = Exposition.of(meter.console_url)
            checkers.ledger_is_metrics(rows, shown)
            checkers.nothing_under_way(shown)
            checkers.series_bounded(shown, SERIES_MAX)
            watch.held_to_be_flat()
            assert shown.total("taximeter_faults_total") == 0
