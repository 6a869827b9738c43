"""The benchmarks still run, with loads far too small to mean anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import _certificate, _installs, _nginx, _targets
from bench import _report as _limits
from bench._targets import Target
from bench.peers import _books, _figures, _report, _rounds
from bench.peers._cost import cost, job_for, memory_a_stream
from bench.peers._ways import WAYS, Setting, Way, running
from taximeter.ledger import Ledger
from tests.ledger.make import assert_sums_agree
from tests.support.postgres import PostgresServer

REPORT = Path(_report.__file__).parent.parent / "report"

PLAIN = {"kind": "calls", "connections": 2, "calls": 20, "warm_up_calls": 2}
STREAMS = {"kind": "streams", "connections": 2, "deltas": 3, "every_ms": 1, "warm_up_calls": 2}
ARRIVALS = {
    "kind": "arrivals",
    "connections": 1,
    "calls": 5,
    "calls_per_second": 100,
    "deltas": 2,
    "every_ms": 1,
    "warm_up_calls": 2,
}


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    """An upstream, in the clear and behind TLS."""
    made = _certificate.make(tmp_path_factory.mktemp("tls"))
    files = (str(made.certificate_file), str(made.key_file))
    with (
        _targets.module("_upstream") as (_, port),
        _targets.module("_upstream", *files) as (_, tls),
    ):
        yield Setting(port, tls, made.ca_file)


def loads(target: Target, *kinds: dict[str, Any]) -> None:
    """Apply a little of every kind of load; an answer that is not whole fails it."""
    for words in kinds or (PLAIN, STREAMS, ARRIVALS, {**PLAIN, "answer_bytes": 100_000}):
        spent = cost(target, job_for(target, **words))
        assert spent is not None, words
        assert spent.whole > 0 or target.root is None


def test_nginx_tuned_and_as_it_comes_and_over_tls(setting: Setting, tmp_path: Path) -> None:
    """Loads run straight, through both nginx, and through nginx with TLS to the upstream."""
    loads(Target("direct", setting.upstream))
    with _nginx.tuned(setting.upstream, tmp_path / "tuned") as target:
        loads(target, STREAMS)
    with _nginx.as_it_comes(setting.upstream, tmp_path / "comes") as target:
        loads(target, STREAMS)
    with _nginx.tuned(setting.tls_upstream, tmp_path / "tls", ca_file=setting.ca_file) as target:
        loads(target, PLAIN)


def test_the_plain_handler_with_two_workers(setting: Setting) -> None:
    """The plain handler is measured with all its processes."""
    with _targets.plain_proxy(setting.upstream, workers=2) as target:
        loads(target, PLAIN)
        assert len(target.whole()) == 2


def test_taximeter_over_tls(setting: Setting, tmp_path: Path) -> None:
    """Taximeter is measured with its relay and its recorder told apart."""
    with _targets.taximeter(
        setting.tls_upstream, tmp_path / "taximeter", ca_file=setting.ca_file
    ) as target:
        assert target.relaying
        assert target.recording
        spent = cost(target, job_for(target, **PLAIN))
        assert spent is not None
        assert 0 < spent.relaying < spent.whole
        assert memory_a_stream(target, 20) is not None


def test_a_wrong_answer_is_no_figure(setting: Setting, capfd: pytest.CaptureFixture[str]) -> None:
    """A load that meets an error answer fails, and says so: nothing is noted."""
    wrong = Target("wrong", setting.tls_upstream)  # TLS, spoken to in the clear
    assert cost(wrong, job_for(wrong, **PLAIN)) is None
    assert "wrong: " in capfd.readouterr().err


def test_what_cannot_be_installed_is_left_out_with_its_reason(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that cannot be had costs no run: the report says why it is not there."""
    monkeypatch.setattr(_installs, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    peers = [way for way in WAYS if way.word in ("portkey", "bifrost")]
    left_out: dict[str, str] = {}
    with running(peers, setting, tmp_path, left_out) as targets:
        assert targets == {}
    assert left_out == {
        peers[0].name: "there is no `npm` here",
        peers[1].name: "there is no `go` here",
    }


def test_a_reason_names_no_address_and_no_path() -> None:
    """What an installer complains of is told without the addresses and paths of a machine."""
    said = "reading https://host.example/x: 403 Forbidden\n\tserver response: not available.\n"
    assert _installs._gist(said) == "reading 403 Forbidden server response: not available."


def test_a_copied_day_is_a_ledger_like_any_other(tmp_path: Path) -> None:
    """The large ledger of the reports has sums that agree with its rows, to the pico-dollar."""
    path = tmp_path / "large.db"
    assert _books._build(path, 150, 50) == 150
    ledger = Ledger.open(f"sqlite:///{path}")
    assert_sums_agree(ledger)
    calls = list(ledger.calls())
    assert [call.id for call in calls] == sorted((call.id for call in calls), reverse=True)
    assert len(calls) == 150
    assert all(call.attempt_count == 1 for call in calls)
    ledger.close()


def test_a_recorder_books_both_ways(tmp_path: Path) -> None:
    """Rows a second are had from SQLite and from PostgreSQL."""
    section = _rounds.Section([], Setting(0, 0, tmp_path), tmp_path, 1, scale=0.001)
    with PostgresServer() as server:
        _books.book_rounds(section, server)
    for name in ("SQLite", "PostgreSQL"):
        assert section.table[name]["rows_per_second"][0] > 0


def test_the_page_is_what_the_figures_make() -> None:
    """The page beside the figures is made of them, with a row for every way."""
    figures = _figures.read(REPORT / "figures.json")
    page = _report.page(figures)
    assert page == (REPORT / "README.md").read_text()
    missing = figures.left_out()
    for way in WAYS:
        assert f"| {way.name} |" in page or way.name in missing


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that is slow for a whole round changes no ratio."""
    way = Way("fast", "fast", "", WAYS[0].start)
    table = {
        "nginx": {"call_whole_us": [10.0, 40.0, 10.0]},
        way.name: {"call_whole_us": [30.0, 120.0, 20.0]},
    }
    assert _report._ratio(table, way.name, "call_whole_us", "nginx") == "3.00"


def test_a_figure_above_its_limit_is_called_so() -> None:
    """What is over its limit is not let pass, and what has no limit is not judged."""
    nginx = _limits.Figures(call=[10.0], call_full=[10.0], delta=[10.0], latency=[1.0])
    ours = _limits.Figures(call=[30.1], call_full=[60.0], delta=[15.0], latency=[1.0])
    page = _limits.table({"nginx": nginx, "Taximeter": ours}, "a command", 1)
    assert "| relay, a call, steady | 3 x nginx | 3.01 x nginx | over |" in page
    assert "| relay, a call, full | no limit | 6.00 x nginx | - |" in page
    assert "| relay, a delta | 1.5 x nginx | 1.50 x nginx | PASS |" in page
    assert "| relay, a call, steady, limits on | 4 x nginx | - | not measured |" in page
