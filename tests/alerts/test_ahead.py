"""Scenes of parts that are still to be built: their metrics, told by a stand-in, and who hears.

The stand-in exposes what dashboards/planned_metrics.yaml says will be exposed. When a part is
there, its scene moves to test_live and is played with the real thing.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.alerts._registry import known
from tests.alerts._stack import Stack

pytestmark = pytest.mark.timeout(120)


class StandIn:
    """A target whose series are set by hand; counters grow with every scrape."""

    def __init__(self) -> None:
        self.gauges: dict[str, float] = {}
        self.growing: dict[str, float] = {}
        """What a counter grows by from one scrape to the next."""
        self._counters: dict[str, float] = {}
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                body = stand_in.text().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}
        )

    def text(self) -> str:
        for series, step in list(self.growing.items()):
            self._counters[series] = self._counters.get(series, 0) + step
        whole = {**self.gauges, **self._counters}
        return "".join(f"{series} {value}\n" for series, value in whole.items())

    def __enter__(self) -> StandIn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


# Series that begin a scene, by whether they are gauges (set) or counters (growing).
BREAKER = 'taximeter_breaker_state{process="relay-0",upstream="openai",model="m",state="open"}'
RETRIES = 'taximeter_retries_total{upstream="openai",reason="server_error"}'
RETRY_BUDGET = 'taximeter_retry_budget_exhausted_total{upstream="openai",scope="upstream"}'
FALLBACKS = (
    'taximeter_fallbacks_total{from_upstream="second",to_upstream="third",result="answered"}'
)
SHED = 'taximeter_rejected_total{upstream="openai",reason="queue_full"}'
SPENT = 'taximeter_budget_spent_usd{scope="user",budget="alice"}'
LIMIT = 'taximeter_budget_limit_usd{scope="user",budget="alice"}'

SCENES = [
    ("TaximeterBreakerOpen", "team", {BREAKER: 1.0}, {}, "The breaker of openai is open for m"),
    ("TaximeterRetryStorm", "pager", {}, {RETRIES: 8.0}, "retries per call at openai"),
    (
        "TaximeterRetryBudgetExhausted",
        "team",
        {},
        {RETRY_BUDGET: 3.0},
        "The retry budget of openai is used up",
    ),
    ("TaximeterFallbacksHigh", "team", {}, {FALLBACKS: 5.0}, "of calls to second go to a fallback"),
    ("TaximeterCallsShed", "pager", {}, {SHED: 2.0}, "Calls to openai are refused"),
    (
        "TaximeterBudgetUsed",
        "money",
        {SPENT: 5.25, LIMIT: 5.0},
        {},
        "user alice has used up its budget",
    ),
]


CALLS = {
    'taximeter_calls_total{upstream="openai",outcome="completed"}': 10.0,
    'taximeter_calls_total{upstream="second",outcome="completed"}': 10.0,
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StandIn, Stack]]:
    """All scenes at once, after a while in which all was well."""
    with StandIn() as stand_in:
        stand_in.growing.update(CALLS)
        # Born at 0, as a bounded series must be.
        for _, _, gauges, growing, _ in SCENES:
            stand_in.gauges.update(dict.fromkeys(gauges, 0.0))
            stand_in.growing.update(dict.fromkeys(growing, 0.0))
        with Stack(tmp_path_factory.mktemp("ahead"), stand_in.port) as stack:
            stack.receiver.wait_for("TaximeterWatchdog")
            for _, _, gauges, growing, _ in SCENES:
                stand_in.gauges.update(gauges)
                stand_in.growing.update(growing)
            yield stand_in, stack


@pytest.fixture(scope="module")
def ended(begun: tuple[StandIn, Stack]) -> Stack:
    """All scenes told of, and over."""
    stand_in, stack = begun
    for name, *_ in SCENES:
        stack.receiver.wait_for(name)
    for _, _, gauges, growing, _ in SCENES:
        stand_in.gauges.update(dict.fromkeys(gauges, 0.0))
        stand_in.growing.update(dict.fromkeys(growing, 0.0))
    return stack


def test_the_stand_in_says_what_is_planned() -> None:
    """No scene plays with a metric that nobody means to expose."""
    told = {series for _, _, gauges, growing, _ in SCENES for series in {**gauges, **growing}}
    for series in told | set(CALLS):
        name, _, labels = series.partition("{")
        assert set(re.findall(r"(\w+)=", labels)) <= known()[name], series


@pytest.mark.parametrize(
    ("name", "receiver", "words"), [(one[0], one[1], one[4]) for one in SCENES]
)
def test_a_part_to_come_is_told_of_already(
    begun: tuple[StandIn, Stack], name: str, receiver: str, words: str
) -> None:
    """What the part will expose reaches the right person in the right words."""
    told = begun[1].receiver.wait_for(name, receiver=receiver)
    assert words in told.annotations["summary"]


@pytest.mark.parametrize("name", [one[0] for one in SCENES])
def test_what_is_over_is_taken_back(ended: Stack, name: str) -> None:
    """A scene that has ended is told to have ended."""
    ended.receiver.wait_for(name, status="resolved")


def test_nobody_is_told_of_anything_else(ended: Stack) -> None:
    """Six scenes are six alerts, with the watchdog and what goes with a budget that is used."""
    expected = {"TaximeterWatchdog", *(one[0] for one in SCENES)}
    assert ended.receiver.names() - {"TaximeterBudgetNearlyUsed"} == expected
