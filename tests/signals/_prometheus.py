"""A real Prometheus on loopback that scrapes one target, in a folder that goes with it."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

from tests.support.engines import Engine, Sample, ask, evaluate, prometheus
from tests.support.ports import free_port

SCRAPE_SECONDS = 0.5
CONFIGURATION = """
global: {{scrape_interval: {interval}, scrape_timeout: {interval}}}
scrape_configs:
  - job_name: taximeter
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


class Prometheus:
    """Scrapes the target on a port of loopback, twice a second. Start and stop it with `with`."""

    def __init__(self, folder: Path, target_port: int) -> None:
        self._folder = folder
        self._target_port = target_port
        self.port = free_port()
        self._engine: Engine | None = None

    def __enter__(self) -> Prometheus:
        configuration = self._folder / "prometheus.yml"
        interval = f"{int(SCRAPE_SECONDS * 1000)}ms"
        configuration.write_text(CONFIGURATION.format(interval=interval, port=self._target_port))
        self._engine = prometheus(configuration, port=self.port)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._engine is not None
        self._engine.end()

    def query(self, expression: str) -> list[Sample]:
        """Evaluate an expression now; give its samples, each with its labels."""
        return evaluate(self.port, expression)

    def value(self, expression: str) -> float | None:
        """Evaluate an expression that gives one number; None if it gives none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return found[0][1] if found else None

    def by(self, label: str, expression: str) -> dict[str, float]:
        """Evaluate an expression that gives a number for each value of a label."""
        return {labels.get(label, ""): value for labels, value in self.query(expression)}

    def exemplars(self, expression: str, start_seconds: float) -> list[dict[str, str]]:
        """Give the labels of all exemplars of an expression's series since a time."""
        span = {"start": f"{start_seconds:.3f}", "end": f"{time.time() + 1:.3f}"}
        series = ask(self.port, "query_exemplars", query=expression, **span)
        return [exemplar["labels"] for each in series for exemplar in each["exemplars"]]

    def wait_until(self, expression: str, value: float, seconds: float = 15.0) -> None:
        """Wait until an expression has a value.

        Raises:
            AssertionError: if it has another after `seconds`.
        """
        deadline = time.monotonic() + seconds
        while (found := self.value(expression)) != value:
            assert time.monotonic() < deadline, f"{expression} is {found}, not {value}"
            time.sleep(0.1)
