"""D1, D2, D5: processes are killed at random moments under load, and the books are compared."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.durability._load import Load, Seen
from tests.rig.taximeter import Taximeter
from tests.rig.upstream import Upstream

KILLS = 12
PRICE = [
    {
        "provider": "openai",
        "model": "fake-*",
        "input_usd_per_million": 1,
        "output_usd_per_million": 2,
    }
]


def _children(meter: Taximeter) -> dict[str, int]:
    """Give the process ids of Taximeter's children by what they are."""
    assert meter.process is not None
    found: dict[str, int] = {}
    path = Path(f"/proc/{meter.process.pid}/task/{meter.process.pid}/children")
    for pid in map(int, path.read_text().split()):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        for kind in (b"relay", b"recorder"):
            if kind in words:
                found[kind.decode()] = pid
    return found


def _kill(meter: Taximeter, kind: str) -> None:
    if kind == "all":
        meter.kill()
        meter.start()
        return
    pid = _children(meter).get(kind)
    if pid is not None:  # it may be on its way up again since the kill before
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _settle(meter: Taximeter, calls_min: int) -> list[dict[str, object]]:
    """Wait until the ledger has come to rest."""
    deadline = time.monotonic() + 20
    before, rest_since = -1, time.monotonic()
    while time.monotonic() < deadline:
        rows = meter.rows()
        if len(rows) != before:
            before, rest_since = len(rows), time.monotonic()
        if len(rows) >= calls_min and time.monotonic() - rest_since > 1.5:
            return rows
        time.sleep(0.1)
    raise AssertionError(f"the ledger does not come to rest: {before} rows\n{meter.log_text()}")


@pytest.mark.timeout(240)
def test_every_answered_call_is_booked_once_whatever_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """D1, D2, D5: kill -9 of all processes, the relay or the recorder loses and doubles no call."""
    seed = int(os.environ.get("TAXIMETER_TEST_SEED", random.randrange(1 << 32)))
    chance = random.Random(seed)
    kinds = ["all"] * 10 + ["relay", "recorder"] * ((KILLS - 10) // 2 or 1)
    chance.shuffle(kinds)
    with Upstream() as upstream:
        upstreams = {"openai": {"url": upstream.url, "dialect": "openai"}}
        with Taximeter(tmp_path, upstreams, prices=PRICE) as meter:
            load = Load(meter.url, clients=16, pause_seconds=0.01, seed=seed)
            load.start()
            for kind in kinds:
                time.sleep(chance.uniform(0.2, 1.2))
                _kill(meter, kind)
            time.sleep(0.5)
            seen = load.stop()
            arrived = len(upstream.log)
            whole = [each for each in seen if each.whole]
            rows = _settle(meter, len(whole))
            outcomes = Counter(str(row["outcome"]) for row in rows)
            with capsys.disabled():
                print(
                    f"\n  seed {seed}: {len(kinds)} kills ({kinds.count('all')} of all), "
                    f"{len(seen)} calls, {len(whole)} answered, {arrived} reached the upstream; "
                    f"booked {dict(outcomes)}"
                )
            _compare(seen, rows, arrived)
            _sums_agree(meter.ledger)


def _compare(seen: list[Seen], rows: list[dict[str, object]], arrived: int) -> None:
    """Compare, as sets, what clients saw, what the upstream saw and what is booked."""
    by_id = {row["id"]: row for row in rows}
    assert len(by_id) == len(rows), "a call is booked twice"
    numbers = Counter(str(row["tags"]["n"]) for row in rows)  # type: ignore[index]
    assert max(numbers.values()) == 1, "a request is booked twice"
    invented = set(numbers) - {str(each.number) for each in seen}
    assert not invented, f"calls nobody made are booked: {invented}"
    for each in seen:
        if not each.whole:
            continue
        row = by_id.get(each.call_id)
        assert row is not None, f"call {each} was answered and is not booked"
        assert row["outcome"] == "completed", f"{each}: {row['outcome']}"
        assert row["cost_pico"] is not None
    # A call whose bytes reached the upstream is booked; one that was about to be sent may be.
    assert len(rows) >= arrived
    allowed = {"completed", "interrupted", "cancelled", "abandoned", "upstream_error"}
    assert {row["outcome"] for row in rows} <= allowed


def _sums_agree(ledger: Path) -> None:
    """The hourly sums equal the sums of the rows, kills or not."""
    with contextlib.closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as base:
        rows = base.execute(
            "SELECT count(*), coalesce(sum(output_tokens), 0) FROM calls"
        ).fetchone()
        sums = base.execute("SELECT sum(calls), sum(output_tokens) FROM hourly").fetchone()
    assert rows == sums
