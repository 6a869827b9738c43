"""Regular expressions: none of ours is one that a Python we run on misreads."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

import taximeter

MISREAD = {_constants.POSSESSIVE_REPEAT, _constants.ATOMIC_GROUP}


def patterns() -> Iterator[tuple[str, re.Pattern[Any]]]:
    """Give every pattern that a module holds, with the name by which it does."""
    for module in pkgutil.walk_packages(taximeter.__path__, "taximeter."):
        if "._migrations" in module.name or module.name.endswith("__main__"):
            continue  # they run when they are imported
        for name, value in vars(importlib.import_module(module.name)).items():
            found = getattr(value, "__self__", value)  # `re.compile(...).search` belongs to one
            if isinstance(found, re.Pattern):
                yield f"{module.name}.{name}", found


def steps(parsed: Any) -> Iterator[object]:
    """Give the kind of each step of a parsed pattern, however deep it stands."""
    if isinstance(parsed, _parser.SubPattern):
        for kind, what in parsed:
            yield kind
            yield from steps(what)
    elif isinstance(parsed, tuple | list):
        for each in parsed:
            yield from steps(each)


def kinds_of(pattern: str | bytes, flags: int = 0) -> set[object]:
    """Give the kinds of all steps of a pattern."""
    return set(steps(_parser.parse(pattern, flags)))


def test_no_pattern_is_possessive_or_atomic() -> None:
    """C1: Python 3.11.2, which Debian 12 has, matches less or more with those than is there: once
    that cost the colon of a comment in a stream.
    """
    found = dict(patterns())
    assert len(found) > 50
    bad = [name for name, one in found.items() if MISREAD & kinds_of(one.pattern, one.flags)]
    assert bad == []


def test_such_patterns_are_told() -> None:
    """What looks for them finds them, also within groups and repeats."""
    for bad in (rb"a++", rb"(?:x|[ab]*+)y", r"(?>a|b)c", r"(?:(?:a{2,3}+)b)*"):
        assert MISREAD & kinds_of(bad)
