"""`python -m dashboards.preview [--seconds N] [--out FOLDER]` draws every board from a live run."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from dashboards.kit import compose
from dashboards.preview._frames import Asker
from dashboards.preview._history import DAYS
from dashboards.preview._page import WIDTH, page
from dashboards.preview._run import Run, live_run
from dashboards.preview._values import Span

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_SHOT_SECONDS_MAX = 60


def main() -> int:
    """Run, ask, draw; say where the pictures are and which queries failed."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--seconds", type=float, default=120, help="how long users call")
    words.add_argument("--out", type=Path, default=Path(".cache/preview"), help="folder of PNGs")
    said = words.parse_args()
    said.out.mkdir(parents=True, exist_ok=True)
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        print("no Chromium: pages are written, pictures are not", file=sys.stderr)
    with (
        tempfile.TemporaryDirectory(prefix="taximeter-preview-") as folder,
        live_run(Path(folder), said.seconds) as run,
    ):
        failed = _draw(run, said.out, browser)
    for each in failed:
        print(each, file=sys.stderr)
    return 1 if failed else 0


def _draw(run: Run, out: Path, browser: str | None) -> list[str]:
    asker = Asker(run.prometheus_url, run.ledger)
    failed: list[str] = []
    for name, board in compose().items():
        answers, spans = {}, {}
        for panel in board["panels"]:
            span = _span(run, board, panel)
            frames = asker.ask(board, panel, span, {})
            answers[panel["id"]], spans[panel["id"]] = frames, span
            failed += [f"{name}: {panel['title']}: {each}" for each in frames.failed]
        text, height = page(board, answers, spans)
        path = out / name.replace(".json", ".html")
        path.write_text(text, encoding="utf-8")
        if browser is not None:
            _photograph(browser, path, height)
            print(path.with_suffix(".png"))
    return failed


def _span(run: Run, board: dict[str, Any], panel: dict[str, Any]) -> Span:
    """Give the time a panel shows: the run, or for the ledger's exact sums what came before too."""
    asks_ledger = any("rawSql" in target for target in panel.get("targets", []))
    if asks_ledger and board["time"]["from"] == "now-30d":
        return Span(run.until - DAYS * 86_400, run.until)
    return Span(run.since, run.until, step=max(1, (run.until - run.since) // 120))


def _photograph(browser: str, path: Path, height: int) -> None:
    with tempfile.TemporaryDirectory(prefix="taximeter-browser-") as profile:
        subprocess.run(
            [
                browser,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                f"--user-data-dir={profile}",
                f"--window-size={WIDTH},{height}",
                f"--screenshot={path.with_suffix('.png').resolve()}",
                path.resolve().as_uri(),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=_SHOT_SECONDS_MAX,
        )


if __name__ == "__main__":
    sys.exit(main())
