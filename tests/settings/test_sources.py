"""Where settings come from, and which source wins."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.settings import Address, Settings, SettingsError, find_file, load
from tests.settings.conftest import Read, Refuse


def test_without_any_source_the_defaults_hold() -> None:
    """With no file, variable or flag, everything has a value and listens on loopback only."""
    settings = load(Path("/dev/null"), environ={})
    assert str(settings.listen) == "127.0.0.1:8400"
    assert str(settings.console) == "127.0.0.1:8401"
    assert settings.workers == 1
    assert settings.journal.when_full == "fail_open"
    assert settings.ledger_url == f"sqlite:///{settings.data_dir}/ledger.db"
    assert settings.data_dir.is_absolute()


def test_the_environment_wins_over_the_file_and_flags_win_over_both(read: Read) -> None:
    """Each source wins over the one before it, key by key and not group by group."""
    settings = read(
        "relay: {ping_seconds: 1, head_seconds_max: 2, keepalive_seconds: 3}",
        {"TAXIMETER_RELAY__HEAD_SECONDS_MAX": "20", "TAXIMETER_RELAY__KEEPALIVE_SECONDS": "30"},
        {"relay.keepalive_seconds": 300, "workers": None},
    )
    assert settings.relay.ping_seconds == 1
    assert settings.relay.head_seconds_max == 20
    assert settings.relay.keepalive_seconds == 300
    assert settings.workers == 1


def test_the_environment_reaches_into_upstreams_and_takes_json_for_lists(read: Read) -> None:
    """Every key can be set by a variable: parts by `__`, lists and mappings as JSON."""
    settings = read(
        "upstreams: {mine: {url: 'http://127.0.0.1:1/v1'}}",
        {
            "TAXIMETER_UPSTREAMS__MINE__TIMEOUTS__CONNECT_SECONDS": "0.5",
            "TAXIMETER_UPSTREAMS__OTHER__URL": "https://api.anthropic.com/",
            "TAXIMETER_IDENTITY__USER_HEADERS": '["X-Who"]',
            "TAXIMETER_PRICES": '[{"provider":"p","model":"m","input_usd_per_million":0.1}]',
        },
    )
    assert settings.upstreams["mine"].timeouts.connect_seconds == 0.5
    assert settings.upstreams["other"].dialect == "anthropic"
    assert settings.identity.user_headers == ("x-who",)
    assert str(settings.prices[0].input_usd_per_million) == "0.1"


def test_variables_of_other_programs_are_none_of_ours(read: Read) -> None:
    """Only names that begin with TAXIMETER_ are looked at, and TAXIMETER_CONFIG names the file."""
    environ = {"OPENAI_API_KEY": "x", "TAXIMETER": "y", "TAXIMETER_CONFIG": "/nowhere"}
    assert read("workers: 2", environ).workers == 2


def test_an_unknown_variable_is_refused(refuse: Refuse) -> None:
    """A misspelt variable is an error with a hint, not a setting quietly left at its default."""
    assert refuse("", {"TAXIMETER_WORKRES": "4"}) == (
        "TAXIMETER_WORKRES: workres: unknown key\n    hint: did you mean `workers`?"
    )


def test_a_variable_that_looks_like_json_must_be(refuse: Refuse) -> None:
    """Broken JSON in a variable is told by the variable's name, without its text."""
    assert refuse("", {"TAXIMETER_PRICES": "[secret]"}) == "TAXIMETER_PRICES: prices: is not JSON"


def test_a_part_of_something_that_has_none_is_refused(refuse: Refuse) -> None:
    """A variable cannot reach into a plain value."""
    said = refuse("workers: 2", {"TAXIMETER_WORKERS__MAX": "4"})
    assert said == ("TAXIMETER_WORKERS__MAX: workers: is no group of settings, so it has no parts")


def test_a_problem_names_the_source_it_came_from(refuse: Refuse) -> None:
    """File and line, variable or flag: each problem says where to put it right."""
    said = refuse(
        "log:\n  level: loud\nworkers: 1\n",
        {"TAXIMETER_WORKERS": "many"},
        {"listen": "here"},
    ).splitlines()
    assert said[0].startswith("--listen: listen: must be host:port")
    assert said[1].startswith("TAXIMETER_WORKERS: workers: ")
    assert said[2] == "t.yaml:2: log.level: must be 'debug', 'info', 'warning' or 'error'"


def test_the_file_is_named_or_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is $TAXIMETER_CONFIG, else ./taximeter.yaml if there is one, else none."""
    monkeypatch.chdir(tmp_path)
    assert find_file({}) is None
    Path("taximeter.yaml").write_text("workers: 3")
    assert find_file({}) == Path("taximeter.yaml")
    assert load(environ={}).workers == 3
    assert find_file({"TAXIMETER_CONFIG": "/etc/t.yaml"}) == Path("/etc/t.yaml")


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A file that was asked for is never silently done without."""
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load(tmp_path / "gone.yaml", environ={})
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load(environ={"TAXIMETER_CONFIG": str(tmp_path / "gone.yaml")})
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        load(tmp_path, environ={})


@given(
    workers=st.integers(1, 64),
    ping=st.floats(0, 3600),
    sync=st.sampled_from(["none", "interval", "always"]),
    port=st.integers(0, 65535),
)
def test_what_is_dumped_loads_to_the_same(workers: int, ping: float, sync: str, port: int) -> None:
    """`dump` gives a file that means the same configuration."""
    settings = load(
        Path("/dev/null"),
        {"workers": workers, "relay.ping_seconds": ping, "journal.sync": sync},
        {"TAXIMETER_LISTEN": f"[::1]:{port}"},
    )

    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(settings.dump())
        file.flush()
        assert load(Path(file.name), environ={}) == settings
    assert settings.listen == Address("::1", port)


def test_settings_are_frozen(read: Read) -> None:
    """One snapshot never changes under a call that runs with it."""
    settings: Settings = read("")
    with pytest.raises(ValueError, match="frozen"):
        settings.workers = 2  # type: ignore[misc]
