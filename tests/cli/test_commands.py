"""The command as a whole: settings, upkeep, help, pipes, and what it costs to start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import taximeter
from taximeter.cli._serve import upstream_overrides
from taximeter.settings import load
from tests.cli.conftest import Run
from tests.ledger.make import HOUR, T0, entry

Book = Callable[..., None]
ROOT = Path(taximeter.__file__).parent.parent


def shell(*words: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a process of its own."""
    return subprocess.run(
        words,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(cwd)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        **options,
    )


def test_the_version_is_the_packages(run: Run) -> None:
    """`taximeter version` and the package agree."""
    assert run("version").out == f"taximeter {taximeter.__version__}\n"


def test_without_a_word_help_is_given(run: Run) -> None:
    """Every command is in the help; no word at all is misuse."""
    result = run()
    assert result.code == 2
    said = result.out + result.err
    words = "serve calls call report check simulate demo keys ledger version"
    for word in words.split():
        assert f"\n  {word} " in said


def test_check_prints_what_is_in_effect(run: Run, folder: Path) -> None:
    """What `check` prints is a configuration that means the same."""
    result = run("check")
    assert result.code == 0
    printed = folder / "printed.yaml"
    printed.write_text(result.out)
    assert load(printed, environ={}) == load(folder / "taximeter.yaml", environ={})
    assert run("check", "-q").out == ""


def test_check_says_all_that_is_wrong(run: Run, folder: Path) -> None:
    """Exit code 2, every problem with its line, and nothing on standard output."""
    (folder / "bad.yaml").write_text("wrokers: 2\nlog: {level: loud}\n")
    result = run("check", "bad.yaml")
    assert (result.code, result.out) == (2, "")
    assert "bad.yaml:1: wrokers: unknown key" in result.err
    assert "did you mean `workers`?" in result.err
    assert "bad.yaml:2: log.level: must be" in result.err
    assert run("check", "gone.yaml").code == 2
    assert run("calls", "-c", "bad.yaml").code == 2


def test_check_shows_no_password(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password in the ledger's URL is never printed."""
    monkeypatch.setenv("TAXIMETER_LEDGER", "postgresql://u:canary@127.0.0.1:1/db")
    result = run("check")
    assert "ledger: postgresql+psycopg://u:***@127.0.0.1:1/db" in result.out
    failed = run("calls")
    assert failed.code == 1
    assert "canary" not in result.out + result.err + failed.out + failed.err


def test_serve_gives_its_flags_over_the_file(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`serve` reads the settings, runs the proxy with them, and passes its exit code on."""
    seen: list[Any] = []

    def serve(settings: Any, config: Any, overrides: Any, *, say: Any) -> int:
        seen.append((settings, config, overrides))
        return 7

    module = types.ModuleType("taximeter.serve")
    module.run = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "taximeter.serve", module)
    result = run(
        "serve", "--workers", "3", "--upstream", "http://127.0.0.1:9/v1", "--listen", "[::1]:0"
    )
    assert result.code == 7
    ((settings, config, overrides),) = seen
    assert settings.workers == 3
    assert str(settings.listen) == "[::1]:0"
    assert settings.upstreams["openai"].url == "http://127.0.0.1:9"
    assert settings.upstream_for_family("openai") == "openai"
    assert config is None
    assert load(config, overrides) == settings


def test_serve_refuses_flags_that_cannot_be(run: Run) -> None:
    """A flag is checked as the file is, and named as the source."""
    result = run("serve", "--workers", "0", "--upstream", "ftp://x")
    assert result.code == 2
    assert "--workers: workers: " in result.err
    assert "--upstream: upstreams.openai.url: must begin with http" in result.err


@pytest.mark.parametrize(
    ("url", "dialect", "family", "base"),
    [
        ("http://h:1", None, "openai", "http://h:1"),
        ("http://h:1/v1/", None, "openai", "http://h:1"),
        ("https://h/openai/v1", None, "openai", "https://h/openai"),
        ("https://api.anthropic.com", None, "anthropic", "https://api.anthropic.com"),
        ("http://h:11434", None, "ollama", "http://h:11434"),
        ("http://h:1", "gemini", "gemini", "http://h:1"),
        ("http://[", None, "openai", "http://["),
    ],
)
def test_an_upstream_by_flag_takes_the_place_of_its_family(
    url: str, dialect: str | None, family: str, base: str
) -> None:
    """One flag is enough for a server of one's own: its paths are the family's."""
    overrides = upstream_overrides(url, dialect)
    assert overrides[f"upstreams.{family}.url"] == base
    assert overrides[f"upstreams.{family}.dialect"] == family


def test_migrate_makes_the_ledger_and_may_be_run_again(run: Run, folder: Path) -> None:
    """The first run makes the tables, the second finds them."""
    first, second = run("ledger", "migrate"), run("ledger", "migrate")
    assert first.code == second.code == 0
    assert "was empty, is current" in first.out
    assert "was current, is current" in second.out
    assert (folder / "ledger.db").stat().st_mode & 0o077 == 0


def test_prune_deletes_the_old_and_keeps_the_sums(run: Run, book: Book) -> None:
    """Old calls go; what they cost stays in the reports."""
    book(entry(at_ns=T0), entry(at_ns=T0 + 500 * 24 * HOUR))
    until = "2027-06-01"
    result = run("ledger", "prune", "--older-than", until)
    assert result.code == 0
    assert result.out == "1 calls deleted, started before 2027-06-01 00:00:00 UTC\n"
    assert len(run("calls", "-f", "jsonl").out.splitlines()) == 1
    (row,) = json.loads(run("report", "-f", "json").out)
    assert row["calls"] == 2


def test_reprice_gives_calls_the_prices_of_now(run: Run, book: Book, folder: Path) -> None:
    """A price stated afterwards reaches the calls that had none, in rows and sums alike."""
    book(
        entry(model="house-model", cost_pico=None, price="unpriced: no such model"),
        entry(model="house-model", cost_pico=5, price="old"),
    )
    with (folder / "taximeter.yaml").open("a") as file:
        file.write(
            "prices:\n  - {provider: '*', model: 'house-*', input_usd_per_million: 1,"
            " output_usd_per_million: 2}\n"
        )
    assert (
        "1 calls examined, 1 changed: 1 have a cost now"
        in run("ledger", "reprice", "--unpriced").out
    )
    views = [json.loads(line) for line in run("calls", "-f", "jsonl").out.splitlines()]
    assert sorted(view["cost_usd"] for view in views) == ["0.000000000005", "0.00002"]
    assert run("ledger", "reprice", "--model", "house-model").code == 0
    (row,) = json.loads(run("report", "-f", "json").out)
    assert row["cost_usd"] == "0.00004"
    assert row["unpriced"] == 0


def test_the_reader_of_a_pipe_may_leave(book: Book, folder: Path) -> None:
    """`taximeter calls | head` ends quietly."""
    book(*(entry(user="u" * 100) for _ in range(400)))
    result = shell(
        "bash", "-c", f"{sys.executable} -m taximeter calls -f jsonl | head -1", cwd=folder
    )
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr == ""


def test_help_imports_nothing_slow(folder: Path) -> None:
    """What a command does not need is not loaded: help comes at once."""
    script = (
        "import sys; sys.argv = ['taximeter', '--help']\n"
        "from taximeter.cli import main\n"
        "assert main() == 0\n"
        "slow = {'sqlalchemy', 'aiohttp', 'pydantic', 'alembic', 'tiktoken', 'genai_prices', "
        "'uvloop', 'yaml'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    result = shell(sys.executable, "-c", script, cwd=folder)
    assert result.returncode == 0, result.stderr


def test_output_off_a_terminal_is_plain(book: Book, folder: Path) -> None:
    """No escape sequence reaches a file or a pipe."""
    book(entry())
    for words in (["calls"], ["report"], ["--help"], ["nonsense"]):
        result = shell(sys.executable, "-m", "taximeter", *words, cwd=folder)
        assert "\x1b" not in result.stdout + result.stderr
