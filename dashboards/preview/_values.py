"""Grafana's variables and macros, put into queries as Grafana does it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_VARIABLE = re.compile(r"\$\{(\w+)(?::(\w+))?\}|\$(\w+)")
_MACRO = re.compile(r"\$__(\w+)\(([^)]*)\)")


@dataclass(frozen=True, slots=True)
class Span:
    """The time shown, seconds since the epoch, and the step of queries over it."""

    since: int
    until: int
    step: int = 15

    @property
    def rate_seconds(self) -> int:
        """What `$__rate_interval` is: four times the scrape interval at least."""
        return max(4 * 15, self.step + 15) if self.step >= 15 else max(20, 4 * self.step)


Choice = list[str] | None
"""What is chosen of a variable; None is all."""


def fill_promql(text: str, board: dict[str, Any], span: Span, chosen: Mapping[str, Choice]) -> str:
    """Give a PromQL query with everything put in."""
    fixed = {
        "__rate_interval": f"{span.rate_seconds}s",
        "__interval": f"{span.step}s",
        "__range": f"{span.until - span.since}s",
    }
    variables = {each["name"]: each for each in board["templating"]["list"]}

    def value_of(match: re.Match[str]) -> str:
        name = match[1] or match[3]
        if name in fixed:
            return fixed[name]
        variable = variables.get(name)
        if variable is None:
            return match[0]
        if variable["type"] == "custom":
            return _first(chosen.get(name), variable["current"]["value"])
        some = chosen.get(name)
        return ".*" if some is None else "(" + "|".join(re.escape(each) for each in some) + ")"

    return _VARIABLE.sub(value_of, text)


def fill_sql(text: str, board: dict[str, Any], span: Span, chosen: Mapping[str, Choice]) -> str:
    """Give a SQL query with everything put in.

    Raises:
        ValueError: if it names a macro or a format that is not known here.
    """
    variables = {each["name"]: each for each in board["templating"]["list"]}

    def macro(match: re.Match[str]) -> str:
        name, argument = match[1], match[2]
        if name == "unixEpochFilter":
            return f"{argument} >= {span.since} AND {argument} <= {span.until}"
        if name == "unixEpochNanoFilter":
            since, until = span.since * 10**9, span.until * 10**9
            return f"{argument} >= {since} AND {argument} <= {until}"
        if name in ("unixEpochFrom", "unixEpochTo") and not argument:
            return str(span.since if name.endswith("From") else span.until)
        raise ValueError(f"macro $__{name}({argument})")

    def value_of(match: re.Match[str]) -> str:
        name, form = match[1] or match[3], match[2]
        variable = variables.get(name)
        if variable is None:
            return match[0]
        if variable["type"] == "custom":
            return _first(chosen.get(name), variable["current"]["value"])
        if form != "sqlstring":
            raise ValueError(f"a name must be quoted: ${{{name}:sqlstring}}")
        some = chosen.get(name)
        if some is None:
            return str(variable["allValue"])
        return ",".join("'" + each.replace("'", "''") + "'" for each in some)

    return _MACRO.sub(macro, _VARIABLE.sub(value_of, text))


def _first(some: Choice, default: str) -> str:
    return default if not some else some[0]
