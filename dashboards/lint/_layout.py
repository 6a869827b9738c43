"""Rules on a board as a whole and on where its panels stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from grafana_foundation_sdk.models import units

COLUMNS = 24
KINDS = {
    "row",
    "timeseries",
    "stat",
    "table",
    "heatmap",
    "histogram",
    "bargauge",
    "state-timeline",
    "text",
}
"""Panels that every Grafana from 10.4 on has; none of Angular's, which 12 took out."""
UNITS = {getattr(units, name) for name in dir(units) if not name.startswith("_")}
UNIT_PREFIXES = ("count:",)
"""Units of one's own: `count:tok/s` is written 1.2K tok/s."""

Found = tuple[str, str, str]
"""Panel, rule, what is wrong."""


def panels_of(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Give all panels of a board, those in folded sections and the headers included."""
    return [each for panel in board["panels"] for each in (panel, *panel.get("panels", []))]


def check(board: dict[str, Any], boards: list[dict[str, Any]]) -> Iterator[Found]:
    """Check one board, which is among all of these."""
    if board["schemaVersion"] != 39 or board["editable"] or board["id"] is not None:
        yield "", "board", "must be of schema 39, not editable, and without an id"
    if [each["uid"] for each in boards].count(board["uid"]) != 1:
        yield "", "unique-uid", f"uid {board['uid']} is not unique"
    if not board["description"] or board["tags"] != ["taximeter"]:
        yield "", "board", "must have a description and the tag that links boards"
    panels = panels_of(board)
    for number, count in Counter(panel["id"] for panel in panels).items():
        if count > 1:
            yield "", "unique-id", f"panel id {number} is given {count} times"
    for panel in panels:
        for rule, what in (*_panel(panel), *_units(panel)):
            yield panel["title"], rule, what
    yield from _grid(board)


def _panel(panel: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if panel["type"] not in KINDS:
        yield "panel-kind", f"{panel['type']} is not a panel of Grafana's own since 10.4"
    if panel["type"] in ("row", "text"):
        return
    if not panel["title"] or "What to do: " not in panel["description"]:
        yield "panel-description", "needs a title, and a description that says what to do"
    if not panel["targets"]:
        yield "panel-no-targets", "has no query"
    refs = [target["refId"] for target in panel["targets"]]
    if len(set(refs)) != len(refs):
        yield "unique-ref", f"refIds are {refs}"
    for source in (panel["datasource"], *(each["datasource"] for each in panel["targets"])):
        if source["uid"] not in ("${datasource}", "${ledger}", "-- Mixed --"):
            yield "panel-datasource", f"data source {source['uid']} is not a variable"


def _units(panel: dict[str, Any]) -> Iterator[tuple[str, str]]:
    config = panel.get("fieldConfig", {"defaults": {}, "overrides": []})
    found = [config["defaults"].get("unit")]
    found += [
        each["value"]
        for override in config["overrides"]
        for each in override["properties"]
        if each["id"] == "unit"
    ]
    found.append(panel.get("options", {}).get("yAxis", {}).get("unit"))
    for unit in found:
        if unit is not None and unit not in UNITS and not unit.startswith(UNIT_PREFIXES):
            yield "panel-units", f"Grafana does not know the unit {unit!r}"


def _grid(board: dict[str, Any]) -> Iterator[Found]:
    """No two panels overlap, none leaves the grid, and sections have no holes."""
    yield from _packed(board["panels"], 0)
    for header in board["panels"]:
        if header.get("panels"):
            yield from _packed(header["panels"], header["gridPos"]["y"] + 1)


def _packed(panels: list[dict[str, Any]], top: int) -> Iterator[Found]:
    cells: Counter[tuple[int, int]] = Counter()
    bottom = top
    for panel in panels:
        place = panel["gridPos"]
        x, y, width, height = (place[name] for name in "xywh")
        if x < 0 or y < top or width < 1 or height < 1 or x + width > COLUMNS:
            yield panel["title"], "grid", f"leaves the grid: {place}"
        cells.update((cx, cy) for cx in range(x, x + width) for cy in range(y, y + height))
        bottom = max(bottom, y + height)
    if any(count > 1 for count in cells.values()):
        yield panels[0]["title"], "grid", "panels overlap"
    rows = range(top, bottom)
    holes = sorted({cy for cy in rows for cx in range(COLUMNS) if (cx, cy) not in cells})
    if holes:
        yield panels[0]["title"], "grid", f"holes in the grid at y = {holes}"
