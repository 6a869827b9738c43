"""What admission made of calls, as counted when they are booked."""

from __future__ import annotations

import pytest

from taximeter.admission import Reason
from taximeter.call import Outcome, Stage
from taximeter.ledger import Entry
from taximeter.metrics import Meter
from taximeter.metrics._words import ADMISSION_REFUSALS, OUR_ERRORS, ROOMLESS, THROTTLES
from tests.metrics.make import MILLISECOND, STAGES, book, entry, settings, value, values
from tests.recorder.make import attempt


@pytest.fixture
def meter() -> Meter:
    """Make a meter that has heard of nothing."""
    return Meter(settings())


def refused(number: int, code: str, **more: str | None) -> Entry:
    """Make a call that we refused."""
    return entry(
        number,
        outcome=Outcome.REJECTED,
        status=429,
        error=code,
        attempts=[],
        usage=None,
        cost_pico=None,
        **more,  # type: ignore[arg-type]
    )


def test_calls_are_told_apart_by_what_admission_decided(meter: Meter) -> None:
    """Let go at once, let go after a wait, refused; what was refused for its form is none of it."""
    waited = {**STAGES, Stage.QUEUE: 3 * MILLISECOND}
    book(
        meter,
        entry(1),
        entry(2, stages=waited),
        entry(3, stages=waited),
        refused(4, "queue_full"),
        refused(5, "bad_target"),
    )
    assert values(meter, "taximeter_admissions_total", upstream="openai") == {
        ("at_once",): 1, ("queued",): 2, ("refused",): 1,
    }  # fmt: skip


@pytest.mark.parametrize("reason", sorted(ADMISSION_REFUSALS))
def test_a_refusal_is_counted_by_its_reason(reason: str, meter: Meter) -> None:
    """The code in the client's error is the reason in the series."""
    book(meter, refused(1, reason), refused(2, reason), entry(3))
    assert value(meter, "taximeter_rejected_total", upstream="openai", reason=reason) == 2
    assert value(meter, "taximeter_admissions_total", upstream="openai", decision="refused") == 2


def test_a_code_that_is_not_ours_is_no_reason(meter: Meter) -> None:
    """H8: no word that somebody makes up becomes a label."""
    book(meter, refused(1, "made-up"))
    assert value(meter, "taximeter_rejected_total", upstream="openai", reason="other") == 1


def test_what_pages_begins_at_zero(meter: Meter) -> None:
    """The first call refused for want of room is a step from 0, which a rate can see."""
    for reason in ROOMLESS:
        assert value(meter, "taximeter_rejected_total", upstream="openai", reason=reason) == 0


def test_a_team_that_is_refused_is_named(meter: Meter) -> None:
    """Its limits and budgets count for the team; a full queue is nobody's own."""
    book(
        meter,
        refused(1, "limit_exceeded"),
        refused(2, "budget_exceeded"),
        refused(3, "budget_exceeded"),
        refused(4, "queue_full"),
        refused(5, "limit_exceeded", team=None),
    )
    assert values(meter, "taximeter_throttled_total") == {
        ("limit_exceeded", "blue"): 1, ("budget_exceeded", "blue"): 2, ("limit_exceeded", ""): 1,
    }  # fmt: skip


def test_teams_beyond_their_places_are_refused_as_others() -> None:
    """H8: a stranger's team gets no series of its own by being refused."""
    meter = Meter(settings(metrics={"teams_max": 2}))
    book(meter, *(refused(number, "limit_exceeded", team=f"t{number}") for number in range(50)))
    teams = {team for _, team in values(meter, "taximeter_throttled_total")}
    assert len(teams) <= 3
    assert "other" in teams


def test_a_fallback_is_told_by_where_from_where_to_and_what_came_of_it(meter: Meter) -> None:
    """The call is the other upstream's; whom it was for is not forgotten, and no retry is told."""
    tries = [attempt(upstream="first", status=503), attempt(number=2)]
    book(
        meter,
        entry(1, begun={"meant_for": "first"}, attempts=tries),
        entry(2, begun={"meant_for": "first"}, outcome=Outcome.UPSTREAM_ERROR, status=502),
        entry(3),
    )
    assert values(meter, "taximeter_fallbacks_total") == {
        ("first", "answered", "openai"): 1, ("first", "failed", "openai"): 1,
    }  # fmt: skip
    assert values(meter, "taximeter_retries_total") == {}


def test_the_words_are_those_of_admission() -> None:
    """Every reason that admission refuses for is known here, and has somebody whose doing it is."""
    by_form = {"input_tokens_unknown", "output_tokens_unlimited"}
    assert {str(reason) for reason in Reason} == ADMISSION_REFUSALS - by_form
    assert OUR_ERRORS.keys() >= ADMISSION_REFUSALS >= THROTTLES
    assert frozenset(ROOMLESS) <= ADMISSION_REFUSALS
