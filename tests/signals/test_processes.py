"""/metrics while processes are killed, stopped and started again."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig import Script, checkers
from tests.rig.exposition import Exposition
from tests.rig.taximeter import Taximeter
from tests.rig.upstream import Upstream
from tests.signals._run import CHAT, call, wait_for
from tests.signals.conftest import taximeter


def scrape(meter: Taximeter) -> Exposition:
    """Give what /metrics says."""
    return Exposition.of(meter.console_url)


def agree(meter: Taximeter, rows: list[dict[str, Any]]) -> bool:
    """Tell whether /metrics is what the ledger's rows add up to."""
    try:
        checkers.ledger_is_metrics(rows, scrape(meter))
    except AssertionError:
        return False
    return True


@pytest.fixture
def meter(tmp_path: Path, upstream: Upstream) -> Iterator[Taximeter]:
    """A Taximeter of the test's own."""
    with taximeter(tmp_path, upstream) as started:
        yield started


def make_calls(meter: Taximeter, count: int) -> int:
    """Make calls; give how many were answered whole."""
    whole = 0
    for number in range(count):
        try:
            status = call(meter.port, f"user-{number % 3}", "openai", dict(CHAT)).status
        except OSError:
            continue  # the relay was killed under it
        whole += status == 200
    return whole


def test_counters_equal_the_ledger_whatever_is_killed(meter: Taximeter) -> None:
    """D2: after kills of recorder and relay, /metrics is what the ledger adds up to."""
    whole = 0
    for word in ("recorder", "relay", "recorder"):
        whole += make_calls(meter, 5)
        os.kill(meter.children()[word], signal.SIGKILL)
        whole += make_calls(meter, 5)
    wait_for(lambda: len(meter.rows()) >= whole)
    wait_for(lambda: agree(meter, meter.rows()))
    restarts = {
        labels["process"]: value
        for labels, value in scrape(meter).samples("taximeter_process_restarts_total")
    }
    assert restarts == {"recorder": 2, "relay-0": 1, "supervisor": 0}


def test_a_recorder_that_does_not_answer_is_no_gap_in_the_rest(meter: Taximeter) -> None:
    """A scrape goes without the recorder's part after its deadline: no error, and no noughts."""
    make_calls(meter, 2)
    meter.booked(2)
    wait_for(lambda: agree(meter, meter.rows()))
    recorder = meter.children()["recorder"]
    os.kill(recorder, signal.SIGSTOP)
    try:
        started = time.monotonic()
        samples = scrape(meter)
        took = time.monotonic() - started
        assert 2.5 < took < 6
        assert samples.total("taximeter_process_up", process="recorder") == 0
        assert samples.total("taximeter_process_up", process="relay-0") == 1
        assert samples.total("taximeter_client_connections") == 0
        assert samples.total("taximeter_calls_total") is None
        assert samples.total("taximeter_ledger_booked_total") is None
        make_calls(meter, 1)  # and no call has noticed
    finally:
        os.kill(recorder, signal.SIGCONT)
    wait_for(lambda: scrape(meter).total("taximeter_process_up", process="recorder") == 1)
    meter.booked(3)
    wait_for(lambda: agree(meter, meter.rows()))


def test_a_ledger_that_is_away_at_the_start_shows_no_noughts(
    tmp_path: Path, upstream: Upstream
) -> None:
    """Counters are not shown before the ledger has told how far they were."""
    in_its_place = tmp_path / "no"
    in_its_place.write_text("a file where the folder is to be")
    ledger = in_its_place / "such" / "folder" / "ledger.db"
    with taximeter(tmp_path, upstream, ledger=f"sqlite:///{ledger}") as meter:
        make_calls(meter, 1)
        samples = scrape(meter)
        assert samples.total("taximeter_calls_total") is None
        assert samples.total("taximeter_process_up", process="recorder") == 0
        in_its_place.unlink()
        wait_for(lambda: scrape(meter).total("taximeter_calls_total") == 1)


def test_a_relay_that_is_killed_is_shown_anew(meter: Taximeter) -> None:
    """A relay's own counts end with it, and begin again from nought under the same name."""
    make_calls(meter, 3)
    wait_for(lambda: scrape(meter).total("taximeter_relay_ended_calls_total") == 3)
    relay = meter.children()["relay"]
    os.kill(relay, signal.SIGKILL)
    wait_for(lambda: scrape(meter).total("taximeter_process_restarts_total") == 1)
    make_calls(meter, 1)
    wait_for(lambda: scrape(meter).total("taximeter_relay_ended_calls_total") == 1)
    meter.booked(4)
    wait_for(lambda: scrape(meter).total("taximeter_calls_total") == 4)


def test_what_an_upstream_says_of_its_limits_is_shown(meter: Taximeter) -> None:
    """The rate-limit fields of an answer reach the client as they came, and /metrics as figures."""
    fields = [
        ("x-ratelimit-limit-requests", "500"),
        ("x-ratelimit-remaining-requests", "499"),
        ("x-ratelimit-remaining-tokens", "149984"),
    ]
    call(meter.port, "ann", "openai", dict(CHAT), Script(headers=fields))
    limits = {"upstream": "openai", "model": "fake-large", "resource": "requests"}
    left = "taximeter_ratelimit_remaining"
    wait_for(lambda: scrape(meter).total(left, **limits) == 499)
    samples = scrape(meter)
    assert samples.total("taximeter_ratelimit_limit", **limits) == 500
    assert samples.total(left, upstream="openai", resource="tokens") == 149984
    assert samples.total("taximeter_ratelimit_limit", resource="tokens") is None


def test_calls_under_way_are_shown(meter: Taximeter) -> None:
    """A stream is in flight, and its connections in use, until its last byte; then neither is."""
    script = Script(tokens=60, delta_seconds=0.05)
    said = {**CHAT, "stream": True}
    thread = threading.Thread(
        target=call, args=(meter.port, "ann", "openai", said, script), daemon=True
    )
    thread.start()
    in_use = {"upstream": "openai", "state": "in_use"}
    wait_for(lambda: scrape(meter).total("taximeter_in_flight", upstream="openai") == 1)
    wait_for(lambda: scrape(meter).total("taximeter_pool_connections", **in_use) == 1)
    wait_for(lambda: scrape(meter).total("taximeter_client_connections") == 1)
    thread.join(10)
    wait_for(lambda: not scrape(meter).total("taximeter_in_flight"))
    wait_for(lambda: scrape(meter).total("taximeter_pool_connections", **in_use) == 0)
    wait_for(lambda: scrape(meter).total("taximeter_client_connections") == 0)
