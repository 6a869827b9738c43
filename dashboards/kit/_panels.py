"""The panels: each a component of the builder, each strict about its keys.

Each says what it shows (`shows`) and what to do about it (`act`); with what its queries read, that
becomes its description (`_describe.py`).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec
from grafana_dashboards.components.panels import PanelsItemBase
from grafana_dashboards.components.targets import Targets

from dashboards.kit import _fields
from dashboards.kit._source import SourceError, read_spec

_TARGETS = {"prom", "sql"}

Thresholds = list[tuple[str, float | None]]


class PanelSpec(_fields.Spec, kw_only=True):
    """What all panels have."""

    title: str
    shows: str
    act: str
    span: int
    """Width in columns; a board has 24."""
    height: int
    """In Grafana's rows of about 30 pixels."""
    targets: list[Any]
    unit: str = "short"
    decimals: int | None = None
    min: float | None = None
    max: float | None = None
    empty: str = "No data"
    """Said where there is no value."""
    thresholds: Thresholds | None = None
    mappings: dict[str, tuple[str, str]] = msgspec.field(default_factory=dict)
    """Text and colour by value."""
    links: list[_fields.Link] = msgspec.field(default_factory=list)
    interval: str | None = None
    """The least step of its queries."""


class Panel(PanelsItemBase):
    """A panel of ours; its subclasses are the kinds."""

    kind: ClassVar[str]
    spec: ClassVar[type[PanelSpec]]

    def gen_json_from_data(self, data: Any, context: Any) -> dict[str, Any]:
        """Give the panel's JSON; describing and placing it is left to the exporter."""
        spec = read_spec(self.spec, data, self.kind)
        # The builder takes what it does not know for a query of Graphite.
        if not all(isinstance(each, dict) and each.keys() <= _TARGETS for each in spec.targets):
            raise SourceError(f"{spec.title}: a target is `prom` or `sql`")
        targets = self.registry.create_component(Targets, {"targets": spec.targets}).gen_json()
        for index, target in enumerate(targets):
            target["refId"] = chr(ord("A") + index)
            if "expr" in target and self.is_of_the_moment(spec):
                target.update(instant=True, range=False)
        sources = [target["datasource"] for target in targets]
        panel: dict[str, Any] = {
            "type": self.kind,
            "title": spec.title,
            "shows": spec.shows,
            "act": spec.act,
            "place": {"w": spec.span, "h": spec.height},
            "datasource": sources[0]
            if all(source == sources[0] for source in sources)
            else {"type": "datasource", "uid": "-- Mixed --"},
            "targets": targets,
            "fieldConfig": {"defaults": self.defaults(spec), "overrides": self.overrides(spec)},
            "options": self.options(spec),
        }
        if spec.interval is not None:
            panel["interval"] = spec.interval
        transformations = self.transformations(spec)
        if transformations:
            panel["transformations"] = transformations
        return panel

    def is_of_the_moment(self, spec: Any) -> bool:
        """Tell whether only the newest values are shown, so that no others need be computed."""
        return False

    def defaults(self, spec: Any) -> dict[str, Any]:
        """Give what holds for every field of the panel."""
        defaults: dict[str, Any] = {
            "unit": spec.unit,
            "noValue": spec.empty,
            "color": {
                "mode": "palette-classic" if spec.thresholds is None else "thresholds",
            },
            "mappings": [_fields.empty_mapping(spec.empty)],
            "thresholds": _fields.threshold_json(spec.thresholds or [("text", None)]),
        }
        if spec.mappings:
            defaults["mappings"].append(_fields.value_mapping(spec.mappings))
        for name in ("decimals", "min", "max"):
            value = getattr(spec, name)
            if value is not None:
                defaults[name] = value
        if spec.links:
            defaults["links"] = [link.json() for link in spec.links]
        return defaults

    def overrides(self, spec: Any) -> list[dict[str, Any]]:
        """Give what holds for some fields only."""
        return []

    def options(self, spec: Any) -> dict[str, Any]:
        """Give the options of the panel's kind."""
        raise NotImplementedError

    def transformations(self, spec: Any) -> list[dict[str, Any]]:
        """Give what is done to the results before they are drawn."""
        return []


class StatSpec(PanelSpec, kw_only=True):
    """A number that is read in passing."""

    graph: bool = True
    by_name: bool = False
    """Several numbers, each with its name."""
    calc: Literal["lastNotNull", "max", "sum"] = "lastNotNull"


class StatPanel(Panel):
    """One number; coloured only where a threshold says what is good."""

    kind = "stat"
    spec = StatSpec

    def is_of_the_moment(self, spec: Any) -> bool:
        return not spec.graph

    def defaults(self, spec: Any) -> dict[str, Any]:
        defaults = super().defaults(spec)
        if spec.thresholds is None:
            defaults["color"] = {"mode": "fixed", "fixedColor": "text"}
        return defaults

    def options(self, spec: Any) -> dict[str, Any]:
        return {
            "colorMode": "none" if spec.thresholds is None and not spec.mappings else "value",
            "graphMode": "area" if spec.graph else "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "percentChangeColorMode": "standard",
            "reduceOptions": {"calcs": [spec.calc], "fields": "", "values": False},
            "showPercentChange": False,
            "textMode": "value_and_name" if spec.by_name else "value",
            "wideLayout": True,
        }


class TimeseriesSpec(PanelSpec, kw_only=True):
    """Lines, areas or bars over time."""

    style: Literal["line", "bars", "points"] = "line"
    stack: Literal["none", "normal", "percent"] = "none"
    fill: int | None = None
    palette: _fields.Palette | None = None
    dashed: list[str] = msgspec.field(default_factory=list)
    """Patterns of names that are drawn dashed: limits, other weeks."""
    legend: Literal["list", "table"] = "list"
    log: bool = False
    threshold_lines: bool = False
    step: bool = False
    """Values hold until the next one."""


class TimeseriesPanel(Panel):
    """Values over time."""

    kind = "timeseries"
    spec = TimeseriesSpec

    def defaults(self, spec: Any) -> dict[str, Any]:
        defaults = super().defaults(spec)
        defaults["color"] = {"mode": "palette-classic"}
        stacked = spec.stack != "none"
        bars = spec.style == "bars"
        fill = spec.fill if spec.fill is not None else (80 if bars else 25 if stacked else 0)
        defaults["custom"] = {
            "axisPlacement": "auto",
            "drawStyle": spec.style,
            "fillOpacity": fill,
            "gradientMode": "none",
            "lineInterpolation": "stepAfter" if spec.step else "linear",
            "lineWidth": 0 if bars else 1,
            "pointSize": 5,
            "scaleDistribution": {"type": "log", "log": 10} if spec.log else {"type": "linear"},
            "showPoints": "auto" if spec.style == "line" else "never",
            "spanNulls": False,
            "stacking": {"group": "A", "mode": spec.stack},
            "thresholdsStyle": {"mode": "dashed" if spec.threshold_lines else "off"},
        }
        return defaults

    def overrides(self, spec: Any) -> list[dict[str, Any]]:
        found = _fields.palette_overrides(spec.palette) if spec.palette else []
        return found + [
            {
                "matcher": {"id": "byRegexp", "options": pattern},
                "properties": [
                    {"id": "custom.lineStyle", "value": {"dash": [8, 6], "fill": "dash"}},
                    {"id": "custom.fillOpacity", "value": 0},
                    {"id": "custom.stacking", "value": {"group": "B", "mode": "none"}},
                ],
            }
            for pattern in spec.dashed
        ]

    def options(self, spec: Any) -> dict[str, Any]:
        return {
            "legend": {
                "calcs": ["mean", "max"] if spec.legend == "table" else [],
                "displayMode": spec.legend,
                "placement": "bottom",
                "showLegend": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        }


class TextSpec(_fields.Spec, kw_only=True):
    """Words on a board."""

    title: str
    content: str
    span: int
    height: int


class TextPanel(PanelsItemBase):
    """Words in Markdown: how to read what stands beside them."""

    def gen_json_from_data(self, data: Any, context: Any) -> dict[str, Any]:
        spec = read_spec(TextSpec, data, "text")
        return {
            "type": "text",
            "title": spec.title,
            "place": {"w": spec.span, "h": spec.height},
            "options": {"content": spec.content, "mode": "markdown"},
        }
