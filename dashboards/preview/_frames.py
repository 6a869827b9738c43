"""What queries give: series over time, and tables."""

from __future__ import annotations

import json
import math
import re
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import psycopg

from dashboards.preview._values import Choice, Span, fill_promql, fill_sql

Row = dict[str, Any]

_SECONDS_MAX = 30
_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(slots=True)
class Series:
    """Values of one name over time, in the order of time."""

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    points: list[tuple[float, float]] = field(default_factory=list)

    @property
    def last(self) -> float | None:
        """The newest value."""
        return self.points[-1][1] if self.points else None


@dataclass(slots=True)
class Frames:
    """What the queries of one panel gave."""

    series: list[Series] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class Asker:
    """Asks Prometheus and the ledger what a board asks."""

    def __init__(self, prometheus_url: str, ledger: psycopg.Connection[Row]) -> None:
        self._prometheus_url = prometheus_url
        self._ledger = ledger

    def ask(
        self,
        board: dict[str, Any],
        panel: dict[str, Any],
        span: Span,
        chosen: Mapping[str, Choice],
    ) -> Frames:
        """Give what a panel's queries give in a span; one that fails is told of, not raised."""
        frames = Frames()
        tables: list[tuple[str, list[Row]]] = []
        for target in panel.get("targets", []):
            try:
                if "rawSql" in target:
                    query = fill_sql(target["rawSql"], board, span, chosen)
                    rows = self._ledger.execute(query.encode()).fetchall()
                    if target["format"] == "time_series":
                        frames.series += _series_of(rows)
                    else:
                        tables.append(("", rows))
                        frames.series += _numbers_of(rows)
                    continue
                query = fill_promql(target["expr"], board, span, chosen)
                if target["format"] == "table":
                    tables.append((target["refId"], self._rows(query, span)))
                elif target["instant"]:
                    frames.series += self._numbers(query, span, target["legendFormat"])
                else:
                    frames.series += self._series(query, span, target["legendFormat"])
            except (psycopg.Error, OSError, ValueError) as error:
                frames.failed.append(f"{target['refId']}: {error}")
        frames.rows = _merged(tables)
        return frames

    def traces(self, board: dict[str, Any], query: str, span: Span) -> list[str]:
        """Give the ids of the single traces that are drawn beside a query's lines."""
        asked = {"query": fill_promql(query, board, span, {}), "start": span.since}
        found = self._get("query_exemplars", {**asked, "end": span.until})
        return [each["labels"]["trace_id"] for series in found for each in series["exemplars"]]

    def _series(self, query: str, span: Span, legend: str) -> list[Series]:
        asked = {"query": query, "start": span.since, "end": span.until, "step": span.step}
        found: list[Series] = []
        for each in self._get("query_range", asked)["result"]:
            labels = each["metric"]
            points = [(float(at), float(value)) for at, value in each["values"]]
            kept = [(at, value) for at, value in points if math.isfinite(value)]
            found.append(Series(_named(legend, labels), labels, kept))
        return found

    def _numbers(self, query: str, span: Span, legend: str) -> list[Series]:
        found = self._get("query", {"query": query, "time": span.until})["result"]
        return [
            Series(_named(legend, each["metric"]), each["metric"], [(at, float(value))])
            for each in found
            for at, value in [each["value"]]
            if math.isfinite(float(value))
        ]

    def _rows(self, query: str, span: Span) -> list[Row]:
        found = self._get("query", {"query": query, "time": span.until})["result"]
        return [{**each["metric"], "Value": float(each["value"][1])} for each in found]

    def _get(self, path: str, asked: dict[str, Any]) -> Any:
        url = f"{self._prometheus_url}/api/v1/{path}?{urllib.parse.urlencode(asked)}"
        with urllib.request.urlopen(url, timeout=_SECONDS_MAX) as answer:
            return json.load(answer)["data"]


def _named(legend: str, labels: dict[str, str]) -> str:
    return _LABEL.sub(lambda match: labels.get(match[1], ""), legend).strip()


def _series_of(rows: list[Row]) -> list[Series]:
    """Give series of rows with a column `time`, and perhaps one of names, `metric`."""
    found: dict[str, Series] = {}
    for row in rows:
        at = float(row["time"])
        for column, value in row.items():
            if column in ("time", "metric"):
                continue
            name = str(row["metric"]) if "metric" in row else column
            series = found.setdefault(name, Series(name))
            if value is not None:
                series.points.append((at, float(value)))
    return list(found.values())


def _numbers_of(rows: list[Row]) -> list[Series]:
    """Give each column of numbers as a series, for panels that show single values."""
    found: dict[str, Series] = {}
    for index, row in enumerate(rows):
        for column, value in row.items():
            if isinstance(value, int | float | Decimal):
                series = found.setdefault(column, Series(column))
                series.points.append((float(index), float(value)))
    return list(found.values())


def _merged(tables: list[tuple[str, list[Row]]]) -> list[Row]:
    """Join tables as Grafana's `merge` does: on the columns that they share."""
    several = len(tables) > 1
    merged: list[Row] = []
    for ref, rows in tables:
        for row in rows:
            named = {
                (f"Value #{ref}" if k == "Value" and several else k): v for k, v in row.items()
            }
            fitting = [
                each
                for each in merged
                if (shared := each.keys() & named.keys())
                and all(each[column] == named[column] for column in shared)
            ]
            if fitting and several:
                for each in fitting:
                    each.update(named)
            else:
                merged.append(named)
    return merged
