"""Prometheus' and Alertmanager's own programs, which check what is made for them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.engines import program


def run(name: str, *words: str | Path, seconds: float = 50) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; what it said is in the result, errors last."""
    done = subprocess.run(
        [program(name), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    done.stdout += done.stderr
    return done
