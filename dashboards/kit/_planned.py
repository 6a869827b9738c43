"""Metrics of parts that are still to be built: their panels exist, and say so."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

PLANNED = Path(__file__).resolve().parent.parent / "planned_metrics.yaml"


class PlannedMetric(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A metric that will be exported."""

    name: str
    type: Literal["counter", "gauge", "histogram", "info"]
    labels: list[str]
    help: str


@cache
def read_planned() -> tuple[PlannedMetric, ...]:
    """Read the list.

    Raises:
        msgspec.ValidationError: if an entry is not what it must be.
    """
    return tuple(msgspec.yaml.decode(PLANNED.read_bytes(), type=list[PlannedMetric]))


def planned_names() -> set[str]:
    """Give the names on the list."""
    return {metric.name for metric in read_planned()}
