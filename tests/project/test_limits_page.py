"""docs/limits.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from taximeter.admission import Reason, Refuse
from taximeter.cli import main
from taximeter.relay import PROBLEMS
from taximeter.relay._admitting import refusal_of
from taximeter.settings import load

PAGE = (Path(__file__).parent.parent.parent / "docs" / "limits.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (\d+) \| (yes)? ?\| (`false`)? ?\| .+ \|$", re.M)
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)


def test_every_refusal_stands_in_the_table_as_it_is_sent() -> None:
    """Each code of admission's has its row, with the status and the headers it goes out with."""
    rows = {code: (int(status), after, again) for code, status, after, again in ROW.findall(PAGE)}
    assert len(rows) == PAGE.count("\n| `"), "a row that cannot be read"
    for code, (status, after, _) in rows.items():
        assert PROBLEMS[code].status == status
        assert bool(after) == (PROBLEMS[code].retry_after_seconds is not None), code
    for reason in Reason:
        sent = refusal_of(Refuse(reason))
        assert bool(rows[reason][1]) == (sent.retry_after_ms is not None), reason
        assert bool(rows[reason][2]) == (sent.should_retry is False), reason


def test_the_examples_of_the_page_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The configuration passes `taximeter check`, and the scenario runs under it."""
    configuration, shared, scenario = BLOCKS
    (tmp_path / "taximeter.yaml").write_text(configuration)
    (tmp_path / "shared.yaml").write_text(shared)
    (tmp_path / "scenario.yaml").write_text(scenario)
    monkeypatch.chdir(tmp_path)
    for words in (
        "check -q taximeter.yaml",
        "check -q shared.yaml",
        "simulate scenario.yaml --config taximeter.yaml",
    ):
        monkeypatch.setattr("sys.argv", ["taximeter", *words.split()])
        assert main() == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    for word in ("paid", "free", "nightly-batch", "fairness"):
        assert word in said


def test_what_the_page_says_of_the_defaults_is_so() -> None:
    """Nothing set: a queue of 1,000, three attempts, a breaker, no rates, no budgets."""
    upstream = load(environ={}).upstreams["openai"]
    assert upstream.queue.size == 1000
    assert upstream.retry.attempts_max == 3
    assert upstream.breaker.enabled
    assert upstream.limits.adaptive
    assert upstream.limits.concurrency is None
    assert upstream.limits.requests_per_minute is None
