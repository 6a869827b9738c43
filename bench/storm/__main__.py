"""Runs the storm over every way, one after the other, each with a model server of its own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import msgspec

from bench import _installs
from bench._targets import module, started
from bench.storm import _report, _ways
from bench.storm._report import Served, Storm
from bench.storm._users import Job, Met

PAGE = Path(__file__).parent.parent / "README.md"


def main() -> int:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.storm", description="The storm.")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--no-write", action="store_true", help="leave bench/README.md alone")
    parser.add_argument("--only", nargs="*", default=None, metavar="WORD", help="ways with a word")
    chosen = parser.parse_args()
    ways = {
        name: way
        for name, way in _ways.WAYS.items()
        if chosen.only is None or any(word in name for word in chosen.only)
    }
    left_out = []
    for name in [name for name in ways if name.startswith("LiteLLM")]:
        try:
            _installs.litellm()
        except _installs.NotInstalled as error:
            left_out.append(f"{name} is left out: {error}.")
            del ways[name]
    storms: dict[str, Storm] = {}
    for name, way in ways.items():
        print(f"storm: {name}", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="storm-") as folder:
            storms[name] = _storm(way, Path(folder) / "way", chosen.users, chosen.seconds)
        print(_seen(storms[name]), file=sys.stderr)
    words = [word for word in sys.argv[1:] if word != "--no-write"]
    report = _report.table(storms, left_out, " ".join(["python -m bench.storm", *words]))
    print(report)
    if not (chosen.no_write or chosen.only):
        _report.write(PAGE, report)
    return 0


def _storm(way: _ways.Way, folder: Path, users: int, seconds: float) -> Storm:
    with module("storm._upstream") as (_, upstream), way(upstream, folder) as port:
        job = msgspec.json.encode(Job(port=port, users=users, seconds=seconds)).decode()
        command = [sys.executable, "-m", "bench.storm._users", job]
        with started(command, out=subprocess.PIPE) as process:
            said, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"the users ended with {process.returncode}")
        met = Met(**json.loads(said))
        url = f"http://127.0.0.1:{upstream}/served?begin={met.begin}&end={met.end}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return Storm(met, Served(**json.load(answer)))


def _seen(storm: Storm) -> str:
    served = storm.served
    return (
        f"  refused: {served.refused_places} for want of a place, {served.refused_requests} for "
        f"requests; most at once {served.most_busy}; errors {storm.met.errors}"
    )


if __name__ == "__main__":
    sys.exit(main())
