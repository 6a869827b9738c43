"""The console's token: where it must be named, and what may be one."""

from __future__ import annotations

import pytest

from taximeter.settings import Settings, SettingsError
from tests.settings.conftest import Read, Refuse

TOKEN = "a-token-of-32-characters-or-so-1"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1"])
def test_on_loopback_no_token_is_needed(read: Read, address: str) -> None:
    """Only this machine's own users come there."""
    assert read(f"console: '{address}'").read_console_token() is None


@pytest.mark.parametrize(
    "address", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1", "localhost.lan:1"]
)
def test_off_loopback_a_token_must_be_named(refuse: Refuse, address: str) -> None:
    """H7: no address that others might reach goes without, and the hint says what to do."""
    said = refuse(f"console: '{address}'")
    assert "console listens off loopback" in said
    assert "console_token_env" in said


def test_a_token_is_never_in_the_settings(
    read: Read, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H9: the file names a variable; what it holds is in no dump and no message."""
    monkeypatch.setenv("CONSOLE_TOKEN", TOKEN)
    settings = read("console: '0.0.0.0:1'\nconsole_token_env: CONSOLE_TOKEN")
    assert settings.read_console_token() == TOKEN
    assert TOKEN not in settings.dump() + repr(settings)
    assert "must not begin with TAXIMETER_" in refuse("console_token_env: TAXIMETER_TOKEN")
    assert TOKEN not in refuse(f"console_token_env: {TOKEN}")


@pytest.mark.parametrize(
    "token", [None, "", "short", "x" * 15, "a token with some spaces", "é" * 20]
)
def test_what_is_no_token_is_refused(token: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is not set, or holds what is easily guessed or cannot be sent, is refused."""
    if token is not None:
        monkeypatch.setenv("CONSOLE_TOKEN", token)
    settings = Settings(console_token_env="CONSOLE_TOKEN")
    with pytest.raises(SettingsError) as caught:
        settings.read_console_token()
    assert "CONSOLE_TOKEN" in str(caught.value)
    assert not token or token not in str(caught.value)
