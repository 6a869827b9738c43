"""From a fault to a person, for what admission does: breakers, retries, queues, budgets, fallbacks.

Real Taximeter with its own settings for each scene, real Prometheus and Alertmanager; every span
of time of the rules is a hundredth of what ships. Faults are small beside what goes well, as an
upstream that mostly fails is told of as such and silences what follows from it.
"""

from __future__ import annotations

import http.client
import json
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.alerts._stack import Receiver, Stack, wait
from tests.rig import Script
from tests.rig.caller import chat
from tests.rig.taximeter import PLAIN, Taximeter
from tests.rig.upstream import Upstream
from tests.support.ports import free_port

pytestmark = pytest.mark.timeout(120)

MODEL, OTHER_MODEL = "fake-large", "fake-small"
PAUSE_SECONDS = 0.15
"""Between two calls of one user."""
PRICES = [
    {
        "provider": "fake", "model": "fake-*",
        "input_usd_per_million": 1, "output_usd_per_million": 1,
    }
]  # fmt: skip
CAP_USD, MORE_USD = 0.0005, 100
"""A few dozen calls at the prices above, and as many as there are."""
GOOD = Script(tokens=4)
SHORT = {
    # A machine that is busy with tests is no judge of these.
    "loop_lag": {"seconds_max": 30},
    "overhead": {"seconds_max": 30},
    "stage_budget": {"ratio_max": 1},
}
SCENES = {
    "TaximeterBreakerOpen": ("team", "broken", "The breaker of broken is open for fake-small"),
    "TaximeterRetryStorm": ("pager", "storm", "retries per call at storm"),
    "TaximeterRetryBudgetExhausted": ("team", "spent", "The retry budget of spent is used up"),
    "TaximeterFallbacksHigh": ("team", "away", "of calls to away go to a fallback"),
    "TaximeterCallsShed": ("pager", "full", "Calls to full are refused"),
    "TaximeterBudgetUsed": ("money", "", "user alice has used up its budget"),
}
"""By alert: who hears of it, of which upstream, and some of the words."""


def upstreams(upstream: Upstream, away: str) -> dict[str, dict[str, Any]]:
    """Give the settings of each scene's upstream."""
    base = {**PLAIN, "url": upstream.url, "dialect": "openai", "provider": "fake"}
    breaker = {"calls_min": 2, "open_seconds": 1, "open_seconds_max": 2, "probes": 1}
    retry = {"attempts_max": 4, "backoff_seconds_first": 0.02, "backoff_seconds_max": 0.05}
    return {
        "steady": base,
        "broken": {**base, "breaker": breaker},
        "storm": {
            **base, "retry": {**retry, "budget_ratio": 1, "budget_floor_per_minute": 1000},
        },
        "spent": {**base, "retry": {**retry, "budget_ratio": 0, "budget_floor_per_minute": 1}},
        "away": {**base, "url": away, "fallback": ["steady"]},
        "full": {
            **base,
            "limits": {"concurrency": 1},
            "queue": {"size": 2, "wait_seconds_max": 1},
        },
        "dear": base,
    }  # fmt: skip


def settings_of(usd: float) -> dict[str, Any]:
    """Give what stands beside the upstreams: prices, and a budget of alice."""
    budget = {"usd": usd, "per": "day"}
    return {
        "prices": PRICES,
        "tiers": {"poor": {"budget": budget}},
        "users": {"alice": {"tier": "poor"}},
    }


@dataclass
class Caller:
    """One user who calls one upstream again and again, until it is stopped."""

    port: int
    upstream: str
    user: str = "somebody"
    scripts: list[tuple[str, Script]] = field(default_factory=lambda: [(MODEL, GOOD)])
    """Model and answer of each call, in turn; may be changed at any time."""
    is_paused: bool = False

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(PAUSE_SECONDS):
            if self.is_paused:
                continue
            model, script = self.scripts[number % len(self.scripts)]
            number += 1
            try:
                chat(
                    self.port,
                    script,
                    user=self.user,
                    upstream=self.upstream,
                    timeout_seconds=5,
                    model=model,
                    max_tokens=16,
                )
            except (OSError, http.client.HTTPException):
                continue


@dataclass(frozen=True)
class Scene:
    """Everything, under load."""

    meter: Taximeter
    stack: Stack
    callers: dict[str, Caller]
    crowd: list[Caller]
    """Who comes beside to `full`."""
    reload: Callable[[], None]
    """Mends the address of `away` and gives alice more to spend."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A Taximeter of seven upstreams and a load that is well; `away` and alice do not call yet."""
    folder: Path = tmp_path_factory.mktemp("admission")
    (folder / "stack").mkdir()
    with Upstream() as upstream:
        nowhere = f"http://127.0.0.1:{free_port()}"
        meter = Taximeter(folder, upstreams(upstream, nowhere), **settings_of(CAP_USD))

        def reload() -> None:
            said = json.loads(meter.configuration.read_text())
            said["upstreams"] = upstreams(upstream, upstream.url)
            meter.configuration.write_text(json.dumps({**said, **settings_of(MORE_USD)}))
            assert meter.process is not None
            meter.process.send_signal(signal.SIGHUP)

        with meter, Stack(folder / "stack", meter.console_port, SHORT) as stack:
            callers = {
                name: Caller(meter.port, name, "alice" if name == "dear" else "somebody")
                for name in ("steady", "broken", "storm", "spent", "full")
            }
            callers["away"] = Caller(meter.port, "away", is_paused=True)
            callers["dear"] = Caller(meter.port, "dear", "alice", is_paused=True)
            slow = [(MODEL, Script(tokens=2, first_byte_seconds=0.3))]
            crowd = [
                Caller(meter.port, "full", f"crowd{number}", scripts=slow, is_paused=True)
                for number in range(6)
            ]
            try:
                yield Scene(meter, stack, callers, crowd, reload)
            finally:
                for caller in (*callers.values(), *crowd):
                    caller.stop()


@pytest.fixture(scope="module")
def well(scene: Scene) -> set[str]:
    """Calls have gone by for a while; gives the alerts that anybody was told of."""
    scene.stack.receiver.wait_for("TaximeterWatchdog", receiver="watchdog")
    assert wait(lambda: calls_seen(scene) > 60, 30)
    return scene.stack.receiver.names()


@pytest.fixture(scope="module")
def troubled(scene: Scene, well: set[str]) -> Receiver:
    """Six faults at once, each at an upstream of its own."""
    good = (MODEL, GOOD)
    failing = Script(status=503)
    scene.callers["broken"].scripts = [(OTHER_MODEL, Script(status=500)), *[good] * 6]
    for name in ("storm", "spent"):
        scene.callers[name].scripts = [(MODEL, failing), *[good] * 6]
    for caller in (scene.callers["away"], scene.callers["dear"], *scene.crowd):
        caller.is_paused = False
    return scene.stack.receiver


@pytest.fixture(scope="module")
def healed(scene: Scene, troubled: Receiver) -> Receiver:
    """All six told of, and over."""
    for name in SCENES:
        troubled.wait_for(name)
    good = [(MODEL, GOOD)]
    scene.callers["broken"].scripts = [(OTHER_MODEL, GOOD), *good]
    for name in ("storm", "spent"):
        scene.callers[name].scripts = good
    for caller in scene.crowd:
        caller.is_paused = True
    scene.reload()
    return troubled


def test_while_all_is_well_only_the_watchdog_speaks(scene: Scene, well: set[str]) -> None:
    """Calls go through limits, queues and budgets, and nobody is told of anything."""
    assert scene.stack.rules_in_trouble() == []
    assert well == {"TaximeterWatchdog"}


@pytest.mark.parametrize("name", SCENES)
def test_a_fault_reaches_who_must_know_in_plain_words(troubled: Receiver, name: str) -> None:
    """The right person hears which upstream or whose budget it is."""
    receiver, upstream, words = SCENES[name]
    told = troubled.wait_for(name, receiver=receiver)
    assert words in told.annotations["summary"]
    assert told.labels.get("upstream", "") == upstream
    assert told.annotations["runbook_url"].endswith(f"/{name}")


@pytest.mark.parametrize("name", SCENES)
def test_what_is_over_is_taken_back(healed: Receiver, name: str) -> None:
    """The upstream answers, the queue empties, the budget is raised on SIGHUP: it is told so."""
    healed.wait_for(name, status="resolved")


def test_an_upstream_that_is_well_is_never_named(healed: Receiver) -> None:
    """What goes wrong elsewhere, and what it takes over from `away`, is not its doing."""
    assert [
        one.name for one in healed.told.webhooks if one.labels.get("upstream") == "steady"
    ] == []


def calls_seen(scene: Scene) -> float:
    """Give how many calls Prometheus knows of."""
    return sum(value for _, value in scene.stack.query("sum(taximeter_calls_total)"))
