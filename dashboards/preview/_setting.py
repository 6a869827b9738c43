"""How the Taximeters of a live run are set: small enough that each bound is met within seconds.

There are two, on one ledger. `main` keeps its counts in memory and shows its budgets; `beside`
shares its counts in Redis, has little room for names and connections, and no collector of traces.
"""

from __future__ import annotations

from typing import Any

from dashboards.preview._history import OWN_PRICES

Upstreams = dict[str, dict[str, Any]]

_QUICK_BREAKER = {
    "calls_min": 4,
    "window_seconds": 6,
    "open_seconds": 1,
    "open_seconds_max": 2,
    "probes": 2,
}
_QUICK_RETRY = {"attempts_max": 3, "backoff_seconds_first": 0.1, "backoff_seconds_max": 0.3}

TERMS: dict[str, Any] = {
    "prices": OWN_PRICES,
    "teams": {"search": {"budget": {"usd": 5, "per": "day"}}},
    "tiers": {
        "default": {"shared": {"budget": {"tokens": 50_000_000, "per": "day"}}},
        "labs": {
            "weight": 0.5,
            "output_tokens_max": 256,
            "budget": {"tokens": 6_000, "per": "hour"},
        },
        "trial": {"requests_per_minute": 6, "burst_seconds": 10, "input_tokens_max": 1_000},
    },
    "users": {
        "bob": {"budget": {"usd": 0.02, "per": "hour"}},
        "cho": {"budget": {"usd": 0.01, "per": "hour", "hard": False}},
        "eve": {"tier": "labs"},
        "fay": {"tier": "trial"},
    },
}
"""What people may: a team's budget and a tier's, that last; bob's and eve's, that do not; cho's,
which is soft; fay's calls a minute, of which there are too few."""

BESIDE_CONNECTIONS_MAX = 24


def main_upstreams(openai: str, anthropic: str, azure: str, house: str) -> Upstreams:
    """Give the upstreams of `main`, at these addresses."""
    return {
        "openai": {
            "url": openai, "dialect": "openai", "provider": "openai",
            "limits": {"concurrency": 6}, "queue": {"size": 16, "wait_seconds_max": 2},
        },
        "anthropic": {
            "url": anthropic, "dialect": "anthropic", "provider": "anthropic",
            "client_gone": "drain", "timeouts": {"idle_seconds": 1.5},
        },
        "azure": {
            "url": azure, "dialect": "openai", "provider": "openai",
            "fallback": ["spare"], "breaker": _QUICK_BREAKER,
            "timeouts": {"first_byte_seconds": 1},
            "retry": {**_QUICK_RETRY, "budget_floor_per_minute": 6},
        },
        "spare": {"url": openai, "dialect": "openai", "provider": "openai"},
        "house": {
            "url": house, "dialect": "openai", "provider": "house",
            "connections_max": 2,
            "retry": {**_QUICK_RETRY, "budget_ratio": 0, "budget_floor_per_minute": 1},
            "breaker": {**_QUICK_BREAKER, "open_seconds": 60, "open_seconds_max": 60},
        },
    }  # fmt: skip


def main_settings(collector: str) -> dict[str, Any]:
    """Give what else `main` is set to; `collector` is where its traces go."""
    return {
        **TERMS,
        "otlp": {"endpoint": collector, "sample_ratio": 0.8},
        "replay": {"enabled": True},
    }


def beside_settings(redis: str) -> dict[str, Any]:
    """Give what else `beside` is set to."""
    return {
        **TERMS,
        "state": redis,
        "metrics": {"users_max": 2},
        "relay": {"connections_max": BESIDE_CONNECTIONS_MAX},
    }
