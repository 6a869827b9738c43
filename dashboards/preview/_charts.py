"""Charts as SVG: lines, areas, bars, heatmaps, states."""

from __future__ import annotations

import html
import itertools
import math
import re
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from dashboards.preview._frames import Series
from dashboards.preview._units import text_of
from dashboards.preview._values import Span

PALETTE = (
    "#73bf69 #f2cc0c #8ab8ff #ff780a #f2495c #5794f2 #b877d9 #705da0 #37872d #fade2a"
    " #447ebc #c15c17 #890f02 #0a437c #6d1f62 #584477 #b7dbab #f4d598 #70dbed #f9ba8f"
).split()
NAMED = {
    "green": "#73bf69",
    "red": "#f2495c",
    "dark-red": "#c4162a",
    "orange": "#ff9830",
    "yellow": "#fade2a",
    "blue": "#5794f2",
    "light-blue": "#8ab8ff",
    "dark-blue": "#1f60c4",
    "purple": "#b877d9",
    "text": "#ccccdc",
    "transparent": "none",
}
_LEFT, _BOTTOM, _TOP, _RIGHT = 64, 20, 8, 10


def colour(name: str) -> str:
    """Give a colour of Grafana's as the browser knows it."""
    return NAMED.get(name, name)


def colours_of(panel: dict[str, Any], series: list[Series]) -> list[str]:
    """Give each series its colour: by the panel's overrides, else in turn."""
    fixed: dict[str, str] = {}
    for override in panel["fieldConfig"]["overrides"]:
        for each in override["properties"]:
            if each["id"] == "color" and override["matcher"]["id"] == "byName":
                fixed[override["matcher"]["options"]] = colour(each["value"]["fixedColor"])
    given = iter(PALETTE * (1 + len(series) // len(PALETTE)))
    return [fixed.get(each.name) or next(given) for each in series]


def timeseries(panel: dict[str, Any], series: list[Series], span: Span, w: int, h: int) -> str:
    """Draw values over time."""
    defaults = panel["fieldConfig"]["defaults"]
    custom, unit = defaults["custom"], defaults["unit"]
    stacked = custom["stacking"]["mode"]
    bars = custom["drawStyle"] == "bars"
    shapes = _stacked(series, stacked == "percent") if stacked != "none" or bars else None
    tops = [high for each in shapes for _, _, high in each] if shapes else []
    values = tops or [value for each in series for _, value in each.points]
    low, high = _bounds(values, defaults, shapes is not None or bars)
    area = _Area(span, low, high, w, h, custom["scaleDistribution"]["type"] == "log")
    parts = [area.axes("percentunit" if stacked == "percent" else unit)]
    if custom["thresholdsStyle"]["mode"] != "off":
        parts += [
            f'<line x1="{_LEFT}" x2="{w - _RIGHT}" y1="{area.y(step["value"]):.1f}" '
            f'y2="{area.y(step["value"]):.1f}" stroke="{colour(step["color"])}" '
            'stroke-dasharray="6 4"/>'
            for step in defaults["thresholds"]["steps"]
            if step["value"] is not None and low <= step["value"] <= high
        ]
    dashed = [
        re.compile(override["matcher"]["options"])
        for override in panel["fieldConfig"]["overrides"]
        if override["matcher"]["id"] == "byRegexp"
    ]
    step = _step_of(series, span)
    for index, (each, shade) in enumerate(zip(series, colours_of(panel, series), strict=True)):
        line = [(area.x(at), area.y(value)) for at, value in each.points]
        dash = ' stroke-dasharray="7 5"' if any(d.fullmatch(each.name) for d in dashed) else ""
        if shapes is not None:
            band = [
                (max(float(_LEFT), area.x(at)), area.y(low), area.y(high))
                for at, low, high in shapes[index]
            ]
            if bars:
                wide = max(1.0, (area.x(span.since + step) - area.x(span.since)) * 0.8)
                parts += [
                    f'<rect x="{x:.1f}" y="{top:.1f}" width="{wide:.1f}" '
                    f'height="{max(0.0, base - top):.1f}" fill="{shade}"/>'
                    for x, base, top in band
                ]
                continue
            outline = [(x, top) for x, _, top in band] + [(x, base) for x, base, _ in band[::-1]]
            parts.append(f'<polygon points="{_path(outline)}" fill="{shade}" opacity="0.35"/>')
            line = [(x, top) for x, _, top in band]
        # Where Prometheus has nothing, Grafana's lines have gaps.
        wide = area.x(span.since + 1.5 * step) - area.x(span.since)
        for run in _runs(line, wide if "expr" in str(panel["targets"]) else math.inf):
            parts.append(
                f'<polyline points="{_path(run)}" fill="none" stroke="{shade}" '
                f'stroke-width="1.5"{dash}/>'
            )
            if len(run) == 1:
                parts.append(f'<circle cx="{run[0][0]}" cy="{run[0][1]}" r="2" fill="{shade}"/>')
    return _svg(parts, w, h)


def heatmap(panel: dict[str, Any], series: list[Series], span: Span, w: int, h: int) -> str:
    """Draw how the counts of buckets move; cumulative buckets are taken apart first."""
    ordered = sorted(series, key=lambda each: float(each.labels.get("le", "inf")))
    below: dict[float, float] = defaultdict(float)
    cells: list[tuple[int, float, float]] = []
    for row, each in enumerate(ordered):
        for at, value in each.points:
            cells.append((row, at, max(0.0, value - below[at])))
            below[at] = max(below[at], value)
    rows = [row for row, _, count in cells if count > 0]
    if not rows:
        return ""
    first, last = max(0, min(rows) - 1), max(rows)
    shown = ordered[first : last + 1]
    most = max(count for _, _, count in cells)
    area = _Area(span, 0, len(shown), w, h, log=False)
    wide = max(1.0, area.x(span.since + span.step) - area.x(span.since))
    tall = (h - _TOP - _BOTTOM) / len(shown)
    parts = [area.times()]
    for row, at, count in cells:
        if count > 0 and first <= row <= last:
            parts.append(
                f'<rect x="{area.x(at) - wide:.1f}" y="{area.y(row - first + 1):.1f}" '
                f'width="{wide + 0.5:.1f}" height="{tall - 0.5:.1f}" fill="#ff9830" '
                f'opacity="{0.12 + 0.88 * math.sqrt(count / most):.2f}"/>'
            )
    unit = panel["options"]["yAxis"]["unit"]
    every = max(1, math.ceil(len(shown) * 14 / (h - _TOP - _BOTTOM)))
    for index, each in enumerate(shown):
        if index % every == 0:
            bound = each.labels.get("le", "")
            text = "+Inf" if bound == "+Inf" else text_of(float(bound or "nan"), unit)
            parts.append(_text(_LEFT - 6, area.y(index + 1) + 4, text, "end"))
    return _svg(parts, w, h)


def histogram(panel: dict[str, Any], values: list[float], w: int, h: int) -> str:
    """Draw how single values are spread."""
    if not values:
        return ""
    count = panel["options"]["bucketCount"]
    low, high = min(values), max(values)
    size = (high - low) / count or 1.0
    bins = [0] * count
    for value in values:
        bins[min(count - 1, int((value - low) / size))] += 1
    area = _Area(Span(0, count), 0, max(bins) * 1.05, w, h, log=False)
    unit = panel["fieldConfig"]["defaults"]["unit"]
    parts = [area.values("short")]
    for index, each in enumerate(bins):
        x, top = area.x(index), area.y(each)
        parts.append(
            f'<rect x="{x:.1f}" y="{top:.1f}" width="{area.x(1) - area.x(0) - 1:.1f}" '
            f'height="{area.y(0) - top:.1f}" fill="#5794f2"/>'
        )
    for index in range(0, count + 1, max(1, count // 5)):
        anchor = "middle" if index < count else "end"
        parts.append(_text(area.x(index), h - 5, text_of(low + index * size, unit), anchor))
    return _svg(parts, w, h)


def states(panel: dict[str, Any], series: list[Series], span: Span, w: int, h: int) -> str:
    """Draw in which state each thing was."""
    known: dict[str, Any] = {}
    for mapping in panel["fieldConfig"]["defaults"]["mappings"]:
        if mapping["type"] == "value":
            known = mapping["options"]
    area = _Area(span, 0, len(series), w, h, log=False)
    wide = area.x(span.since + span.step) - area.x(span.since)
    tall = (h - _TOP - _BOTTOM) / max(1, len(series))
    parts = [area.times()]
    for row, each in enumerate(series):
        for at, value in each.points:
            shade = colour(known.get(str(int(value)), {}).get("color", "text"))
            parts.append(
                f'<rect x="{area.x(at):.1f}" y="{area.y(row + 1) + 2:.1f}" '
                f'width="{wide + 0.5:.1f}" height="{tall - 4:.1f}" fill="{shade}" opacity="0.6"/>'
            )
        # Over its bar: names are longer than the room beside it.
        parts.append(
            f'<text x="{_LEFT + 6}" y="{area.y(row + 0.5) + 4:.1f}" style="fill:#ffffff">'
            f"{html.escape(each.name)}</text>"
        )
    return _svg(parts, w, h)


def sparkline(series: Series, shade: str, w: int, h: int) -> str:
    """Draw one series small, behind a number."""
    values = [value for _, value in series.points]
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    size = (high - low) or 1.0
    since, until = series.points[0][0], series.points[-1][0]
    line = [
        ((at - since) / (until - since) * w, h - 2 - (value - low) / size * (h - 6))
        for at, value in series.points
    ]
    filled = [(0.0, float(h)), *line, (float(w), float(h))]
    return _svg(
        [
            f'<polygon points="{_path(filled)}" fill="{shade}" opacity="0.15"/>',
            f'<polyline points="{_path(line)}" fill="none" stroke="{shade}"/>',
        ],
        w,
        h,
    )


class _Area:
    """Where times and values stand within a drawing."""

    def __init__(self, span: Span, low: float, high: float, w: int, h: int, log: bool) -> None:
        self._span, self._w, self._h, self._log = span, w, h, log
        self.low, self.high = low, high if high > low else low + 1

    def x(self, at: float) -> float:
        share = (at - self._span.since) / (self._span.until - self._span.since)
        return _LEFT + share * (self._w - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        if self._log:
            floor = max(self.low, self.high / 1e6)
            share = math.log(max(value, floor) / floor) / math.log(self.high / floor)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self._h - _BOTTOM - share * (self._h - _TOP - _BOTTOM)

    def axes(self, unit: str) -> str:
        return self.times() + self.values(unit)

    def times(self) -> str:
        seconds = self._span.until - self._span.since
        steps = (15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400, 86400 * 7)
        step = next((each for each in steps if seconds / each <= self._w / 90), seconds)
        parts = []
        for at in range(-(-self._span.since // step) * step, self._span.until, step):
            text = datetime.fromtimestamp(at, UTC).strftime(
                "%m-%d" if step >= 86400 else "%H:%M:%S" if step < 60 else "%H:%M"
            )
            parts.append(
                f'<line x1="{self.x(at):.1f}" x2="{self.x(at):.1f}" y1="{_TOP}" '
                f'y2="{self._h - _BOTTOM}" stroke="#2a2d33"/>'
            )
            parts.append(_text(self.x(at), self._h - 5, text, "middle"))
        return "".join(parts)

    def values(self, unit: str) -> str:
        count = max(2, (self._h - _TOP - _BOTTOM) // 36)
        ticks = _ticks(self.low, self.high, count)
        if self._log:
            floor = max(self.low, self.high / 1e6)
            powers = range(math.ceil(math.log10(floor)), math.ceil(math.log10(self.high)) + 1)
            ticks = [10.0**power for power in powers if 10.0**power <= self.high]
        return "".join(
            f'<line x1="{_LEFT}" x2="{self._w - _RIGHT}" y1="{self.y(tick):.1f}" '
            f'y2="{self.y(tick):.1f}" stroke="#2a2d33"/>'
            + _text(_LEFT - 6, self.y(tick) + 4, text_of(tick, unit), "end")
            for tick in ticks
        )


def _ticks(low: float, high: float, count: int) -> list[float]:
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= rough)
    first = math.ceil(low / step)
    return [index * step for index in range(first, int(high / step) + 1)]


def _bounds(values: list[float], defaults: dict[str, Any], from_zero: bool) -> tuple[float, float]:
    if not any(values):
        return 0.0, 1.0
    low, high = min(values), max(values)
    low = min(0.0, low) if from_zero or low < high * 0.7 else low
    if defaults.get("custom", {}).get("scaleDistribution", {}).get("type") == "log":
        positive = [value for value in values if value > 0]
        return (min(positive) / 2, max(positive) * 2) if positive else (0.1, 1.0)
    span = (high - low) or abs(high) or 1.0
    low = low if low == 0 else low - span * 0.05
    return (
        float(defaults.get("min", low)),
        float(max(defaults["max"], high) if "max" in defaults else high + span * 0.08),
    )


def _stacked(series: list[Series], share: bool) -> list[list[tuple[float, float, float]]]:
    """Give each series as bands of (time, from, to), one upon the other."""
    totals: dict[float, float] = defaultdict(float)
    for each in series:
        for at, value in each.points:
            totals[at] += value
    times = sorted(totals)
    below: dict[float, float] = dict.fromkeys(times, 0.0)
    bands = []
    for each in series:
        known = dict(each.points)
        band = []
        for at in times:
            value = known.get(at, 0.0)
            if share:
                value = value / totals[at] if totals[at] else 0.0
            band.append((at, below[at], below[at] + value))
            below[at] += value
        bands.append(band)
    return bands


def _runs(line: list[tuple[float, float]], gap_max: float) -> list[list[tuple[float, float]]]:
    """Part a line where two of its points are further apart."""
    runs: list[list[tuple[float, float]]] = []
    for point in line:
        if not runs or point[0] - runs[-1][-1][0] > gap_max:
            runs.append([])
        runs[-1].append(point)
    return runs


def _step_of(series: list[Series], span: Span) -> float:
    times = sorted({at for each in series for at, _ in each.points})
    gaps = [b - a for a, b in itertools.pairwise(times)]
    return min(gaps) if gaps else (span.until - span.since) / 30


def _path(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _svg(parts: list[str], w: int, h: int) -> str:
    return f'<svg width="{w}" height="{h}" viewBox="0 0 {w} {h}">{"".join(parts)}</svg>'
