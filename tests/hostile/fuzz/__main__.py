"""The command. A run that fails prints the seed, the input, and how to run that input again."""

from __future__ import annotations

import argparse
import importlib.util
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from tests.hostile.fuzz._mutations import mutated

CORPUS = Path(__file__).parent / "corpus"
INPUT_BYTES_MAX = 4096
LED_BY = [
    "taximeter.dialects",
    "taximeter.journal._format",
    *(f"taximeter.relay.{name}" for name in ("_answer", "_chunks", "_decoders", "_heads")),
    *(f"taximeter.relay.{name}" for name in ("_stream_tap", "_tap")),
]
"""The modules whose coverage leads: to rewrite all others at their import would take seconds."""
ONE_INPUT_SECONDS_MAX = 20


def corpus_of(target: str) -> dict[str, bytes]:
    """Give the inputs of a target that are kept, by name."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / target).iterdir())}


def told(target: str, seed: int, run: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Have a target's failure say which input it was, and how it was found."""

    def told_run(data: bytes) -> None:
        try:
            run(data)
        except BaseException:
            kept = Path(tempfile.mkdtemp(prefix="fuzz-")) / target
            kept.write_bytes(data)
            print(f"\nfuzz {target}: failed with seed {seed}, on {data!r}", file=sys.stderr)
            print(f"again: python -m tests.hostile.fuzz {target} --input {kept}", file=sys.stderr)
            raise

    return told_run


def main() -> None:
    """Run one target."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz")
    parser.add_argument("target", choices=sorted(path.name for path in CORPUS.iterdir()))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--runs", type=int, default=-1, help="inputs at most; -1: no bound")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000 + 1)
    parser.add_argument("--input", type=Path, help="run this file alone")
    chosen = parser.parse_args()
    if importlib.util.find_spec("atheris") is None or chosen.input is not None:
        _by_chance(chosen)
    _by_coverage(chosen)


def _by_coverage(chosen: argparse.Namespace) -> NoReturn:
    """Let atheris find inputs that reach what no input has reached so far."""
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

    with atheris.instrument_imports(include=LED_BY, enable_loader_override=False):
        from tests.hostile.fuzz._targets import TARGETS
    work = tempfile.mkdtemp(prefix="fuzz-corpus-")
    shutil.copytree(CORPUS / chosen.target, work, dirs_exist_ok=True)
    words = [
        sys.argv[0],
        work,
        f"-seed={chosen.seed}",
        f"-runs={chosen.runs}",
        f"-max_total_time={chosen.seconds}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-timeout={ONE_INPUT_SECONDS_MAX}",
        f"-artifact_prefix={work}/",
    ]
    print(f"fuzz {chosen.target}: seed {chosen.seed}, led by coverage", flush=True)
    atheris.Setup(words, told(chosen.target, chosen.seed, TARGETS[chosen.target]))
    atheris.Fuzz()
    sys.exit(0)  # Fuzz() ends the process itself


def _by_chance(chosen: argparse.Namespace) -> NoReturn:
    """Change what is kept, at random."""
    from tests.hostile.fuzz._targets import TARGETS

    run = told(chosen.target, chosen.seed, TARGETS[chosen.target])
    if chosen.input is not None:
        run(chosen.input.read_bytes())
        sys.exit(0)
    print(f"fuzz {chosen.target}: seed {chosen.seed}, at random", flush=True)
    deadline = time.monotonic() + chosen.seconds
    runs = 0
    for data in inputs_by_chance(chosen.target, chosen.seed):
        if runs == chosen.runs or time.monotonic() > deadline:
            break
        run(data)
        runs += 1
    print(f"fuzz {chosen.target}: {runs} inputs")
    sys.exit(0)


def inputs_by_chance(target: str, seed: int) -> Iterator[bytes]:
    """Give inputs without end: those that are kept, changed at random."""
    chance = random.Random(seed)
    samples = list(corpus_of(target).values())
    while True:
        yield mutated(chance.choice(samples), samples, chance, INPUT_BYTES_MAX)


if __name__ == "__main__":
    main()
