"""The raw figures, as they stand in `bench/report/figures.json`: a section at a time.

A section that is run again takes the place of the one before; so a long run may be made in parts,
and each part says when, by which command, and how busy the machine was with other things.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from bench import _processes

PACKAGES = ("taximeter", "aiohttp", "uvloop", "httptools", "msgspec", "sqlalchemy", "psycopg")
PROGRAMS = {
    "nginx": ["nginx", "-v"],
    "PostgreSQL": ["postgres", "--version"],
    "node": ["node", "--version"],
    "go": ["go", "version"],
}

Table = dict[str, dict[str, list[float]]]


@dataclass(slots=True)
class Figures:
    """All that was measured."""

    machine: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By name: `command`, `at`, `rounds`, `seconds`, `others`, `left_out`, `table`."""

    def table(self, section: str) -> Table:
        """Give a section's values; empty if it was not measured."""
        return dict(self.sections.get(section, {}).get("table", {}))

    def left_out(self) -> dict[str, str]:
        """Give what could not be measured, and why."""
        found: dict[str, str] = {}
        for section in self.sections.values():
            found |= section["left_out"]
        return found


def read(path: Path) -> Figures:
    """Read the figures of an earlier run; none if there was none."""
    return Figures(**json.loads(path.read_text())) if path.exists() else Figures()


def write(path: Path, figures: Figures) -> None:
    """Keep the figures: four digits are more than they hold."""
    said = {
        "machine": figures.machine,
        "versions": figures.versions,
        "sections": _rounded(figures.sections),
    }
    path.write_text(json.dumps(said, indent=1) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


@contextmanager
def told(
    figures: Figures,
    name: str,
    command: str,
    *,
    rounds: int,
    table: Table,
    left_out: dict[str, str],
) -> Iterator[None]:
    """Run a section within this: what it finds, and how it went, is kept."""
    begin, busy, ours = time.monotonic(), _processes.machine_busy_seconds(), _our_seconds()
    yield
    seconds = time.monotonic() - begin
    others = _processes.machine_busy_seconds() - busy - (_our_seconds() - ours)
    figures.sections[name] = {
        "command": command,
        "at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "rounds": rounds,
        "seconds": seconds,
        # Of all cores' time: what neither the ways nor the load nor the upstream used.
        "others": max(0.0, others) / (seconds * (os.cpu_count() or 1)),
        "left_out": left_out,
        "table": table,
    }


def _our_seconds() -> float:
    """Give the CPU time of this process and of all that it has started and seen end."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def machine() -> dict[str, str]:
    """Describe the machine, without its name."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory_kib / 2**20:.0f} GiB",
        "kernel": f"Linux {platform.release()}",
    }


def versions() -> dict[str, str]:
    """Give the versions of what was measured, and of what it rests on."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        found[name] = metadata.version(name)
    for name, command in PROGRAMS.items():
        if shutil.which(command[0]) is not None:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            words = (done.stdout + done.stderr).replace("nginx/", " ").replace("go1", "1").split()
            found[name] = next(word.strip("v") for word in words if word.strip("v")[:1].isdigit())
    return found
