"""Makes the pages of docs/ that are told by the program itself: `make docs`.

python tools/make_docs.py           write them
python tools/make_docs.py --check   fail if one is not current
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
import typer
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from taximeter.cli import application
from taximeter.ledger._page import with_tables
from taximeter.metrics._page import with_families
from taximeter.settings import Address, Settings

DOCS = Path(__file__).parent.parent / "docs"
HELP_COLUMNS = 96
_MEBI = 1024 * 1024


def configuration() -> str:
    """Give the page of the configuration."""
    rows: list[str] = []
    for key, field in walk(Settings):
        rows.append(f"| `{key}` | {kind_of(field)} | {default_of(field)} | {field.description} |")
    return "\n".join(
        [
            "# Configuration",
            "",
            "<!-- Made by `make docs` from the settings themselves. Do not edit. -->",
            "",
            "Everything has a default: no file is needed. What is set is read from, each winning "
            "over the one before it:",
            "",
            "1. a YAML file: `--config`, else `$TAXIMETER_CONFIG`, else `./taximeter.yaml` if it "
            "is there;",
            "2. the environment: `TAXIMETER_` and the key in capitals, with `__` between its "
            "parts (`TAXIMETER_RELAY__PING_SECONDS=5`), lists and mappings as JSON;",
            "3. flags of the command.",
            "",
            "An unknown key, a value out of its bounds, a key twice, or a secret where it does "
            "not belong is refused, with the file, the line and a hint. `taximeter check` shows "
            "what is in effect. Sizes are bytes and times are in the unit of the key's name.",
            "",
            "```yaml",
            "upstreams:",
            "  llama:                          # takes the paths of the openai family",
            "    url: http://127.0.0.1:8080",
            "  groq:                           # is reached under /groq/...",
            "    url: https://api.groq.com/openai",
            "    provider: groq",
            "prices:",
            '  - {provider: "*", model: "llama-*", input_usd_per_million: 0, '
            "output_usd_per_million: 0}",
            "```",
            "",
            "| key | value | default | meaning |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def walk(model: type[BaseModel], parent: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Go through all fields, groups flattened, with their dotted keys."""
    for name, field in model.model_fields.items():
        key = f"{parent}{name}"
        inner = inner_model(field.annotation)
        origin = get_origin(plain(field.annotation))
        if inner is None:
            yield key, field
        elif origin is dict:
            yield f"{key}.NAME", field
            yield from walk(inner, f"{key}.NAME.")
        elif origin is tuple:
            yield f"{key}[]", field
            yield from walk(inner, f"{key}[].")
        else:
            yield from walk(inner, f"{key}.")


def plain(annotation: Any) -> Any:
    """Take off what says that a value may be missing, and what is said of its bounds."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(one for one in get_args(annotation) if one is not type(None))
    while hasattr(annotation, "__metadata__"):
        annotation = annotation.__origin__
    return annotation


def inner_model(annotation: Any) -> type[BaseModel] | None:
    """Find the group of settings that a field holds, if it does."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = inner_model(argument)
        if found is not None:
            return found
    return None


_KINDS: dict[Any, str] = {
    bool: "`true` or `false`",
    int: "whole number",
    float: "number",
    str: "text",
    Decimal: "US dollars",
    Path: "path",
    SecretStr: "URL",
    Address: "host:port",
}


def kind_of(field: FieldInfo) -> str:
    """Say what a value may be, with its bounds."""
    if inner_model(field.annotation) is not None:
        return "list" if get_origin(plain(field.annotation)) is tuple else "group"
    annotation: Any = field.annotation
    metadata = list(field.metadata)
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(one for one in get_args(annotation) if one is not type(None))
    while hasattr(annotation, "__metadata__"):
        metadata += annotation.__metadata__
        annotation = annotation.__origin__
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(annotation))
    if get_origin(annotation) is tuple:
        return "list of names"
    if get_origin(annotation) is dict:
        return "mapping"
    kind = _KINDS.get(annotation, "date" if "date" in str(annotation) else str(annotation))
    least = most = None
    for item in metadata:
        for one in (item, *getattr(item, "metadata", ())):
            # What the field itself says comes first, and wins over its kind.
            if isinstance(one, annotated_types.Ge) and least is None:
                least = f"from {one.ge:,}"
            if isinstance(one, annotated_types.Gt) and least is None:
                least = f"above {one.gt:,}"
            if isinstance(one, annotated_types.Le) and most is None:
                most = f"to {one.le:,}"
    bounds = " ".join(part for part in (least, most) if part)
    return f"{kind}, {bounds}" if bounds else kind


def default_of(field: FieldInfo) -> str:
    """Say what holds if nothing is said."""
    value = field.default
    if value is PydanticUndefined:
        return "must be given"
    if value is None or value == () or value == {}:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int) and value >= _MEBI and value % _MEBI == 0:
        return f"`{value}` ({value // _MEBI:,} MiB)"
    return f"`{value}`"


def commands() -> str:
    """Give the page of the commands: their own help."""
    root: Any = typer.main.get_command(application)
    parts = [
        "# Commands",
        "",
        "<!-- Made by `make docs` from the commands themselves. Do not edit. -->",
        "",
        "Exit codes: 0 done; 1 failed; 2 a word or a setting that is not understood. Figures go "
        "to standard output, everything else to standard error. Off a terminal, and with "
        "`NO_COLOR` set, output is plain.",
        "",
    ]
    for context in _contexts(root, "taximeter", None):
        help_lines = context.command.get_help(context).splitlines()
        text = "\n".join(line.rstrip() for line in help_lines)
        parts += [f"## {context.command_path}", "", "```text", text, "```", ""]
    return "\n".join(parts)


def _contexts(command: Any, name: str, parent: Any) -> Iterator[Any]:
    context = command.make_context(
        name, [], parent, resilient_parsing=True, terminal_width=HELP_COLUMNS
    )
    yield context
    for inner_name, inner in getattr(command, "commands", {}).items():
        yield from _contexts(inner, inner_name, context)


def ledger() -> str:
    """Give the page of the ledger: its text as it is, its tables anew."""
    return with_tables((DOCS / "ledger.md").read_text(encoding="utf-8"))


def metrics() -> str:
    """Give the page of the metrics: its text as it is, its families anew."""
    return with_families((DOCS / "metrics.md").read_text(encoding="utf-8"))


PAGES: dict[str, Callable[[], str]] = {
    "configuration.md": configuration,
    "commands.md": commands,
    "ledger.md": ledger,
    "metrics.md": metrics,
}


def main() -> int:
    """Write the pages, or check them."""
    stale = []
    for name, make in PAGES.items():
        path, page = DOCS / name, make()
        if not path.exists() or path.read_text(encoding="utf-8") != page:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(page, encoding="utf-8")
    if stale:
        print("not current:" if "--check" in sys.argv else "written:", ", ".join(stale))
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    # Help must not depend on the terminal of who makes it.
    os.environ.pop("COLUMNS", None)
    sys.exit(main())
