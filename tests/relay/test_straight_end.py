"""The end of a call that went in the straight way lets those go who wait for what it gives back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from taximeter.admission import Go, Limits, Policy, Refuse, Request, Upstream, Wait
from taximeter.relay._admission import AdmissionDriver


class Caller:
    """A call that waits, and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Go | Refuse] = []

    def admitted(self, go: Go) -> None:
        """It may go."""
        self.told.append(go)

    def not_admitted(self, refused: Refuse) -> None:
        """It may not."""
        self.told.append(refused)


@pytest.mark.parametrize("others", [0, 1, 3])
async def test_o7_the_end_of_a_straight_call_is_the_next_one_s_turn(others: int) -> None:
    """O7: of those who wait for its place one goes, and the place is free where nobody waits."""
    loop = asyncio.get_running_loop()

    def call_later(seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return loop.call_later(seconds, call)

    driver = AdmissionDriver(
        Policy(upstreams={"up": Upstream(limits=Limits(concurrency=1))}), call_later
    )
    admission, request = driver.admission, Request(upstream="up", input_tokens=1)
    first = driver.arrive(Caller(), request)
    assert isinstance(first, Go)
    driver.end_well(first.ticket, 1, 0, time.monotonic_ns())
    plan = admission.plan("up", "", "", "", "", "", False, "")
    ticket = admission.straight.enter(plan, 1, None, time.monotonic_ns())
    assert ticket is not None
    callers = [Caller() for _ in range(others)]
    assert all(isinstance(driver.arrive(caller, request), Wait) for caller in callers)
    if not driver.straight.leave(ticket, 1, 0, time.monotonic_ns(), time.monotonic_ns()):
        driver.end_well(ticket, 1, 0, time.monotonic_ns())
    went = [go for caller in callers for go in caller.told]
    assert len(went) == driver.admission.counters.admitted - 2 == min(1, others)
    assert all(isinstance(go, Go) for go in went)
    assert admission.counters.settled == 2
    (breaker,) = admission.breakers().values()
    assert breaker._calls == 2  # good answers, both
    assert driver.waiting == max(0, others - 1)
    driver.close()
