"""What every test shares: a clean environment, and an end to what it started."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes is the machine's business and no promise of ours.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So a shell starts what it runs in the background, and every process started here would
    # inherit it: the tests of Ctrl-C would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting and no credential of the person who runs the tests reaches a test."""
    private = ("_API_KEY", "_PROXY", "_BASE_URL")
    ours = ("TAXIMETER_", "OTEL_")
    for name in list(os.environ):
        if name.startswith(ours) or name.upper().endswith(private):
            monkeypatch.delenv(name)
