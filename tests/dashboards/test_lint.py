"""The boards keep to the rules, and every rule can be broken."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from dashboards.kit import BOARDS
from dashboards.kit._queries import defaults_of
from dashboards.lint import lint

Boards = dict[str, dict[str, Any]]
Board = dict[str, Any]


def test_the_boards_keep_to_every_rule(boards: Boards) -> None:
    """Queries, labels, units, links, grid, variables: nothing is wrong."""
    assert [": ".join(finding) for finding in lint(boards)] == []


def _query(expr: str) -> Callable[[Board], None]:
    def change(board: Board) -> None:
        board["panels"][0]["targets"][0]["expr"] = expr

    return change


def _set(*path: Any, to: Any) -> Callable[[Board], None]:
    def change(board: Board) -> None:
        place: Any = board
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return change


_ALL = 'job=~"$job", instance=~"$instance"'
_FIRST = ("panels", 0)
_UNIT = (*_FIRST, "fieldConfig", "defaults", "unit")


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("target-promql", _query("sum(up")),
        ("metric", _query("sum(taximeter_rides_total{" + _ALL + "})")),
        ("label", _query("sum by (colour) (taximeter_in_flight{" + _ALL + "})")),
        ("label", _query("sum(taximeter_in_flight{" + _ALL + ', colour="red"})')),
        ("target-job", _query('sum(taximeter_in_flight{instance=~"$instance"})')),
        ("target-instance", _query('sum(taximeter_in_flight{job=~"$job"})')),
        ("target-rate-interval", _query("sum(rate(taximeter_calls_total{" + _ALL + "}[5m]))")),
        ("target-counter-agg", _query("sum(taximeter_calls_total{" + _ALL + "})")),
        (
            "target-counter-agg",
            _query("sum(rate(taximeter_in_flight{" + _ALL + "}[$__rate_interval]))"),
        ),
        (
            "target-counter-agg",
            _query("sum(max_over_time(taximeter_calls_total{" + _ALL + "}[1h]))"),
        ),
        (
            "guarded-ratio",
            _query(
                f"max(taximeter_journal_bytes{{{_ALL}}} / taximeter_journal_bytes_max{{{_ALL}}})"
            ),
        ),
        (
            "bucket",
            _query(
                "sum(rate(taximeter_overhead_seconds_bucket{"
                + _ALL
                + ', le="0.3"}[$__rate_interval]))'
            ),
        ),
        ("variable-defined", _query('sum(up{job=~"$jobb", instance=~"$instance"})')),
        ("variable-used", lambda board: board.update(annotations={"list": []}, panels=[])),
        ("legend-label", _set(*_FIRST, "targets", 0, "legendFormat", to="{{colour}}")),
        ("about", _set(*_UNIT, to="currencyUSD")),
        ("panel-units", _set(*_UNIT, to="parsecs")),
        ("panel-kind", _set(*_FIRST, "type", to="graph")),
        ("panel-description", _set(*_FIRST, "description", to="Something.")),
        ("panel-no-targets", _set(*_FIRST, "targets", to=[])),
        ("panel-datasource", _set(*_FIRST, "datasource", "uid", to="prometheus")),
        ("grid", _set(*_FIRST, "gridPos", "w", to=30)),
        ("grid", _set(*_FIRST, "gridPos", "x", to=2)),
        ("grid", _set(*_FIRST, "gridPos", "h", to=2)),
        ("unique-id", _set(*_FIRST, "id", to=2)),
        ("unique-uid", _set("uid", to="taximeter-cost")),
        ("board", _set("editable", to=True)),
        ("template-datasource", _set("templating", "list", 0, "label", to="Prometheus")),
        (
            "template-label",
            lambda board: next(
                each for each in board["templating"]["list"] if each["type"] == "query"
            )["query"].update(query="label_values(taximeter_build_info, colour)"),
        ),
        (
            "link",
            _set(
                *(*_FIRST, "fieldConfig", "defaults", "links"),
                to=[{"title": "x", "url": "/d/taximeter-nowhere?x"}],
            ),
        ),
        (
            "link",
            _set(
                *(*_FIRST, "fieldConfig", "defaults", "links"),
                to=[{"title": "x", "url": "/d/taximeter-slo?${__url_time_range}&var-user=x"}],
            ),
        ),
    ],
)
def test_each_rule_finds_its_fault(
    boards: Boards, rule: str, change: Callable[[Board], None]
) -> None:
    """A fault planted in a good board is found, by the rule that is for it."""
    changed = copy.deepcopy(boards)
    change(changed["overview.json"])
    assert rule in {finding.rule for finding in lint(changed)}


def test_every_choice_of_a_target_must_be_a_bound_of_a_bucket(boards: Boards) -> None:
    """A target that no bucket ends at would draw nothing."""
    changed = copy.deepcopy(boards)
    for variable in changed["overview.json"]["templating"]["list"]:
        if variable["name"] == "first_token_target":
            variable["options"][1]["value"] = "0.55"
    assert "bucket" in {finding.rule for finding in lint(changed)}


def test_a_metric_that_no_panel_shows_is_found(boards: Boards) -> None:
    """What is exported is looked at somewhere, or excused with a reason."""
    changed = {name: board for name, board in boards.items() if name != "pipeline.json"}
    missing = [each.what for each in lint(changed) if each.rule == "metric-shown"]
    assert any("taximeter_ledger_commits_total" in what for what in missing)


def test_boards_and_alerts_promise_the_same(boards: Boards) -> None:
    """As shipped, the objectives of the SLO board are those that the alerts guard."""
    thresholds = BOARDS.parent.parent / "alerts" / "thresholds.yaml"
    objectives = yaml.safe_load(thresholds.read_text(encoding="utf-8"))["objectives"]
    shown = defaults_of(boards["slo.json"]["templating"]["list"])
    assert shown == {
        "window": "30d",
        "availability": str(objectives["availability"]),
        "first_token": str(objectives["first_token_ratio"]),
        "first_token_target": str(objectives["first_token_seconds"]),
    }
