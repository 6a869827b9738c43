"""Runs commands as a shell would see them, beside a ledger with a few calls."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from taximeter.cli import main
from taximeter.ledger import Batch, Entry, Ledger


@dataclass(frozen=True)
class Result:
    """What a command left: its exit code and what it wrote."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a configuration of its own, found without being named."""
    (tmp_path / "taximeter.yaml").write_text(f"data_dir: {tmp_path}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Give a function that runs `taximeter` with words."""

    def run_(*words: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["taximeter", *words])
        capsys.readouterr()
        code = main()
        said = capsys.readouterr()
        return Result(code, said.out, said.err)

    return run_


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    """The ledger of that configuration, with its tables and no rows."""
    opened = Ledger.open(f"sqlite:///{folder}/ledger.db")
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def book(ledger: Ledger) -> Callable[..., None]:
    """Give a function that books entries."""
    lease = ledger.take_lead("test")

    def book_(*entries: Entry) -> None:
        ledger.commit(Batch(lease=lease, entries=entries))

    return book_
