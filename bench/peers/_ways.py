"""The ways of the comparison, what each of them does for a call, and how each is started."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import _gateways, _nginx, _targets
from bench._installs import LITELLM_VERSION, PORTKEY_VERSION, NotInstalled
from bench._targets import Target

MANY_STREAMS = "    connections_max: 8192\n    limits: {adaptive: false}\n"
"""For thousands of streams that begin at once. Else the limit of calls at once that Taximeter has
found for this upstream would have them wait in its queue, which is what that is for."""

EVERYWHERE = frozenset({"call", "delta", "first", "idle", "full", "growth"})
IN_SHORT = frozenset({"call", "delta", "first"})


@dataclass(frozen=True, slots=True)
class Setting:
    """What a way is started with."""

    upstream: int
    """Port of the upstream."""
    tls_upstream: int
    """Port of the same behind TLS."""
    ca_file: Path
    workers: int = 1
    many_streams: bool = False


Start = Callable[[Setting, Path], contextlib.AbstractContextManager[Target]]
"""Takes a folder that is not there yet."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way from the load to the upstream."""

    name: str
    word: str
    """For `--only`."""
    does: str
    """What it does for a call."""
    start: Start
    share: float = 1.0
    """Of the calls that a fast way is given: what takes ten times as long gets fewer."""
    workers_max: int = 2
    sections: frozenset[str] = EVERYWHERE
    """Where it is measured."""


@contextlib.contextmanager
def _direct(setting: Setting, folder: Path) -> Iterator[Target]:
    yield Target("direct", setting.upstream)


def _taximeter(setting: Setting, folder: Path) -> contextlib.AbstractContextManager[Target]:
    more = MANY_STREAMS if setting.many_streams else ""
    return _targets.taximeter(setting.upstream, folder, workers=setting.workers, more=more)


WAYS = (
    Way("direct", "direct", "nothing: the load speaks to the upstream", _direct),
    Way(
        "nginx",
        "nginx",
        "passes bytes on; kept connections, no buffering, no log. Limits are set against this one",
        lambda setting, folder: _nginx.tuned(setting.upstream, folder, workers=setting.workers),
    ),
    Way(
        "nginx as it comes",
        "nginx",
        "`proxy_pass` alone: a line of access log, a new connection upstream for each call, and "
        "answers buffered",
        lambda setting, folder: _nginx.as_it_comes(setting.upstream, folder),
        sections=IN_SHORT,
    ),
    Way(
        "nginx, TLS upstream",
        "nginx",
        "as `nginx`, and TLS to the upstream (`proxy_ssl`), its certificate verified",
        lambda setting, folder: _nginx.tuned(setting.tls_upstream, folder, ca_file=setting.ca_file),
        sections=IN_SHORT,
    ),
    Way(
        "aiohttp handler",
        "aiohttp",
        "`ClientSession` behind a handler, as one writes it first; meters nothing",
        lambda setting, _: _targets.plain_proxy(setting.upstream, workers=setting.workers),
    ),
    Way(
        "Taximeter",
        "taximeter",
        "as shipped: admission and two journal records in the process that relays; beside it the "
        "recorder prices each call, books it in SQLite exactly once, counts it in the metrics, and "
        "writes a line of access log",
        _taximeter,
    ),
    Way(
        "Taximeter, limits on",
        "taximeter",
        "and every kind of limit counted, of the user and of the upstream; none is reached",
        lambda setting, folder: _targets.taximeter(setting.upstream, folder, limits=True),
        sections=IN_SHORT,
    ),
    Way(
        "Taximeter, traced",
        "taximeter",
        "as shipped, and every call exported over OTLP",
        lambda setting, folder: _targets.taximeter(setting.upstream, folder, traces=True),
        sections=IN_SHORT - {"first"},
    ),
    Way(
        "Taximeter, TLS upstream",
        "taximeter",
        "as shipped, and TLS to the upstream, its certificate verified",
        lambda setting, folder: _targets.taximeter(
            setting.tls_upstream, folder, ca_file=setting.ca_file
        ),
        sections=IN_SHORT,
    ),
    Way(
        f"LiteLLM {LITELLM_VERSION}",
        "litellm",
        "translates between APIs, reckons the cost; keeps it only with a PostgreSQL of its own, "
        "which it has not here. A line of access log",
        lambda setting, folder: _gateways.litellm_target(
            setting.upstream, folder, workers=setting.workers
        ),
        share=0.04,
    ),
    Way(
        f"Portkey {PORTKEY_VERSION}",
        "portkey",
        "translates between APIs, can retry and fall back; the open gateway keeps no books",
        lambda setting, folder: _gateways.portkey_target(setting.upstream, folder),
        share=0.2,
        workers_max=1,
    ),
    Way(
        "Bifrost",
        "bifrost",
        "translates between APIs; without its store of logs it keeps nothing",
        lambda setting, folder: _gateways.bifrost_target(setting.upstream, folder),
        share=0.5,
        workers_max=1,
    ),
)


@contextlib.contextmanager
def running(
    ways: list[Way], setting: Setting, folder: Path, left_out: dict[str, str]
) -> Iterator[dict[Way, Target]]:
    """Start all ways; what cannot be had or does not start is named in `left_out`, with the why."""
    with contextlib.ExitStack() as stack:
        targets: dict[Way, Target] = {}
        for number, way in enumerate(ways):
            try:
                target = stack.enter_context(way.start(setting, folder / str(number)))
            except NotInstalled as error:
                left_out[way.name] = str(error)
            except RuntimeError as error:
                left_out[way.name] = "it was installed, and did not start"
                print(error, file=sys.stderr)
            else:
                target.name = way.name
                targets[way] = target
        yield targets
