"""More kinds of panels: tables; how values are spread, stand to limits, or change state."""

from __future__ import annotations

from typing import Any

from dashboards.kit import _fields
from dashboards.kit._panels import Panel, PanelSpec


class TableSpec(PanelSpec, kw_only=True):
    """Rows; columns that are not named are left out."""

    columns: list[_fields.Column]
    sort: str | None = None
    """The title of the column to sort by, greatest first."""
    sum: bool = False
    """A last row with the sums of what is shown."""


class TablePanel(Panel):
    """Rows and columns. Several queries become one table, joined on their labels."""

    kind = "table"
    spec = TableSpec

    def is_of_the_moment(self, spec: Any) -> bool:
        return True

    def defaults(self, spec: Any) -> dict[str, Any]:
        defaults = super().defaults(spec)
        # An empty name is nobody's: links still pass it on as it is.
        nobody = {"match": "empty", "result": {"text": "(none)", "color": "text", "index": 1}}
        defaults["mappings"] = [{"type": "special", "options": nobody}]
        defaults["custom"] = {
            "align": "auto",
            "cellOptions": {"type": "auto"},
            "filterable": True,
            "inspect": False,
        }
        return defaults

    def overrides(self, spec: Any) -> list[dict[str, Any]]:
        found = [column.override() for column in spec.columns]
        return [override for override in found if override is not None]

    def options(self, spec: Any) -> dict[str, Any]:
        options: dict[str, Any] = {
            "cellHeight": "sm",
            "showHeader": True,
            "sortBy": [] if spec.sort is None else [{"desc": True, "displayName": spec.sort}],
        }
        if spec.sum:
            # Where it stood until Grafana 12; later ones move it when they load a board.
            options["footer"] = {"countRows": False, "fields": "", "reducer": ["sum"], "show": True}
        return options

    def transformations(self, spec: Any) -> list[dict[str, Any]]:
        fields = [column.field for column in spec.columns]
        renamed = {column.field: column.title for column in spec.columns if column.title}
        return [
            {"id": "merge", "options": {}},
            {"id": "filterFieldsByName", "options": {"include": {"names": fields}}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {},
                    "indexByName": {field: index for index, field in enumerate(fields)},
                    "renameByName": renamed,
                },
            },
        ]


class HeatmapPanel(Panel):
    """How a histogram's counts move over time: `sum by (le) (increase(..._bucket))`."""

    kind = "heatmap"
    spec = PanelSpec

    def defaults(self, spec: Any) -> dict[str, Any]:
        return {
            "custom": {
                "hideFrom": {"legend": False, "tooltip": False, "viz": False},
                "scaleDistribution": {"type": "linear"},
            },
            "noValue": spec.empty,
        }

    def options(self, spec: Any) -> dict[str, Any]:
        return {
            "calculate": False,
            "cellGap": 1,
            "cellValues": {"unit": "short"},
            "color": {
                "exponent": 0.5,
                "fill": "dark-orange",
                "mode": "scheme",
                "reverse": False,
                "scale": "exponential",
                "scheme": "Oranges",
                "steps": 64,
            },
            "exemplars": {"color": "rgba(80,120,255,0.8)"},
            "filterValues": {"le": 1e-9},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto"},
            "showValue": "never",
            "tooltip": {"mode": "single", "showColorScale": False, "yHistogram": True},
            "yAxis": {"axisPlacement": "left", "reverse": False, "unit": spec.unit},
        }


class HistogramSpec(PanelSpec, kw_only=True):
    """How single values are spread."""

    buckets: int = 30


class HistogramPanel(Panel):
    """How the values of single calls are spread; from the ledger, so exact."""

    kind = "histogram"
    spec = HistogramSpec

    def defaults(self, spec: Any) -> dict[str, Any]:
        defaults = super().defaults(spec)
        defaults["color"] = {"mode": "fixed", "fixedColor": "blue"}
        defaults["custom"] = {"fillOpacity": 80, "gradientMode": "none", "lineWidth": 1}
        return defaults

    def options(self, spec: Any) -> dict[str, Any]:
        return {
            "bucketCount": spec.buckets,
            "bucketOffset": 0,
            "combine": False,
            "legend": {
                "calcs": [],
                "displayMode": "list",
                "placement": "bottom",
                "showLegend": False,
            },
            "tooltip": {"mode": "single", "sort": "none"},
        }


class BargaugePanel(Panel):
    """Values side by side, each against its limit."""

    kind = "bargauge"
    spec = PanelSpec

    def is_of_the_moment(self, spec: Any) -> bool:
        return True

    def options(self, spec: Any) -> dict[str, Any]:
        return {
            "displayMode": "basic",
            "maxVizHeight": 60,
            "minVizHeight": 16,
            "minVizWidth": 8,
            "namePlacement": "auto",
            "orientation": "horizontal",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showUnfilled": True,
            "sizing": "auto",
            "valueMode": "color",
        }


class StateTimelinePanel(Panel):
    """In which state each thing was, and how long."""

    kind = "state-timeline"
    spec = PanelSpec

    def defaults(self, spec: Any) -> dict[str, Any]:
        defaults = super().defaults(spec)
        defaults["custom"] = {"fillOpacity": 80, "lineWidth": 0}
        return defaults

    def options(self, spec: Any) -> dict[str, Any]:
        return {
            "alignValue": "left",
            "legend": {
                "calcs": [],
                "displayMode": "list",
                "placement": "bottom",
                "showLegend": True,
            },
            "mergeValues": True,
            "rowHeight": 0.9,
            "showValue": "auto",
            "tooltip": {"mode": "single", "sort": "none"},
        }
