"""Thresholds by name: read, overlaid with a user's own, and filled into texts.

A text of the source names a value in angle brackets: `<window>` is the value `window` of the
section that the rule belongs to, `<objectives.availability>` one of another section. PromQL and
Prometheus' templates use braces, dollars and single angle brackets for themselves, but never a
word between two of them.

A value that is a number followed by `ms`, `s`, `m`, `h`, `d` or `w` is a span of time. Spans can be
scaled as a whole, so that a test sees in seconds what takes an hour; `<window:name>` stands for the
span as it was before scaling, for names that have a span in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from alerts._errors import SourceError

HERE = Path(__file__).parent
_PLACE = re.compile(r"<([a-z_]+(?:\.[a-z_]+)*)(:name)?>")
_SPAN = re.compile(r"([0-9]+)(ms|s|m|h|d|w)")
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


class Values:
    """All thresholds. Knows which have been used, so that none stands there for nothing."""

    def __init__(self, sections: Mapping[str, Any], time_scale: float = 1.0) -> None:
        self._sections = sections
        self._time_scale = time_scale
        self.used: set[str] = set()

    def fill(self, text: str, section: str, local: Mapping[str, Any] | None = None) -> str:
        """Put values in the places of `text`.

        Args:
            text: with places such as `<window>`.
            section: where names without a dot are looked up.
            local: values that win over the section's, such as those of one item of a list.

        Raises:
            SourceError: if a place names no value.
        """

        def value(place: re.Match[str]) -> str:
            name, as_name = place[1], place[2] is not None
            found = (local or {}).get(name)
            if found is None:
                found = self.get(name if "." in name else f"{section}.{name}")
            return str(found) if as_name else self._say(found)

        return _PLACE.sub(value, text)

    def get(self, path: str) -> Any:
        """Give the value at `section.name`, unscaled.

        Raises:
            SourceError: if there is none.
        """
        found: Any = self._sections
        for part in path.split("."):
            if not isinstance(found, Mapping) or part not in found:
                raise SourceError(f"thresholds.yaml has no {path}")
            found = found[part]
        self.used.add(path)
        return found

    def names(self) -> Iterator[str]:
        """Give the path of every value."""
        for section, content in self._sections.items():
            for name in content:
                yield f"{section}.{name}"

    def _say(self, value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise SourceError(f"thresholds.yaml: {value!r} fits into no text")
        if isinstance(value, str) and _SPAN.fullmatch(value) and self._time_scale != 1.0:
            return scaled(value, self._time_scale)
        return str(value)


def scaled(span: str, scale: float) -> str:
    """Give a span of time times `scale`, in whole milliseconds and at least one."""
    return f"{max(1, round(span_milliseconds(span) * scale))}ms"


def span_milliseconds(span: str) -> int:
    """Give the length of a span such as `5m`.

    Raises:
        SourceError: if it is none.
    """
    parts = _SPAN.fullmatch(span)
    if parts is None:
        raise SourceError(f"{span!r} is no span of time such as 30s, 5m or 1d")
    return int(parts[1]) * _MILLISECONDS[parts[2]]


def load_values(
    overlay: Mapping[str, Any] | None = None, *, time_scale: float = 1.0, folder: Path = HERE
) -> Values:
    """Read `thresholds.yaml`, with what `overlay` says otherwise.

    Raises:
        SourceError: if the overlay names what there is not, or gives another kind of value.
    """
    sections = read_yaml(folder / "thresholds.yaml")
    return Values(overlaid(sections, overlay or {}, "thresholds"), time_scale)


def overlaid(base: Mapping[str, Any], overlay: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Give `base` with the values of `overlay` in their places; both stay as they are.

    Raises:
        SourceError: if a key is unknown, or its value of another kind (a span must stay a span).
    """
    result = deepcopy(dict(base))
    for key, value in overlay.items():
        path = f"{where}.{key}"
        if key not in result:
            raise SourceError(f"{path}: there is no such value to change")
        if isinstance(result[key], Mapping):
            if not isinstance(value, Mapping):
                raise SourceError(f"{path}: must be a section of values")
            result[key] = overlaid(result[key], value, path)
        elif _kind(result[key]) != _kind(value):
            raise SourceError(f"{path}: must be {_kind(result[key])}, as {result[key]!r} is")
        else:
            result[key] = value
    return result


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a file that holds one mapping.

    Raises:
        SourceError: if it is no YAML, or holds anything else.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise SourceError(f"{path.name}: {error}") from error
    if not isinstance(content, dict):
        raise SourceError(f"{path.name}: must be a mapping")
    return content


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a span of time" if _SPAN.fullmatch(value) else "a text"
    return "a list"
