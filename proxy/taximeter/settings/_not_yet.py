"""Settings that belong to the fixed surface and that this version does not act on.

Taken silently they would be a promise not kept: a limit that limits nothing. So they have their
fields in the model, and are refused by name before it sees them. To switch one on, take its line
out here; with the last one, this module goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taximeter.settings._file import Key

_QUEUE = {"early_open_seconds": "opening a stream that waits"}


def not_yet(key: Key) -> str | None:
    """Say what a key would be for, if it is one that a later version acts on."""
    match key:
        case ("upstreams", str(), "queue", str(name)):
            return _QUEUE.get(name)
        case _:
            return None


def split(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[Key]]:
    """Take the keys that are not acted on out of a configuration; give both."""
    refused: list[Key] = []
    kept = dict(values)
    upstreams = kept.get("upstreams")
    if isinstance(upstreams, Mapping):
        kept["upstreams"] = entries = dict(upstreams)
        for name, entry in entries.items():
            queue = entry.get("queue") if isinstance(entry, Mapping) else None
            if isinstance(queue, Mapping):
                kept_queue = {key: each for key, each in queue.items() if key not in _QUEUE}
                entries[name] = {**entry, "queue": kept_queue}
                refused += [("upstreams", name, "queue", key) for key in queue if key in _QUEUE]
    return kept, refused
