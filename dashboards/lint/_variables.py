"""Rules on variables and links: what is used is defined, what is defined is used."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from dashboards.kit._queries import defaults_of, variables_of
from dashboards.lint._layout import Found, panels_of
from dashboards.lint._series import known_series

_BUILT_IN = re.compile(r"__\w+")
_BOARD_URL = re.compile(r"^/d/([\w-]+)\?")
_SET = re.compile(r"&var-(\w+)=")
_KEPT = re.compile(r"&\$\{(\w+):queryparam\}")
_LABEL_VALUES = re.compile(r"^label_values\((\w+)(?:\{.*\})?,(\w+)\)$")


def values_of(board: dict[str, Any]) -> dict[str, str]:
    """Give what the board's variables of fixed values stand at."""
    return defaults_of(board["templating"]["list"])


def check(board: dict[str, Any], boards: list[dict[str, Any]]) -> Iterator[Found]:
    """Check one board, which is among all of these."""
    variables = {each["name"]: each for each in board["templating"]["list"]}
    yield from _sources(variables)
    used = _used(board)
    for name in sorted(used - variables.keys()):
        yield "", "variable-defined", f"${name} is used, and not defined"
    for name in sorted(variables.keys() - used):
        yield "", "variable-used", f"${name} is defined, and not used"
    for variable in variables.values():
        yield from _query(variable)
    known = {each["uid"]: {v["name"] for v in each["templating"]["list"]} for each in boards}
    for panel in panels_of(board):
        for url in _urls(panel.get("fieldConfig", {})):
            for what in _link(url, known):
                yield panel["title"], "link", what


def _link(url: str, known: dict[str, set[str]]) -> Iterator[str]:
    """Check that a link leads to a board that is there, and sets variables that it has."""
    target = _BOARD_URL.match(url)
    if target is None:
        if not url.startswith("/explore?"):
            yield f"leads away: {url}"
        return
    if target[1] not in known:
        yield f"there is no board {target[1]}"
        return
    for name in _SET.findall(url) + _KEPT.findall(url):
        if name not in known[target[1]]:
            yield f"{target[1]} has no variable {name}"


def _sources(variables: dict[str, Any]) -> Iterator[Found]:
    source = variables.get("datasource", {})
    if source.get("type") != "datasource" or source.get("label") != "Data source":
        yield "", "template-datasource", "must have `datasource`, labelled Data source"
    for name in ("job", "instance"):
        variable = variables.get(name, {})
        if not (variable.get("multi") and variable.get("allValue") == ".*"):
            yield "", f"template-{name}", f"must have `{name}` of several values, or all"


def _query(variable: dict[str, Any]) -> Iterator[Found]:
    if variable["type"] != "query":
        return
    if variable["refresh"] != 2:
        yield "", "template-on-time-change-reload", f"${variable['name']} does not follow the time"
    if variable["datasource"]["type"] != "prometheus":
        return
    asked = variable["query"]["query"]
    parts = _LABEL_VALUES.match(asked)
    series = known_series().get(parts[1]) if parts else None
    if parts is None or series is None or parts[2] not in series.labels:
        yield "", "template-label", f"{asked}: no such metric or label"


def _used(board: dict[str, Any]) -> set[str]:
    """Give every variable that a query, a link or another variable of the board names."""
    texts = json.dumps(
        [board["panels"], board["annotations"]]
        + [[each.get("query"), each.get("datasource")] for each in board["templating"]["list"]]
    )
    # In JSON a `$` of a legend or a replacement pattern cannot be told from a variable's but by
    # what follows: `$1` is no name.
    return {
        name for name in variables_of(texts) if not _BUILT_IN.fullmatch(name) and not name.isdigit()
    }


def _urls(config: Any) -> Iterator[str]:
    if isinstance(config, dict):
        if isinstance(config.get("url"), str):
            yield config["url"]
        for value in config.values():
            yield from _urls(value)
    elif isinstance(config, list):
        for value in config:
            yield from _urls(value)
