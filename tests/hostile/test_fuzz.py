"""C1, C3, D4, H2, H4: inputs that were kept, and a few seconds of looking for others."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.fuzz.__main__ import CORPUS, corpus_of, inputs_by_chance, told
from tests.hostile.fuzz._targets import TARGETS
from tests.rig.length import pick, share
from tests.rig.tally import Tally

ROOT = Path(__file__).parent.parent.parent
RUNS = 1000
"""Inputs of a target that are made by chance."""
SEED = 20_261_122


@pytest.mark.parametrize("target", TARGETS)
def test_no_input_that_is_kept_breaks_a_promise(target: str, tally: Tally) -> None:
    """C1, C3, D4, H2, H4: what has broken one once, or looks as if it could, does not any more."""
    inputs = corpus_of(target)
    assert len(inputs) >= 8
    tally.add("inputs kept", len(inputs))
    for name, data in inputs.items():
        try:
            TARGETS[target](data)
        except Exception as error:
            raise AssertionError(f"corpus/{target}/{name}") from error


@pytest.mark.parametrize("target", TARGETS)
def test_no_input_made_by_chance_breaks_a_promise(target: str, tally: Tally) -> None:
    """C1, C3, D4, H2, H4: from the inputs that are kept, and one seed."""
    run = told(target, SEED, TARGETS[target])
    for data in itertools.islice(inputs_by_chance(target, SEED), RUNS):
        run(data)
    tally.add("inputs made by chance", RUNS)


@pytest.mark.parametrize("target", pick(["journal"], sorted(TARGETS)))
@pytest.mark.timeout(0)
def test_no_input_is_found_that_breaks_a_promise(target: str) -> None:
    """C1, C3, D4, H2, H4: led by coverage, from the inputs that are kept and one seed.

    In the quick form this shows that the command works; where it leads, a soak shows.
    """
    runs = pick(["--runs", "500"], [])
    words = [target, "--seed", str(SEED), "--seconds", str(int(share(20, 0.02))), *runs]
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.fuzz", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'proxy'}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert re.search(r"Done [1-9]\d* runs|fuzz \w+: [1-9]\d* inputs", said), said


def test_a_broken_promise_is_told_with_its_seed_and_its_input(tmp_path: Path) -> None:
    """The harness: who reads a failure can run that very input again."""
    name = sorted(TARGETS)[0]
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    kept = tmp_path / "input"
    kept.write_bytes(b"\0\0" + b"HTTP/1.1 200 OK\r\n\r\n")
    program = (
        "import sys; from tests.hostile.fuzz import __main__ as fuzz, _targets\n"
        "def broken(data): raise AssertionError('promise')\n"
        f"_targets.TARGETS[{name!r}] = broken\n"
        f"sys.argv = ['fuzz', {name!r}, '--seed', '77', '--input', {str(kept)!r}]\n"
        "fuzz.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "proxy"), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "failed with seed 77" in done.stderr
    again = re.search(r"--input (\S+)", done.stderr)
    assert again is not None
    assert Path(again[1]).read_bytes() == kept.read_bytes()
