"""Which series there are, and what they are told apart by.

From the product's registry; from the list of what is planned; and the few that Prometheus and the
alerts' recording rules make.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from dashboards.kit._planned import read_planned
from taximeter.metrics import FAMILIES, Kind

EXCUSED = Path(__file__).resolve().parent.parent / "excused_metrics.yaml"
RULES = Path(__file__).resolve().parent.parent.parent / "alerts" / "generated" / "rules"

TARGET_LABELS = frozenset({"job", "instance"})
"""What Prometheus adds to every series it scrapes."""


@dataclass(frozen=True, slots=True)
class Series:
    """All series of one name."""

    kind: str
    """`counter`, `gauge`, `histogram`, `info`, or `recorded`."""
    labels: frozenset[str]
    bounds: frozenset[str] = frozenset()
    """Of a histogram: its buckets' bounds as they stand in `le`."""
    family: str = ""
    """Of ours: the family's name."""


@cache
def known_series() -> dict[str, Series]:
    """Give every series by its name."""
    series: dict[str, Series] = {}
    for family in FAMILIES:
        bounds = frozenset(str(edge / family.scale) for edge in family.edges) | {"+Inf"}
        _add(series, family.exposed, str(family.kind), family.labels, bounds)
    for planned in read_planned():
        _add(series, planned.name, planned.type, planned.labels, frozenset())
    for name in ("up", "scrape_duration_seconds", "scrape_samples_scraped"):
        series[name] = Series("gauge", TARGET_LABELS)
    alert = {"alertname", "alertstate", "severity", "service", "upstream", "instance"}
    series["ALERTS"] = Series("gauge", frozenset(alert))
    for name in _recorded():
        series[name] = Series("recorded", frozenset())
    return series


@cache
def excused() -> dict[str, str]:
    """Give the families that are on no panel, and why."""
    found = yaml.safe_load(EXCUSED.read_text(encoding="utf-8"))
    return {str(name): str(reason) for name, reason in found.items()}


def _add(
    series: dict[str, Series],
    name: str,
    kind: str,
    labels: Iterable[str],
    bounds: frozenset[str],
) -> None:
    own = frozenset(labels) | TARGET_LABELS
    if kind != Kind.HISTOGRAM:
        series[name] = Series(kind, own, family=name)
        return
    series[f"{name}_bucket"] = Series(kind, own | {"le"}, bounds, family=name)
    for ending in ("sum", "count"):
        series[f"{name}_{ending}"] = Series(kind, own, family=name)


def _recorded() -> set[str]:
    """Give the names that the alerts' recording rules make."""
    pattern = re.compile(r"^\s*-?\s*record:\s*[\"']?([A-Za-z0-9_:]+)", re.MULTILINE)
    return {
        name
        for path in sorted(RULES.glob("*.yml"))
        for name in pattern.findall(path.read_text(encoding="utf-8"))
    }
