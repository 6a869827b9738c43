"""H8: who has series of his own, what his name looks like, and how much there can be of it."""

from __future__ import annotations

import random
import re
from collections.abc import Sized
from typing import Any

import pytest

from taximeter.call import Outcome
from taximeter.metrics import FAMILIES, Family, Meter
from taximeter.metrics import _booked as families
from taximeter.metrics._names import (
    AGE_CALLS,
    EVIDENCE_CALLS,
    NAME_CHARACTERS_MAX,
    OTHER,
    Arrivals,
    Names,
    shown,
)
from taximeter.metrics._tally import BUDGET_STAGES
from taximeter.pricing import catalogue_models
from tests.metrics.make import book, entry, samples, settings, total, value, values
from tests.recorder.make import attempt

FAILED: dict[str, Any] = {
    "outcome": Outcome.UPSTREAM_ERROR,
    "status": 404,
    "attempts": [attempt(status=404)],
}


def spend(names: Names, amounts: dict[str, int], calls: int = 1) -> None:
    """Have names come in one batch, each with an amount."""
    arrivals = Arrivals(names)
    for name, amount in amounts.items():
        if arrivals.arrive(name) is OTHER:
            arrivals.overflow(name, calls, amount)
    names.take(arrivals)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alice@example.org", "alice@example.org"),
        ("Zoë 数", "Zoë 数"),
        ("", ""),
        ("other", "other_"),
        ("other_", "other__"),
        ("other__", "other___"),
        ("others", "others"),
        ("other_one", "other_one"),
        ('a"b\\c', 'a"b\\c'),
    ],
)
def test_a_plain_name_is_shown_as_it_is(name: str, expected: str) -> None:
    """A name that can be shown is; one that is our own word for the rest gives way."""
    assert shown(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "a\nb",
        "a\x1b[31mb",
        "a\0b",
        "a\u202eb",
        "x" * 65,
        "x" * 100_000,
        "\ud800",
        "\n" * 70,
        "a\u2028",
    ],
)
def test_a_hostile_name_is_made_fit(name: str) -> None:
    """What cannot be printed, or is too long, is left out; two such names stay two."""
    label = shown(name)
    assert label.isprintable()
    assert len(label) <= NAME_CHARACTERS_MAX
    assert re.fullmatch(r".*#[0-9a-f]{12}", label)
    assert label != shown(name + "!")
    label.encode()


def test_hostile_names_cannot_break_the_text() -> None:
    """A label with quotes, backslashes and line ends reads back as what was shown of it."""
    meter = Meter(settings())
    evil = ['"} 1\nevil_total 1', "back\\slash", 'q"uote', "\\", "\\n"]
    book(meter, *(entry(number, user=name) for number, name in enumerate(evil)))
    for text, openmetrics in ((meter.expose(False), False), (meter.expose(True), True)):
        found = {
            sample.labels["user"]
            for sample in samples(text, openmetrics=openmetrics)
            if sample.name == "taximeter_user_calls_total"
        }
        assert found == {shown(name) for name in evil}
        assert b"\nevil_total" not in text


def test_the_first_half_of_the_places_goes_to_whoever_comes() -> None:
    """Of four places two are given at once; who comes third is `other`, and counted as that."""
    meter = Meter(settings(metrics={"users_max": 4}))
    book(meter, *(entry(number, user=f"u{number}") for number in range(5)))
    users = values(meter, "taximeter_user_calls_total", outcome="completed")
    assert users == {("u0",): 1, ("u1",): 1, ("other",): 3}
    assert value(meter, "taximeter_label_overflow_total", label="user") == 3
    assert total(meter, "taximeter_user_cost_usd_total") == total(meter, "taximeter_cost_usd_total")


def test_no_places_mean_no_names() -> None:
    """With 0 places everyone is `other`, and who is nobody stays nobody."""
    meter = Meter(settings(metrics={"users_max": 0, "models_max": 0, "teams_max": 0}))
    book(meter, entry(1), entry(2, user=None))
    assert values(meter, "taximeter_user_calls_total", outcome="completed") == {
        ("other",): 1, ("",): 1,
    }  # fmt: skip
    assert {labels[0] for labels in values(meter, "taximeter_calls_total")} == {"other"}


def test_the_other_half_is_for_those_who_spend() -> None:
    """Whoever has a fair part of what is under `other` gets a place, after enough calls."""
    names = Names(10)
    spend(names, {f"first{number}": 1 for number in range(5)})
    assert len(names.placed) == 5
    for number in range(EVIDENCE_CALLS // 2 - 1):
        spend(names, {f"small{number}": 10, "big": 10})
    assert "big" not in names.placed
    spend(names, {"small": 10, "big": 10})
    assert "big" in names.placed
    assert not any(name.startswith("small") for name in names.placed)


def test_where_nothing_costs_anything_the_busiest_come_first() -> None:
    """Calls weigh, too: a house of free models shows those who call most."""
    names = Names(4)
    spend(names, {"a": 0, "b": 0})
    for number in range(EVIDENCE_CALLS):
        spend(names, {"busy": 0, f"rare{number}": 0})
    assert names.placed == {"a", "b", "busy"}


def test_a_place_is_kept() -> None:
    """However little is spent after that, a name keeps its place; all places taken, none comes."""
    names = Names(4)
    spend(names, {"a": 1, "b": 1})
    for _ in range(EVIDENCE_CALLS):
        spend(names, {"c": 10**12, "d": 10**12})
    assert names.placed == {"a", "b", "c", "d"}
    for _ in range(EVIDENCE_CALLS):
        spend(names, {"e": 10**18})
    assert names.placed == {"a", "b", "c", "d"}


def test_no_more_names_than_places() -> None:
    """Of more that have a fair part than there is room for, the largest get it."""
    names = Names(4)
    spend(names, {"a": 0, "b": 0})
    spend(names, {"c": 1_000, "d": 1_200, "e": 1_100}, calls=EVIDENCE_CALLS)
    assert names.placed == {"a", "b", "d", "e"}


def test_many_small_names_get_no_place_and_no_memory() -> None:
    """Ten thousand of the same size are all `other`; the sketch stays within its bound."""
    names = Names(100)
    spend(names, {f"first{number}": 1 for number in range(50)})
    order = [f"u{number}" for number in range(10_000)]
    random.Random(1).shuffle(order)
    for start in range(0, len(order), 500):
        spend(names, dict.fromkeys(order[start : start + 500], 1000))
        assert len(names._weights) <= 400
    assert len(names.placed) == 50


def test_one_who_comes_late_finds_room_in_the_sketch() -> None:
    """A sketch full of others' pasts makes room for who goes on spending."""
    names = Names(4)
    spend(names, {"a": 0, "b": 0})
    spend(names, {f"past{number}": 1_000 for number in range(16)}, calls=EVIDENCE_CALLS)
    assert len(names._weights) == 16
    assert names.placed == {"a", "b"}
    for _ in range(40):
        spend(names, {"steady": 500})
    assert "steady" in names.placed


def test_a_newcomer_is_measured_against_these_days() -> None:
    """Weights are halved every so many calls: a long past does not keep a new spender out."""
    names = Names(10)
    spend(names, {f"first{number}": 1 for number in range(5)})
    for number in range(20):
        spend(names, {f"old{number}_{each}": 1 for each in range(500)}, calls=4)
    assert names._calls < AGE_CALLS
    for _ in range(5):
        spend(names, {"new": 3_000}, calls=1)
    assert "new" in names.placed


def test_a_name_keeps_its_place_over_a_restart() -> None:
    """D2: the names of kept series have their places before whoever comes now."""
    bounds = {"users_max": 4}
    meter = Meter(settings(metrics=bounds))
    notes = book(meter, entry(1, user="a"), entry(2, user="b"))
    meter = Meter(settings(metrics=bounds))
    meter.restore(notes)
    book(meter, entry(3, user="c"), entry(4, user="b"))
    users = values(meter, "taximeter_user_calls_total", outcome="completed")
    assert users == {("a",): 1, ("b",): 2, ("other",): 1}


def test_smaller_bounds_take_no_series_away() -> None:
    """A reload with fewer places keeps who is there, and lets nobody else in."""
    meter = Meter(settings(metrics={"users_max": 10}))
    book(meter, *(entry(number, user=f"u{number}") for number in range(5)))
    meter.reload(settings(metrics={"users_max": 2}))
    book(meter, *(entry(10 + number, user=f"u{number}") for number in range(7)))
    users = values(meter, "taximeter_user_calls_total", outcome="completed")
    assert users == {**{(f"u{number}",): 2 for number in range(5)}, ("other",): 2}


def test_a_user_named_other_is_not_the_rest() -> None:
    """H8: nobody hides among the rest by his name."""
    meter = Meter(settings(metrics={"users_max": 2}))
    book(meter, entry(1, user="other"), entry(2, user="late"))
    users = values(meter, "taximeter_user_calls_total", outcome="completed")
    assert users == {("other_",): 1, ("other",): 1}


def test_a_model_that_only_failed_is_other() -> None:
    """H8: an invented model takes no place, and is counted all the same."""
    meter = Meter(settings())
    book(meter, entry(1, model="invented", **FAILED))
    assert values(meter, "taximeter_calls_total", outcome="upstream_error") == {
        ("other", "chat", "openai", "openai"): 1
    }
    assert value(meter, "taximeter_label_overflow_total", label="model") == 0


def test_a_model_is_known_by_success_by_configuration_or_by_the_table() -> None:
    """A model's calls have its name from its first success on, or at once if it is listed."""
    in_table = sorted(catalogue_models())[0]
    meter = Meter(
        settings(
            upstreams={"openai": {"models": {"my-deployment": "gpt-4o"}}},
            prices=[{"provider": "*", "model": "mine", "input_usd_per_million": 1}],
        )
    )
    for number, model in enumerate((in_table, "my-deployment", "mine", "new")):
        book(meter, entry(number, model=model, **FAILED))
    book(meter, entry(10, model="new"), entry(11, model="new", **FAILED))
    calls = values(meter, "taximeter_calls_total", outcome="upstream_error")
    assert {labels[0]: count for labels, count in calls.items()} == {
        in_table: 1, "my-deployment": 1, "mine": 1, "other": 1, "new": 1,
    }  # fmt: skip


def lines(meter: Meter, *names: str) -> int:
    """Count lines of the exposition that begin with one of the names."""
    return sum(1 for line in meter.expose(False).decode().splitlines() if line.startswith(names))


def test_ten_thousand_users_and_a_thousand_hostile_models_stay_in_bounds() -> None:
    """H8: the bounds that docs/metrics.md states hold, and no call is lost to them."""
    meter = Meter(settings())
    rng = random.Random(7)
    number = 0
    for _ in range(20):
        batch = []
        for _ in range(500):
            number += 1
            hostile = number % 10 == 0
            name = f"evil\n{number}" if number % 3 else "x" * rng.randrange(500)
            batch.append(
                entry(
                    number,
                    user=f"user{number}\x1b[0m" if number % 2 else f"user{number}",
                    team=f"team{number}",
                    model=name if hostile else "gpt-4o",
                    cost_pico=number,
                    **(FAILED if hostile and number % 20 else {}),
                )
            )
        book(meter, *batch)
    bounds = settings().metrics
    assert lines(meter, "taximeter_user_") <= 13 * (bounds.users_max + 2)
    assert lines(meter, "taximeter_team_") <= 13 * (bounds.teams_max + 2)
    for family in FAMILIES:
        sets = {**meter._series.values.get(family, {}), **meter._series.bins.get(family, {})}
        assert len(sets) <= 2 * bounds.label_sets_max + 1
    models = {labels[0] for labels in values(meter, "taximeter_calls_total", operation="chat")}
    assert len(models) <= bounds.models_max + 2
    assert total(meter, "taximeter_calls_total") == 10_000
    assert total(meter, "taximeter_user_calls_total") == 10_000
    assert total(meter, "taximeter_user_tokens_total", type="input") == 10_000 * 100
    assert sum(meter._series.values[families.USER_COST].values()) == sum(range(10_001))
    assert lines(meter, "") < 10_000


def test_sets_of_labels_are_bounded_and_nothing_is_lost() -> None:
    """H8: at the bound names become `other`, beyond it all labels do; the sums stay whole."""
    bound = 16
    meter = Meter(
        settings(metrics={"label_sets_max": bound, "models_max": 10_000, "users_max": 10_000})
    )
    number = 0
    for _ in range(20):
        batch = []
        for _ in range(20):
            number += 1
            begun = {"operation": f"operation{number % 50}"}
            batch.append(entry(number, model=f"m{number}", user=f"u{number}", begun=begun))
        book(meter, *batch)
        held: dict[Family, Sized] = {**meter._series.values, **meter._series.bins}
        wide = {family.name for family, sets in held.items() if len(sets) > 2 * bound + 1}
        assert wide == set()
    calls = values(meter, "taximeter_calls_total")
    assert len(calls) == 2 * bound + 1
    assert calls["other", "other", "other", "other", "other"] > 0
    assert total(meter, "taximeter_calls_total") == number
    assert total(meter, "taximeter_user_calls_total") == number
    assert total(meter, "taximeter_call_cost_usd_count") == number
    assert (value(meter, "taximeter_label_overflow_total", label="label_set") or 0) > 0


def test_what_has_few_values_begins_at_0() -> None:
    """The first step of a bounded counter is one that `increase()` sees."""
    meter = Meter(settings())
    assert values(meter, "taximeter_label_overflow_total") == {
        ("user",): 0, ("team",): 0, ("model",): 0, ("label_set",): 0,
    }  # fmt: skip
    over = values(meter, "taximeter_stage_over_budget_total", upstream="openai")
    assert over == {(stage,): 0 for stage in BUDGET_STAGES}
    assert set(values(meter, "taximeter_call_facts_total").values()) == {0}
