"""Reading the file: YAML as people mean it, with the line of every key.

PyYAML's own loader is not enough here. It takes the last of two equal keys in silence, reads
`no` as false and `12:30` as a number, makes binary floats of prices, builds dates, and forgets
where things stood. So PyYAML parses, and the tree it gives is walked here: scalars as in YAML
1.2's core schema, decimal fractions as `Decimal`, equal keys refused, and bounds on size, depth
and number of nodes, which also end a bomb of aliases.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from taximeter.settings._errors import Problem, SettingsError

FILE_BYTES_MAX = 1024 * 1024
NODES_MAX = 100_000
DEPTH_MAX = 32

Key = tuple[str | int, ...]
"""Path of a value: keys of mappings and places in lists."""

_INTEGER = re.compile(r"[-+]?[0-9]{1,30}")
_FRACTION = re.compile(r"[-+]?(\.[0-9]{1,30}|[0-9]{1,30}(\.[0-9]{0,30})?)([eE][-+]?[0-9]{1,3})?")
_WORDS = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True,
    "false": False, "False": False, "FALSE": False,
}  # fmt: skip


@dataclass
class File:
    """What a file says: plain values, and the line on which each of them stands."""

    path: Path
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[Key, int] = field(default_factory=dict)
    """First line is 1."""
    open_to_others: bool = False
    """Somebody beside its owner may read it."""

    def where(self, key: Key) -> str:
        """Give the place of a key, or of the nearest part that stands in the file."""
        while key:
            if key in self.lines:
                return f"{self.path}:{self.lines[key]}"
            key = key[:-1]
        return str(self.path)


def read_file(path: Path) -> File:
    """Read a configuration file.

    Raises:
        SettingsError: if it cannot be read, is not UTF-8, is not YAML, or is not a mapping.
    """
    try:
        with path.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            data = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise _refusal(path, None, f"cannot be read: {error.strerror}") from None
    if len(data) > FILE_BYTES_MAX:
        raise _refusal(path, None, f"is larger than {FILE_BYTES_MAX} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _refusal(path, line, "is not UTF-8") from None
    file = File(path, open_to_others=bool(mode & (stat.S_IRGRP | stat.S_IROTH)))
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # PyYAML's words quote names out of the text: aliases, handles of tags.
        words = re.sub(r"'[\w!-]{3,}'", "'...'", str(error.problem or error.context))
        message = f"is not YAML: {words}"
        raise _refusal(path, mark.line + 1 if mark else None, message) from None
    except (yaml.YAMLError, RecursionError):
        raise _refusal(
            path, None, "is not YAML that can be read: a character it does not allow, or too deep"
        ) from None
    if root is None:
        return file
    values = _Walk(file).value(root, ())
    if values is None:
        return file
    if not isinstance(values, dict):
        raise _refusal(path, root.start_mark.line + 1, "must be a mapping of settings")
    file.values = values
    return file


def _refusal(path: Path, line: int | None, message: str, key: str = "") -> SettingsError:
    return SettingsError([Problem(f"{path}:{line}" if line else str(path), key, message)])


class _Walk:
    """Makes plain values of PyYAML's tree."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._nodes = 0

    def value(self, node: yaml.Node, key: Key) -> Any:
        self._nodes += 1
        line = node.start_mark.line + 1
        if self._nodes > NODES_MAX or len(key) > DEPTH_MAX:
            raise _refusal(self._file.path, line, "holds too many values, or too deep ones")
        self._file.lines.setdefault(key, line)
        if not node.tag.startswith("tag:yaml.org,2002:"):
            raise _refusal(self._file.path, line, "tags of one's own (`!...`) are not supported")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*key, place)) for place, item in enumerate(node.value)]
        return scalar(str(node.value), plain=getattr(node, "style", None) is None)

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        values: dict[str, Any] = {}
        first_lines: dict[str, int] = {}
        for name_node, value_node in node.value:
            line = name_node.start_mark.line + 1
            if not isinstance(name_node, yaml.ScalarNode):
                raise _refusal(self._file.path, line, "a key must be text")
            name = str(name_node.value)
            if name_node.tag == "tag:yaml.org,2002:merge":
                raise _refusal(self._file.path, line, "merge keys (`<<`) are not supported")
            if name in values:
                message = f"is there twice; the first time on line {first_lines[name]}"
                raise _refusal(self._file.path, line, message, dotted((*key, name)))
            first_lines[name] = line
            self._file.lines[(*key, name)] = line
            values[name] = self.value(value_node, (*key, name))
        return values


def scalar(text: str, plain: bool = True) -> Any:
    """Give the value of a scalar: text, unless it is unquoted and looks like something else."""
    if not plain:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FRACTION.fullmatch(text):
        return Decimal(text)
    return text


def dotted(key: Key) -> str:
    """Write a key's path as people do: `upstreams.openai.url`, `prices[0].model`.

    Parts that a person may have pasted something into are cut short and made printable.
    """
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = "".join(c if c.isprintable() else "?" for c in part[:48])
            text += f".{shown}" if text else shown
    return text
