"""What a query asks for: the metrics of a PromQL expression, with Grafana's variables put in.

Grafana replaces its variables before Prometheus sees a query; here a plausible value stands in
for each, so that the expression can be parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import promql_parser

STAND_INS = {
    "__rate_interval": "5m",
    "__interval": "1m",
    "__range": "24h",
    "__range_s": "86400",
    "__interval_ms": "60000",
}
"""For Grafana's own variables. Any other variable becomes `.*`, which is what `All` becomes."""

_VARIABLE = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$(\w+)|\[\[(\w+)\]\]")


def put_in(text: str, values: dict[str, str] | None = None) -> str:
    """Give a query with every variable replaced."""
    known = STAND_INS if values is None else {**STAND_INS, **values}

    def value_of(match: re.Match[str]) -> str:
        name = match[1] or match[2] or match[3]
        return known.get(name, ".*")

    return _VARIABLE.sub(value_of, text)


def variables_of(text: str) -> set[str]:
    """Give the names of the variables of a text."""
    return {match[1] or match[2] or match[3] for match in _VARIABLE.finditer(text)}


def parse(expression: str, values: dict[str, str] | None = None) -> Any:
    """Parse a query of a board.

    Raises:
        ValueError: if it is not PromQL.
    """
    return _tree(put_in(expression, values))


@lru_cache(maxsize=4_096)
def _tree(text: str) -> Any:
    """Parse once what several rules look at; trees are never changed."""
    return promql_parser.parse(text)


def below(node: Any) -> Iterator[Any]:
    """Give the nodes right below a node of the tree."""
    for name in ("expr", "lhs", "rhs", "param", "vector_selector"):
        child = getattr(node, name, None)
        if child is not None:
            yield child
    yield from getattr(node, "args", None) or ()


def walk(node: Any) -> Iterator[Any]:
    """Give a node of the tree and all below it."""
    yield node
    for child in below(node):
        yield from walk(child)


def selectors_of(expression: str, values: dict[str, str] | None = None) -> list[Any]:
    """Give the vector selectors of a query, in the order in which they stand.

    Raises:
        ValueError: if it is not PromQL.
    """
    tree = parse(expression, values)
    return [node for node in walk(tree) if isinstance(node, promql_parser.VectorSelector)]


def metrics_of(expression: str, values: dict[str, str] | None = None) -> list[str]:
    """Give the names of the series a query reads, each once, in the order in which they stand.

    Raises:
        ValueError: if it is not PromQL.
    """
    return list(dict.fromkeys(str(each.name) for each in selectors_of(expression, values)))


def defaults_of(variables: list[dict[str, Any]]) -> dict[str, str]:
    """Give what a board's variables of fixed values stand at when it is opened."""
    return {
        variable["name"]: variable["current"]["value"]
        for variable in variables
        if variable["type"] == "custom"
    }
