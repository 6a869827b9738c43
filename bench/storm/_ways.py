"""The ways of the storm's users to the model server. Each is started here and ended here."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from bench._targets import ROOT, free_port, started, taximeter

LITELLM_VERSION = "1.80.0"
LITELLM_FOLDER = ROOT / ".cache" / f"litellm-{LITELLM_VERSION}"
LITELLM_START_SECONDS_MAX = 120.0
INSTALL_SECONDS_MAX = 600.0

LITELLM_CONFIGURATION = """
model_list:
  - model_name: storm
    litellm_params:
      model: openai/storm
      api_base: http://127.0.0.1:{upstream}/v1
      api_key: sk-storm
      max_parallel_requests: 20
litellm_settings: {{num_retries: 2, telemetry: false}}
"""
"""Its own limit of calls at once and its own retries, as its documentation has them."""

Way = Callable[[int, Path], contextlib.AbstractContextManager[int]]
"""Takes the model server's port and a folder, and gives the port that the users go to."""


@contextlib.contextmanager
def direct(upstream: int, folder: Path) -> Iterator[int]:
    """No way at all."""
    yield upstream


@contextlib.contextmanager
def taximeter_set(upstream: int, folder: Path) -> Iterator[int]:
    """Taximeter that was told of the twenty places."""
    with taximeter(upstream, folder, more="    limits: {concurrency: 20}\n") as target:
        yield target.port


@contextlib.contextmanager
def taximeter_found(upstream: int, folder: Path) -> Iterator[int]:
    """Taximeter that was told nothing: it finds the limit, beginning at the default."""
    with taximeter(upstream, folder) as target:
        yield target.port


@contextlib.contextmanager
def taximeter_found_high(upstream: int, folder: Path) -> Iterator[int]:
    """Taximeter that was told nothing and begins five times too high."""
    more = "    limits: {adaptive_concurrency_first: 100}\n"
    with taximeter(upstream, folder, more=more) as target:
        yield target.port


def litellm_is_there() -> bool:
    """Tell whether LiteLLM's proxy can be run, installing it where that is possible.

    It gets an environment of its own below `.cache/`, so that nothing of it comes near
    Taximeter's. Where there is no registry, it is left out of the storm, and the report says so.
    """
    if (LITELLM_FOLDER / "installed").exists():
        return True
    python = LITELLM_FOLDER / "bin" / "python"
    try:
        subprocess.run([sys.executable, "-m", "venv", str(LITELLM_FOLDER)], check=True)
        wanted = f"litellm[proxy]=={LITELLM_VERSION}"
        install = [str(python), "-m", "pip", "install", "--quiet", "--only-binary", ":all:", wanted]
        subprocess.run(install, check=True, timeout=INSTALL_SECONDS_MAX)
    except (subprocess.SubprocessError, OSError) as error:
        print(f"LiteLLM {LITELLM_VERSION} cannot be installed here: {error}", file=sys.stderr)
        return False
    (LITELLM_FOLDER / "installed").touch()
    return True


@contextlib.contextmanager
def litellm(upstream: int, folder: Path) -> Iterator[int]:
    """LiteLLM's proxy, one worker."""
    port = free_port()
    folder.mkdir()
    configuration = folder / "litellm.yaml"
    configuration.write_text(LITELLM_CONFIGURATION.format(upstream=upstream))
    command = [
        str(LITELLM_FOLDER / "bin" / "litellm"),
        *("--config", str(configuration), "--host", "127.0.0.1", "--port", str(port)),
        *("--telemetry", "False"),
    ]
    with (
        (folder / "litellm.log").open("wb") as log,
        started(command, out=log.fileno(), errors=log) as process,
    ):
        _wait_alive(f"http://127.0.0.1:{port}/health/liveliness", process)
        yield port


def _wait_alive(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + LITELLM_START_SECONDS_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"{process.args!r} does not answer")


WAYS: dict[str, Way] = {
    "direct": direct,
    f"LiteLLM {LITELLM_VERSION}": litellm,
    "Taximeter, `concurrency: 20`": taximeter_set,
    "Taximeter, nothing set": taximeter_found,
    "Taximeter, nothing set, begun at 100": taximeter_found_high,
}
