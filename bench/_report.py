"""The report: figures to a Markdown table, with the machine they were taken on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

BEGIN = "<!-- figures: begin, written by `python -m bench` -->"
END = "<!-- figures: end -->"
BASE = "nginx"

CALL_RATIO_MAX = 3.0
LIMITED_RATIO_MAX = 4.0
"""Of a call with every kind of limit counted."""
DELTA_RATIO_MAX = 1.5
RECORDER_MICROSECONDS_MAX = 300.0
TRACED_MICROSECONDS_MAX = 600.0
IDLE_KIB_MAX = 40.0


@dataclass(slots=True)
class Figures:
    """What was measured of one target, a list place a round."""

    call: list[float] = field(default_factory=list)
    """Microseconds of CPU a call, at 2,000 calls a second."""
    call_full: list[float] = field(default_factory=list)
    """The same, as fast as they are answered."""
    call_apart: list[float] = field(default_factory=list)
    """At 2,000 calls a second, heads and bodies written one by one."""
    delta: list[float] = field(default_factory=list)
    delta_unasked: list[float] = field(default_factory=list)
    """Where the client does not ask for usage, and the metering proxy does."""
    latency: list[float] = field(default_factory=list)
    """Median microseconds that a call of `call` takes."""
    idle: list[float] = field(default_factory=list)
    recorder: list[float] = field(default_factory=list)


def ratio(values: list[float], base: list[float]) -> float | None:
    """Give the median, over the rounds, of the ratio to the base in the same round.

    What else the machine does differs from round to round and weighs on both alike.
    """
    pairs = [value / other for value, other in zip(values, base, strict=False) if other > 0]
    return median(pairs) if pairs else None


def machine() -> str:
    """Describe the machine and what ran on it."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    shown = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False).stderr
    packages = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("aiohttp", "uvloop", "httptools")
    )
    return (
        f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, "
        f"Python {platform.python_version()} ({_built()}), {packages}, "
        f"{shown.strip().removeprefix('nginx version: ')}, {datetime.now(UTC):%Y-%m-%d}"
    )


def _built() -> str:
    """Tell whose Python this is: how it was built decides a sixth of what it takes."""
    whose = "the distribution's" if sys.base_prefix == "/usr" else "not the distribution's"
    return f"{whose}, {platform.python_compiler()}"


def table(measured: dict[str, Figures], command: str, rounds: int) -> str:
    """Give the report's Markdown."""
    base = measured[BASE]
    lines = [
        f"`{command}`, medians of {rounds} rounds.",
        "",
        f"Machine: {machine()}.",
        "",
        "| way | CPU a call, steady | x nginx | CPU a call, full | x nginx | CPU a delta | x nginx "
        "| idle stream | p50 of a call |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, figures in measured.items():
        if not figures.latency:
            continue  # only its recorder was measured
        cells = [
            name,
            _micro(figures.call),
            _times(ratio(figures.call, base.call)),
            _micro(figures.call_full),
            _times(ratio(figures.call_full, base.call_full)),
            _micro(figures.delta),
            _times(ratio(figures.delta, base.delta)),
            f"{median(figures.idle):.1f} KiB" if figures.idle else "-",
            _micro(figures.latency),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    checks = _checks(measured)
    if checks:
        lines += ["", "| limit | allowed | measured | |", "| --- | ---: | ---: | --- |", *checks]
    return "\n".join(lines)


def _checks(measured: dict[str, Figures]) -> list[str]:
    ours, base = measured.get("Taximeter"), measured[BASE]
    traced = measured.get("Taximeter with traces")
    limited = measured.get("Taximeter, limits on")
    if ours is None:
        return []
    rows: list[tuple[str, str, float | None, float | None]] = [
        ("relay, a call, steady", "x nginx", CALL_RATIO_MAX, ratio(ours.call, base.call)),
        ("relay, a call, full", "x nginx", None, ratio(ours.call_full, base.call_full)),
        (
            "relay, a call, steady, heads and bodies apart",
            "x nginx",
            None,
            ratio(ours.call_apart, base.call_apart),
        ),
        (
            "relay, a call, steady, limits on",
            "x nginx",
            LIMITED_RATIO_MAX,
            None if limited is None else ratio(limited.call, base.call),
        ),
        ("relay, a delta", "x nginx", DELTA_RATIO_MAX, ratio(ours.delta, base.delta)),
        (
            "relay, a delta, usage asked for by us",
            "x nginx",
            DELTA_RATIO_MAX,
            ratio(ours.delta_unasked, base.delta_unasked),
        ),
        (
            "recorder, a call at 500 a second",
            "us",
            RECORDER_MICROSECONDS_MAX,
            median(ours.recorder) if ours.recorder else None,
        ),
        (
            "recorder, the same with every call traced",
            "us",
            TRACED_MICROSECONDS_MAX,
            median(traced.recorder) if traced is not None and traced.recorder else None,
        ),
        ("idle stream of 1,000", "KiB", IDLE_KIB_MAX, median(ours.idle) if ours.idle else None),
    ]
    lines = []
    for what, unit, allowed, value in rows:
        shown = "-" if value is None else f"{value:.2f} {unit}"
        if allowed is None:
            lines.append(f"| {what} | no limit | {shown} | - |")
            continue
        verdict = "not measured" if value is None else "PASS" if value <= allowed else "over"
        lines.append(f"| {what} | {allowed:g} {unit} | {shown} | {verdict} |")
    return lines


def _micro(values: list[float]) -> str:
    return f"{median(values):.1f} us" if values else "-"


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def write(page: Path, report: str) -> None:
    """Put the report between the page's markers.

    Raises:
        ValueError: if the page has no markers.
    """
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no markers for the figures")
    page.write_text(f"{before}{BEGIN}\n{report}\n{END}{after}")
