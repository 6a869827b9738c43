"""Runs tests with a fault planted, each in a fork of a process that has their tools imported.

    python -m tests.rig.mutate NAME...      # all if none is named

prints a line of JSON for each: the mutation's name, whether pytest says that tests failed, and what
it said. With `--well` no fault is planted: the same tests, which must pass.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

from tests.rig.mutations import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parent.parent.parent
TOOLS = ("pytest", "hypothesis", "pytest_asyncio", "taximeter.relay", "taximeter.recorder")
"""Imported once for all, before the forks, with all that they import; the package's own modules are
then forgotten again, so that each fork imports them with its fault."""
WORDS = (
    "-xq", "--no-header", "--tb=line",
    "-Wignore:Module already imported:pytest.PytestAssertRewriteWarning",  # the tools
)  # fmt: skip
TEXT_BYTES_MAX = 4000


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles a module with a fault in it."""

    mutation: Mutation

    def get_code(self, fullname: str) -> CodeType:
        source = Path(self.path).read_text(encoding="utf-8")
        line, count = self.mutation.line, source.count(self.mutation.line)
        if count != 1:
            raise LookupError(f"{fullname} has this {count} times, not once:\n{line}")
        return compile(source.replace(line, self.mutation.fault), self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module before anybody else does."""

    def __init__(self, mutation: Mutation) -> None:
        self._mutation = mutation

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != f"taximeter.{self._mutation.module}":
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if found is None or found.origin is None:
            return None
        loader = found.loader = _Loader(fullname, found.origin)
        loader.mutation = self._mutation
        return found


def run(mutation: Mutation, *, well: bool) -> dict[str, object]:
    """Run the test of a mutation in a fork; give what came of it."""
    with tempfile.TemporaryFile() as said:
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                if not well:
                    sys.meta_path.insert(0, _Finder(mutation))
                import pytest

                code = pytest.main([*WORDS, mutation.caught_by])
            except BaseException:  # it must not go on as a second one that forks
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        said.seek(0)
        text = said.read().decode(errors="replace")[-TEXT_BYTES_MAX:]
    # pytest's exit code 1 is "tests failed"; an error in collecting them is another.
    return {"name": mutation.name, "code": os.waitstatus_to_exitcode(status), "said": text}


def main() -> None:
    """Run what is named."""
    parser = argparse.ArgumentParser(description="Tests with faults planted.")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--well", action="store_true")
    chosen = parser.parse_args()
    sys.path[:0] = [str(ROOT / "proxy"), str(ROOT)]
    for tool in TOOLS:
        importlib.import_module(tool)
    for name in [each for each in sys.modules if each.partition(".")[0] == "taximeter"]:
        del sys.modules[name]
    for mutation in MUTATIONS:
        if not chosen.names or mutation.name in chosen.names:
            print(json.dumps(run(mutation, well=chosen.well)), flush=True)


if __name__ == "__main__":
    main()
