"""What tiers and budgets let a call ask for. O5 where all parts meet."""

from __future__ import annotations

import pytest

from taximeter.admission import (
    Budget,
    Go,
    Reason,
    Spent,
    Tier,
)
from tests.admission.rig import Rig, slots


def test_input_beyond_the_tiers_is_refused() -> None:
    """400, and no sense in trying again."""
    rig = Rig(tiers={"default": Tier(input_tokens_max=100)})
    rig.go(input_tokens=100)
    refused = rig.refuse(input_tokens=101)
    assert (refused.reason, refused.status) == (Reason.INPUT_TOO_LONG, 400)
    assert not refused.should_retry


@pytest.mark.parametrize(
    ("asked", "sent"), [(None, 1000), (5000, 1000), (1000, None), (10, None), (0, None)]
)
def test_output_beyond_the_tiers_is_clamped(asked: int | None, sent: int | None) -> None:
    """A cap too high is lowered, a missing one added, one within bounds left alone."""
    rig = Rig(tiers={"default": Tier(output_tokens_max=1000)})
    verdict = rig.arrive(output_tokens_max=asked)
    assert isinstance(verdict, Go)
    assert verdict.output_tokens_max == sent


def test_output_beyond_the_tiers_is_refused_where_set() -> None:
    """A cap too high is an error; a missing one is still added."""
    rig = Rig(tiers={"default": Tier(output_tokens_max=1000, output_over="refuse")})
    assert rig.refuse(output_tokens_max=1001).reason is Reason.OUTPUT_TOO_LONG
    verdict = rig.arrive(output_tokens_max=None)
    assert isinstance(verdict, Go)
    assert verdict.output_tokens_max == 1000


def test_o5_a_hard_budget_refuses_what_may_pass_it() -> None:
    """O5: worst case reserved, true cost booked, 402 that says not to retry."""
    rig = Rig(tiers={"default": Tier(budgets=(Budget(pico=50),))})
    first, _ = rig.go(), rig.go()
    refused = rig.refuse()
    assert (refused.reason, refused.status) == (Reason.BUDGET_EXCEEDED, 402)
    assert refused.by == "user.usd_per_day"
    assert not refused.should_retry
    rig.settle(first, Spent(tokens=12, output_tokens=2, pico=5))
    rig.go()
    rig.go("other")


def test_o5_budgets_stand_over_user_team_key_and_tier() -> None:
    """O5: whichever has too little refuses, and nothing is reserved of the others."""
    rig = Rig(
        tiers={"default": Tier(budgets_shared=(Budget(tokens=100),))},
        teams={"team": (Budget(pico=30),)},
        keys={"key": (Budget(pico=30, per="hour"),)},
    )
    ticket = rig.go(team="team", key="key")
    assert rig.refuse("x", team="team").by == "team.usd_per_day"
    assert rig.refuse("x", key="key").by == "key.usd_per_hour"
    assert rig.refuse("x", input_tokens=90).by == "tier.tokens_per_day"
    rig.settle(ticket)
    assert all(each.reserved == 0 for each in rig.store.book.snapshot())


def test_a_soft_budget_and_a_missing_price_are_told() -> None:
    """Let go, and marked."""
    rig = Rig(tiers={"default": Tier(budgets=(Budget(pico=5, hard=False),))})
    verdict = rig.arrive()
    assert isinstance(verdict, Go)
    assert verdict.over_budget == ("user.usd_per_day",)
    assert not verdict.unpriced
    verdict = rig.arrive(input_pico=None)
    assert isinstance(verdict, Go)
    assert verdict.unpriced


def test_a_call_that_waits_has_reserved_its_budget_and_returns_it() -> None:
    """A queue cannot hide a thousand calls from a budget; who leaves pays nothing."""
    rig = Rig(slots(1), tiers={"default": Tier(budgets=(Budget(pico=40),))})
    rig.go()
    waiting = rig.wait()
    assert rig.refuse().reason is Reason.BUDGET_EXCEEDED
    rig.admission.leave(waiting, rig.now_ns)
    rig.wait()


def test_what_is_not_known_is_booked_as_reserved() -> None:
    """No usage is not no cost; nothing sent is."""
    rig = Rig(tiers={"default": Tier(budgets=(Budget(pico=1000),))})
    rig.settle(rig.go(), Spent())
    assert [each.spent for each in rig.store.book.snapshot()] == [20]
    rig.settle(rig.go(), Spent(sent=False))
    assert [each.spent for each in rig.store.book.snapshot()] == [20]
