"""What a running Taximeter tells of its admission and of its configuration."""

from __future__ import annotations

import json
import os
import signal
import threading
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.alerts._stack import wait
from tests.rig import Script
from tests.rig.caller import chat
from tests.rig.taximeter import PLAIN, Taximeter
from tests.rig.upstream import Upstream

pytestmark = pytest.mark.timeout(60)

SECONDS_MAX = 15


def read(meter: Taximeter) -> dict[tuple[str, frozenset[str]], float]:
    """Give every value of `/metrics` by its name and its labels' values."""
    with urllib.request.urlopen(f"{meter.console_url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def comes_to(meter: Taximeter, value: float, name: str, *labels: str) -> bool:
    """Wait until a series has a value."""
    return wait(lambda: read(meter).get((name, frozenset(labels))) == value, SECONDS_MAX)


def call(port: int, user: str, script: Script) -> int:
    """Make one call; give its status."""
    return chat(port, script, user=user, model="m", max_tokens=10)


@pytest.fixture(scope="module")
def meter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Taximeter]:
    """A Taximeter with one slot, a queue of three and a small budget of tokens."""
    with Upstream() as upstream:
        settings = {
            **PLAIN,
            "url": upstream.url,
            "dialect": "openai",
            "limits": {"concurrency": 1},
            "queue": {"size": 3},
        }
        made = Taximeter(
            tmp_path_factory.mktemp("admission"),
            {"openai": settings},
            tiers={"poor": {"budget": {"tokens": 100, "per": "month"}}},
            users={"poor": {"tier": "poor"}},
        )
        with made:
            yield made


def test_a_queue_that_fills_is_seen_filling_and_empty_again(meter: Taximeter) -> None:
    """One goes, two wait; then nothing is left but what was counted."""
    slow = Script(tokens=2, first_byte_seconds=2.5)
    threads = [
        threading.Thread(target=call, args=(meter.port, f"user{number}", slow))
        for number in (1, 2, 3)
    ]
    for thread in threads:
        thread.start()
    place = ("relay-0", "openai")
    assert comes_to(meter, 2, "taximeter_queue_depth", *place)
    seen = read(meter)
    assert seen["taximeter_queue_limit", frozenset(place)] == 3
    assert seen["taximeter_slots_in_use", frozenset(place)] == 1
    assert seen["taximeter_in_flight_limit", frozenset(place)] == 1
    assert seen["taximeter_queue_oldest_seconds", frozenset(place)] > 0
    assert seen["taximeter_in_flight_oldest_seconds", frozenset(place)] > 0
    assert seen["taximeter_tier_in_flight", frozenset(("relay-0", "default"))] == 1
    for thread in threads:
        thread.join()
    assert comes_to(meter, 0, "taximeter_queue_depth", *place)
    assert comes_to(meter, 0, "taximeter_slots_in_use", *place)
    assert comes_to(meter, 1, "taximeter_admissions_total", "openai", "at_once")
    assert comes_to(meter, 2, "taximeter_admissions_total", "openai", "queued")


def test_a_budget_is_seen_as_it_is_used_and_refuses(meter: Taximeter) -> None:
    """What was spent, what it may be, what was refused; the user is named, and no key is."""
    statuses = [call(meter.port, "poor", Script(tokens=4)) for _ in range(12)]
    assert statuses[0] == 200
    assert statuses[-1] == 402
    place = ("relay-0", "user", "poor", "month")
    counted = (*place, "tokens")
    assert comes_to(meter, statuses.count(402), "taximeter_budget_refusals_total", *counted)
    seen = read(meter)
    assert seen["taximeter_budget_limit_tokens", frozenset(place)] == 100
    assert 0 < seen["taximeter_budget_spent_tokens", frozenset(place)] <= 100
    assert seen["taximeter_budget_reserved_tokens", frozenset(place)] == 0
    assert 0 < seen["taximeter_budget_seconds_remaining", frozenset(counted)] <= 31 * 86400
    refused = ("openai", "budget_exceeded")
    assert comes_to(meter, statuses.count(402), "taximeter_rejected_total", *refused)


def test_a_configuration_that_is_refused_is_seen_until_one_is_taken(meter: Taximeter) -> None:
    """SIGHUP with a bad file is a 0, and the age is that of the one that holds."""
    good, taken = "taximeter_config_last_reload_successful", "taximeter_config_last_reload_success_"
    name = f"{taken}timestamp_seconds"
    before = read(meter)
    assert before[good, frozenset()] == 1
    text = meter.configuration.read_text()
    assert meter.process is not None
    meter.configuration.write_text(json.dumps({**json.loads(text), "no_such_key": 1}))
    os.kill(meter.process.pid, signal.SIGHUP)
    assert comes_to(meter, 0, good)
    assert read(meter)[name, frozenset()] == before[name, frozenset()]
    meter.configuration.write_text(text)
    os.kill(meter.process.pid, signal.SIGHUP)
    assert comes_to(meter, 1, good)
    assert read(meter)[name, frozenset()] > before[name, frozenset()]
