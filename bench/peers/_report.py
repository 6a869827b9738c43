"""The page of the comparison, made from the figures."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bench.peers import _rounds
from bench.peers._figures import Figures, Table
from bench.peers._ways import WAYS
from bench.peers._words import (
    AFTER,
    CALL,
    DELTA,
    FIRST,
    FULL,
    GROWTH,
    HEAD,
    IDLE,
    RECORDER,
    REPORTS,
)

BASE = "nginx"
TLS_BASE = "nginx, TLS upstream"

SHOWN = (
    *(("nginx", "nginx", "whole"), ("nginx as it comes", "nginx as it comes", "whole")),
    ("nginx, TLS upstream", TLS_BASE, "whole"),
    ("aiohttp handler", "aiohttp handler", "whole"),
    ("Taximeter, journal only", "Taximeter", "relaying"),
    ("Taximeter, full", "Taximeter", "whole"),
    ("Taximeter, full, traced", "Taximeter, traced", "whole"),
    ("Taximeter, limits on, journal only", "Taximeter, limits on", "relaying"),
    ("Taximeter, TLS upstream, journal only", "Taximeter, TLS upstream", "relaying"),
    *((way.name, way.name, "whole") for way in WAYS if way.share < 1),
)
"""What a row is called, whose figures it shows, and of which processes."""


def page(figures: Figures) -> str:
    """Give the page."""
    parts = [HEAD, _machine(figures), _ways(figures)]
    for name, write in PARTS.items():
        if name in figures.sections:
            parts += [write(figures), _how(figures, name)]
    return "\n\n".join([*parts, AFTER]) + "\n"


def _machine(figures: Figures) -> str:
    machine = ", ".join(
        f"{value} {name}" if name in ("cores", "memory") else value
        for name, value in figures.machine.items()
    )
    versions = ", ".join(f"{name} {version}" for name, version in figures.versions.items())
    return f"Machine: {machine}.\n\nVersions: {versions}."


def _ways(figures: Figures) -> str:
    left_out = figures.left_out()
    rows = [[way.name, way.does] for way in WAYS if way.name not in left_out]
    lines = [f"- {name} is left out: {reason.rstrip('.')}." for name, reason in left_out.items()]
    table = "\n".join(
        "| " + " | ".join(row) + " |" for row in [["way", "what it does"], ["---"] * 2, *rows]
    )
    return "\n".join(["## The ways", "", table, "", *lines]).strip()


def _call(figures: Figures) -> str:
    head = ["way", "steady", "x nginx", "full", "x nginx"]
    lines = ["## CPU a call", "", "![CPU a call and a delta](cpu.svg)", "", CALL, ""]
    return "\n".join([*lines, *_ratios(figures.table("call"), head, "call_steady", "call")])


def _delta(figures: Figures) -> str:
    rows = _ratios(figures.table("delta"), ["way", "a delta", "x nginx"], "delta")
    return "\n".join(["## CPU a delta", "", DELTA, "", *rows])


def _ratios(table: Table, head: list[str], *figures: str) -> list[str]:
    """Give a table of figures and what they are to nginx's; and like for like, over TLS."""
    rows = []
    for shown, way, of in SHOWN:
        if way in table:
            cells = [shown]
            for figure in figures:
                key = f"{figure}_{of}_us"
                cells += [_micro(table, way, key), _ratio(table, way, key, BASE)]
            rows.append(cells)
    lines = [_table(head, rows)]
    ours = table.get("Taximeter, TLS upstream", {}).get(f"{figures[0]}_relaying_us")
    theirs = table.get(TLS_BASE, {}).get(f"{figures[0]}_whole_us")
    if ours and theirs:
        times = _over(ours, theirs)
        lines += ["", f"Like for like: the relay with TLS takes {times:.2f} x nginx with TLS."]
    return lines


def _first(figures: Figures) -> str:
    table = figures.table("first")
    head, rows = ["way"], []
    for rate in _rounds.FIRST_RATES:
        head += [f"p50 at {rate}/s", "added", f"p99 at {rate}/s", "added"]
    for way in table:
        cells = [way]
        for rate in _rounds.FIRST_RATES:
            for share in ("p50", "p99"):
                key = f"{share}_us_{rate}"
                cells += [_milli(table, way, key), _added(table, way, key)]
        rows.append(cells)
    return "\n".join(
        [
            *(
                "## Added time to the first token",
                "",
                "![Added time to the first token](first.svg)",
            ),
            *("", FIRST, "", _table(head, rows)),
        ]
    )


def _idle(figures: Figures) -> str:
    table = figures.table("idle")
    head = ["way", *(f"{streams:,} streams" for streams in _rounds.IDLE_STREAMS)]
    keys = [f"kib_{streams}" for streams in _rounds.IDLE_STREAMS]
    rows = [[way, *(_one(table, way, key, " KiB", 1) for key in keys)] for way in table]
    return "\n".join(["## Memory of an idle stream", "", IDLE, "", _table(head, rows)])


def _full(figures: Figures) -> str:
    table = figures.table("full")
    head = ["way", *(f"{count} worker{'s' * (count > 1)}" for count in _rounds.WORKERS)]
    keys = [f"calls_per_second_{count}" for count in _rounds.WORKERS]
    rows = [[way, *(_one(table, way, key, "/s", 0) for key in keys)] for way in table]
    return "\n".join(["## Calls a second, as many as go", "", FULL, "", _table(head, rows)])


def _growth(figures: Figures) -> str:
    table = figures.table("growth")
    lines = ["## How it grows", "", "![CPU by size and by length](growth.svg)", "", GROWTH]
    shown = [(shown, way, of) for shown, way, of in SHOWN if way in table]
    for what, words, sizes in (
        ("request", "a call with a request of", _rounds.BODY_BYTES),
        ("answer", "a call with an answer of", _rounds.BODY_BYTES),
        ("stream", "a stream of so many deltas:", _rounds.STREAM_DELTAS),
    ):
        head = [words, *(f"{size:,}" if what == "stream" else _bytes(size) for size in sizes)]
        rows = [
            [name, *(_micro(table, way, f"{what}_{size}_{of}_us") for size in sizes)]
            for name, way, of in shown
        ]
        lines += ["", _table(head, rows)]
    return "\n".join(lines)


def _recorder(figures: Figures) -> str:
    table = figures.table("recorder")
    rows = [
        [name, _one(table, name, "rows_per_second", "/s", 0), _one(table, name, "cpu_us", " us", 0)]
        for name in table
    ]
    head = ["ledger in", "rows", "CPU of the recorder, a row"]
    return "\n".join(["## Booking", "", RECORDER, "", _table(head, rows)])


def _reports(figures: Figures) -> str:
    table = figures.table("reports")
    size = table["ledger"]
    rows = [
        [name, _seconds(values["seconds"])] for name, values in table.items() if "seconds" in values
    ]
    booked, gib = int(size["rows"][0]), size["gib"][0]
    words = f"{booked:,} calls, one attempt each, in SQLite: {gib:.1f} GiB.\n\n{REPORTS}"
    return "\n".join(["## Reports", "", words, "", _table(["asked for", "time"], rows)])


PARTS = {
    "call": _call,
    "delta": _delta,
    "first": _first,
    "idle": _idle,
    "full": _full,
    "growth": _growth,
    "recorder": _recorder,
    "reports": _reports,
}


def _how(figures: Figures, name: str) -> str:
    section = figures.sections[name]
    return (
        f"`{section['command']}`, {section['at']}: {section['rounds']} rounds in "
        f"{section['seconds']:.0f} s; other work took {section['others']:.0%} of the machine."
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def _values(table: Table, way: str, key: str) -> list[float]:
    return table.get(way, {}).get(key, [])


def _one(table: Table, way: str, key: str, unit: str, digits: int) -> str:
    values = _values(table, way, key)
    return f"{median(values):,.{digits}f}{unit}" if values else "-"


def _micro(table: Table, way: str, key: str) -> str:
    values = _values(table, way, key)
    if not values:
        return "-"
    value = median(values)
    return f"{value:,.0f} us" if value >= 100 else f"{value:.1f} us"


def _milli(table: Table, way: str, key: str) -> str:
    values = _values(table, way, key)
    return f"{median(values) / 1e3:,.2f} ms" if values else "-"


def _seconds(values: list[float]) -> str:
    value = median(values)
    return f"{value:,.2f} s" if value >= 0.1 else f"{value * 1e3:,.1f} ms"


def _added(table: Table, way: str, key: str) -> str:
    """Give what a way adds to the direct one, as the median of the rounds' own differences."""
    pairs = zip(_values(table, way, key), _values(table, "direct", key), strict=False)
    differences = [value - base for value, base in pairs]
    if not differences or way == "direct":
        return "-"
    return f"{median(differences) / 1e3:,.2f} ms"


def _over(values: list[float], base: list[float]) -> float:
    return median(value / other for value, other in zip(values, base, strict=False) if other)


def _ratio(table: Table, way: str, key: str, base: str) -> str:
    values = _values(table, way, key)
    theirs = _values(table, base, key.replace("relaying", "whole"))
    return f"{_over(values, theirs):.2f}" if values and theirs else "-"


def _bytes(size: int) -> str:
    return f"{size // 1_000_000} MB" if size >= 1_000_000 else f"{size // 1_000} KB"
