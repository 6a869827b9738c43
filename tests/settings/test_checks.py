"""What each setting may be, and how it is said that it may not."""

from __future__ import annotations

import traceback
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.pricing import OwnPrice as PricingOwnPrice
from taximeter.settings import Address, OwnPrice, SettingsError, load
from taximeter.settings import _values as values
from tests.settings.conftest import Read, Refuse

CANARY = "sk-canary-5f1c7d"


def test_an_unknown_key_comes_with_its_likely_meaning(refuse: Refuse) -> None:
    """A typo is answered with the key that was probably meant, in the group it stands in."""
    said = refuse("upstreams:\n  openai:\n    timeuots: {}\nrelay:\n  ping_second: 1\n")
    assert said == (
        "t.yaml:3: upstreams.openai.timeuots: unknown key\n    hint: did you mean `timeouts`?\n"
        "t.yaml:5: relay.ping_second: unknown key\n    hint: did you mean `ping_seconds`?"
    )


def test_an_unknown_key_like_no_other_comes_with_those_known(refuse: Refuse) -> None:
    """Where nothing is close, the keys that are known there are listed."""
    assert refuse("log: {colour: true}") == (
        "t.yaml:1: log.colour: unknown key\n    hint: known here: access, format, level"
    )


@pytest.mark.parametrize(
    "text",
    [
        f"upstreams: {{openai: {{api_key: {CANARY}}}}}",
        f"upstreams: {{openai: {{api_key_env: {CANARY}}}}}",
        f"upstreams: {{openai: {{url: 'https://{CANARY}@x'}}}}",
        f"upstreams: {{openai: {{url: 'https://x/?key={CANARY}'}}}}",
        f"upstreams: {{openai: {{url: '{CANARY}'}}}}",
        f"upstreams: {{openai: {{client_gone: {CANARY}}}}}",
        f"upstreams: {{openai: {CANARY}}}",
        f"ledger: mysql://u:{CANARY}@h/db",
        f"listen: {CANARY}",
        f"workers: {CANARY}",
        f"token: {CANARY}",
        f"identity: {{user_headers: ['{CANARY} x']}}",
        f"prices: [{CANARY}]",
        f"data_dir: [{CANARY}]",
        f"a: *{CANARY}",
        f"a: !{CANARY}!x y",
    ],
)
def test_no_value_is_ever_repeated_in_an_error(text: str, tmp_path: Path) -> None:
    """Whatever was given in the wrong place, the error and its traceback do not say it."""
    path = tmp_path / "t.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(path, environ={})
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert CANARY not in told


KEYED = "upstreams: {openai: {api_key_env: THE_REAL_KEY}}"


@pytest.mark.parametrize(
    ("held", "key"),
    [("sk-real", "sk-real"), (" sk-real\r\n", "sk-real"), ("", None), (" \n", None)],
)
def test_an_upstream_s_key_is_read_without_the_space_around_it(
    read: Read, monkeypatch: pytest.MonkeyPatch, held: str, key: str | None
) -> None:
    """A file's last line end, put into the variable with its key, is no part of it."""
    monkeypatch.setenv("THE_REAL_KEY", held)
    assert read(KEYED).upstreams["openai"].read_api_key() == key


@pytest.mark.parametrize(
    "held",
    ["canary\r\nX-Injected: 1", "canary\nx", "canary\tx", "canary\x7f", "canaré", "\udcffcanary"],
)
def test_an_upstream_s_key_that_cannot_be_sent_is_refused(
    refuse: Refuse, monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    """H9: it would become lines of a head, or another key; the error does not say it."""
    monkeypatch.setenv("THE_REAL_KEY", held)
    assert refuse(KEYED) == (
        "t.yaml:1: upstreams.openai.api_key_env: names a variable that holds no key: "
        "a key is printable ASCII in one line"
    )


def test_a_key_in_the_file_is_answered_with_where_it_belongs(refuse: Refuse) -> None:
    """A secret in the file is refused with the way to do it instead."""
    assert refuse("upstreams: {openai: {api_key: x}}") == (
        "t.yaml:1: upstreams.openai.api_key: a secret has no place in the configuration\n"
        "    hint: name an environment variable that holds it, with api_key_env of the upstream"
    )


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("postgres://u:canary@h:5432/db", "postgresql+psycopg://u:canary@h:5432/db"),
        ("postgresql://h/db", "postgresql+psycopg://h/db"),
        ("postgresql+psycopg:///db?host=/run", "postgresql+psycopg:///db?host=/run"),
        ("sqlite:////var/l.db", "sqlite:////var/l.db"),
    ],
)
def test_a_ledger_url_becomes_what_sqlalchemy_takes(read: Read, given: str, kept: str) -> None:
    """The common forms of URL are taken, and the password is shown by nothing."""
    settings = read(f"ledger: {given}")
    assert settings.ledger_url == kept
    for shown in (repr(settings), str(settings), settings.dump(), str(settings.model_dump())):
        assert "canary" not in shown


@pytest.mark.parametrize(
    "url", ["mysql://h/db", "sqlite://", "sqlite:///:memory:", "x", "3", "postgresql://h"]
)
def test_a_ledger_that_cannot_be_is_refused(refuse: Refuse, url: str) -> None:
    """Other engines, and databases that live in one process, are refused."""
    assert refuse(f"ledger: '{url}'").startswith("t.yaml:1: ledger: ")


def test_a_ledger_beside_the_working_folder_is_made_absolute(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path means the folder in which the configuration was read."""
    monkeypatch.chdir(tmp_path)
    assert read("ledger: sqlite:///here.db").ledger_url == f"sqlite:///{tmp_path}/here.db"


def test_a_password_in_a_file_that_others_read_is_refused(refuse: Refuse, read: Read) -> None:
    """A password may stand in a file of one's own, or in the environment, and nowhere else."""
    text = "ledger: postgresql://u:canary@h/db"
    assert "others may read the file" in refuse(text, mode=0o644)
    assert read(text, mode=0o600).ledger
    assert read("", {"TAXIMETER_LEDGER": text.removeprefix("ledger: ")}, mode=0o644).ledger


def test_the_upstreams_are_there_without_being_configured(read: Read) -> None:
    """With no configuration the two base URLs simply work, and so do gemini and ollama."""
    settings = read()
    assert {name: upstream.url for name, upstream in settings.upstreams.items()} == {
        "openai": "https://api.openai.com",
        "anthropic": "https://api.anthropic.com",
        "gemini": "https://generativelanguage.googleapis.com",
        "ollama": "http://127.0.0.1:11434",
    }
    for family in ("openai", "anthropic", "gemini", "ollama"):
        assert settings.upstream_for_family(family) == family


def test_an_upstream_of_ones_own_takes_its_familys_calls(read: Read) -> None:
    """With one's own server of a family, no call of it can reach the public API by surprise."""
    settings = read("upstreams:\n  llama: {url: 'http://127.0.0.1:9/v1/'}\n  b: {url: http://b}")
    assert settings.upstream_for_family("openai") == "llama"
    assert settings.upstream_for_family("anthropic") == "anthropic"
    assert "openai" not in settings.upstreams
    assert settings.upstreams["llama"].url == "http://127.0.0.1:9/v1"


def test_a_built_in_upstream_can_be_changed_in_part(read: Read) -> None:
    """Named as the built-in one it keeps its URL, and it comes first for its family."""
    settings = read("upstreams:\n  other: {url: http://o}\n  openai: {usage: observe}")
    assert settings.upstreams["openai"].url == "https://api.openai.com"
    assert settings.upstreams["openai"].usage == "observe"
    assert settings.upstream_for_family("openai") == "openai"
    assert read("upstreams: {openai: }").upstreams["openai"].url == "https://api.openai.com"


@pytest.mark.parametrize(
    ("name", "url", "dialect"),
    [
        ("anthropic", "http://127.0.0.1:1", "anthropic"),
        ("a", "https://API.anthropic.com", "anthropic"),
        ("a", "https://notanthropic.com", "openai"),
        ("a", "https://anthropic.com.example", "openai"),
        ("a", "https://generativelanguage.googleapis.com/v1beta/openai", "gemini"),
        ("a", "http://10.0.0.7:11434", "ollama"),
        ("a", "http://10.0.0.7:8000/v1", "openai"),
    ],
)
def test_a_dialect_not_given_is_told_from_name_and_url(
    read: Read, name: str, url: str, dialect: str
) -> None:
    """The name decides, else the host, else it is the common one."""
    assert read(f"upstreams: {{{name}: {{url: '{url}'}}}}").upstreams[name].dialect == dialect


@pytest.mark.parametrize(
    "name", ["v1", "v1beta", "api", "healthz", "Big", "-a", "a.b", "a b", "a" * 33, "ü"]
)
def test_a_name_that_would_hide_a_path_is_refused(refuse: Refuse, name: str) -> None:
    """An upstream's name is a first path segment, so it must be plain and not taken."""
    assert refuse(f"upstreams: {{'{name}': {{url: http://x}}}}").startswith("t.yaml:1: upstreams.")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x", "x", "//x", "http://", "http:///p", "http://x:0", "http://x:99999", "http://x:a",
        "http://u@x", "http://u:p@x", "http://x/?a", "http://x?", "http://x/#f", "http://x/..",
        "http://x/a/../b", "http://x/./", "http://x//b", "http://x/%2e%2e", "http://x/a b",
        "http://x\\\\y", "http://x\\ty", "http://ü", "http://[::1", "http://[zz]", "http://-x", "http://a,b",
        "http://x\\u0000",
    ],
)  # fmt: skip
def test_a_url_that_is_not_plain_is_refused(refuse: Refuse, url: str) -> None:
    """What becomes a host comes from the configuration alone, so it must be beyond doubt."""
    said = refuse(f'upstreams: {{a: {{url: "{url}"}}}}')
    assert said.startswith("t.yaml:1: upstreams.a.url: ")


@pytest.mark.parametrize(
    "url", ["http://x", "https://x:8443/v1", "http://[::1]:80/a-b/v1.2/~c", "http://a_b"]
)
def test_a_plain_url_is_taken_as_it_is(url: str) -> None:
    """A base URL keeps host, port and path, and loses only a slash at its end."""
    assert values.upstream_url(f"{url}/") == values.upstream_url(url) == url


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("127.0.0.1:8400", Address("127.0.0.1", 8400)),
        ("[::1]:0", Address("::1", 0)),
        ("localhost:65535", Address("localhost", 65535)),
    ],
)
def test_an_address_reads_and_prints_the_same(text: str, parsed: Address) -> None:
    """host:port goes in and comes out."""
    assert values.address(text) == parsed
    assert str(parsed) == text


@given(st.text(max_size=40) | st.integers() | st.none())
def test_any_address_is_read_or_refused(text: object) -> None:
    """No text makes anything but an address or a ValueError."""
    try:
        parsed = values.address(text)
    except ValueError:
        return
    assert 0 <= parsed.port <= 65535
    assert values.address(str(parsed)) == parsed


@given(st.text(max_size=60).map(lambda text: f"http://{text}"))
def test_any_url_is_read_or_refused(text: str) -> None:
    """A URL that is taken has a host, no user, no query, and reads the same again."""
    try:
        url = values.upstream_url(text)
    except ValueError:
        return
    parts = urlsplit(url)
    assert parts.hostname
    assert not parts.username
    assert not parts.query
    assert values.upstream_url(url) == url


def test_headers_that_name_people_are_lower_case_and_no_credentials(
    read: Read, refuse: Refuse
) -> None:
    """Names of headers compare in lower case; a header with a key never names a user."""
    assert read("identity: {user_headers: [X-User]}").identity.user_headers == ("x-user",)
    assert "carries a credential" in refuse("identity: {user_headers: [Authorization]}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("workers: 0", "workers: input should be greater than or equal to 1"),
        ("workers: 65", "workers: input should be less than or equal to 64"),
        ("workers: true", "workers: must be a number, not true or false"),
        ("workers: 1.5", "workers: input should be a valid integer"),
        ("relay: {ping_seconds: -1}", "relay.ping_seconds: input should be greater than or"),
        ("relay: {ping_seconds: .inf}", "relay.ping_seconds: "),
        ("relay: 3", "relay: must be a group of settings (a mapping)"),
        ("relay: {body_buffer_bytes_max: 10, body_buffers_bytes_max: 1}", "relay: body_buffers_"),
        ("relay: {taps_bytes_max: 4096}", "relay: taps_bytes_max must be at least"),
        ("replay: {bytes_max: 4096}", "replay: bytes_max must be at least answer_bytes_max"),
        ("replay: {window_seconds: 86401}", "replay.window_seconds: "),
        ("replay: {answers_max: 0}", "replay.answers_max: "),
        ("journal: {bytes_max: 1048576}", "journal: bytes_max must be at least twice"),
        ("journal: {sync: often}", "journal.sync: must be 'none', 'interval' or 'always'"),
        ("listen: 1.1.1.1:1\nconsole: 1.1.1.1:1", "listen and console must differ"),
        ("upstreams: [a]", "upstreams: must be a group of settings (a mapping)"),
        ("upstreams: {a: {dialect: [x], url: http://x}}", "upstreams.a.dialect: "),
        ("data_dir: '/a?b'", "data_dir: must not have a question mark"),
    ],
)
def test_a_value_out_of_its_bounds_is_refused(refuse: Refuse, text: str, said: str) -> None:
    """Every number has a least and a most, and every word is one of a few."""
    assert said in refuse(text)


def test_a_price_is_exact_and_states_the_whole_of_its_parts(read: Read, refuse: Refuse) -> None:
    """Rates are decimals, zero is a rate, and a part's rate needs the whole's."""
    price = read(
        "prices: [{provider: p, model: 'm*', input_usd_per_million: 0.1, valid_from: 2026-11-01}]"
    ).prices[0]
    assert price.rates() == {"input_usd_per_million": Decimal("0.1")}
    assert str(price.valid_from) == "2026-11-01"
    assert "states no rate" in refuse("prices: [{provider: p, model: m}]")
    assert "needs input_usd_per_million" in refuse(
        "prices: [{provider: p, model: m, cached_usd_per_million: 0.1}]"
    )
    assert "prices[0].usd_per_image" in refuse(
        "prices: [{provider: p, model: m, usd_per_image: -1}]"
    )
    assert "prices[0].usd_per_image" in refuse(
        "prices: [{provider: p, model: m, usd_per_image: true}]"
    )


def test_every_rate_of_the_settings_is_one_that_pricing_knows() -> None:
    """The two rooms name the same rates, and refuse the same entries."""
    fields = [name for name in OwnPrice.model_fields if "usd" in name]
    each: dict[str, Any] = dict.fromkeys(fields, Decimal(1))
    entry = OwnPrice(provider="p", model="m", **each)
    assert set(entry.rates()) == set(fields)
    price = PricingOwnPrice.from_rates(provider="p", model="m", **each)
    assert {name for name, _ in price.rates} == set(fields)
