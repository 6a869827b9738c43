"""What every test shares: a clean environment, how long a run is, and what it has counted."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.rig import length
from tests.rig.side_by_side import Machine, longest_first
from tests.rig.tally import Tally

# How long an example takes is the machine's business and no promise of ours.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So a shell starts what it runs in the background, and every process started here would
    # inherit it: the tests of Ctrl-C would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)

TALLY = pytest.StashKey[Tally]()
ENDS_AT = pytest.StashKey[float]()
FOLDER = pytest.StashKey[Path]()
MACHINE = pytest.StashKey[Machine]()
SEED_GIVEN = os.environ.get("TAXIMETER_TEST_SEED")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Have the long form asked for."""
    parser.addoption(
        "--soak",
        type=float,
        metavar="MINUTES",
        help="the long form: more of everything, ended when so many minutes are over",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Set the form before anything is collected."""
    config.addinivalue_line(
        "markers", "alone: has the machine to itself, where tests run several at a time"
    )
    config.stash[TALLY] = Tally()
    length.minutes = config.getoption("--soak")
    if length.minutes is not None:
        config.stash[ENDS_AT] = time.monotonic() + length.minutes * 60
    if at_once := getattr(config, "workerinput", None):  # this is one of several processes
        config.stash[MACHINE] = Machine(Path(at_once["folder"]))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Delete what several processes had in common."""
    if folder := config.stash.get(FOLDER, None):
        shutil.rmtree(folder)
    if machine := config.stash.get(MACHINE, None):
        machine.close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell one of several processes, about to start, what they have in common."""
    folder = node.config.stash.setdefault(FOLDER, None) or Path(
        tempfile.mkdtemp(prefix="taximeter-tests-")
    )
    node.config.stash[FOLDER] = folder
    node.workerinput["folder"] = str(folder)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what one of several processes has counted. One that broke off has said nothing."""
    if said := getattr(node, "workeroutput", None):
        node.config.stash[TALLY].take_over(*said["tally"])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over what was counted, if there are others."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["tally"] = session.config.stash[TALLY].hand_over()


@pytest.hookimpl(wrapper=True, tryfirst=True)  # first: a test's timeout begins when it may begin
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Have the machine, among others or alone."""
    if machine := item.config.stash.get(MACHINE, None):
        with machine.taken(alone=item.get_closest_marker("alone") is not None):
            return (yield)
    return (yield)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give tests of the long form its time; put what takes long first, if files are dealt out."""
    if MACHINE in config.stash:
        items.sort(key=lambda item: longest_first(item.path))
    if length.minutes is not None:
        for item in items:  # before the marks of their own, which are for the quick form
            item.add_marker(pytest.mark.timeout(length.minutes * 60 + 120), append=False)


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Take what Hypothesis counted, and end a soak whose minutes are over."""
    if item.nodeid.startswith("tests/hostile/"):
        item.config.stash[TALLY].add("hostile cases")
    # Set by Hypothesis' own plugin, for its `--hypothesis-show-statistics`.
    item.config.stash[TALLY].take_statistics(getattr(item, "hypothesis_statistics", ""))
    if time.monotonic() > item.config.stash.get(ENDS_AT, float("inf")):
        item.session.shouldstop = "the soak's minutes are over"


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show what was counted."""
    for line in config.stash[TALLY].lines():
        terminalreporter.write_line(line)


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Where a test says how much it has tried; shown at the end of the run."""
    return request.config.stash[TALLY]


@pytest.fixture
def seed() -> int:
    """A seed for whatever a test leaves to chance: printed by a test that fails.

    `TAXIMETER_TEST_SEED=1234` runs a test again as it was.
    """
    chosen = int(SEED_GIVEN) if SEED_GIVEN else random.randrange(1 << 32)
    print(f"seed {chosen}: TAXIMETER_TEST_SEED={chosen} runs it again")
    return chosen


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting and no credential of the person who runs the tests reaches a test."""
    private = ("_API_KEY", "_PROXY", "_BASE_URL")
    ours = ("TAXIMETER_", "OTEL_")
    for name in list(os.environ):
        if name.startswith(ours) or name.upper().endswith(private):
            monkeypatch.delenv(name)
