"""From YAML text to components of the builder, with braces that mean what they say.

The builder expands placeholders with `str.format`, and how often it does so depends on how a
component is reached. PromQL, legends and Grafana's own variables are full of braces, so every
brace is put away as a character of Unicode's private use area when a file is read, and taken out
again when a board is written. A placeholder of the builder is written `@{name}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

Spec = TypeVar("Spec", bound=msgspec.Struct)

_PLACEHOLDER = re.compile(r"@\{(\w+)\}")
_HIDE = str.maketrans({"{": "\ue000", "}": "\ue001"})
_SHOW = str.maketrans({"\ue000": "{", "\ue001": "}"})
_LEFT_OVER = re.compile(r"\{(\w+)\}")


class SourceError(ValueError):
    """A source that is wrong; says where and what."""


def read_components(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Read the components of several files, braces put away.

    Raises:
        SourceError: if a file is not a list of components, each a name and a type.
    """
    components: list[dict[str, Any]] = []
    for path in paths:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(found, list):
            raise SourceError(f"{path.name}: must be a list of components")
        for component in found:
            if not isinstance(component, dict) or len(component) != 2 or "name" not in component:
                raise SourceError(f"{path.name}: a component is a name and one type: {component!r}")
            components.append(_map_text(component, hide_braces))
    return components


def read_spec(kind: type[Spec], data: Any, where: str) -> Spec:
    """Read the data of one component as what it must be.

    Raises:
        SourceError: if a key is unknown or missing, or a value of the wrong kind.
    """
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        title = data.get("title", data.get("name", "")) if isinstance(data, dict) else ""
        raise SourceError(f"{where} {show_braces(str(title))!r}: {error}") from error


def hide_braces(text: str) -> str:
    """Put away all braces but those of our placeholders."""
    parts = _PLACEHOLDER.split(text)
    # Text and names of placeholders take turns.
    return "".join(
        "{" + part + "}" if index % 2 else part.translate(_HIDE) for index, part in enumerate(parts)
    )


def show_braces(text: str) -> str:
    """Give the text as it was written."""
    return text.translate(_SHOW)


def finish(data: Any, where: str) -> Any:
    """Take the braces of a whole board out again.

    Raises:
        SourceError: if a placeholder is left that nothing expanded.
    """

    def finish_text(text: str) -> str:
        left = _LEFT_OVER.search(text)
        if left is not None:
            raise SourceError(f"{where}: nothing is known for @{{{left[1]}}} in {text!r}")
        return show_braces(text)

    return _map_text(data, finish_text)


def _map_text(data: Any, change: Any) -> Any:
    if isinstance(data, str):
        return change(data)
    if isinstance(data, list):
        return [_map_text(item, change) for item in data]
    if isinstance(data, dict):
        return {_map_text(key, change): _map_text(value, change) for key, value in data.items()}
    return data
