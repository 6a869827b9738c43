"""The alerts: rules for Prometheus and a configuration for Alertmanager, made from one source.

`thresholds.yaml` holds every number and every span of time, by name. `rules/*.yaml` say what is
looked at and what a person is told, and `routing.yaml` with `channels.yaml` who is told. From
these are made, and committed:

- `generated/rules/*.yml`, which Prometheus loads,
- `generated/alertmanager.yml`, which Alertmanager loads,
- `docs/alerts.md`, the table of all alerts.

`make alerts` makes them anew. Whoever wants other numbers writes those that differ into a file of
their own: `python -m alerts --values mine.yaml --channels ours.yaml --out FOLDER`.
"""

from __future__ import annotations

from alerts._alertmanager import alertmanager_text, load_channels
from alerts._errors import SourceError
from alerts._page import page_text
from alerts._rules import Alert, Group, Record, load_groups, rules_text
from alerts._values import Values, load_values

__all__ = [
    "Alert",
    "Group",
    "Record",
    "SourceError",
    "Values",
    "alertmanager_text",
    "load_channels",
    "load_groups",
    "load_values",
    "page_text",
    "rules_text",
]
