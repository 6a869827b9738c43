"""From series to the text that Prometheus reads. The text itself is prometheus_client's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import exposition
from prometheus_client.core import (
    CounterMetricFamily,
    Exemplar,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from taximeter.metrics._families import FAMILIES
from taximeter.metrics._family import Family, Kind
from taximeter.metrics._series import Exemplar as Example
from taximeter.metrics._series import Labels

CONTENT_TYPE_TEXT = exposition.CONTENT_TYPE_PLAIN_0_0_4
CONTENT_TYPE_OPENMETRICS = openmetrics_exposition.CONTENT_TYPE_LATEST

Values = dict[Labels, float]
Bins = Mapping[Labels, Sequence[int]]
Examples = Mapping[Labels, Mapping[int, Example]]
_UNITS = ("seconds", "bytes", "usd")


class Picture(Collector):
    """The figures of one moment, by family. A family without a series is left out."""

    def __init__(self) -> None:
        self.values: dict[Family, Values] = {}
        self.bins: dict[Family, Bins] = {}
        self.exemplars: dict[Family, Examples] = {}

    def set(self, family: Family, value: float | None, *labels: str) -> None:
        """Put in one value in inner units; None is a value that nobody knows, and no series."""
        if value is not None:
            self.values.setdefault(family, {})[labels] = value

    def collect(self) -> Iterator[Metric]:
        """Give the families in the order of their table."""
        for family in FAMILIES:
            if self.values.get(family):
                yield _plain(family, self.values[family])
            elif self.bins.get(family):
                yield _histogram(family, self.bins[family], self.exemplars.get(family, {}))

    def text(self, *, as_openmetrics: bool) -> bytes:
        """Give the exposition without OpenMetrics' closing line."""
        if not as_openmetrics:
            return exposition.generate_latest(self)
        text: bytes = openmetrics_exposition.generate_latest(self)  # type: ignore[no-untyped-call]
        return text.removesuffix(b"# EOF\n")


def _plain(family: Family, values: Values) -> Metric:
    unit = _unit(family)
    metric: CounterMetricFamily | GaugeMetricFamily
    if family.kind is Kind.INFO:
        info = InfoMetricFamily(family.name, family.help)
        for labels in values:
            info.add_metric([], dict(zip(family.labels, labels, strict=True)))
        return info
    if family.kind is Kind.COUNTER:
        metric = CounterMetricFamily(family.name, family.help, labels=family.labels, unit=unit)
    else:
        metric = GaugeMetricFamily(family.name, family.help, labels=family.labels, unit=unit)
    scale = family.scale
    for labels, value in values.items():
        metric.add_metric(labels, value / scale if scale != 1 else value)
    return metric


def _histogram(family: Family, bins: Bins, examples: Examples) -> Metric:
    metric = HistogramMetricFamily(
        family.name, family.help, labels=family.labels, unit=_unit(family)
    )
    # As Go writes numbers: an edge is a label, and Prometheus before 3.0 compares it as text.
    edges: list[str] = [floatToGoString(edge / family.scale) for edge in family.edges]  # type: ignore[no-untyped-call]
    edges.append("+Inf")
    for labels, counted in bins.items():
        mine = examples.get(labels) or {}
        metric.add_metric(
            labels,
            [
                (edge, calls, _shown(mine[place], family.scale)) if place in mine else (edge, calls)
                for place, (edge, calls) in enumerate(
                    zip(edges, accumulate(counted[:-1]), strict=True)
                )
            ],
            counted[-1] / family.scale,
        )
    return metric


def _shown(example: Example, scale: int) -> Exemplar:
    ids = {"trace_id": example.trace_id, "call_id": example.call_id}
    return Exemplar(ids, example.value / scale, example.at_seconds)


def _unit(family: Family) -> str:
    for unit in _UNITS:
        if family.name.endswith(f"_{unit}"):
            return unit
    return ""
