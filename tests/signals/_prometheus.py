"""A real Prometheus on loopback that scrapes one target, in a folder that goes with it."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.rig.taximeter import free_port

START_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 10.0
SCRAPE_SECONDS = 0.5
CONFIGURATION = """
global: {{scrape_interval: {interval}, scrape_timeout: {interval}}}
scrape_configs:
  - job_name: taximeter
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""

Sample = tuple[dict[str, str], float]


def program(name: str) -> str:
    """Find a program of Prometheus'.

    Raises:
        RuntimeError: if it is not installed; tools/system-packages does that.
    """
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed: run `tools/system-packages engines`")
    return found


class Prometheus:
    """Scrapes the target on a port of loopback, twice a second. Start and stop it with `with`."""

    def __init__(self, folder: Path, target_port: int) -> None:
        self._folder = folder
        self._target_port = target_port
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Prometheus:
        configuration = self._folder / "prometheus.yml"
        interval = f"{int(SCRAPE_SECONDS * 1000)}ms"
        configuration.write_text(CONFIGURATION.format(interval=interval, port=self._target_port))
        log = self._folder / "prometheus.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    program("prometheus"),
                    f"--config.file={configuration}",
                    f"--storage.tsdb.path={self._folder / 'tsdb'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    "--enable-feature=exemplar-storage",
                    "--log.level=warn",
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._end()
                raise RuntimeError(f"Prometheus did not start:\n{log.read_text()}")
            time.sleep(0.05)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=1):
                return True
        except OSError:
            return False

    def _get(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{query}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[Sample]:
        """Evaluate an expression now; give its samples, each with its labels."""
        found = self._get("query", query=expression)["result"]
        return [(sample["metric"], float(sample["value"][1])) for sample in found]

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
        series = self._get("query_exemplars", query=expression, **span)
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
