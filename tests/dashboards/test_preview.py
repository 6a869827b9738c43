"""The preview: variables as Grafana fills them, numbers as people read them, every kind drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dashboards.kit import metrics_of
from dashboards.kit._planned import planned_names
from dashboards.kit._queries import defaults_of
from dashboards.preview._frames import Asker, Frames, Series, _merged
from dashboards.preview._page import page
from dashboards.preview._run import live_run
from dashboards.preview._units import text_of
from dashboards.preview._values import Span, fill_promql, fill_sql

Boards = dict[str, dict[str, Any]]

_SPAN = Span(since=1_000, until=4_600, step=30)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0123, "s", "12.3 ms"),
        (0, "s", "0 s"),
        (7_200, "s", "2 hours"),
        (0.9954, "percentunit", "99.5%"),
        (12_345, "currencyUSD", "$12.3K"),
        (1_234, "count:tok/s", "1.23K tok/s"),
        (3 * 1024 * 1024, "bytes", "3 MiB"),
        (7, "reqps", "7 req/s"),
        (429, "none", "429"),
        (None, "s", ""),
        ("ann", "s", "ann"),
    ],
)
def test_values_are_written_with_their_unit(value: Any, unit: str, text: str) -> None:
    """As Grafana would, near enough to be read."""
    assert text_of(value, unit) == text


def test_variables_are_filled_as_grafana_fills_them(boards: Boards) -> None:
    """All is `.*` in PromQL and `'*'` in SQL; chosen names are escaped for either."""
    board = boards["cost.json"]
    chosen = {"model": ["a.b", "c"], "user": ["o'brien"]}
    assert fill_promql('x{m=~"$model", j=~"$job"}[$__rate_interval]', board, _SPAN, chosen) == (
        'x{m=~"(a\\.b|c)", j=~".*"}[60s]'
    )
    assert fill_sql("${user:sqlstring} ${team:sqlstring} $bin", board, _SPAN, chosen) == (
        "'o''brien' '*' 86400"
    )
    assert fill_sql("$__unixEpochFilter(hour)", board, _SPAN, {}) == "hour >= 1000 AND hour <= 4600"
    with pytest.raises(ValueError, match="must be quoted"):
        fill_sql("WHERE user_name = '$user'", board, _SPAN, {})


def test_tables_of_several_queries_are_joined_on_what_they_share() -> None:
    """One row for each set of labels, a column for each query."""
    rows = _merged(
        [
            ("A", [{"model": "x", "Value": 1.0}, {"model": "y", "Value": 2.0}]),
            ("B", [{"model": "y", "Value": 3.0}]),
        ]
    )
    assert rows == [
        {"model": "x", "Value #A": 1.0},
        {"model": "y", "Value #A": 2.0, "Value #B": 3.0},
    ]


def test_every_panel_of_every_board_can_be_drawn(boards: Boards) -> None:
    """With figures, without any, and with a query that failed."""
    line = [(1_000.0 + 30 * step, float(step % 7)) for step in range(100)]
    series = [Series("<script>", {"le": bound}, line) for bound in ("0.1", "1.0", "+Inf")]
    for board in boards.values():
        spans = {panel["id"]: _SPAN for panel in board["panels"]}
        for frames in (Frames(series=series), Frames(), Frames(failed=["<oops>"])):
            text, height = page(board, dict.fromkeys(spans, frames), spans)
            assert height > 500
            assert "<script>" not in text
            assert "<oops>" not in text


@pytest.mark.timeout(180)
def test_a_live_run_answers_what_the_boards_ask(boards: Boards, tmp_path: Path) -> None:
    """Real Prometheus and real PostgreSQL take every query, and no panel is empty but for a reason.

    Reasons are: the metric is planned, or nothing of the kind happened in a few seconds.
    """
    empty: list[str] = []
    with live_run(tmp_path, seconds=8) as run:
        asker = Asker(run.prometheus_url, run.ledger)
        for board in boards.values():
            for top in board["panels"]:
                for panel in (top, *top.get("panels", [])):
                    asks_ledger = "rawSql" in str(panel.get("targets"))
                    since = run.until - 90_000 if asks_ledger else run.since
                    frames = asker.ask(board, panel, Span(since, run.until, step=1), {})
                    assert frames.failed == [], panel["title"]
                    if "targets" in panel and not _has_figures(frames) and not _waits(board, panel):
                        empty.append(panel["title"])
    unexpected = sorted(set(empty) - _QUIET)
    assert not unexpected, unexpected


_QUIET = {
    "Counts shared",  # the run has no Redis, and one worker
    "Redis too late",
    "Decided by own share",
    "Fallbacks",
    "Who meets our limits",
    "Retries by reason",
    "Retries per call",
    "Timeouts",
    "429 and 5xx",
    "Rate limited",
    "Calls waiting for a connection",
    "Failed calls by upstream and model",
    "Slow first tokens by upstream and model",
    "Books up to date",
    "Time to first token by model, p95",
    "Burn now",
    "Burn by span",
    "Errors",
    "Noted about calls",
    "Cost of calls that did not complete",
    "What failed, and cost",
}
"""May be without figures after a few seconds: nothing of the kind may have happened yet."""


def _has_figures(frames: Frames) -> bool:
    return bool(frames.rows) or any(series.points for series in frames.series)


def _waits(board: dict[str, Any], panel: dict[str, Any]) -> bool:
    """Tell whether a panel shows a part that is still to be built."""
    values = defaults_of(board["templating"]["list"])
    names = {
        name.removesuffix("_bucket")
        for target in panel["targets"]
        if "expr" in target
        for name in metrics_of(target["expr"], values)
    }
    return bool(names & planned_names())
