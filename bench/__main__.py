"""Runs the benchmarks: the same upstream and the same load over every way, in turns.

All ways run at once and are idle but for the one under load. The order turns about from
round to round, so that no way always has the warmer machine; and each round starts all of them
anew, for where a process's memory came to lie is worth a twentieth either way, for as long as it
lives. What is counted is the CPU time of the relaying processes alone: how long a call took says
more of the load than of the way. Absolute figures belong to their machine; the ratios to nginx in
the same round travel.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import resource
import shutil
import sys
import tempfile
from pathlib import Path

from bench import _measure, _nginx, _report, _targets
from bench._targets import Target

PAGE = Path(__file__).parent / "README.md"
FILES_MAX = 65_536
CALLS_PER_SECOND = 2_000
"""The one load that every way here carries with room to spare."""
RECORDER_CALLS_PER_SECOND = 500


def main() -> int:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="The benchmarks.")
    parser.add_argument("--quick", action="store_true", help="one short round; nothing is written")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-write", action="store_true", help="leave bench/README.md alone")
    parser.add_argument(
        "--only", nargs="*", default=None, help="ways: direct nginx aiohttp taximeter"
    )
    chosen = parser.parse_args()
    if shutil.which("nginx") is None:
        print("nginx is not installed: it is what everything is measured against", file=sys.stderr)
        return 1
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, FILES_MAX), hard))
    rounds = 1 if chosen.quick else chosen.rounds
    measured = run(rounds=rounds, quick=chosen.quick, only=chosen.only)
    words = [word for word in sys.argv[1:] if word != "--no-write"]
    report = _report.table(measured, " ".join(["python -m bench", *words]), rounds)
    print(report)
    if not (chosen.quick or chosen.no_write or chosen.only):
        _report.write(PAGE, report)
    return 0


def run(*, rounds: int, quick: bool, only: list[str] | None) -> dict[str, _report.Figures]:
    """Measure every way, `rounds` times in turns."""
    calls, deltas = (1_000, 50) if quick else (5_000, 200)
    streams = 200 if quick else 1_000
    recorder_calls = 1_000 if quick else 5_000
    measured: dict[str, _report.Figures] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for number in range(rounds):
            with contextlib.ExitStack() as stack:
                targets = _start(stack, Path(folder) / str(number), only)
                for target in targets if number % 2 == 0 else targets[::-1]:
                    print(f"round {number + 1}/{rounds}: {target.name}", file=sys.stderr)
                    figures = measured.setdefault(target.name, _report.Figures())
                    _measure_target(target, figures, calls, deltas, recorder_calls)
                if number + 1 < rounds:
                    continue
                for target in targets:
                    if target.relaying and not target.recorder_only:
                        print(f"idle streams: {target.name}", file=sys.stderr)
                        idle = _measure.memory_a_stream(target, streams)
                        measured[target.name].idle.append(idle)
    return measured


def _measure_target(
    target: Target, figures: _report.Figures, calls: int, deltas: int, recorder_calls: int
) -> None:
    """Measure a way once."""
    if target.recorder_only:
        figures.recorder.append(_recorder(target, recorder_calls))
        return
    call, seen = _measure.cpu_a_call(target, calls, calls_per_second=CALLS_PER_SECOND)
    figures.latency.append(float(seen["p50_us"]))
    if not target.relaying:
        return
    figures.call.append(call)
    full, _ = _measure.cpu_a_call(target, calls, calls_per_second=None)
    figures.call_full.append(full)
    apart, _ = _measure.cpu_a_call(target, calls, calls_per_second=CALLS_PER_SECOND, apart=True)
    figures.call_apart.append(apart)
    figures.delta.append(_measure.cpu_a_delta(target, deltas, asks_usage=True))
    figures.delta_unasked.append(_measure.cpu_a_delta(target, deltas, asks_usage=False))
    if target.recording:
        figures.recorder.append(_recorder(target, recorder_calls))


def _recorder(target: Target, calls: int) -> float:
    return _measure.recorder_cpu_a_call(target, calls, RECORDER_CALLS_PER_SECOND)


def _start(stack: contextlib.ExitStack, folder: Path, only: list[str] | None) -> list[Target]:
    """Start the upstream and every way to it that is asked for; nginx always."""
    folder.mkdir()
    _, upstream = stack.enter_context(_targets.module("_upstream"))

    def wanted(word: str) -> bool:
        return only is None or word in only

    targets = []
    if wanted("direct"):
        targets.append(Target("direct", upstream))
    targets.append(stack.enter_context(_nginx.tuned(upstream, folder / "nginx")))
    if wanted("aiohttp"):
        targets.append(stack.enter_context(_targets.plain_proxy(upstream)))
    if wanted("taximeter") and importlib.util.find_spec("taximeter") is not None:
        targets.append(stack.enter_context(_targets.taximeter(upstream, folder / "taximeter")))
        limited = _targets.taximeter(upstream, folder / "limited", limits=True)
        targets.append(stack.enter_context(limited))
        traced = _targets.taximeter(upstream, folder / "traced", traces=True)
        targets.append(stack.enter_context(traced))
    return targets


if __name__ == "__main__":
    sys.exit(main())
