"""The storm's report: what users and server saw, to a Markdown table."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.storm._upstream import MEAN_SECONDS, PLACES
from bench.storm._users import Met

BEGIN = "<!-- storm: begin, written by `python -m bench.storm` -->"
END = "<!-- storm: end -->"

PROMISED = ("Taximeter, `concurrency: 20`", "Taximeter, nothing set")
AMPLIFICATION_MAX = 1.05
GOODPUT_SHARE_MIN = 0.95


@dataclass(frozen=True, slots=True)
class Served:
    """What the model server saw."""

    attempts: int
    refused_places: int
    refused_requests: int
    most_busy: int
    worked_share: float
    """Of all its places, the time they worked for answers that were sent whole."""


@dataclass(frozen=True, slots=True)
class Storm:
    """One way's storm."""

    met: Met
    served: Served

    @property
    def goodput(self) -> float:
        """Calls that ended well, a second."""
        return len(self.met.first_token_seconds) / (self.met.end - self.met.begin)

    @property
    def amplification(self) -> float:
        """Attempts at the server for each call of a user."""
        return self.served.attempts / self.met.calls

    def wait(self, share: float) -> float | None:
        """Give a percentile of the time to first token, in seconds."""
        ordered = sorted(self.met.first_token_seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None

    @property
    def jain(self) -> float | None:
        """Jain's index over the users' completed calls: 1 is equal, 1/n is all to one."""
        counts = self.met.completed_by_user
        squares = sum(count * count for count in counts)
        return sum(counts) ** 2 / (len(counts) * squares) if squares else None


def table(storms: dict[str, Storm], left_out: list[str], command: str) -> str:
    """Give the report's Markdown."""
    some = next(iter(storms.values())).met
    lines = [
        f"`{command}`: {len(some.completed_by_user)} users, {some.end - some.begin:g} s a way; "
        f"capacity {PLACES / MEAN_SECONDS:g} calls a second. {os.cpu_count()} cores, "
        f"Linux {platform.release()}, Python {platform.python_version()}, "
        f"{datetime.now(UTC):%Y-%m-%d}.",
        "",
        "| way | goodput | share of capacity | first token p50 | p99 | upstream calls a call "
        "| failed calls | 429 seen | Jain |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, storm in storms.items():
        cells = [
            name,
            f"{storm.goodput:.1f}/s",
            f"{storm.served.worked_share:.1%}",
            _seconds(storm.wait(0.5)),
            _seconds(storm.wait(0.99)),
            f"{storm.amplification:.2f}",
            f"{storm.met.failed} of {storm.met.calls}",
            f"{storm.met.refused_429}",
            "-" if storm.jain is None else f"{storm.jain:.3f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [f"\n{sentence}" for sentence in left_out]
    rows = [
        row for name, storm in storms.items() if name in PROMISED for row in _checks(name, storm)
    ]  # fmt: skip
    if rows:
        lines += ["", "| promise | allowed | measured | |", "| --- | ---: | ---: | --- |", *rows]
    return "\n".join(lines)


def _checks(name: str, storm: Storm) -> list[str]:
    share = storm.served.worked_share
    checks = (
        ("429 seen by a client", "0", f"{storm.met.refused_429}", not storm.met.refused_429),
        (
            "upstream calls a call",
            f"<= {AMPLIFICATION_MAX}",
            f"{storm.amplification:.3f}",
            storm.amplification <= AMPLIFICATION_MAX,
        ),
        (
            "share of capacity",
            f">= {GOODPUT_SHARE_MIN:.0%}",
            f"{share:.1%}",
            share >= GOODPUT_SHARE_MIN,
        ),
    )
    return [
        f"| {name}: {what} | {allowed} | {seen} | {'PASS' if good else 'missed'} |"
        for what, allowed, seen, good in checks
    ]


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def write(page: Path, report: str) -> None:
    """Put the report between the page's marks of the storm.

    Raises:
        ValueError: if the page has none.
    """
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no marks for the storm")
    page.write_text(f"{before}{BEGIN}\n{report}\n{END}{after}")
