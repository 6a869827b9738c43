"""The preview: variables as Grafana fills them, numbers as people read them, every kind drawn."""

from __future__ import annotations

from typing import Any

import pytest

from dashboards.preview._frames import Frames, Series, _merged
from dashboards.preview._page import page
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
