"""The boards on a live run: real Prometheus, Alertmanager, PostgreSQL and Redis, real troubles.

Two Taximeters serve three teams, four models (one without a price) and strangers, while upstreams
fail and come back, streams break off, queues fill, budgets end, and each engine is away for once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from dashboards.preview._frames import Asker, Frames
from dashboards.preview._run import Run, live_run
from dashboards.preview._values import Span
from tests.alerts._stack import wait

Boards = dict[str, dict[str, Any]]

pytestmark = pytest.mark.timeout(180)

RUN_SECONDS = 24
LEDGER_SECONDS = 25 * 3600
"""What panels of the ledger show: the two weeks before the run are in it."""
QUIET = Path(__file__).resolve().parents[2] / "dashboards" / "quiet.yaml"


class Query(NamedTuple):
    """What a query is called: its board, its panel's title, and its legend or letter."""

    board: str
    panel: str
    name: str


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run with everything in it, while it lasts."""
    with live_run(tmp_path_factory.mktemp("live"), RUN_SECONDS) as made:
        yield made


@pytest.fixture(scope="module")
def asker(run: Run) -> Asker:
    """Asks as Grafana would."""
    return Asker(run.prometheus_url, run.ledger)


def test_every_query_of_every_board_has_figures_or_a_reason(
    boards: Boards, run: Run, asker: Asker
) -> None:
    """Each gives figures that are not all 0; or is listed as empty, or as 0, with why - and is."""
    found: dict[Query, set[str]] = defaultdict(set)
    for name, board in boards.items():
        for top in board["panels"]:
            for panel in (top, *top.get("panels", [])):
                for target in panel.get("targets", []):
                    since = run.until - LEDGER_SECONDS if "rawSql" in target else run.since
                    span = Span(since, run.until, step=1)
                    frames = asker.ask(board, {**panel, "targets": [target]}, span, {})
                    assert frames.failed == [], panel["title"]
                    query = Query(name.removesuffix(".json"), panel["title"], _name_of(target))
                    found[query].add(_state_of(frames))
    assert len(found) > 250
    assert {query: states for query, states in found.items() if states != {"moving"}} == {
        query: {state} for query, state in _quiet().items()
    }


def test_every_event_of_every_board_has_happened(boards: Boards, run: Run, asker: Asker) -> None:
    """A relay was started again and a page fired: both are marked on the axis of time."""
    span = Span(run.since, run.until, step=1)
    for board in boards.values():
        for event in board["annotations"]["list"]:
            target = {"refId": "A", "format": "time_series", "instant": False, "legendFormat": ""}
            panel = {"targets": [{**target, "expr": event["expr"]}]}
            assert _state_of(asker.ask(board, panel, span, {})) == "moving", event["name"]


def test_what_fires_on_the_boards_is_what_alertmanager_has(run: Run) -> None:
    """Every rule that ships is evaluated; what fires has come to Alertmanager, and to people."""
    assert run.stack.rules_in_trouble() == []
    expected = {"TaximeterBreakerOpen", "TaximeterBudgetUsed", "TaximeterUnpricedModel"}
    assert wait(lambda: expected <= run.stack.receiver.names(), 20), run.stack.receiver.names()

    def is_held() -> bool:
        firing = run.stack.query('ALERTS{alertstate="firing"}')
        held = {alert["labels"]["alertname"] for alert in run.stack.held()}
        return {labels["alertname"] for labels, _ in firing} <= held

    assert wait(is_held, 20)


def test_dots_lead_to_traces_that_the_collector_has(boards: Boards, run: Run, asker: Asker) -> None:
    """Every query that asks for single traces is given some, by ids that were exported."""
    exported = {span.trace_id.hex() for span in run.collector.spans}
    span = Span(run.since, run.until, step=1)
    asked = 0
    for board in boards.values():
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                if target.get("exemplar"):
                    asked += 1
                    given = set(asker.traces(board, target["expr"], span))
                    assert given & exported, panel["title"]
    assert asked > 2


def _name_of(target: dict[str, Any]) -> str:
    legend = target.get("legendFormat", "__auto")
    return str(target["refId"] if legend in ("", "__auto") else legend)


def _state_of(frames: Frames) -> str:
    """Tell whether there is nothing, nothing but 0, or something; words count as something."""
    cells: list[Any] = [value for series in frames.series for _, value in series.points]
    if not cells:
        cells = [cell for row in frames.rows for cell in row.values() if cell is not None]
    if not cells:
        return "empty"
    numbers = [cell for cell in cells if isinstance(cell, int | float | Decimal)]
    return "moving" if any(numbers) or not numbers else "zero"


def _quiet() -> dict[Query, str]:
    """Give the queries that are to be quiet, each with how."""
    listed = yaml.safe_load(QUIET.read_text(encoding="utf-8"))
    assert set(listed) == {"empty", "zero"}
    return {
        Query(board, panel, name): state
        for state, boards in listed.items()
        for board, panels in boards.items()
        for panel, names in panels.items()
        for name, reason in names.items()
        if isinstance(reason, str) and reason.endswith(".")
    }
