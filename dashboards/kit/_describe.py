"""A panel's description: what it shows, what to do about it, and what it is made from.

The last is found from the queries themselves, so it cannot go out of date.
"""

from __future__ import annotations

import re
from typing import Any

from dashboards.kit._planned import planned_names
from dashboards.kit._queries import metrics_of
from dashboards.kit._source import SourceError

_TABLE = re.compile(r"\b(?:FROM|JOIN)\s+(calls|attempts|hourly|rejects|positions|parked)\b")
_SERIES_OF_HISTOGRAM = re.compile(r"_(?:bucket|sum|count)$")


def describe(shows: str, act: str, targets: list[dict[str, Any]], values: dict[str, str]) -> str:
    """Give the description of a panel with these queries, on a board with these variables.

    Raises:
        SourceError: if a query is not PromQL.
    """
    metrics: list[str] = []
    tables: list[str] = []
    for target in targets:
        if "rawSql" in target:
            tables += _TABLE.findall(target["rawSql"])
            continue
        try:
            metrics += metrics_of(target["expr"], values)
        except ValueError as error:
            raise SourceError(f"{error}: {target['expr']}") from error
    parts = [" ".join(shows.split()), "What to do: " + " ".join(act.split())]
    names = list(dict.fromkeys(_SERIES_OF_HISTOGRAM.sub("", name) for name in metrics))
    if names:
        parts.append("Metrics: " + _listed(names))
    if tables:
        parts.append("Ledger: " + _listed(dict.fromkeys(tables)))
    planned = [name for name in names if name in planned_names()]
    if planned:
        parts.append(f"Nothing exports this yet, so nothing is drawn: {_listed(planned)}")
    return "\n\n".join(parts)


def _listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)
