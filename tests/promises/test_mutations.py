"""The mistakes that would hurt most are caught, each by the test that is to catch it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.promises._registry import PROMISES, ROOT, docstrings, named_in
from tests.rig.mutations import MUTATIONS, Mutation
from tests.rig.tally import Tally

NAMES = [mutation.name for mutation in MUTATIONS]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    """What came of every mutation: half of them at a time, for machines have two cores."""
    halves = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.rig.mutate", *names],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for names in (NAMES[::2], NAMES[1::2])
    ]  # fmt: skip
    found: dict[str, dict[str, Any]] = {}
    for half in halves:
        try:
            said, complained = half.communicate(timeout=170)
        finally:
            half.kill()
            half.wait()
        assert half.returncode == 0, complained
        found |= {each["name"]: each for each in map(json.loads, said.splitlines())}
    return found


@pytest.mark.timeout(180)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=NAMES)
def test_a_planted_fault_is_caught(
    mutation: Mutation, outcomes: dict[str, dict[str, Any]], tally: Tally
) -> None:
    """With the fault in the source its test fails; without it, it passes as everywhere here."""
    found = outcomes[mutation.name]
    assert found["code"] == 1, found["said"]
    assert " failed" in found["said"]
    tally.add("planted faults caught")


@pytest.mark.parametrize("mutation", MUTATIONS, ids=NAMES)
def test_a_planted_fault_breaks_a_promise(mutation: Mutation) -> None:
    """What is planted is against a promise, and the test that catches it names that promise."""
    assert mutation.promise in PROMISES
    assert mutation.promise in named_in(docstrings()[mutation.caught_by.partition("[")[0]])
