"""Runs the comparison, section by section, and writes `bench/report/` as it goes."""

from __future__ import annotations

import argparse
import contextlib
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import _certificate, _installs, _targets
from bench.peers import _books, _figures, _report, _rounds
from bench.peers._rounds import Section
from bench.peers._ways import WAYS, Setting, Way

FOLDER = Path(__file__).parent.parent / "report"
FILES_MAX = 65_536
QUICK_SCALE = 0.02
SECTIONS = [*_rounds.SECTIONS, "recorder", "reports"]


def main() -> int:
    """Measure what is asked for, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description="The comparison.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a short look; nothing is written")
    parser.add_argument("--sections", nargs="*", default=SECTIONS, choices=SECTIONS)
    parser.add_argument(
        "--only", nargs="*", metavar="WORD", help="ways, by a word: direct nginx ..."
    )
    parser.add_argument(
        "--ledger-rows", type=int, default=10_000_000, help="of the reports' ledger"
    )
    parser.add_argument("--write-again", action="store_true", help="measure nothing: report anew")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the report goes")
    chosen = parser.parse_args()
    if chosen.quick:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            chosen.folder, chosen.rounds = Path(folder), 1
            print(_measured(chosen))
        return 0
    chosen.folder.mkdir(exist_ok=True)
    page = _measured(chosen)
    (chosen.folder / "README.md").write_text(page)
    _draw(chosen.folder)
    return 0


def _measured(chosen: argparse.Namespace) -> str:
    """Measure what is asked for, and give the page of all that is known then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, FILES_MAX), hard))
    for name in [] if chosen.write_again else chosen.sections:
        _measure(name, chosen)
    return _report.page(_figures.read(chosen.folder / "figures.json"))


def _measure(name: str, chosen: argparse.Namespace) -> None:
    """Run a section, with an upstream and ways of its own, and keep what it found."""
    ways = [way for way in WAYS if chosen.only is None or way.word in chosen.only]
    command = " ".join(["python -m bench.peers", *sys.argv[1:]])
    figures = _figures.Figures()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        section = _section(stack, folder, ways, chosen)
        kept = _figures.told(
            figures,
            name,
            command,
            rounds=chosen.rounds,
            table=section.table,
            left_out=section.left_out,
        )
        # All has ended when the CPU time of it is summed: so the stack is closed within.
        with kept, stack:
            if name in _rounds.SECTIONS:
                _rounds.SECTIONS[name](section)
            elif name == "recorder":
                _books.recorder(section)
            else:
                _books.reports(section, max(1_000, int(chosen.ledger_rows * section.scale)))
    path = chosen.folder / "figures.json"
    known = _figures.read(path).sections | figures.sections
    _figures.write(path, _figures.Figures(_figures.machine(), _figures.versions(), known))


def _section(
    stack: contextlib.ExitStack, folder: Path, ways: list[Way], chosen: argparse.Namespace
) -> Section:
    made = _certificate.make(folder)
    _, upstream = stack.enter_context(_targets.module("_upstream"))
    files = (str(made.certificate_file), str(made.key_file))
    _, tls_upstream = stack.enter_context(_targets.module("_upstream", *files))
    setting = Setting(upstream, tls_upstream, made.ca_file)
    return Section(ways, setting, folder, chosen.rounds, QUICK_SCALE if chosen.quick else 1.0)


def _draw(folder: Path) -> None:
    """Draw the plots, in an environment of their own."""
    try:
        python = _installs.matplotlib()
    except _installs.NotInstalled as error:
        print(f"The plots are not drawn: {error}", file=sys.stderr)
        return
    script = Path(__file__).parent / "_plots.py"
    subprocess.run([str(python), str(script), str(folder)], check=True)


if __name__ == "__main__":
    sys.exit(main())
