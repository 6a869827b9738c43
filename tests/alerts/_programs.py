"""Prometheus' and Alertmanager's own programs, which check what is made for them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_NAMES = {
    # Debian's name of the server, then its makers'.
    "alertmanager": ("prometheus-alertmanager", "alertmanager"),
}


class ProgramMissing(RuntimeError):
    pass


def program(name: str) -> str:
    """Give the path of a program.

    Raises:
        ProgramMissing: if it is not installed; these tests prove nothing without it.
    """
    for one in _NAMES.get(name, (name,)):
        found = shutil.which(one)
        if found is not None:
            return found
    raise ProgramMissing(
        f"These tests need {name}. Install it (`tools/system-packages engines`; Debian: "
        "apt-get install prometheus prometheus-alertmanager)."
    )


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
