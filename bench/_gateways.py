"""Other gateways, each run as its own documentation has it, on loopback alone."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bench import _installs
from bench._load import MODEL
from bench._targets import Target, free_port, started

START_SECONDS_MAX = 120.0

LITELLM_CONFIGURATION = f"""
model_list:
  - model_name: {MODEL}
    litellm_params:
      model: openai/{MODEL}
      api_base: http://127.0.0.1:{{upstream}}/v1
      api_key: sk-bench
litellm_settings: {{{{telemetry: false}}}}
"""

ON_LOOPBACK = """
const net = require("net");
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, ...rest) {
  if (typeof port !== "number") return listen.call(this, port, ...rest);
  const ready = rest.find((each) => typeof each === "function");
  return listen.call(this, { port, host: "127.0.0.1", backlog: 4096 }, ready);
};
"""
"""Portkey's gateway listens on every interface, and has no setting for it."""


@contextlib.contextmanager
def litellm(folder: Path, configuration: str, *, workers: int = 1) -> Iterator[tuple[int, int]]:
    """Run LiteLLM's proxy; give its id and port.

    Raises:
        NotInstalled: if it cannot be had here.
    """
    command, port = _installs.litellm(), free_port()
    folder.mkdir()
    (folder / "litellm.yaml").write_text(configuration)
    words = [
        *(str(command), "--config", str(folder / "litellm.yaml")),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--telemetry", "False", "--num_workers", str(workers)),
    ]
    # Else it fetches its prices from the network when it starts.
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with _running(folder, words, f"http://127.0.0.1:{port}/health/liveliness", environment) as pid:
        yield pid, port


@contextlib.contextmanager
def litellm_target(upstream: int, folder: Path, *, workers: int = 1) -> Iterator[Target]:
    """LiteLLM's proxy before the benchmarks' upstream."""
    configuration = LITELLM_CONFIGURATION.format(upstream=upstream)
    with litellm(folder, configuration, workers=workers) as (pid, port):
        yield Target("LiteLLM", port, root=pid, exact=False)


@contextlib.contextmanager
def portkey_target(upstream: int, folder: Path) -> Iterator[Target]:
    """Portkey's gateway, without its page. What it is to do stands in each request's head."""
    script, port = _installs.portkey(), free_port()
    folder.mkdir()
    (folder / "loopback.cjs").write_text(ON_LOOPBACK)
    words = ["node", "--require", str(folder / "loopback.cjs"), str(script)]
    headers = {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{upstream}/v1",
    }
    words += ["--headless", f"--port={port}"]
    with _running(folder, words, f"http://127.0.0.1:{port}/", {}) as pid:
        yield Target("Portkey", port, root=pid, headers=headers, exact=False)


@contextlib.contextmanager
def bifrost_target(upstream: int, folder: Path) -> Iterator[Target]:
    """Bifrost's HTTP server, without its store of logs and of settings."""
    command, port = _installs.bifrost(), free_port()
    folder.mkdir()
    key = {"name": "bench", "value": "sk-bench", "models": [], "weight": 1.0}
    network = {"base_url": f"http://127.0.0.1:{upstream}"}
    providers = {"openai": {"keys": [key], "network_config": network}}
    (folder / "config.json").write_text(json.dumps({"providers": providers}))
    words = [str(command), "-app-dir", str(folder), "-host", "127.0.0.1", "-port", str(port)]
    with _running(folder, words, f"http://127.0.0.1:{port}/health", {}) as pid:
        yield Target("Bifrost", port, root=pid, exact=False)


@contextlib.contextmanager
def _running(
    folder: Path, words: list[str], url: str, environment: dict[str, str]
) -> Iterator[int]:
    with (
        (folder / "log").open("wb") as log,
        started(words, out=log.fileno(), errors=log, environment=environment) as process,
    ):
        _wait_alive(url, process)
        yield process.pid


def _wait_alive(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.HTTPError:
            return  # it answers
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"{process.args!r} does not answer")
