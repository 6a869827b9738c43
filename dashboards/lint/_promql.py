"""Rules on PromQL: series and labels exist, counters are counted, ratios cannot divide by nothing.

Queries are looked at as trees (promql-parser), with a value put in for each of Grafana's variables;
`$__rate_interval` becomes a span that nobody writes by hand, so that it can be told from those that
somebody did.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import promql_parser

from dashboards.kit._queries import below, metrics_of, parse, put_in, walk
from dashboards.lint._layout import Found, panels_of
from dashboards.lint._series import TARGET_LABELS, known_series
from dashboards.lint._variables import values_of

_RATE_INTERVAL = timedelta(minutes=7, seconds=13)
_FIXED_RANGE_MIN = timedelta(hours=1)
"""A shorter range, written by hand, draws nothing when the step is longer."""
_COUNTED = {"counter", "histogram"}
_COUNTING = {"rate", "irate", "increase"}
_OF_GAUGES = {
    "avg_over_time",
    "max_over_time",
    "min_over_time",
    "deriv",
    "predict_linear",
    "changes",
}
_LABEL_IN_LEGEND = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def check(board: dict[str, Any], boards: list[dict[str, Any]]) -> Iterator[Found]:
    """Check all queries of one board, whatever the others are."""
    values = {**values_of(board), "__rate_interval": "7m13s"}
    for panel in panels_of(board):
        for target in panel.get("targets", []):
            if "expr" in target:
                for rule, what in (*_target(target, values), *_money(panel, target, values)):
                    yield panel["title"], rule, what
    for event in board["annotations"]["list"]:
        for rule, what in _expression(parse(event["expr"], values), values):
            if rule != "target-rate-interval":
                yield event["name"], rule, what
    for rule, what in _choices(board):
        yield "", rule, what


def _target(target: dict[str, Any], values: dict[str, str]) -> Iterator[tuple[str, str]]:
    try:
        tree = parse(target["expr"], values)
    except ValueError as error:
        yield "target-promql", f"{error}: {target['expr']}"
        return
    yield from _expression(tree, values)
    labels = _labels_below(tree)
    for name in _LABEL_IN_LEGEND.findall(target["legendFormat"]):
        if name not in labels:
            yield "legend-label", f"no series of {target['expr']} has {name}"
    if target["format"] == "table" and not target["instant"]:
        yield "target-instant", "a table asks for the moment"


def _money(
    panel: dict[str, Any], target: dict[str, Any], values: dict[str, str]
) -> Iterator[tuple[str, str]]:
    """Dollars out of a counter are an estimate, and must be called one."""
    if panel["fieldConfig"]["defaults"].get("unit") != "currencyUSD":
        return
    with contextlib.suppress(ValueError):
        series = [known_series().get(name) for name in metrics_of(target["expr"], values)]
        counted = any(each is not None and each.kind in _COUNTED for each in series)
        if counted and "about" not in panel["description"].lower():
            yield "about", "dollars from a counter are about, and the description must say so"


def _expression(tree: Any, values: dict[str, str]) -> Iterator[tuple[str, str]]:
    for node in walk(tree):
        if isinstance(node, promql_parser.VectorSelector):
            yield from _selector(node)
        elif isinstance(node, promql_parser.Call):
            yield from _call(node)
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            below = _labels_below(node.expr)
            for label in node.modifier.labels:
                if label not in below:
                    yield "label", f"nothing below `{node.modifier}` has the label {label}"
        elif isinstance(node, promql_parser.BinaryExpr):
            yield from _division(node)
    yield from _bare_counters(tree)


def _selector(node: Any) -> Iterator[tuple[str, str]]:
    series = known_series().get(str(node.name))
    if series is None:
        yield "metric", f"nothing exports {node.name}"
        return
    matchers = {matcher.name: matcher for matcher in node.matchers.matchers}
    for name, matcher in matchers.items():
        if name not in series.labels:
            yield "label", f"{node.name} has no label {name}"
        if name == "le" and series.bounds and matcher.value not in series.bounds:
            yield "bucket", f"{matcher.value} is no bound of a bucket of {node.name}"
    if series.family or str(node.name) in ("up", "scrape_duration_seconds"):
        for name in sorted(TARGET_LABELS - matchers.keys()):
            yield f"target-{name}", f"{node.name} is not narrowed to ${name}"


def _call(node: Any) -> Iterator[tuple[str, str]]:
    for argument in node.args:
        if not isinstance(argument, promql_parser.MatrixSelector):
            continue
        series = known_series().get(str(argument.vector_selector.name))
        if series is None:
            continue
        name = argument.vector_selector.name
        if node.func.name in _COUNTING:
            if argument.range != _RATE_INTERVAL and argument.range < _FIXED_RANGE_MIN:
                yield "target-rate-interval", f"{name}: a fixed range of {argument.range}"
            if series.kind == "gauge":
                yield "target-counter-agg", f"{name} is a gauge, and cannot be counted"
        elif node.func.name in _OF_GAUGES and series.kind in _COUNTED:
            yield "target-counter-agg", f"{name} is a counter; {node.func.name} is for gauges"


def _bare_counters(node: Any) -> Iterator[tuple[str, str]]:
    """Tell of counters whose bare value is read: a restart would change it."""
    if isinstance(node, promql_parser.MatrixSelector):
        return
    if isinstance(node, promql_parser.VectorSelector):
        series = known_series().get(str(node.name))
        if series is not None and series.kind in _COUNTED:
            yield "target-counter-agg", f"the bare value of the counter {node.name} is read"
    for child in below(node):
        yield from _bare_counters(child)


def _division(node: Any) -> Iterator[tuple[str, str]]:
    if str(node.op) != "/":
        return
    divisor = node.rhs
    while isinstance(divisor, promql_parser.ParenExpr):
        divisor = divisor.expr
    if not any(isinstance(each, promql_parser.VectorSelector) for each in walk(divisor)):
        return
    if not (isinstance(divisor, promql_parser.BinaryExpr) and str(divisor.op) == ">"):
        yield "guarded-ratio", f"divides by what may be 0: {divisor}"


def _labels_below(tree: Any) -> set[str]:
    """Give the labels that the series below a node can have."""
    labels: set[str] = set()
    for node in walk(tree):
        if isinstance(node, promql_parser.VectorSelector):
            series = known_series().get(str(node.name))
            labels |= series.labels if series is not None else set()
        elif isinstance(node, promql_parser.Call) and node.func.name == "label_replace":
            labels.add(str(node.args[1].val))
    return labels


def _choices(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Check that every choice of a target is a bound of the buckets it is asked of."""
    for variable in board["templating"]["list"]:
        if variable["type"] != "custom":
            continue
        marker = f'le="${variable["name"]}"'
        for panel in panels_of(board):
            for target in panel.get("targets", []):
                if marker not in target.get("expr", ""):
                    continue
                for option in variable["options"]:
                    values = {**values_of(board), variable["name"]: option["value"]}
                    for rule, what in _expression(parse(target["expr"], values), values):
                        if rule == "bucket":
                            yield rule, f"{panel['title']}: {what} ({put_in(marker, values)})"
