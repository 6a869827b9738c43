"""Metrics: what the ledger's calls add up to, and how the processes stand, for Prometheus.

`Meter` is the recorder's sink: it counts booked calls, keeps its counters in the ledger's own
transactions (`sum(ledger) == /metrics`, whatever is killed), and gives the text of `/metrics` for
all that is made from calls. `expose_live` gives the text of what processes tell of themselves. The
families are one table, and docs/metrics.md is made from it.
"""

from taximeter.metrics._exposition import CONTENT_TYPE_OPENMETRICS, CONTENT_TYPE_TEXT
from taximeter.metrics._facts import ExporterFigures, RecorderCounts, RecorderFacts
from taximeter.metrics._families import FAMILIES
from taximeter.metrics._family import Family, Kind, Source
from taximeter.metrics._live import expose_live
from taximeter.metrics._meter import Meter

__all__ = [
    "CONTENT_TYPE_OPENMETRICS",
    "CONTENT_TYPE_TEXT",
    "FAMILIES",
    "ExporterFigures",
    "Family",
    "Kind",
    "Meter",
    "RecorderCounts",
    "RecorderFacts",
    "Source",
    "expose_live",
]
