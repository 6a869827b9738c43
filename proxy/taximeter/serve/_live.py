"""The families that are known without the recorder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from taximeter.live import ChildState, RelayState


class _Live(Collector):
    def __init__(self, relays: Sequence[RelayState], processes: Mapping[str, ChildState]) -> None:
        self._relays, self._processes = relays, processes

    def collect(self) -> list[Metric]:
        up = GaugeMetricFamily("taximeter_process_up", "1 if it answers.", labels=["process"])
        for name, process in self._processes.items():
            up.add_metric([name], float(process.up))
        flight = GaugeMetricFamily("taximeter_in_flight", "Calls.", labels=["worker", "upstream"])
        for relay in self._relays:
            for upstream, calls in relay.in_flight.items():
                flight.add_metric([str(relay.worker), upstream], calls)
        return [up, flight]


def expose_live(
    relays: Sequence[RelayState], processes: Mapping[str, ChildState], openmetrics: bool
) -> bytes:
    """Give the text, without its closing line."""
    registry = CollectorRegistry()
    registry.register(_Live(relays, processes))
    return generate_latest(registry)
