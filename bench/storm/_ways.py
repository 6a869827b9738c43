"""The ways of the storm's users to the model server. Each is started here and ended here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import _gateways
from bench._installs import LITELLM_VERSION
from bench._targets import taximeter

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


@contextlib.contextmanager
def litellm(upstream: int, folder: Path) -> Iterator[int]:
    """LiteLLM's proxy, one worker."""
    configuration = LITELLM_CONFIGURATION.format(upstream=upstream)
    with _gateways.litellm(folder, configuration) as (_, port):
        yield port


WAYS: dict[str, Way] = {
    "direct": direct,
    f"LiteLLM {LITELLM_VERSION}": litellm,
    "Taximeter, `concurrency: 20`": taximeter_set,
    "Taximeter, nothing set": taximeter_found,
    "Taximeter, nothing set, begun at 100": taximeter_found_high,
}
