"""Settings that belong to the fixed surface and that this version does not act on.

Taken silently they would be a promise not kept: a limit that limits nothing. So they are refused
by name. To switch one on, give it a field in `_model` and take its line out here.
"""

from __future__ import annotations

from taximeter.settings._file import Key

_UPSTREAM = {
    "limits": "limits of concurrency, requests and tokens",
    "queue": "the fair queue",
    "retry": "retries of our own",
    "breaker": "the circuit breaker",
    "fallback": "falling back to another upstream",
}
_TOP = {
    "tiers": "tiers with their limits and budgets",
    "users": "users with their tiers",
}


def later_keys() -> list[tuple[str, str]]:
    """Give the keys as people write them, and what they are for."""
    upstream = [(f"upstreams.NAME.{name}", meaning) for name, meaning in _UPSTREAM.items()]
    state = [("state: redis://...", "counts of limits shared between machines")]
    return [*upstream, *_TOP.items(), *state]


def not_yet(key: Key) -> str | None:
    """Say what a refused key would be for, if it is one that a later version knows."""
    match key:
        case (str(name),):
            return _TOP.get(name)
        case ("upstreams", str(), str(name)):
            return _UPSTREAM.get(name)
        case _:
            return None
