"""What a call and a delta cost the relay, in calls of functions: the same number on every run."""

from __future__ import annotations

from pathlib import Path

from bench._inside import Inside, counted

CALLS_A_CALL_MAX = 182
CALLS_A_DELTA_MAX = 5
"""A tenth above what they were when this was written. More is a decision, not an accident: see
bench/README.md for what each costs."""


async def test_a_call_and_a_delta_take_no_more_steps_than_before(tmp_path: Path) -> None:
    """The relay costs about as much as nginx: what is on its path stays short."""
    inside = Inside(tmp_path)
    inside.call()
    inside.call()
    assert counted(inside.call)[1] <= CALLS_A_CALL_MAX
    inside.begin()
    inside.delta()
    assert counted(inside.delta)[1] <= CALLS_A_DELTA_MAX
    inside.end()
    assert not inside.worker.exchanges
    assert inside.worker.faults == 0
    await inside.worker.books.close()
