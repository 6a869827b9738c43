"""From the source of the rules to the files that Prometheus loads.

A source file is one group. Its entries are recording rules (`record`) and alerts (`alert`), each
with the section of thresholds.yaml whose values fill its texts. `each` names a list of values:
the entry is made once for each item, whose values win.

Every alert gets the labels `severity`, `category` (the group) and `service`, and the annotations
`summary`, `description`, `runbook_url` and `dashboard_url`, so that a route or a template can lean
on them. A label of the expression that narrows the board (`drill`) is handed to the dashboard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from alerts._errors import SourceError
from alerts._values import HERE, Values, read_yaml

SERVICE = "taximeter"
SEVERITIES = ("page", "warn", "info", "none")
"""`page` wakes somebody, `warn` is for today, `info` is for whoever looks; `none` is no trouble."""
HEAD = "# Made by `make alerts` from alerts/rules and alerts/thresholds.yaml. Do not edit.\n"
_RECORD_KEYS = {"record", "values", "each", "expr", "labels"}
_ALERT_KEYS = {
    "alert", "values", "each", "severity", "expr", "for", "keep_firing_for", "labels", "summary",
    "description", "dashboard", "drill", "means",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Record:
    """A recording rule."""

    name: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def rule(self) -> dict[str, Any]:
        """Give it as Prometheus reads it."""
        labels = {"labels": dict(self.labels)} if self.labels else {}
        return {"record": self.name, "expr": self.expr, **labels}


@dataclass(frozen=True, kw_only=True)
class Alert:
    """An alerting rule."""

    name: str
    means: str
    """What it means, in a few words without figures: for the table of all alerts."""
    expr: str
    wait: str | None
    """How long it must hold (`for`)."""
    keep: str | None
    """How long it stays once it no longer holds (`keep_firing_for`)."""
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @property
    def severity(self) -> str:
        """Give a word of `SEVERITIES`."""
        return self.labels["severity"]

    def rule(self) -> dict[str, Any]:
        """Give it as Prometheus reads it."""
        waits = {"for": self.wait, "keep_firing_for": self.keep}
        return {
            "alert": self.name,
            "expr": self.expr,
            **{key: value for key, value in waits.items() if value is not None},
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
        }


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rules that are evaluated together, one after the other."""

    name: str
    about: str
    interval: str
    rules: tuple[Record | Alert, ...]

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """Give the alerts among its rules."""
        return tuple(rule for rule in self.rules if isinstance(rule, Alert))


def load_groups(values: Values, folder: Path = HERE / "rules") -> list[Group]:
    """Read all groups, filled with `values`, in the order of their files' names.

    Raises:
        SourceError: if a file says what cannot be.
    """
    return [_group(read_yaml(path), path.stem, values) for path in sorted(folder.glob("*.yaml"))]


def rules_text(group: Group) -> str:
    """Give a group as a file of rules."""
    rules = [rule.rule() for rule in group.rules]
    content = {
        "groups": [
            {"name": f"{SERVICE}-{group.name}", "interval": group.interval, "rules": rules},
        ]
    }
    return HEAD + yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


def _group(source: Mapping[str, Any], name: str, values: Values) -> Group:
    unknown = set(source) - {"about", "rules"}
    if unknown:
        raise SourceError(f"{name}.yaml: unknown keys {sorted(unknown)}")
    rules = tuple(rule for entry in source["rules"] for rule in _made(entry, name, values))
    interval = values.fill("<rules.interval>", "rules")
    return Group(name=name, about=source["about"], interval=interval, rules=rules)


def _made(entry: Mapping[str, Any], group: str, values: Values) -> Iterator[Record | Alert]:
    kind = "record" if "record" in entry else "alert"
    title = f"{group}.yaml: {entry.get(kind)}"
    unknown = set(entry) - (_RECORD_KEYS if kind == "record" else _ALERT_KEYS)
    if unknown:
        raise SourceError(f"{title}: unknown keys {sorted(unknown)}")
    items: list[Mapping[str, Any]] = values.get(entry["each"]) if "each" in entry else [{}]
    for item in items:
        try:
            yield (_record if kind == "record" else _alert)(entry, group, values, item)
        except KeyError as error:
            raise SourceError(f"{title}: {error} is missing") from error
        except SourceError as error:
            raise SourceError(f"{title}: {error}") from error


def _record(
    entry: Mapping[str, Any], group: str, values: Values, item: Mapping[str, Any]
) -> Record:
    def fill(text: str) -> str:
        return values.fill(text, entry.get("values", group), item)

    return Record(
        name=fill(entry["record"]),
        expr=fill(entry["expr"].strip()),
        labels={key: fill(text) for key, text in entry.get("labels", {}).items()},
    )


def _alert(entry: Mapping[str, Any], group: str, values: Values, item: Mapping[str, Any]) -> Alert:
    def fill(text: str) -> str:
        return values.fill(text, entry.get("values", group), item)

    severity = fill(entry["severity"])
    if severity not in SEVERITIES:
        raise SourceError(f"severity {severity!r} is none of {', '.join(SEVERITIES)}")
    name = entry["alert"]
    return Alert(
        name=name,
        means=entry["means"],
        expr=fill(entry["expr"].strip()),
        wait=fill(entry["for"]) if "for" in entry else None,
        keep=fill(entry["keep_firing_for"]) if "keep_firing_for" in entry else None,
        labels={
            "severity": severity,
            "category": group,
            "service": SERVICE,
            **{key: fill(text) for key, text in entry.get("labels", {}).items()},
        },
        annotations={
            "summary": fill(entry["summary"]),
            "description": " ".join(fill(entry["description"]).split()),
            "runbook_url": f"{values.get('links.runbooks')}/{name}",
            "dashboard_url": _board(values, entry["dashboard"], entry.get("drill", {})),
        },
    )


def _board(values: Values, board: str, drill: Mapping[str, str]) -> str:
    """Give the board's address, narrowed to the alert's own labels and to its time."""
    query = "".join(
        f"&var-{variable}={{{{ $labels.{label} | urlquery }}}}" for variable, label in drill.items()
    )
    return f"{values.get('links.grafana')}/d/{SERVICE}-{board}?from=now-6h&to=now{query}"


class _Dumper(yaml.SafeDumper):
    """Writes expressions of several lines as they were written."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
