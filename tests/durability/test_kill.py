"""D1, D2, D5: processes are killed at random moments under load, and the books are compared."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.durability._load import PRICES, Load
from tests.rig import checkers
from tests.rig.exposition import Exposition
from tests.rig.length import share
from tests.rig.tally import Tally
from tests.rig.taximeter import Taximeter
from tests.rig.upstream import Upstream

ROUND = ("all",) * 10 + ("relay", "recorder")
"""What is killed, at random moments, at the least. At every named one: see `test_points`."""
SECONDS = share(0.0, 0.2)


def _kill(meter: Taximeter, kind: str) -> None:
    if kind == "all":
        meter.kill()
        meter.start()
        return
    pid = meter.children().get(kind)
    if pid is not None:  # it may be on its way up again since the kill before
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.timeout(240)
def test_every_answered_call_is_booked_once_whatever_is_killed(
    tmp_path: Path, seed: int, tally: Tally
) -> None:
    """D1, D2, D5: kill -9 of all processes, the relay or the recorder loses and doubles no call."""
    chance = random.Random(seed)
    kinds: list[str] = []
    round_ = list(ROUND)
    chance.shuffle(round_)
    with Upstream() as upstream:
        upstreams = {"openai": {"url": upstream.url, "dialect": "openai"}}
        with Taximeter(tmp_path, upstreams, prices=PRICES) as meter:
            load = Load(meter.url, clients=16, pause_seconds=0.01, seed=seed)
            load.start()
            ends_at = time.monotonic() + SECONDS
            for kind in itertools.cycle(round_):
                time.sleep(chance.uniform(0.2, 1.2))
                _kill(meter, kind)
                kinds.append(kind)
                if len(kinds) >= len(round_) and time.monotonic() > ends_at:
                    break
            time.sleep(0.5)
            seen = load.stop()
            arrived = len(upstream.log) + upstream.counts.dropped
            whole = [each for each in seen if each.whole]
            rows = checkers.at_rest(meter, len(whole), ids=[one.call_id for one in whole])
            tally.add("kills", len(kinds))
            tally.tell(
                f"killed: {len(kinds)} times ({kinds.count('all')} all processes), "
                f"{len(seen)} calls, {len(whole)} answered, {arrived} reached the upstream; "
                f"booked {dict(Counter(row['outcome'] for row in rows))}; seed {seed}"
            )
            checkers.closes_once(rows)
            checkers.booked_as_seen(seen, rows, arrived=arrived)
            checkers.outcomes_within(rows)
            checkers.sums_agree(meter.ledger)
            shown = Exposition.of(meter.console_url)
            checkers.ledger_is_metrics(rows, shown)
            checkers.nothing_under_way(shown)
