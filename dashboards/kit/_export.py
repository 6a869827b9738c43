"""From a board to the JSON that Grafana loads: classic form, schema 39.

Grafana 10.4 and later read it as it is; from 13 on it is converted when loaded. Panels are placed
on the grid of 24 columns in the order in which they are written, each as high up and as far left
as it fits below the header of its section.
"""

from __future__ import annotations

import json
from typing import Any

from grafana_dashboards.exporter import DashboardExporter

from dashboards.kit._describe import describe
from dashboards.kit._queries import defaults_of
from dashboards.kit._source import SourceError, finish

COLUMNS = 24
SCHEMA_VERSION = 39
TAG = "taximeter"
_OURS = {"place", "shows", "act"}
"""What a panel has for the exporter alone."""
_REFRESHES = ["10s", "30s", "1m", "5m", "15m", "1h"]


class Collector(DashboardExporter):
    """Takes boards as the builder makes them; `boards` has their JSON by file name."""

    def __init__(self) -> None:
        self.boards: dict[str, dict[str, Any]] = {}

    def process_dashboard(self, project_name: str, dashboard_name: str, data: Any) -> None:
        """Take one board.

        Raises:
            SourceError: if it is wrong, or its name is taken.
        """
        name = f"{dashboard_name}.json"
        if name in self.boards:
            raise SourceError(f"two boards are called {dashboard_name}")
        self.boards[name] = _export(finish(data, dashboard_name))


def render(board: dict[str, Any]) -> str:
    """Give a board's JSON as text, the same each time."""
    return json.dumps(board, indent=2, ensure_ascii=False) + "\n"


def _export(board: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": None,
        "uid": board["uid"],
        "title": board["title"],
        "description": board["description"],
        "tags": [TAG],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": board["timezone"],
        "time": {"from": board["since"], "to": "now"},
        "timepicker": {"refresh_intervals": _REFRESHES},
        "refresh": board["refresh"],
        "fiscalYearStartMonth": 0,
        "weekStart": "",
        "templating": {"list": board["templates"]},
        "annotations": {"list": board["annotations"]},
        "links": board["links"],
        "panels": _place(board["sections"], board["title"], defaults_of(board["templates"])),
    }


def _place(
    sections: list[dict[str, Any]], title: str, values: dict[str, str]
) -> list[dict[str, Any]]:
    """Give ids and places to all panels of all sections."""
    placed: list[dict[str, Any]] = []
    top = 0
    number = 0
    for section in sections:
        header: dict[str, Any] | None = None
        if section["title"]:
            number += 1
            header = {
                "id": number,
                "type": "row",
                "title": section["title"],
                "collapsed": section["collapsed"],
                "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
                "panels": [],
            }
            placed.append(header)
            top += 1
        # How far down each column is taken.
        taken = [top] * COLUMNS
        for panel in section["panels"]:
            width, height = panel["place"]["w"], panel["place"]["h"]
            if not 1 <= width <= COLUMNS:
                raise SourceError(f"{title}, {panel['title']}: a width is 1 to {COLUMNS}")
            y, x = min((max(taken[x : x + width]), x) for x in range(COLUMNS - width + 1))
            taken[x : x + width] = [y + height] * width
            number += 1
            whole = {
                "id": number,
                **{key: value for key, value in panel.items() if key not in _OURS},
                "gridPos": {"x": x, "y": y, "w": width, "h": height},
            }
            if "targets" in panel:
                whole["description"] = _described(panel, values)
            # Panels below a folded header are kept inside it.
            (header["panels"] if header and section["collapsed"] else placed).append(whole)
        # A folded section takes no room; what follows is placed as if it were not there.
        if not section["collapsed"]:
            top = max(taken)
    return placed


def _described(panel: dict[str, Any], values: dict[str, str]) -> str:
    try:
        return describe(panel["shows"], panel["act"], panel["targets"], values)
    except SourceError as error:
        raise SourceError(f"{panel['title']}: {error}") from error
