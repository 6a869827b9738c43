"""A board as a page: panels where they stand on the grid, each drawn by its kind."""

from __future__ import annotations

import html
import re
from typing import Any

from dashboards.preview import _charts
from dashboards.preview._charts import colour, colours_of
from dashboards.preview._frames import Frames
from dashboards.preview._units import text_of
from dashboards.preview._values import Span

WIDTH = 1600
_CELL, _GAP = 30, 8
"""Height of a row of the grid, and the gap between two, as in Grafana."""
_HEAD, _LEGEND = 30, 22
_LEGEND_LINE, _LEGEND_LINES_MAX = 18, 4
NEUTRAL = "#ccccdc"
_BOLD = re.compile(r"\*\*(.+?)\*\*")

_STYLE = """
body { margin: 0; background: #111217; color: #ccccdc; font: 13px 'DejaVu Sans', sans-serif; }
h1 { font-size: 20px; margin: 14px 12px 4px; font-weight: 500; }
p.about { margin: 0 12px 10px; color: #8e8e99; width: 1500px; }
.board { position: relative; }
.panel { position: absolute; background: #181b1f; border: 1px solid #2a2d33; border-radius: 3px;
  overflow: hidden; box-sizing: border-box; }
.panel h2 { font-size: 13px; font-weight: 500; margin: 7px 9px 4px; white-space: nowrap;
  overflow: hidden; text-overflow: ellipsis; }
.row { position: absolute; font-size: 15px; font-weight: 500; padding: 5px 12px; }
.empty { color: #6e6e7a; text-align: center; position: absolute; width: 100%; top: 48%; }
.failed { color: #f2495c; padding: 6px 9px; font-size: 11px; }
.stat { position: absolute; inset: 30px 0 0 0; text-align: center; display: flex;
  align-items: center; justify-content: center; font-size: 30px; }
.spark { position: absolute; bottom: 0; left: 0; }
svg text { fill: #9a9aa6; font-size: 10.5px; }
.legend { padding: 0 10px; line-height: 18px; overflow: hidden;
  font-size: 11px; color: #b5b5c2; }
.legend span { display: inline-block; margin-right: 12px; white-space: nowrap; }
.legend i { display: inline-block; width: 12px; height: 3px; margin-right: 5px;
  vertical-align: middle; }
table { border-collapse: collapse; width: 100%; font-size: 12px; }
th { text-align: left; color: #8ab8ff; font-weight: 500; padding: 5px 9px; white-space: nowrap; }
td { padding: 5px 9px; border-top: 1px solid #2a2d33; white-space: nowrap; overflow: hidden;
  text-overflow: ellipsis; max-width: 250px; }
td.n, th.n { text-align: right; }
.words { padding: 2px 10px; line-height: 20px; color: #b5b5c2; }
.words b { color: #ccccdc; }
.bar { display: flex; align-items: center; padding: 4px 10px; gap: 10px; }
.bar b { font-weight: 400; width: 38%; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; text-align: right; }
.bar div { flex: 1; background: #22252b; height: 18px; }
.bar div div { height: 18px; }
.bar em { font-style: normal; width: 60px; }
"""


def page(
    board: dict[str, Any], answers: dict[int, Frames], spans: dict[int, Span]
) -> tuple[str, int]:
    """Give a board as HTML, and how many pixels high it is; answers and spans are by panel."""
    parts = []
    bottom = 0
    for panel in board["panels"]:
        place = panel["gridPos"]
        left = place["x"] * WIDTH / 24 + _GAP / 2
        top = place["y"] * (_CELL + _GAP)
        w = int(place["w"] * WIDTH / 24 - _GAP)
        h = place["h"] * (_CELL + _GAP) - _GAP
        bottom = max(bottom, top + h)
        style = f"left:{left:.0f}px;top:{top}px;width:{w}px;height:{h}px"
        title = html.escape(panel["title"])
        if panel["type"] == "row":
            folded = f"&#9656; {title} ({len(panel['panels'])} panels, folded)"
            shown = folded if panel["collapsed"] else f"&#9662; {title}"
            parts.append(f'<div class="row" style="{style}">{shown}</div>')
            continue
        inside = _inside(panel, answers[panel["id"]], spans[panel["id"]], w, h)
        parts.append(f'<div class="panel" style="{style}"><h2>{title}</h2>{inside}</div>')
    text = (
        f"<!doctype html><meta charset=utf-8><style>{_STYLE}</style>"
        f"<h1>{html.escape(board['title'])}</h1>"
        f'<p class="about">Preview, not Grafana: drawn from a live run of a few minutes, after '
        f"two weeks of made-up calls in the ledger. {html.escape(board['description'])}</p>"
        f'<div class="board" style="height:{bottom + 20}px">{"".join(parts)}</div>'
    )
    return text, bottom + 130


def _inside(panel: dict[str, Any], frames: Frames, span: Span, w: int, h: int) -> str:
    if frames.failed:
        return f'<div class="failed">{html.escape("; ".join(frames.failed))}</div>'
    kind = panel["type"]
    series = [each for each in frames.series if each.points]
    if kind == "text":
        words = _BOLD.sub(r"<b>\1</b>", html.escape(panel["options"]["content"]))
        return f'<div class="words">{words}</div>'
    if kind == "table":
        drawn = _table(panel, frames)
    elif kind == "stat":
        return _stat(panel, frames, w, h)
    elif not series:
        drawn = ""
    elif kind == "timeseries":
        lines = _legend_lines([each.name for each in series], w)
        room = h - _HEAD - _LEGEND - (lines - 1) * _LEGEND_LINE
        drawn = _charts.timeseries(panel, series, span, w - 2, room)
        shades = colours_of(panel, series)
        keys = "".join(
            f'<span><i style="background:{shade}"></i>{html.escape(each.name)}</span>'
            for each, shade in zip(series, shades, strict=True)
        )
        drawn += f'<div class="legend" style="height:{lines * _LEGEND_LINE}px">{keys}</div>'
    elif kind == "heatmap":
        drawn = _charts.heatmap(panel, series, span, w - 2, h - _HEAD - 4)
    elif kind == "histogram":
        values = [value for _, value in series[0].points]
        drawn = _charts.histogram(panel, values, w - 2, h - _HEAD - 4)
    elif kind == "state-timeline":
        drawn = _charts.states(panel, series, span, w - 2, h - _HEAD - 4)
    else:
        drawn = _bars(panel, frames)
    return drawn or f'<div class="empty">{html.escape(_empty(panel))}</div>'


def _legend_lines(names: list[str], w: int) -> int:
    """Tell how many lines a legend takes, about."""
    lines, at = 1, 0.0
    for name in names:
        wide = 29 + 6.8 * len(name)
        if at + wide > w - 20 and at:
            lines, at = lines + 1, 0.0
        at += wide
    return min(lines, _LEGEND_LINES_MAX)


def _empty(panel: dict[str, Any]) -> str:
    return str(panel.get("fieldConfig", {}).get("defaults", {}).get("noValue", "No data"))


def _stat(panel: dict[str, Any], frames: Frames, w: int, h: int) -> str:
    defaults = panel["fieldConfig"]["defaults"]
    found = next((each for each in frames.series if each.points), None)
    if found is None or found.last is None:
        return f'<div class="stat" style="color:#6e6e7a;font-size:20px">{_empty(panel)}</div>'
    shade = NEUTRAL
    if panel["options"]["colorMode"] != "none":
        shade = _threshold(defaults["thresholds"]["steps"], found.last)
    spark = ""
    if panel["options"]["graphMode"] == "area":
        line = shade if shade != NEUTRAL else "#5794f2"
        spark = f'<div class="spark">{_charts.sparkline(found, line, w - 2, h // 3)}</div>'
    text = text_of(found.last, defaults["unit"], defaults.get("decimals"))
    size = min(32, int(w * 1.35 / max(5, len(text))))
    return f'{spark}<div class="stat" style="color:{shade};font-size:{size}px">{text}</div>'


def _threshold(steps: list[dict[str, Any]], value: float) -> str:
    shade = NEUTRAL
    for step in steps:
        if step["value"] is None or value >= step["value"]:
            shade = colour(step["color"])
    return shade


def _bars(panel: dict[str, Any], frames: Frames) -> str:
    defaults = panel["fieldConfig"]["defaults"]
    parts = []
    for each in frames.series:
        if each.last is None:
            continue
        share = max(0.0, min(1.0, each.last / defaults.get("max", 1)))
        shade = _threshold(defaults["thresholds"]["steps"], each.last)
        parts.append(
            f'<div class="bar"><b>{html.escape(each.name)}</b><div><div style="width:'
            f'{share * 100:.0f}%;background:{shade}"></div></div>'
            f"<em>{text_of(each.last, defaults['unit'], defaults.get('decimals'))}</em></div>"
        )
    return "".join(parts)


def _table(panel: dict[str, Any], frames: Frames) -> str:
    if not frames.rows:
        return ""
    organize = panel["transformations"][-1]["options"]
    fields = sorted(organize["indexByName"], key=lambda name: organize["indexByName"][name])
    titles = {name: organize["renameByName"].get(name, name) for name in fields}
    by_title: dict[str, dict[str, Any]] = {}
    for override in panel["fieldConfig"]["overrides"]:
        properties = {each["id"]: each["value"] for each in override["properties"]}
        by_title[override["matcher"]["options"]] = properties
    rows = frames.rows
    for sort in panel["options"]["sortBy"]:
        name = next(key for key, title in titles.items() if title == sort["displayName"])
        rows = sorted(rows, key=lambda row: _order(row.get(name)), reverse=sort["desc"])
    numeric = {name for name in fields if any(_is_number(row.get(name)) for row in rows)}
    head = "".join(
        f'<th class="{"n" if name in numeric else ""}"'
        f' style="max-width:{by_title.get(titles[name], {}).get("custom.width", 250)}px">'
        f"{html.escape(titles[name])}</th>"
        for name in fields
    )
    body = ""
    for row in rows[:40]:
        cells = ""
        for name in fields:
            more = by_title.get(titles[name], {})
            value = row.get(name)
            text = text_of(value, more.get("unit", "short"), more.get("decimals"))
            text = "(none)" if value == "" else text
            shade = NEUTRAL
            if "thresholds" in more and value is not None and _is_number(value):
                shade = _threshold(more["thresholds"]["steps"], float(value))
            cells += (
                f'<td class="{"n" if name in numeric else ""}" style="color:{shade};'
                f'max-width:{more.get("custom.width", 250)}px">'
                f"{html.escape(text)}</td>"
            )
        body += f"<tr>{cells}</tr>"
    return f"<table><tr>{head}</tr>{body}</table>"


def _is_number(value: Any) -> bool:
    return value is not None and not isinstance(value, str) and hasattr(value, "__float__")


def _order(value: Any) -> tuple[int, Any]:
    if value is None:
        return (0, 0)
    return (1, float(value)) if _is_number(value) else (2, str(value))
