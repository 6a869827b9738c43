"""Composes boards from YAML: `compose` gives each board's JSON by its file name.

The model - named components, lists of them, placeholders, projects - is that of
grafana-dashboard-builder, used as a library. What it writes by itself is of Grafana 2, so the
components (panels, targets, variables, links, annotations) and the exporter are ours, and strict:
an unknown key is an error that names it.
"""

from dashboards.kit._compose import BOARDS, GENERATED, compose, render
from dashboards.kit._queries import metrics_of
from dashboards.kit._source import SourceError

__all__ = ["BOARDS", "GENERATED", "SourceError", "compose", "metrics_of", "render"]
