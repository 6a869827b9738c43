"""`taximeter simulate`: what limits would do, told before they are set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

SCENARIO = """
seconds: 60
settle_seconds: 5
users:
  paid: {count: 4, calls_per_second: 0.5, tier: paid}
  free: {count: 4, calls_per_second: 0.5, tier: free}
server: {capacity: 8, full: refuse}
prices: {input_usd_per_million: 1, output_usd_per_million: 4}
"""
CONFIGURATION = """
upstreams:
  openai:
    url: https://api.openai.com
    limits: {concurrency: 8}
    queue: {size: 20, wait_seconds_max: 10}
tiers:
  paid: {weight: 4}
  free: {budget: {usd: 0.01, per: day}}
"""


@pytest.fixture
def scenario(folder: Path) -> Path:
    """A scenario and a configuration, in files."""
    (folder / "limits.yaml").write_text(CONFIGURATION)
    path = folder / "scenario.yaml"
    path.write_text(SCENARIO)
    return path


def test_the_limits_of_a_configuration_are_tried_out(run: Run, scenario: Path) -> None:
    """Tiers, budgets and the queue of the configuration hold: the free are refused beyond theirs,
    and those who pay go on.
    """
    result = run("simulate", str(scenario), "-c", "limits.yaml", "-f", "json")
    assert (result.code, result.err) == (0, "")
    said = json.loads(result.out)
    free, paid = said["groups"]["free"], said["groups"]["paid"]
    assert free["refused"]["budget_exceeded"] > 0
    assert float(free["spent_usd"]) <= 4 * 0.01
    assert set(paid["refused"]) <= {"queue_full", "queue_timeout", "queue_deadline_unreachable"}
    assert paid["completed"] > free["completed"] > 0
    assert paid["wait_seconds_p50"] <= paid["wait_seconds_p95"] <= paid["wait_seconds_p99"] <= 10
    assert said["server"]["refusals"] == 0
    total = said["total"]
    for name in ("users", "calls", "completed", "failed", "tokens"):
        assert total[name] == free[name] + paid[name]


def test_a_run_can_be_had_again(run: Run, scenario: Path) -> None:
    """The same scenario gives the same figures, another seed others."""
    words = ("simulate", str(scenario), "-c", "limits.yaml", "-f", "json")
    first = run(*words).out
    assert run(*words).out == first
    other = run(*words, "--seed", "2").out
    assert json.loads(other)["seed"] == 2
    assert json.loads(other)["groups"] != json.loads(first)["groups"]


def test_the_table_says_what_one_sets_limits_by(run: Run, scenario: Path) -> None:
    """Waits, refusals by reason, amplification, fairness and spend are there to read."""
    out = run("simulate", str(scenario), "-c", "limits.yaml").out
    for word in ("paid", "free", "total", "p99", "spent", "budget_exceeded", "for each call"):
        assert word in out
    assert "fairness (Jain)" in out


def test_spend_without_prices_is_unknown(run: Run, scenario: Path) -> None:
    """Missing is not 0: without prices there is no figure for what was spent."""
    scenario.write_text(SCENARIO.replace("prices:", "#"))
    words = ("simulate", str(scenario), "-c", "limits.yaml")
    said = json.loads(run(*words, "-f", "json").out)
    assert said["total"]["spent_usd"] is None
    assert "unknown" in run(*words).out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("seconds: 60", "secnds: 60"), ("scenario.yaml:2: secnds: unknown key", "`seconds`")),
        (("count: 4", "cuont: 4"), ("users.paid.cuont: unknown key", "did you mean `count`?")),
        (("capacity: 8", "capacity: 0"), ("scenario.yaml:7: server.capacity: ",)),
        (("full: refuse", "full: drop"), ("server.full: must be 'queue' or 'refuse'",)),
        (("settle_seconds: 5", "settle_seconds: 60"), ("settle_seconds must be below seconds",)),
        (("calls_per_second: 0.5", "calls_per_second: 5000"), ("500,000 is the most",)),
        (
            ("calls_per_second: 0.5", "calls_per_second: 1.0e-320"),
            ("users.paid.calls_per_second: ", "greater than or equal to 0.000001"),
        ),
        (
            ("full: refuse", "first_byte_spread: 1000"),
            ("server.first_byte_spread: ", "less than or equal to 10"),
        ),
        (
            ("full: refuse", "tokens_per_second: 1.0e-320"),
            ("server.tokens_per_second: ", "greater than or equal to 0.000001"),
        ),
        (("count: 4", "count: true"), ("users.paid.count: must be a number, not true or false",)),
        (("tier: paid", "tier: gold"), ("users.paid.tier: there is no", "default, free, paid")),
        (("seconds: 60", "upstream: other"), ("upstream: the configuration has none", "openai")),
    ],
)
def test_a_scenario_that_cannot_be_is_refused(
    run: Run, scenario: Path, change: tuple[str, str], words: tuple[str, ...]
) -> None:
    """Exit code 2, the file and the key, and a hint; nothing on standard output."""
    assert change[0] in SCENARIO
    scenario.write_text(SCENARIO.replace(*change, 1))
    result = run("simulate", str(scenario), "-c", "limits.yaml")
    assert (result.code, result.out) == (2, "")
    assert "taximeter: the scenario cannot be used" in result.err
    for word in words:
        assert word in result.err


def test_the_tier_default_is_there_unconfigured(run: Run, scenario: Path) -> None:
    """A scenario may name it where a configuration may, also where others are in another tier."""
    Path("limits.yaml").write_text(f"{CONFIGURATION}default_tier: free\n")
    scenario.write_text(SCENARIO.replace("tier: paid", "tier: default"))
    result = run("simulate", str(scenario), "-c", "limits.yaml", "-f", "json")
    assert result.code == 0, result.err
    groups = json.loads(result.out)["groups"]
    assert groups["free"]["refused"]["budget_exceeded"] > 0
    assert "budget_exceeded" not in groups["paid"]["refused"]


def test_two_users_of_one_name_are_refused(run: Run, scenario: Path) -> None:
    """A group's second user and a user of that name would be one and the same."""
    both = "  paid-2: {calls_per_second: 1}\nserver:"
    scenario.write_text(SCENARIO.replace("server:", both))
    result = run("simulate", str(scenario))
    assert result.code == 2
    assert "the same name" in result.err


def test_a_file_that_is_not_there_is_said_so(run: Run, folder: Path) -> None:
    """No traceback for a wrong name."""
    result = run("simulate", "gone.yaml")
    assert result.code == 2
    assert "gone.yaml: cannot be read" in result.err
