"""What stands around the panels: variables, links from board to board, events on the time axis."""

from __future__ import annotations

from typing import Any, Literal

from grafana_dashboards.components.annotations import AnnotationsItemBase
from grafana_dashboards.components.links import LinksItemBase
from grafana_dashboards.components.templates import TemplatesItemBase

from dashboards.kit import _fields, _targets
from dashboards.kit._source import hide_braces, read_spec


class DatasourceSpec(_fields.Spec, kw_only=True):
    """Which data source."""

    name: str
    label: str
    type: str


class DatasourceVariable(TemplatesItemBase):
    """A choice among the data sources of one type."""

    def gen_json_from_data(self, data: Any, context: Any) -> dict[str, Any]:
        spec = read_spec(DatasourceSpec, data, "datasource-variable")
        return {
            "type": "datasource",
            "name": spec.name,
            "label": spec.label,
            "query": spec.type,
            "regex": "",
            "refresh": 1,
            "multi": False,
            "includeAll": False,
            "hide": 0,
            "options": [],
            "skipUrlSync": False,
        }


class QuerySpec(_fields.Spec, kw_only=True):
    """A choice among what there is."""

    name: str
    label: str
    metric: str | None = None
    """Values of `value` on this metric's series, or"""
    value: str | None = None
    where: str = ""
    sql: str | None = None
    """the first column of this query."""
    about: str = ""


class QueryVariable(TemplatesItemBase):
    """A choice of several values, or all.

    `All` is `.*` for Prometheus, which also takes series without the label, and `'*'` in SQL,
    where it stands beside quoted names.
    """

    def gen_json_from_data(self, data: Any, context: Any) -> dict[str, Any]:
        spec = read_spec(QuerySpec, data, "query-variable")
        if spec.sql is not None:
            query: Any = " ".join(spec.sql.split())
            source, everything = _targets.LEDGER, "'*'"
        else:
            where = hide_braces("{" + spec.where + "}") if spec.where else ""
            asked = f"label_values({spec.metric}{where},{spec.value})"
            query = {"qryType": 1, "query": asked, "refId": "Variable"}
            source, everything = _targets.PROMETHEUS, ".*"
        return {
            "type": "query",
            "name": spec.name,
            "label": spec.label,
            "description": spec.about,
            "datasource": dict(source),
            "query": query,
            "regex": "",
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": everything,
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
            "hide": 0,
            "options": [],
            "skipUrlSync": False,
        }


class CustomSpec(_fields.Spec, kw_only=True):
    """A choice among fixed values."""

    name: str
    label: str
    options: dict[str, str]
    """Values by the text shown; the first is the default."""
    about: str = ""


class CustomVariable(TemplatesItemBase):
    """A choice of one fixed value."""

    def gen_json_from_data(self, data: Any, context: Any) -> dict[str, Any]:
        spec = read_spec(CustomSpec, data, "custom-variable")
        options = [
            {"selected": index == 0, "text": text, "value": value}
            for index, (text, value) in enumerate(spec.options.items())
        ]
        return {
            "type": "custom",
            "name": spec.name,
            "label": spec.label,
            "description": spec.about,
            "query": ", ".join(f"{text} : {value}" for text, value in spec.options.items()),
            "multi": False,
            "includeAll": False,
            "current": options[0],
            "hide": 0,
            "options": options,
            "skipUrlSync": False,
        }


class BoardsSpec(_fields.Spec, kw_only=True):
    """Links to all boards of a tag."""

    title: str
    tag: str


class BoardsLink(LinksItemBase):
    """A menu of the other boards; they open with the same time and variables."""

    def gen_json_from_data(self, data: Any, context: Any) -> dict[str, Any]:
        spec = read_spec(BoardsSpec, data, "boards-link")
        return {
            "title": spec.title,
            "type": "dashboards",
            "tags": [spec.tag],
            "asDropdown": False,
            "icon": "external link",
            "includeVars": True,
            "keepTime": True,
            "targetBlank": False,
            "tooltip": "",
            "url": "",
        }


class EventSpec(_fields.Spec, kw_only=True):
    """Something that happened."""

    name: str
    expr: str
    title: str
    text: str = ""
    colour: Literal["blue", "red", "orange", "purple", "green"]
    shown: bool = True


class EventAnnotation(AnnotationsItemBase):
    """A mark on the time axis wherever a query has a value."""

    def gen_json_from_data(self, data: Any, context: Any) -> dict[str, Any]:
        spec = read_spec(EventSpec, data, "event-annotation")
        return {
            "name": spec.name,
            "datasource": dict(_targets.PROMETHEUS),
            "enable": spec.shown,
            "hide": False,
            "iconColor": spec.colour,
            "expr": " ".join(spec.expr.split()),
            "step": "60s",
            "titleFormat": spec.title,
            "textFormat": spec.text,
            "useValueForTime": False,
        }
