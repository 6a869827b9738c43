"""/metrics while processes are killed, stopped and started again."""

from __future__ import annotations

import os
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.rig import Script
from tests.rig.taximeter import Taximeter
from tests.rig.upstream import Upstream
from tests.signals._run import CHAT, call, wait_for
from tests.signals.conftest import taximeter

Samples = dict[str, list[tuple[dict[str, str], float]]]


def process_of(meter: Taximeter, word: str) -> int:
    """Give the process id of a child by a word of its command line."""
    assert meter.process is not None
    children = Path(f"/proc/{meter.process.pid}/task/{meter.process.pid}/children").read_text()
    for child in children.split():
        words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        if word.encode() in words:
            return int(child)
    raise AssertionError(f"there is no {word}")


def scrape(meter: Taximeter) -> Samples:
    """Give all samples by name."""
    with urllib.request.urlopen(f"{meter.console_url}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    found: Samples = {}
    for family in families:
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def total(samples: Samples, name: str, **labels: str) -> float | None:
    """Sum the samples of a name that have these labels; None if there are none."""
    values = [value for own, value in samples.get(name, []) if labels.items() <= own.items()]
    return sum(values) if values else None


def agree(meter: Taximeter, rows: list[dict[str, Any]]) -> bool:
    """Tell whether /metrics is what the ledger's rows add up to."""
    samples = scrape(meter)
    cost = total(samples, "taximeter_cost_usd_total")
    whole = sum(row["cost_pico"] or 0 for row in rows) / 1e12
    return (
        total(samples, "taximeter_calls_total") == len(rows)
        and total(samples, "taximeter_tokens_total", type="input")
        == sum(row["input_tokens"] or 0 for row in rows)
        and total(samples, "taximeter_tokens_total", type="output")
        == sum(row["output_tokens"] or 0 for row in rows)
        and cost is not None
        and abs(cost - whole) < 1e-12
    )


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
        os.kill(process_of(meter, word), signal.SIGKILL)
        whole += make_calls(meter, 5)
    wait_for(lambda: len(meter.rows()) >= whole)
    wait_for(lambda: agree(meter, meter.rows()))
    restarts = {
        labels["process"]: value
        for labels, value in scrape(meter)["taximeter_process_restarts_total"]
    }
    assert restarts == {"recorder": 2, "relay-0": 1, "supervisor": 0}


def test_a_recorder_that_does_not_answer_is_no_gap_in_the_rest(meter: Taximeter) -> None:
    """A scrape goes without the recorder's part after its deadline: no error, and no noughts."""
    make_calls(meter, 2)
    meter.booked(2)
    wait_for(lambda: agree(meter, meter.rows()))
    recorder = process_of(meter, "recorder")
    os.kill(recorder, signal.SIGSTOP)
    try:
        started = time.monotonic()
        samples = scrape(meter)
        took = time.monotonic() - started
        assert 2.5 < took < 6
        assert total(samples, "taximeter_process_up", process="recorder") == 0
        assert total(samples, "taximeter_process_up", process="relay-0") == 1
        assert total(samples, "taximeter_client_connections") == 0
        assert total(samples, "taximeter_calls_total") is None
        assert total(samples, "taximeter_ledger_booked_total") is None
        make_calls(meter, 1)  # and no call has noticed
    finally:
        os.kill(recorder, signal.SIGCONT)
    wait_for(lambda: total(scrape(meter), "taximeter_process_up", process="recorder") == 1)
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
        assert total(samples, "taximeter_calls_total") is None
        assert total(samples, "taximeter_process_up", process="recorder") == 0
        in_its_place.unlink()
        wait_for(lambda: total(scrape(meter), "taximeter_calls_total") == 1)


def test_a_relay_that_is_killed_is_shown_anew(meter: Taximeter) -> None:
    """A relay's own counts end with it, and begin again from nought under the same name."""
    make_calls(meter, 3)
    wait_for(lambda: total(scrape(meter), "taximeter_relay_ended_calls_total") == 3)
    relay = process_of(meter, "relay")
    os.kill(relay, signal.SIGKILL)
    wait_for(lambda: total(scrape(meter), "taximeter_process_restarts_total") == 1)
    make_calls(meter, 1)
    wait_for(lambda: total(scrape(meter), "taximeter_relay_ended_calls_total") == 1)
    meter.booked(4)
    wait_for(lambda: total(scrape(meter), "taximeter_calls_total") == 4)


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
    wait_for(lambda: total(scrape(meter), left, **limits) == 499)
    samples = scrape(meter)
    assert total(samples, "taximeter_ratelimit_limit", **limits) == 500
    assert total(samples, left, upstream="openai", resource="tokens") == 149984
    assert total(samples, "taximeter_ratelimit_limit", resource="tokens") is None


def test_calls_under_way_are_shown(meter: Taximeter) -> None:
    """A stream is in flight, and its connections in use, until its last byte; then neither is."""
    script = Script(tokens=60, delta_seconds=0.05)
    said = {**CHAT, "stream": True}
    thread = threading.Thread(
        target=call, args=(meter.port, "ann", "openai", said, script), daemon=True
    )
    thread.start()
    in_use = {"upstream": "openai", "state": "in_use"}
    wait_for(lambda: total(scrape(meter), "taximeter_in_flight", upstream="openai") == 1)
    wait_for(lambda: total(scrape(meter), "taximeter_pool_connections", **in_use) == 1)
    wait_for(lambda: total(scrape(meter), "taximeter_client_connections") == 1)
    thread.join(10)
    wait_for(lambda: not total(scrape(meter), "taximeter_in_flight"))
    wait_for(lambda: total(scrape(meter), "taximeter_pool_connections", **in_use) == 0)
    wait_for(lambda: total(scrape(meter), "taximeter_client_connections") == 0)
