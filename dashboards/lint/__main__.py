"""`python -m dashboards.lint` says what is wrong with the boards, if anything is."""

from __future__ import annotations

import sys

from dashboards.kit import compose
from dashboards.lint import lint

if __name__ == "__main__":
    findings = lint(compose())
    for finding in findings:
        print(": ".join(part for part in finding if part))
    sys.exit(bool(findings))
