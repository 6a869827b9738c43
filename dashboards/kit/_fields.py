"""What panels share: units, thresholds, mappings, colours and links, as Grafana wants them."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from dashboards.kit._source import SourceError, hide_braces, show_braces

# Colours mean one thing on every board. An outcome keeps its colour from panel to panel, a
# percentile its shade; everything else takes Grafana's own palette.
PALETTES: dict[str, dict[str, str]] = {
    "outcome": {
        "completed": "green",
        "upstream_error": "red",
        "truncated": "orange",
        "cancelled": "blue",
        "abandoned": "light-blue",
        "rejected": "purple",
        "interrupted": "dark-red",
    },
    "percentile": {
        "p50": "light-blue",
        "p90": "blue",
        "p95": "blue",
        "p99": "dark-blue",
        "mean": "#8e8e8e",
    },
    "stage": {
        "receive": "#8ab8ff",
        "queue": "yellow",
        "connect": "purple",
        "first_byte": "blue",
        "first_token": "dark-blue",
        "stream": "green",
        "settle": "#8e8e8e",
    },
    "usage": {"reported": "green", "partial": "yellow", "estimated": "orange", "absent": "red"},
    "fault": {"upstream": "red", "client": "blue", "ours": "purple"},
    "state": {"closed": "green", "half_open": "yellow", "open": "red"},
}

_PUT_IN = re.compile(r"\$\{(__[\w.]+)\}")

Palette = Literal["outcome", "percentile", "stage", "usage", "fault", "state"]


class Spec(msgspec.Struct, forbid_unknown_fields=True):
    """The data of a component: an unknown key is an error."""


class Link(Spec, kw_only=True):
    """A link from a value, to another board with the same time range, or to any address."""

    title: str
    board: str | None = None
    """The board's uid, or"""
    url: str | None = None
    """an address in Grafana."""
    vars: list[str] = []
    """Variables of that board and their values, `user=${__data.fields.User}`."""
    keep: list[str] = []
    """Variables that both boards have, passed on as they stand."""

    def json(self) -> dict[str, Any]:
        """Give Grafana's form.

        Raises:
            SourceError: if it leads nowhere, or to two places.
        """
        if (self.board is None) == (self.url is None):
            raise SourceError(f"link {self.title!r}: either `board` or `url`")
        if self.url is not None:
            return {"title": self.title, "url": self.url}
        words = [f"var-{_encoded(setting)}" for setting in self.vars]
        words += [hide_braces(f"${{{name}:queryparam}}") for name in self.keep]
        query = "&".join([hide_braces("${__url_time_range}"), *words])
        return {"title": self.title, "url": f"/d/{self.board}?{query}"}


class Column(Spec, kw_only=True):
    """A column of a table."""

    field: str
    """The field's name as the query gives it: a label, a column, or `Value #A`."""
    title: str = ""
    unit: str | None = None
    decimals: int | None = None
    width: int | None = None
    cell: Literal["plain", "gauge", "colour"] = "plain"
    thresholds: list[tuple[str, float | None]] | None = None
    min: float | None = None
    max: float | None = None
    links: list[Link] = []
    hide: bool = False
    """There for links only."""

    @property
    def name(self) -> str:
        """What the column is called once it has its title."""
        return self.title or self.field

    def override(self) -> dict[str, Any] | None:
        """Give what differs from the table's defaults, or None."""
        properties: list[dict[str, Any]] = []

        def put(name: str, value: Any) -> None:
            properties.append({"id": name, "value": value})

        if self.unit is not None:
            put("unit", self.unit)
        if self.decimals is not None:
            put("decimals", self.decimals)
        if self.width is not None:
            put("custom.width", self.width)
        if self.min is not None:
            put("min", self.min)
        if self.max is not None:
            put("max", self.max)
        if self.thresholds is not None:
            put("thresholds", threshold_json(self.thresholds))
            put("color", {"mode": "thresholds"})
        if self.cell == "gauge":
            put(
                "custom.cellOptions",
                {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"},
            )
        elif self.cell == "colour":
            put("custom.cellOptions", {"type": "color-text"})
        if self.links:
            put("links", [link.json() for link in self.links])
        if self.hide:
            put("custom.hidden", True)
        if not properties:
            return None
        return {"matcher": {"id": "byName", "options": self.name}, "properties": properties}


def _encoded(setting: str) -> str:
    """Have Grafana encode what it puts in: a name may hold `&`."""
    shown = _PUT_IN.sub(r"${\1:percentencode}", show_braces(setting))
    # Placeholders of the builder are long since expanded, so every brace is one to keep.
    return hide_braces(shown)


def threshold_json(steps: list[tuple[str, float | None]]) -> dict[str, Any]:
    """Give thresholds from (colour, from this value on); the first has no value."""
    return {
        "mode": "absolute",
        "steps": [{"color": colour, "value": value} for colour, value in steps],
    }


def empty_mapping(text: str) -> dict[str, Any]:
    """Give the mapping that shows `text` where a value is NaN or missing, instead of nothing."""
    return {
        "type": "special",
        "options": {"match": "null+nan", "result": {"text": text, "color": "text", "index": 0}},
    }


def value_mapping(words: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Give the mapping of values to (text, colour)."""
    return {
        "type": "value",
        "options": {
            value: {"text": text, "color": colour, "index": index}
            for index, (value, (text, colour)) in enumerate(words.items())
        },
    }


def palette_overrides(palette: Palette) -> list[dict[str, Any]]:
    """Give the overrides that fix the colours of series by their name."""
    return [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for name, colour in PALETTES[palette].items()
    ]
