"""D8: the ledger's database is gone for a while under load."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from taximeter.ledger import CallFilter, Ledger
from tests.durability._load import Load
from tests.rig.length import share
from tests.rig.tally import Tally
from tests.rig.taximeter import Taximeter
from tests.rig.upstream import Upstream
from tests.rig.vitals import vitals
from tests.support.postgres import PostgresServer

OUTAGE_SECONDS = min(600.0, share(30.0, 0.15))
GROWTH_BYTES_MAX = 10 * 1024 * 1024


@pytest.mark.timeout(180)
def test_calls_go_on_while_postgresql_is_down_and_are_all_booked_after(
    tmp_path: Path, tally: Tally
) -> None:
    """D8: with PostgreSQL stopped for long no call fails, memory stays flat, and no row is lost."""
    with PostgresServer() as postgres, Upstream() as upstream:
        url = postgres.make_database()
        upstreams = {"openai": {"url": upstream.url, "dialect": "openai"}}
        meter = Taximeter(tmp_path, upstreams, ledger=url)
        with meter:
            load = Load(meter.url, clients=8, pause_seconds=0.05, seed=1)
            load.start()
            time.sleep(3)
            before = len(load.seen)
            postgres.stop(kill=True)
            time.sleep(2)
            resident = vitals(meter.children()["recorder"]).resident_bytes
            time.sleep(OUTAGE_SECONDS - 2)
            growth = vitals(meter.children()["recorder"]).resident_bytes - resident
            during = load.seen[before:]
            postgres.start()
            time.sleep(2)
            seen = load.stop()
            whole = [each for each in seen if each.whole]
            ledger = Ledger.open(url)
            deadline = time.monotonic() + 30
            booked: set[str] = set()
            while len(booked) < len(seen) and time.monotonic() < deadline:
                time.sleep(0.2)
                found = ledger.calls(CallFilter(limit=len(seen) + 1))
                booked = {call.to_json()["id"] for call in found}
            ledger.close()
            slowest = max(each.seconds for each in during)
            tally.tell(
                f"outage: PostgreSQL was down for {OUTAGE_SECONDS:.0f} s; {len(seen)} calls, "
                f"{len(during)} of them meanwhile (slowest {slowest:.2f} s), {len(booked)} booked, "
                f"recorder grew by {growth / 1024:.0f} KiB"
            )
            assert len(during) > 100
            assert [each for each in seen if each.error or each.status != 200] == []
            assert len(whole) == len(seen)
            assert {each.call_id for each in seen} == booked
            assert growth < GROWTH_BYTES_MAX
