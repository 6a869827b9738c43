"""The promises, their lines in the documents, and the tests that name them, as they are written.

Read from the sources: a test that does not run on this machine is still found, and nothing is
imported. Whether a test can be collected is asked of pytest itself, in `test_promises.py`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = (ROOT / "docs" / "guarantees.md", ROOT / "docs" / "threat-model.md")
COUNTS = {"D": 13, "C": 10, "O": 7, "H": 13, "L": 5}
"""Durability, correctness, overload, hostility, life and death: so many promises each."""
PROMISES = frozenset(f"{kind}{n}" for kind, last in COUNTS.items() for n in range(1, last + 1))

_ID = re.compile(r"\b[DCOHL]\d{1,2}\b")
_ROW = re.compile(r"^\| ([DCOHL]\d{1,2}) \| (.+) \|(.*)\|$", re.M)
_TEST = re.compile(r"`(tests/[\w/]+\.py::\w+)`")


class Line(NamedTuple):
    """A promise's line in a document."""

    promise: str
    page: str
    tests: tuple[str, ...]


@cache
def lines() -> tuple[Line, ...]:
    """Give the lines of all documents, in their order."""
    return tuple(
        Line(found[1], page.name, tuple(_TEST.findall(found[3])))
        for page in PAGES
        for found in _ROW.finditer(page.read_text(encoding="utf-8"))
    )


@cache
def docstrings() -> dict[str, str]:
    """Give every test's docstring by its id, `path::name`."""
    return {
        f"{path.relative_to(ROOT)}::{node.name}": ast.get_docstring(node) or ""
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in _tests_of(path)
    }


def _tests_of(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
            "test_"
        ):
            yield node


def named_in(text: str) -> frozenset[str]:
    """Give the promises that a text names."""
    return frozenset(_ID.findall(text))


def cited() -> frozenset[str]:
    """Give the ids of all tests that the documents name."""
    return frozenset(
        test for page in PAGES for test in _TEST.findall(page.read_text(encoding="utf-8"))
    )
