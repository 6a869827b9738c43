"""All rules over all boards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from dashboards.kit._planned import planned_names
from dashboards.kit._queries import metrics_of
from dashboards.lint import _layout, _promql, _variables
from dashboards.lint._series import excused, known_series
from taximeter.metrics import FAMILIES


class Finding(NamedTuple):
    """Something that is wrong."""

    board: str
    panel: str
    rule: str
    what: str


def lint(boards: dict[str, dict[str, Any]]) -> list[Finding]:
    """Give all that is wrong with these boards, each by its file's name."""
    findings: list[Finding] = []
    every_board = list(boards.values())
    for name, board in boards.items():
        for rules in (_layout.check, _variables.check, _promql.check):
            findings += [Finding(name, *found) for found in rules(board, every_board)]
    findings += [Finding("", "", "metric-shown", what) for what in _not_shown(boards)]
    findings += [
        Finding("", "", "metric-planned", f"{name} is exported, so it is no longer planned")
        for name in sorted(planned_names() & {family.exposed for family in FAMILIES})
    ]
    return findings


def _not_shown(boards: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Tell which families are on no panel of any board."""
    series = known_series()
    families = {each.family for each in series.values() if each.family}
    shown: set[str] = set()
    for board in boards.values():
        values = _variables.values_of(board)
        for panel in _layout.panels_of(board):
            for target in panel.get("targets", []):
                # What cannot be parsed is told of by the rule that is for it.
                with contextlib.suppress(ValueError):
                    names = metrics_of(target.get("expr", "up"), values)
                    shown |= {series[name].family for name in names if name in series}
    for name in sorted(families - shown - excused().keys()):
        yield f"{name} is on no panel and has no excuse"
    for name in sorted(excused().keys() & shown):
        yield f"{name} is excused, and yet on a panel"
    for name in sorted(excused().keys() - families - planned_names()):
        yield f"{name} is excused, but nothing exports it"
