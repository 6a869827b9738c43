"""The boards against Grafana's own types: `type_errors` gives what TypeScript says about them.

`@grafana/schema` has the types that Grafana itself is built with, for boards and for each kind of
panel. A board is written as a TypeScript value that must satisfy them; keys they do not know, and
words outside their enumerations, are errors. The packages are locked in package-lock.json and
brought by `npm ci`; nothing of them is shipped.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = Path(__file__).resolve().parent / "node_modules"
_SECONDS_MAX = 120

_RAW = "@grafana/schema/dist/esm/raw"
_PANELS = {
    "bargauge": "BarGauge",
    "heatmap": "Heatmap",
    "histogram": "Histogram",
    "stat": "Stat",
    "state-timeline": "StateTimeline",
    "table": "Table",
    "text": "Text",
    "timeseries": "TimeSeries",
}

_HEAD = """\
// Enumerations are values in JSON, and what is left out takes its default.
type Loose<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T
  : T extends (infer E)[] ? Loose<E>[] : T extends object ? { [K in keyof T]?: Loose<T[K]> } : T;
// An annotation's own fields belong to its data source, and the schema does not list them.
type Board = Omit<Loose<Dashboard>, 'annotations'> & {
  annotations: { list: (Loose<AnnotationQuery> & {
    expr: string; step: string; titleFormat: string; textFormat: string; useValueForTime: boolean;
  })[] };
};
// Grafana 13 has a table's footer elsewhere, and moves it when it loads a board.
type Footer = { footer?: { show: boolean; reducer: string[]; countRows: boolean; fields: string } };
"""

_PROJECT = {
    "compilerOptions": {
        "strict": True,
        "noEmit": True,
        "skipLibCheck": True,
        "module": "esnext",
        "moduleResolution": "bundler",
        "target": "es2022",
        "types": [],
    },
    "files": ["boards.ts"],
}


class NodeMissing(RuntimeError):
    """Node.js or the packages are not here; says what to run."""


def type_errors(boards: dict[str, dict[str, Any]], folder: Path) -> list[str]:
    """Give what TypeScript says about the boards; `folder` is for its files.

    Raises:
        NodeMissing: if it cannot be asked.
    """
    node, compiler = shutil.which("node"), PACKAGES / "typescript" / "bin" / "tsc"
    if node is None or not compiler.exists():
        raise NodeMissing(
            "Grafana's types were not asked: run `npm ci` in dashboards/check (needs Node.js)."
        )
    (folder / "node_modules").symlink_to(PACKAGES)
    (folder / "tsconfig.json").write_text(json.dumps(_PROJECT))
    (folder / "boards.ts").write_text(typescript(boards), encoding="utf-8")
    done = subprocess.run(
        [node, compiler, "--project", folder, "--pretty", "false"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=_SECONDS_MAX,
    )
    said = (done.stdout + done.stderr).splitlines()
    if done.returncode != 0 and not said:
        raise RuntimeError(f"tsc ended with {done.returncode} and said nothing")
    return said


def typescript(boards: dict[str, dict[str, Any]]) -> str:
    """Write the boards as values that must satisfy Grafana's types."""
    board_types = f"{_RAW}/dashboard/x/Dashboard_types.gen"
    lines = [f"import type {{ AnnotationQuery, Dashboard }} from '{board_types}';"]
    for kind, name in _PANELS.items():
        path = f"{_RAW}/composable/{kind.replace('-', '')}/panelcfg/x/{name}PanelCfg_types.gen"
        lines.append(f"import type * as {name} from '{path}';")
    lines.append(_HEAD)
    for file, board in boards.items():
        lines.append(f"// {file}\n({_value(board)}) satisfies Board;")
        for panel in (each for top in board["panels"] for each in (top, *top.get("panels", []))):
            if panel["type"] == "row":
                continue
            name = _PANELS[panel["type"]]
            lines.append(f"// {file}: {panel['title']}")
            more = " & Footer" if name == "Table" else ""
            lines.append(f"({_value(panel['options'])}) satisfies Loose<{name}.Options>{more};")
            custom = panel.get("fieldConfig", {}).get("defaults", {}).get("custom")
            if custom is not None:
                lines.append(f"({_value(custom)}) satisfies Loose<{name}.FieldConfig>;")
    return "\n".join(lines) + "\n"


def _value(data: Any) -> str:
    """JSON is TypeScript."""
    return json.dumps(data, indent=1)
