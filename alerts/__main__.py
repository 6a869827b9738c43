"""Makes the alerts' generated files: `python -m alerts`.

Without words it writes what is committed. With `--values`, `--channels` or both, for a user's own
numbers and channels, `--out` names the folder to write to, and nothing else is touched.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from alerts import (
    SourceError,
    alertmanager_text,
    load_channels,
    load_groups,
    load_values,
    page_text,
    rules_text,
)
from alerts._alertmanager import TEMPLATES
from alerts._values import HERE, read_yaml

GENERATED = HERE / "generated"
PAGE = HERE.parent / "docs" / "alerts.md"
TABLE_BEGINS = "<!-- The table is made by `make alerts`. -->\n"
TABLE_ENDS = "<!-- The table ends. -->\n"


def outputs(
    values: Path | None = None, channels: Path | None = None, *, templates: str = TEMPLATES
) -> dict[str, str]:
    """Give the text of each file to be loaded, by its path below the folder of output.

    Raises:
        SourceError: if a source says what cannot be.
    """
    groups = load_groups(load_values(read_yaml(values) if values is not None else None))
    return {
        **{f"rules/{group.name}.yml": rules_text(group) for group in groups},
        "alertmanager.yml": alertmanager_text(load_channels(channels), templates=templates),
    }


def page(current: str) -> str:
    """Give docs/alerts.md with its table made anew."""
    before, _, rest = current.partition(TABLE_BEGINS)
    _, _, after = rest.partition(TABLE_ENDS)
    table = page_text(load_groups(load_values()))
    return f"{before}{TABLE_BEGINS}\n{table}\n{TABLE_ENDS}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m alerts", description=__doc__)
    parser.add_argument("--values", type=Path, help="thresholds that differ, as thresholds.yaml")
    parser.add_argument("--channels", type=Path, help="channels, as channels.yaml")
    parser.add_argument("--templates", default=TEMPLATES, help="where Alertmanager has templates")
    parser.add_argument("--out", type=Path, help="folder to write to")
    chosen = parser.parse_args(arguments)
    is_own = chosen.values is not None or chosen.channels is not None
    if is_own and chosen.out is None:
        parser.error("--out must name a folder for what is your own")
    try:
        made = outputs(chosen.values, chosen.channels, templates=chosen.templates)
    except (SourceError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    folder: Path = chosen.out or GENERATED
    (folder / "rules").mkdir(parents=True, exist_ok=True)
    for stale in set((folder / "rules").glob("*.yml")) - {folder / name for name in made}:
        stale.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")
    if chosen.out is None:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
