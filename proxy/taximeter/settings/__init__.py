"""The configuration: one typed, documented, frozen model, from a file, the environment and flags.

`load` reads all sources and gives one `Settings`, or raises `SettingsError`, which lists every
problem with its source, its key and a hint. Nothing else in the package reads the environment.
"""

from __future__ import annotations

from taximeter.settings._errors import Problem, SettingsError
from taximeter.settings._load import ENVIRONMENT_PREFIX, find_file, load
from taximeter.settings._model import Settings
from taximeter.settings._price import OwnPrice
from taximeter.settings._rooms import Identity, Journal, Log, Recorder, Relay
from taximeter.settings._signals import LatencyBudget, Metrics, Otlp
from taximeter.settings._upstream import Dialect, Timeouts, Tls, Upstream, guess_dialect
from taximeter.settings._values import Address

__all__ = [
    "ENVIRONMENT_PREFIX",
    "Address",
    "Dialect",
    "Identity",
    "Journal",
    "LatencyBudget",
    "Log",
    "Metrics",
    "Otlp",
    "OwnPrice",
    "Problem",
    "Recorder",
    "Relay",
    "Settings",
    "SettingsError",
    "Timeouts",
    "Tls",
    "Upstream",
    "find_file",
    "guess_dialect",
    "load",
]
