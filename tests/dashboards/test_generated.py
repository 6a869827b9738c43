"""What is committed is what the sources make, and Grafana knows every word of it."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.check import NodeMissing, type_errors
from dashboards.kit import GENERATED, compose, render

Boards = dict[str, dict[str, Any]]


def test_committed_boards_are_those_of_the_sources(boards: Boards) -> None:
    """`make dashboards` was run: every file is there, byte for byte, and no other."""
    committed = {path.name: path.read_text(encoding="utf-8") for path in GENERATED.glob("*.json")}
    assert committed == {name: render(board) for name, board in boards.items()}


def test_composing_twice_gives_the_same(boards: Boards) -> None:
    """Nothing of a board depends on time, order or what was composed before."""
    assert compose() == boards


def test_the_nine_boards_are_there(boards: Boards) -> None:
    """Each board that the documentation names exists."""
    assert list(boards) == [
        f"{name}.json"
        for name in (
            "overview cost calls latency streaming reliability limits slo pipeline".split()
        )
    ]


def test_grafanas_sdk_loses_nothing_of_a_board(boards: Boards) -> None:
    """Read by Grafana's own models and written again, every key is still there."""
    assert {name: _lost(board, _through_sdk(board)) for name, board in boards.items()} == {
        name: [] for name in boards
    }


def test_a_misspelt_option_is_found_by_the_sdk(boards: Boards) -> None:
    """The round trip can fail: an option that Grafana does not know is lost in it."""
    board = copy.deepcopy(boards["overview.json"])
    board["panels"][0]["options"]["colourMode"] = "value"
    assert _lost(board, _through_sdk(board)) == [".panels[0].options.colourMode"]


@pytest.mark.timeout(180)
def test_grafanas_types_take_every_board(boards: Boards, tmp_path: Path) -> None:
    """TypeScript finds boards and panels to be what Grafana 13's own code takes."""
    assert _type_errors(boards, tmp_path) == []


@pytest.mark.timeout(180)
def test_grafanas_types_find_what_is_wrong(boards: Boards, tmp_path: Path) -> None:
    """The type check can fail: wrong words and unknown keys are errors, each of them."""
    board = copy.deepcopy(boards["slo.json"])
    stat = next(panel for panel in board["panels"] if panel["type"] == "stat")
    stat["options"]["graphMode"] = "arena"
    stat["gridPos"]["width"] = 3
    stat["fieldConfig"]["defaults"]["unitt"] = "s"
    board["refresh"] = 30
    found = _type_errors({"slo.json": board}, tmp_path)
    for word in ("arena", "width", "unitt", "'number' is not assignable to type 'string'"):
        assert any(word in error for error in found), (word, found)


def _type_errors(boards: Boards, folder: Path) -> list[str]:
    try:
        return type_errors(boards, folder)
    except NodeMissing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))


def _through_sdk(board: dict[str, Any]) -> Any:
    register_default_plugins()
    return json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(board)))


def _lost(before: Any, after: Any, path: str = "") -> list[str]:
    """Give the paths of what is in `before` and not, or otherwise, in `after`."""
    if isinstance(before, dict) and isinstance(after, dict):
        found: list[str] = []
        for key, value in before.items():
            if key in after:
                found += _lost(value, after[key], f"{path}.{key}")
            elif value is not None and value != []:
                found.append(f"{path}.{key}")
        return found
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [
            each
            for index, (one, other) in enumerate(zip(before, after, strict=True))
            for each in _lost(one, other, f"{path}[{index}]")
        ]
    return [] if before == after else [path]
