"""docker-compose.yml as Compose reads it, by `docker compose config`: nothing is started.

Where there is no Docker, the reference checker of the Compose specification does it, which is the
part of Docker Compose that reads files. `tools/system-packages engines` brings one of the two.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.alerts._registry import ROOT

FILE = "docker-compose.yml"
CHECKER = "compose-spec"
SECONDS_MAX = 30


@pytest.fixture(scope="module")
def client() -> list[str]:
    """The words of a command that says what a docker-compose.yml in its folder comes to."""
    config = ["config", "--format=json"]
    for words in (["docker", "compose"], ["docker-compose"]):
        found = shutil.which(words[0])
        # The first Compose, of Python, knew neither this format nor this option.
        if found and run([found, *words[1:], "version", "--short"]).stdout.lstrip("v")[:2] > "1.":
            return [found, *words[1:], *config]
    checker = shutil.which(CHECKER, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if checker is not None:
        return [checker, "--format=json", FILE]
    missing = "there is neither Docker Compose nor Go to build its checker with"
    if os.environ.get("CI") == "true":
        raise RuntimeError(missing)
    pytest.skip(missing)


def run(words: list[str], folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command without the variables of whoever runs the tests."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        words,
        cwd=folder,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_MAX,
    )


def settle(client: list[str], folder: Path, text: str) -> dict[str, Any]:
    """Give what a file comes to, in a folder of its own, where no `.env` is.

    Raises:
        ValueError: if it is refused; with the words of the refusal.
    """
    (folder / FILE).write_text(text, encoding="utf-8")
    done = run(client, folder)
    if done.returncode:
        raise ValueError(done.stderr)
    settled: dict[str, Any] = json.loads(done.stdout)
    return settled


@pytest.fixture(scope="module")
def text() -> str:
    """The file that ships."""
    return (ROOT / FILE).read_text(encoding="utf-8")


def test_compose_takes_the_stack_as_it_is_meant(
    client: list[str], tmp_path: Path, text: str
) -> None:
    """H13: it is valid, nothing listens beyond loopback, and files from here cannot be changed."""
    stack = settle(client, tmp_path, text)
    assert set(stack["services"]) == set(yaml.safe_load(text)["services"])
    assert stack["name"] == "taximeter"
    for name, service in stack["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", [])), name
        mounted = [each for each in service.get("volumes", []) if each["type"] == "bind"]
        assert all(each["read_only"] for each in mounted), name
        assert {each["source"] for each in service.get("secrets", [])} <= set(stack["secrets"])
        kept = {each["source"] for each in service["volumes"] if each["type"] == "volume"}
        assert kept <= set(stack["volumes"])
    taximeter = stack["services"]["taximeter"]
    assert taximeter["environment"]["TAXIMETER_WORKERS"] == "1"
    assert {port["published"] for port in taximeter["ports"]} == {"8400"}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("read_only: true", "readonly: true"),
        ("condition: service_healthy", "condition: healthy"),
        ("init: true", "init: often"),
        ("${TAXIMETER_PORT:-8400}", "${TAXIMETER_PORT:-8400"),
    ],
)
def test_compose_refuses_what_is_wrong(
    client: list[str], tmp_path: Path, text: str, right: str, wrong: str
) -> None:
    """The check can fail: an unknown key, a wrong word or type, an open bracket is refused."""
    assert right in text
    with pytest.raises(ValueError, match=r"\w"):
        settle(client, tmp_path, text.replace(right, wrong))
