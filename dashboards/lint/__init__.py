"""What a board must keep to: `lint` gives everything that is wrong with a set of boards.

The rules are those of Grafana's dashboard-linter that make sense for boards with two data sources,
and ours: every metric and label is one that something exports, ratios have a guarded denominator,
thresholds are bounds of buckets, panels fill their sections, links lead somewhere, and every metric
is looked at somewhere.
"""

from dashboards.lint._findings import Finding, lint

__all__ = ["Finding", "lint"]
