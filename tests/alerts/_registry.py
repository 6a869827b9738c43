"""Which metrics there are, with which labels, and what a query asks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import yaml

from taximeter.metrics import FAMILIES

ROOT = Path(__file__).parent.parent.parent
PLANNED = ROOT / "dashboards" / "planned_metrics.yaml"
OF_SCRAPE = {"job", "instance"}
"""Labels that Prometheus gives to whatever it scrapes."""
FOREIGN = {
    # Of Prometheus, about its targets and its rules, and of Alertmanager.
    "up": set[str](),
    "prometheus_rule_evaluation_failures_total": {"rule_group"},
    "alertmanager_notifications_failed_total": {"integration"},
}


@dataclass(frozen=True)
class Asked:
    """A selector of a query: a metric and the labels it is told by."""

    metric: str
    labels: frozenset[str]


def known() -> dict[str, set[str]]:
    """Give the labels of every series by its name: exported, planned, and foreign."""
    found = dict(FOREIGN)
    for family in FAMILIES:
        for name, extra in _series(family.name, str(family.kind.value)):
            found[name] = {*family.labels, *extra}
    for planned in yaml.safe_load(PLANNED.read_text(encoding="utf-8")):
        name = planned["name"].removesuffix("_total")
        for series, extra in _series(name, planned["type"]):
            found.setdefault(series, {*planned["labels"], *extra})
    return found


def _series(name: str, kind: str) -> Iterator[tuple[str, set[str]]]:
    match kind:
        case "counter":
            yield f"{name}_total", set()
        case "info":
            yield f"{name}_info", set()
        case "histogram":
            yield f"{name}_bucket", {"le"}
            yield f"{name}_count", set()
            yield f"{name}_sum", set()
        case "gauge":
            yield name, set()
        case _:
            raise ValueError(f"{name} is a {kind}")


def asked(query: str) -> list[Asked]:
    """Give the selectors of a query."""
    return list(_selectors(promql_parser.parse(query)))


def grouped(query: str) -> Iterator[tuple[set[str], set[str]]]:
    """Give the labels of each `by (...)` in a query, with the metrics below it."""
    for node in _nodes(promql_parser.parse(query)):
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            yield set(node.modifier.labels), {each.metric for each in _selectors(node.expr)}


def _selectors(tree: Any) -> Iterator[Asked]:
    for node in _nodes(tree):
        if isinstance(node, promql_parser.VectorSelector):
            labels = frozenset(matcher.name for matcher in node.matchers.matchers)
            yield Asked(node.name or "", labels)


def _nodes(tree: Any) -> Iterator[Any]:
    yield tree
    for name in ("lhs", "rhs", "expr", "vector_selector"):
        below = getattr(tree, name, None)
        if below is not None and not isinstance(below, str):
            yield from _nodes(below)
    for below in getattr(tree, "args", None) or []:
        yield from _nodes(below)
