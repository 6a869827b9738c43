"""The queries of a panel: PromQL to Prometheus, SQL to the ledger in PostgreSQL."""

from __future__ import annotations

from typing import Any, Literal

from grafana_dashboards.components.targets import TargetsItemBase

from dashboards.kit import _fields
from dashboards.kit._source import hide_braces, read_spec

PROMETHEUS = {"type": "prometheus", "uid": hide_braces("${datasource}")}
LEDGER = {"type": "grafana-postgresql-datasource", "uid": hide_braces("${ledger}")}


class PromSpec(_fields.Spec, kw_only=True):
    """A PromQL query."""

    expr: str
    legend: str = "__auto"
    format: Literal["time_series", "table", "heatmap"] = "time_series"
    exemplar: bool = False
    """Show the traces behind the values; histograms and counters only."""


class Prom(TargetsItemBase):
    """`prom`: a query over time; the panel makes it one of the moment where that is enough."""

    def gen_json_from_data(self, data: Any, context: Any) -> dict[str, Any]:
        spec = read_spec(PromSpec, data, "prom")
        return {
            "datasource": dict(PROMETHEUS),
            "editorMode": "code",
            "exemplar": spec.exemplar,
            "expr": " ".join(spec.expr.split()),
            "format": spec.format,
            "instant": False,
            "legendFormat": spec.legend,
            "range": True,
        }


class SqlSpec(_fields.Spec, kw_only=True):
    """A SQL query."""

    query: str
    format: Literal["table", "time_series"] = "table"


class Sql(TargetsItemBase):
    """`sql`: a query of the ledger."""

    def gen_json_from_data(self, data: Any, context: Any) -> dict[str, Any]:
        spec = read_spec(SqlSpec, data, "sql")
        return {
            "datasource": dict(LEDGER),
            "editorMode": "code",
            "format": spec.format,
            "rawQuery": True,
            "rawSql": spec.query.strip(),
        }
