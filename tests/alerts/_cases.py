"""The cases of tests/alerts/cases, and how promtool is made to check them.

A case gives series and says at which times which alerts fire. It is a promise about all alerts at
once: what is not named must be silent. A case is a mapping of

- `promise`: one sentence,
- `series`: values by series, in promtool's notation (`1x4` is 1 and then four times more,
  `0+6x9` grows by 6 nine times, `_` is missing), one for each minute,
- `step`: another distance between values and evaluations, for cases of days and weeks; these look
  at the rules of their own file only, for time's sake,
- `at`: by time, `firing` and `silent`. Who fires is a name, or a mapping of the alert, its labels
  (without those that every alert has), its summary and its description, all of them exact; its
  severity, where it has several. Who is
  silent on purpose is named: the case is that alert's case of silence.

Where a case has no `up` of its own, one instance is up throughout.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import yaml

from alerts import Alert

FOLDER = Path(__file__).parent / "cases"
ALWAYS = "TaximeterWatchdog"
_UP = 'up{job="taximeter",instance="a:8401"}'


@dataclass(frozen=True)
class Case:
    file: str
    promise: str
    series: dict[str, str]
    step: str
    at: dict[str, dict[str, list[Any]]]

    def firing(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Give the alerts whose words are said, with their times."""
        for time, said in self.at.items():
            for alert in said.get("firing", []):
                if isinstance(alert, dict):
                    yield time, alert

    def silent(self) -> set[str]:
        return {name for said in self.at.values() for name in said.get("silent", [])}

    def metrics(self) -> set[str]:
        return {series.partition("{")[0] for series in self.series}


def load_cases() -> list[Case]:
    return [
        Case(path.stem, one["promise"], one["series"], one.get("step", "1m"), one["at"])
        for path in sorted(FOLDER.glob("*.yaml"))
        for one in yaml.safe_load(path.read_text(encoding="utf-8"))
    ]


def promtool_text(cases: list[Case], step: str, rule_files: list[str], alerts: list[Alert]) -> str:
    """Give the file for `promtool test rules` of all cases with one step."""
    tests = [_test(case, alerts) for case in cases if case.step == step]
    return yaml.safe_dump(
        {"rule_files": rule_files, "evaluation_interval": step, "tests": tests}, sort_keys=False
    )


def _test(case: Case, alerts: list[Alert]) -> dict[str, Any]:
    series = dict(case.series)
    if not any(re.match(r"up\b", name) for name in series):
        series[_UP] = "1x10000"
    by_time: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for time, said in case.firing():
        alert = _said(said, alerts)
        by_time.setdefault((time, alert.name), []).append(
            {
                "exp_labels": {**said.get("labels", {}), **_static(alert)},
                "exp_annotations": {
                    "summary": said["summary"],
                    "description": said["description"],
                    "runbook_url": alert.annotations["runbook_url"],
                    "dashboard_url": _board(alert.annotations["dashboard_url"], said),
                },
            }
        )
    return {
        "name": f"{case.file}: {case.promise}",
        "interval": case.step,
        "input_series": [{"series": name, "values": text} for name, text in series.items()],
        "alert_rule_test": [
            {"eval_time": time, "alertname": name, "exp_alerts": expected}
            for (time, name), expected in by_time.items()
        ],
        "promql_expr_test": [_only(time, said) for time, said in case.at.items()],
    }


def _said(said: dict[str, Any], alerts: list[Alert]) -> Alert:
    """Find which alert is meant, by its name, its window and its severity."""
    window = said.get("labels", {}).get("window")
    (found,) = (
        alert
        for alert in alerts
        if alert.name == said["alert"]
        and alert.labels.get("window") == window
        and said.get("severity", alert.severity) == alert.severity
    )
    return found


def _only(time: str, said: dict[str, list[Any]]) -> dict[str, Any]:
    """These alerts fire at a time, so many of each, and no others."""
    counts: dict[str, int] = {}
    for alert in said.get("firing", []):
        name = alert["alert"] if isinstance(alert, dict) else alert
        counts[name] = counts.get(name, 0) + 1
    return {
        "expr": f'count by (alertname) (ALERTS{{alertstate="firing",alertname!="{ALWAYS}"}})',
        "eval_time": time,
        "exp_samples": [
            {"labels": f'{{alertname="{name}"}}', "value": count} for name, count in counts.items()
        ],
    }


def _static(alert: Alert) -> dict[str, str]:
    return {key: text for key, text in alert.labels.items() if key != "window"}


def _board(url: str, said: dict[str, Any]) -> str:
    """Put an alert's labels into the address of its board, as Prometheus must."""
    labels = {"job": "taximeter", **said.get("labels", {})}

    def value(place: re.Match[str]) -> str:
        return quote_plus(labels.get(place[1], ""))

    return re.sub(r"\{\{ \$labels\.(\w+) \| urlquery \}\}", value, url)
