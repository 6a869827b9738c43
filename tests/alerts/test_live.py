"""From a fault to a person: real Taximeter, Prometheus and Alertmanager, and who is notified.

Every span of time is a hundredth of what ships (five minutes are three seconds); the rules, the
routes, the inhibitions and the words are those that ship. A scene is a fault and its notification.
Those of queues, retries, breakers, fallbacks and budgets are in test_admission; here an upstream's
faults come through as they are.
"""

from __future__ import annotations

import http.client
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.alerts._stack import SCRAPE_SECONDS, Receiver, Stack, wait
from tests.rig import Script
from tests.rig.caller import chat
from tests.rig.taximeter import PLAIN, Taximeter
from tests.rig.upstream import Upstream
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.timeout(120)

MODEL = "fake-large"
PRICES = [
    {
        "provider": "fake", "model": MODEL,
        "input_usd_per_million": 1000, "output_usd_per_million": 1000,
    }
]  # fmt: skip
UPSTREAMS = ("steady", "failing", "cut", "limited", "dear", "new")
LOAD_SECONDS = 0.04
"""Between two calls: each of the six upstreams has four a second."""
FAULTS = (
    "TaximeterUpstreamErrors",
    "TaximeterStreamsTruncated",
    "TaximeterUpstreamRateLimited",
    "TaximeterUnpricedModel",
    "TaximeterSpendSpike",
)
FOLLOWING = {"TaximeterErrorBudgetBurn", "TaximeterUserSpendSpike"}
SHORT = {
    # Seconds that are thresholds and not spans of time are not scaled by themselves.
    "ledger_lag": {"seconds_max": 1},
    "ledger_stalled": {"seconds_min": 1},
    # Starting takes a process as long as it takes, however short the minutes are.
    "process_down": {"for": "20m"},
    # A scrape has a quarter of a second: a busy machine may miss three in a row.
    "down": {"for": "5m"},
    # Prometheus itself takes seconds until it has its first target.
    "absent": {"for": "20m"},
    "recorder_down": {"for": "20m"},
    "spend": {"window": "20m"},
    # A machine that is busy with tests is no judge of these.
    "loop_lag": {"seconds_max": 30},
    "overhead": {"seconds_max": 30},
    "stage_budget": {"ratio_max": 1},
    "ledger_retries": {"for": "1w"},
}


@dataclass
class Load:
    """Calls without a pause, each upstream in turn; what each is answered can be changed."""

    port: int
    scripts: dict[str, list[Script]] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    answered: int = 0
    """Calls of which the client has all there was."""

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._counts = dict.fromkeys(UPSTREAMS, 0)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(LOAD_SECONDS):
            name = min(set(UPSTREAMS) - self.paused, key=lambda one: self._counts[one])
            scripts = self.scripts.get(name) or [Script(tokens=4)]
            script = scripts[self._counts[name] % len(scripts)]
            self._counts[name] += 1
            try:
                self._call(name, script)
                self.answered += 1
            except (OSError, http.client.HTTPException):
                continue  # a broken stream, or a Taximeter that is down: that is the scene

    def _call(self, upstream: str, script: Script) -> None:
        chat(
            self.port,
            script,
            user=f"user-of-{upstream}",
            upstream=upstream,
            headers={"x-taximeter-team": f"team-of-{upstream}"},
            timeout_seconds=5,
            model="brand-new" if upstream == "new" else MODEL,
            stream=upstream == "cut",
        )


@dataclass(frozen=True)
class Scene:
    """Everything, under load."""

    meter: Taximeter
    postgres: PostgresServer
    stack: Stack
    load: Load


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A Taximeter with its ledger in PostgreSQL, six upstreams, and a load that is well.

    Its console asks for a token, as it does in docker-compose.yml; Prometheus has it from a file.
    """
    folder = tmp_path_factory.mktemp("live")
    (folder / "stack").mkdir()
    token = secrets.token_urlsafe(24)
    with (
        pytest.MonkeyPatch.context() as environment,
        Upstream() as upstream,
        PostgresServer() as postgres,
    ):
        environment.setenv("CONSOLE_TOKEN", token)
        upstreams = {
            name: {**PLAIN, "url": upstream.url, "dialect": "openai", "provider": "fake"}
            for name in UPSTREAMS
        }
        meter = Taximeter(
            folder,
            upstreams,
            ledger=postgres.make_database(),
            prices=PRICES,
            console_token_env="CONSOLE_TOKEN",
        )
        with (
            meter,
            Load(meter.port, paused={"dear", "new"}) as load,
            Stack(folder / "stack", meter.console_port, SHORT, token=token) as stack,
        ):
            yield Scene(meter, postgres, stack, load)


@pytest.fixture(scope="module")
def well(scene: Scene) -> set[str]:
    """Calls have gone by for a while; gives the alerts that anybody was told of."""
    scene.stack.receiver.wait_for("TaximeterWatchdog", receiver="watchdog")
    assert wait(lambda: calls_seen(scene) > 40, 20)
    time.sleep(10 * SCRAPE_SECONDS)
    return scene.stack.receiver.names()


@pytest.fixture(scope="module")
def troubled(scene: Scene, well: set[str]) -> Receiver:
    """Five faults at once, each at an upstream of its own."""
    good = Script(tokens=4)
    scene.load.scripts.update(
        failing=[Script(status=500), good, good],
        cut=[Script(cut_after_events=3, cut="rst"), *[Script(tokens=6)] * 6],
        limited=[Script(status=429), *[good] * 6],
        dear=[Script(tokens=4000)],
    )
    scene.load.paused.clear()
    return scene.stack.receiver


@pytest.fixture(scope="module")
def healed(scene: Scene, troubled: Receiver) -> Receiver:
    """All five told of, and over."""
    for name in FAULTS:
        troubled.wait_for(name)
    scene.load.scripts.clear()
    scene.load.paused.update({"dear", "new"})
    return troubled


def test_while_all_is_well_only_the_watchdog_speaks(scene: Scene, well: set[str]) -> None:
    """Calls go by, every rule is evaluated, and nobody is told of anything but that."""
    assert scene.stack.rules_in_trouble() == []
    assert well == {"TaximeterWatchdog"}


def test_an_upstream_that_fails_pages_and_is_named(troubled: Receiver) -> None:
    """A third of the calls are answered 500: the pager hears who fails and how much."""
    told = troubled.wait_for("TaximeterUpstreamErrors", receiver="pager")
    assert told.labels["upstream"] == "failing"
    assert told.annotations["summary"].startswith("Upstream failing fails ")
    assert "var-upstream=failing" in told.annotations["dashboard_url"]
    assert told.annotations["runbook_url"].endswith("/TaximeterUpstreamErrors")
    assert wait(
        lambda: any(
            said["event_action"] == "trigger"
            and "Upstream failing fails" in said["payload"]["summary"]
            and said["payload"]["severity"] == "critical"
            for said in list(troubled.told.pagerduty)
        ),
        20,
    )


def test_streams_that_break_off_are_told_to_the_team(troubled: Receiver) -> None:
    """One stream of seven is cut: the team reads in its channel of which model, with links."""
    told = troubled.wait_for("TaximeterStreamsTruncated", receiver="team")
    assert (told.labels["upstream"], told.labels["model"]) == ("cut", MODEL)
    assert wait(
        lambda: any(
            f"of the streams of {MODEL} break off" in said["attachments"][0]["text"]
            and "|runbook>" in said["attachments"][0]["text"]
            for said in list(troubled.told.slack)
        ),
        20,
    )


def test_a_rate_limit_of_an_upstream_is_a_warning(troubled: Receiver) -> None:
    """One call of seven is answered 429: the team is told, the pager is not."""
    told = troubled.wait_for("TaximeterUpstreamRateLimited", receiver="team")
    assert told.labels["upstream"] == "limited"
    assert "TaximeterUpstreamRateLimited" not in troubled.names("pager")


def test_the_first_calls_of_a_model_without_a_price_are_told_of(troubled: Receiver) -> None:
    """A model that no price is known for: who answers for the money hears its name at once."""
    told = troubled.wait_for("TaximeterUnpricedModel", receiver="money")
    assert told.labels["model"] == "brand-new"
    assert told.annotations["summary"] == "Calls of brand-new at new have no price"


def test_a_team_that_spends_much_is_named_with_the_amount(troubled: Receiver) -> None:
    """A new team and its user spend fast: pager and money hear the dollars an hour."""
    told = troubled.wait_for("TaximeterSpendSpike", receiver="money", team="team-of-dear")
    amount = float(told.annotations["summary"].partition("$")[2].partition(" ")[0])
    assert amount > 20
    assert "var-team=team-of-dear" in told.annotations["dashboard_url"]
    troubled.wait_for("TaximeterSpendSpike", receiver="pager", team="team-of-dear")
    user = troubled.wait_for("TaximeterUserSpendSpike", receiver="money", user="user-of-dear")
    assert user.annotations["summary"].startswith("User user-of-dear spends $")


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_over_is_taken_back(healed: Receiver, name: str) -> None:
    """A fault that has ended is told to have ended, to whoever was told of it."""
    healed.wait_for(name, status="resolved")


def test_five_faults_are_told_as_five_and_what_follows_from_them(healed: Receiver) -> None:
    """Nobody was told of anything but the faults, and the budgets that they burnt."""
    assert healed.names() - FOLLOWING == {"TaximeterWatchdog", *FAULTS}


def test_a_ledger_that_is_away_pages_and_loses_nothing(scene: Scene, healed: Receiver) -> None:
    """PostgreSQL is stopped under load: the pager hears; it is back: all is booked, all is well."""
    scene.postgres.stop(kill=True)
    told = healed.wait_for("TaximeterLedgerStalled", receiver="pager")
    assert told.labels["instance"] == f"127.0.0.1:{scene.meter.console_port}"
    assert "takes nothing" in told.annotations["summary"]
    scene.postgres.start()
    healed.wait_for("TaximeterLedgerStalled", status="resolved")
    answered = scene.load.answered
    assert wait(lambda: calls_seen(scene) >= answered, 20), (calls_seen(scene), answered)


def test_a_taximeter_that_is_down_pages_and_silences_the_rest(scene: Scene) -> None:
    """It is killed: one page says so. It is back: the page is taken back."""
    receiver = scene.stack.receiver
    before = len(receiver.told.webhooks)
    scene.meter.kill()
    told = receiver.wait_for("TaximeterDown", receiver="pager")
    assert told.labels["instance"] == f"127.0.0.1:{scene.meter.console_port}"
    scene.meter.start()
    receiver.wait_for("TaximeterDown", status="resolved")
    since = receiver.told.webhooks[before:]
    pages = {one.name for one in since if one.receiver == "pager" and one.status == "firing"}
    assert pages == {"TaximeterDown"}


def calls_seen(scene: Scene) -> float:
    """Give how many calls Prometheus knows of."""
    return sum(value for _, value in scene.stack.query("sum(taximeter_calls_total)"))
