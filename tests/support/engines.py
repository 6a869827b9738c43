"""Servers of Prometheus' makers: found, started on loopback, waited for, asked and ended."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

START_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 10.0
POLL_SECONDS = 0.05

Sample = tuple[dict[str, str], float]
"""Labels, and the value."""

_NAMES = {
    # Debian's name of the server, then its makers'.
    "alertmanager": ("prometheus-alertmanager", "alertmanager"),
}


class ProgramMissing(RuntimeError):
    pass


def program(name: str) -> str:
    """Give the path of a program.

    Raises:
        ProgramMissing: if it is not installed; these tests prove nothing without it.
    """
    for one in _NAMES.get(name, (name,)):
        found = shutil.which(one)
        if found is not None:
            return found
    raise ProgramMissing(
        f"These tests need {name}. Install it (`tools/system-packages engines`; Debian: "
        "apt-get install prometheus prometheus-alertmanager)."
    )


class Engine:
    """A server that is ready, with its log in a folder of the test's own."""

    def __init__(self, name: str, *words: str, port: int, folder: Path) -> None:
        """Start it, and wait until it says on `port` that it is ready.

        Raises:
            ProgramMissing: if it is not installed.
            RuntimeError: if it does not start, with what it said; it is ended.
        """
        log = folder / f"{name}.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [program(name), *words, f"--web.listen-address=127.0.0.1:{port}"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

        def is_settled() -> bool:
            return self._process.poll() is not None or _is_ready(port)

        if not wait(is_settled, START_SECONDS_MAX) or self._process.poll() is not None:
            self.end()
            raise RuntimeError(f"{name} did not start:\n{log.read_text()}")

    def end(self) -> None:
        """End it, and wait for that."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def prometheus(configuration: Path, *words: str, port: int) -> Engine:
    """Start Prometheus with a configuration; all it keeps is beside that."""
    return Engine(
        "prometheus",
        f"--config.file={configuration}",
        f"--storage.tsdb.path={configuration.parent / 'tsdb'}",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
        *words,
        port=port,
        folder=configuration.parent,
    )


def ask(port: int, path: str, **parameters: str) -> Any:
    """Ask Prometheus' API; give the data of its answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["data"]


def evaluate(port: int, expression: str) -> list[Sample]:
    """Have Prometheus evaluate an expression now; give its samples, each with its labels."""
    found = ask(port, "query", query=expression)["result"]
    return [(sample["metric"], float(sample["value"][1])) for sample in found]


def wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition holds; tell whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _is_ready(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=1).close()
    except OSError:
        return False
    return True
