"""The configuration: one typed, documented, frozen model, from a file, the environment and flags.

`load` reads all sources and gives one `Settings`, or raises `SettingsError`, which lists every
problem with its source, its key and a hint. Nothing else in the package reads the environment.
"""

from __future__ import annotations

from taximeter.settings._admission import Breaker, Limits, Queue, Rates, Retry
from taximeter.settings._errors import Problem, SettingsError
from taximeter.settings._kinds import Section
from taximeter.settings._load import ENVIRONMENT_PREFIX, find_file, load, read_document
from taximeter.settings._model import Settings
from taximeter.settings._price import OwnPrice
from taximeter.settings._rooms import Identity, Journal, Log, Recorder, Relay, Replay
from taximeter.settings._signals import LatencyBudget, Metrics, Otlp
from taximeter.settings._tiers import Budget, Redis, Shared, Team, Tier, User, person_name
from taximeter.settings._upstream import Dialect, Timeouts, Tls, Upstream, guess_dialect
from taximeter.settings._values import Address

__all__ = [
    "ENVIRONMENT_PREFIX",
    "Address",
    "Breaker",
    "Budget",
    "Dialect",
    "Identity",
    "Journal",
    "LatencyBudget",
    "Limits",
    "Log",
    "Metrics",
    "Otlp",
    "OwnPrice",
    "Problem",
    "Queue",
    "Rates",
    "Recorder",
    "Redis",
    "Relay",
    "Replay",
    "Retry",
    "Section",
    "Settings",
    "SettingsError",
    "Shared",
    "Team",
    "Tier",
    "Timeouts",
    "Tls",
    "Upstream",
    "User",
    "find_file",
    "guess_dialect",
    "load",
    "person_name",
    "read_document",
]
