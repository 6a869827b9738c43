"""The table of all alerts, for docs/alerts.md."""

from __future__ import annotations

from collections.abc import Sequence

from alerts._rules import Alert, Group


def page_text(groups: Sequence[Group]) -> str:
    """Give the table: a section for each group, a row for each alert."""
    return "\n\n".join(_section(group) for group in groups) + "\n"


def _section(group: Group) -> str:
    rows = [
        f"| {_name(alert)} | {alert.severity} | {alert.wait or 'at once'} | {alert.means} |"
        for alert in group.alerts
    ]
    return "\n".join(
        [
            f"### {group.name.capitalize()}",
            "",
            group.about,
            "",
            "| alert | severity | for | when |",
            "| --- | --- | --- | --- |",
            *rows,
        ]
    )


def _name(alert: Alert) -> str:
    window = alert.labels.get("window")
    return f"[{alert.name}](runbooks/{alert.name}.md)" + (f" over {window}" if window else "")
