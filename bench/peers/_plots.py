"""The plots of the comparison: `figures.json` to SVG.

    python bench/peers/_plots.py FOLDER

runs in an environment of its own, which has matplotlib and nothing of Taximeter's. Backgrounds are
left clear and all ink is of a middle tone, so that the plots can be read on a light page and on a
dark one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#7d8590"
COLOURS = {
    "nginx": "#8b949e",
    "nginx as it comes": "#8b949e",
    "nginx, TLS upstream": "#8b949e",
    "aiohttp handler": "#3d8bd4",
    "Taximeter, journal only": "#e0602a",
    "Taximeter, full": "#e8934f",
    "Taximeter": "#e0602a",
    "LiteLLM": "#9b6dd0",
    "Portkey": "#2fa36b",
    "Bifrost": "#c75a9b",
}
SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
LENGTHS = (1, 10, 100, 1_000)
NOTICED_MS = 0.1
"""Less than this differs from round to round."""
Table = dict[str, dict[str, list[float]]]

matplotlib.rcParams.update(
    {
        "svg.hashsalt": "bench",  # the same figures, the same file
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "text.color": INK,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": INK,
        "ytick.color": INK,
        "grid.color": INK,
        "grid.alpha": 0.25,
        "savefig.transparent": True,
        "legend.frameon": False,
    }
)


def colour(name: str) -> str:
    """Give the colour of a way, whatever its version."""
    return COLOURS.get(name, next((c for n, c in COLOURS.items() if name.startswith(n)), INK))


def shown(table: Table) -> list[tuple[str, str, str]]:
    """Give what is drawn: its name, its way, and of which processes."""
    found = []
    for way in table:
        if way == "Taximeter":
            found += [
                ("Taximeter, journal only", way, "relaying"),
                ("Taximeter, full", way, "whole"),
            ]
        elif way != "direct" and not way.startswith("Taximeter,"):
            found.append((way, way, "whole"))
    return found


def dots(axes: Axes, names: list[str], values: list[float], unit: str) -> None:
    """Draw a dot for each way, its value beside it. (A bar has no beginning on such a scale.)"""
    places = list(range(len(names)))[::-1]
    axes.scatter(values, places, s=60, color=[colour(name) for name in names], zorder=3)
    axes.set_yticks(places, names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 2, max(values) * 6)
    axes.grid(visible=True, axis="x")
    axes.hlines(places, min(values) / 2, values, color=INK, alpha=0.25, lw=1)
    for place, value in zip(places, values, strict=True):
        text = f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
        if unit == "ms" and value == NOTICED_MS:
            text = f"at most {NOTICED_MS}"
        axes.annotate(
            f"{text} {unit}", (value, place), (8, 0), textcoords="offset points", va="center"
        )
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def cpu(sections: dict[str, Table]) -> Figure:
    """Draw CPU a call and a delta."""
    figure, both = pyplot.subplots(1, 2, figsize=(10, 3.9), sharey=True)
    for axes, what, words in zip(both, ("call", "delta"), ("a call", "a delta"), strict=True):
        table = sections[what]
        names, values = [], []
        for name, way, of in shown(table):
            if found := table[way].get(f"{what}_{of}_us"):
                names.append(name)
                values.append(median(found))
        dots(axes, names, values, "us")
        axes.set_xlabel(f"CPU of {words}, microseconds (logarithmic)")
    return figure


def first(sections: dict[str, Table]) -> Figure:
    """Draw what is added to the time to the first token."""
    table = sections["first"]
    figure, both = pyplot.subplots(1, 2, figsize=(10, 3.9), sharey=True)
    for axes, share, words in zip(both, ("p50", "p99"), ("Median", "99th percentile"), strict=True):
        names, values = [], []
        for way in table:
            pairs = zip(
                table[way].get(f"{share}_us_10", []),
                table["direct"][f"{share}_us_10"],
                strict=False,
            )
            if way != "direct" and (added := [value - base for value, base in pairs]):
                names.append(way)
                values.append(max(NOTICED_MS, median(added) / 1e3))
        dots(axes, names, values, "ms")
        axes.set_xlabel(f"{words} added at 10 streams a second,\nmilliseconds (logarithmic)")
    return figure


def growth(sections: dict[str, Table]) -> Figure:
    """Draw CPU over the sizes of bodies and the lengths of streams."""
    table = sections["growth"]
    figure, all_axes = pyplot.subplots(1, 3, figsize=(10, 4.2))
    for axes, what, places, words in zip(
        all_axes,
        ("request", "answer", "stream"),
        (SIZES, SIZES, LENGTHS),
        ("Body of the request, bytes", "Body of the answer, bytes", "Deltas of the stream"),
        strict=True,
    ):
        for name, way, of in shown(table):
            points = [
                (place, median(found) / 1e3)
                for place in places
                if (found := table[way].get(f"{what}_{place}_{of}_us"))
            ]
            if points:
                dashes = "--" if name == "Taximeter, full" else "-"
                xs, ys = zip(*points, strict=True)
                axes.plot(
                    xs, ys, dashes, marker="o", ms=3.5, lw=1.6, color=colour(name), label=name
                )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(words)
        axes.grid(visible=True)
        axes.set_ylabel(f"CPU of a {'stream' if what == 'stream' else 'call'}, milliseconds")
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=3, bbox_to_anchor=(0.5, 1.1))
    return figure


DRAWN = ((cpu, {"call", "delta"}), (first, {"first"}), (growth, {"growth"}))
"""What is drawn, and the sections it takes."""


def main() -> None:
    """Draw what there are figures for."""
    folder = Path(sys.argv[1])
    known = json.loads((folder / "figures.json").read_text())["sections"]
    for draw, needed in DRAWN:
        if needed <= known.keys():
            figure = draw({name: known[name]["table"] for name in needed})
            figure.tight_layout()
            path = folder / f"{draw.__name__}.svg"
            figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
            pyplot.close(figure)


if __name__ == "__main__":
    main()
