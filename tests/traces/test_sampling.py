"""Which calls are traced: a table, and that shares come out as asked for."""

from __future__ import annotations

from typing import Any

import pytest

from taximeter.call import CallIds, Outcome, Stage
from taximeter.settings import Otlp
from taximeter.trace_ids import is_taken, threshold_of, trace_id_of
from taximeter.traces._sampling import Sampler
from tests.traces.make import PARENT, TRACE, S, streamed

SAMPLED = {"trace_id": TRACE, "parent_span_id": PARENT, "trace_flags": 1}
UNSAMPLED = {**SAMPLED, "trace_flags": 0}
FAILED = {"outcome": Outcome.TRUNCATED}
QUIET = {"sample_ratio": 0, "sample_errors": False}


@pytest.mark.parametrize(
    ("otlp", "call", "taken"),
    [
        ({}, {}, True),
        ({"sample_ratio": 0}, {}, False),
        ({}, {"begun": {"trace_id": TRACE}}, True),
        ({"sample_ratio": 0}, {"begun": SAMPLED}, True),
        ({"sample_ratio": 1}, {"begun": UNSAMPLED}, False),
        ({"sample_ratio": 0}, FAILED, True),
        ({"sample_ratio": 0}, {"begun": UNSAMPLED, **FAILED}, True),
        (QUIET, FAILED, False),
        ({"sample_ratio": 1, "sample_errors": False}, {"begun": UNSAMPLED, **FAILED}, False),
        ({**QUIET, "sample_slow_seconds": 2}, {"stages": {Stage.STREAM: 2 * S}}, True),
        ({**QUIET, "sample_slow_seconds": 2}, {"stages": {Stage.STREAM: 2 * S - 1}}, False),
        ({**QUIET, "sample_cost_usd": "0.01"}, {"cost_pico": 10_000_000_000}, True),
        ({**QUIET, "sample_cost_usd": "0.01"}, {"cost_pico": 9_999_999_999}, False),
        ({**QUIET, "sample_cost_usd": "0"}, {"cost_pico": None}, False),
        ({**QUIET, "sample_cost_usd": "0"}, {"cost_pico": 0, "begun": UNSAMPLED}, True),
    ],
)
def test_who_is_traced(otlp: dict[str, Any], call: dict[str, Any], taken: bool) -> None:
    """Our own reasons come first, then the client's word, then the share."""
    assert Sampler(Otlp.model_validate(otlp)).takes(streamed(**call)) is taken


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_a_share_of_calls_is_that_share(ratio: float) -> None:
    """Though a call's id begins its last 64 bits with two fixed ones, any share can be had."""
    ids = CallIds()
    threshold = threshold_of(ratio)
    count = 4000
    taken = sum(is_taken(trace_id_of(ids.make()), threshold) for _ in range(count))
    assert abs(taken / count - ratio) < 0.05


def test_a_smaller_share_is_part_of_a_greater_one() -> None:
    """Who samples less takes no trace that who samples more leaves away."""
    ids = CallIds()
    for _ in range(1000):
        trace_id = trace_id_of(ids.make())
        taken = [is_taken(trace_id, threshold_of(ratio / 10)) for ratio in range(11)]
        assert taken == sorted(taken)


@pytest.mark.parametrize(
    ("random_hex", "ratio", "taken"),
    [
        ("00000000000000", 1.0, True),
        ("00000000000000", 0.999, False),
        ("7fffffffffffff", 0.5, False),
        ("80000000000000", 0.5, True),
        ("ffffffffffffff", 0.0001, True),
        ("ffffffffffffff", 0.0, False),
    ],
)
def test_the_rule_is_opentelemetrys(random_hex: str, ratio: float, taken: bool) -> None:
    """The last 56 bits are held against (1 - ratio) * 2^56, as probability sampling has it."""
    assert is_taken("f" * 18 + random_hex, threshold_of(ratio)) is taken
