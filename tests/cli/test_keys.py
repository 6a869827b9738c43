"""`taximeter keys`: what a person sees of keys, and what not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from taximeter.cli._errors import CommandError
from taximeter.cli._options import deadline_ns
from taximeter.keys import SCANNER_PATTERN, KeyStore, hash_key_of, keys_path
from tests.cli.conftest import Run

NOW = 1_800_000_000 * 10**9


def test_a_new_key_is_printed_once_and_works(run: Run, folder: Path) -> None:
    """H9: `create` prints the key alone on standard output; no file and no list ever holds it."""
    made = run("keys", "create", "--user", "alice", "--note", "for tests")
    credential = made.out.strip()
    assert re.fullmatch(SCANNER_PATTERN, credential)
    assert made.out == f"{credential}\n"
    store = KeyStore.load(keys_path(folder), hash_key_of(folder))
    found = store.find(credential.encode(), NOW)
    assert found is not None
    assert found.user == "alice"
    listed = run("keys", "list").out + run("keys", "list", "-f", "json").out
    written = b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())
    secret = credential.removeprefix("tm-")[len(found.id) :]
    assert found.id in listed
    assert secret not in listed + made.err
    assert secret.encode() not in written


def test_all_terms_of_a_key_are_kept_and_listed(run: Run) -> None:
    """What was asked for is what the list says, in both of its forms."""
    made = run(
        "keys", "create", "--user", "alice", "--team", "red", "--tier", "default", "--expires",
        "30d", "--upstream", "openai", "--upstream", "anth*", "--model", "gpt-*", "--budget-usd",
        "5.000000000001", "--per", "month", "--note", "CI", "--format", "json",
    )  # fmt: skip
    (listed,) = json.loads(run("keys", "list", "--format", "json").out)
    assert made.err == ""
    created = json.loads(made.out)
    assert re.fullmatch(SCANNER_PATTERN, created.pop("key"))
    assert created == listed
    assert listed | {"id": "", "created_at": "", "expires_at": ""} == {
        "id": "", "state": "valid", "user": "alice", "team": "red", "tier": "default",
        "upstreams": ["openai", "anth*"], "models": ["gpt-*"],
        "budget": {"usd": "5.000000000001", "tokens": None, "per": "month"},
        "created_at": "", "expires_at": "", "revoked_at": None, "note": "CI",
    }  # fmt: skip
    table = run("keys", "list").out
    for word in ("alice", "red", "openai anth*", "gpt-*", "$5.000000000001/month", "CI"):
        assert word in table


def test_a_revoked_key_stays_in_the_list_until_it_is_pruned(run: Run) -> None:
    """Revoking leaves a trace, is no error the second time, and can be cleaned up later."""
    run("keys", "create", "--budget-tokens", "1000")
    kept = json.loads(run("keys", "create", "-f", "json").out)
    (one,) = (each for each in json.loads(run("keys", "list", "-f", "json").out) if each["budget"])
    revoked = run("keys", "revoke", one["id"])
    assert (revoked.code, revoked.out.split(",")[0]) == (0, f"Key {one['id']} is revoked")
    assert run("keys", "revoke", one["id"]).out == revoked.out
    states = {
        each["id"]: each["state"] for each in json.loads(run("keys", "list", "-f", "json").out)
    }
    assert states == {one["id"]: "revoked", kept["id"]: "valid"}
    assert one["id"] not in run("keys", "list", "--valid").out
    assert run("keys", "prune", "--older-than", "1d").out.startswith("0 keys forgotten")
    assert run("keys", "prune", "--older-than", "2200-01-01").out.startswith("1 keys forgotten")
    assert [each["id"] for each in json.loads(run("keys", "list", "-f", "json").out)] == [
        kept["id"]
    ]


def test_a_key_that_has_turned_up_can_be_revoked_as_it_is(run: Run) -> None:
    """Whoever finds a key need not look for its id; the answer does not repeat the key."""
    credential = run("keys", "create").out.strip()
    revoked = run("keys", "revoke", credential)
    assert revoked.code == 0
    assert credential not in revoked.out + revoked.err
    assert run("keys", "list", "--valid").err == "No keys.\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--upstream", "opnai"), "--upstream: none is called so; there are: anthropic, gemini"),
        (("--model", "gpt 4"), "models[0]: must be a name or a pattern"),
        (("--user", "a\nb"), "must be printable"),
        (("--user", "u" * 129), "user: expected `str` of length <= 128"),
        (("--user", ""), "user: expected `str` of length >= 1"),
        (("--user", "a\udcff"), "must be printable"),
        (("--expires", "yesterday"), "--expires: give a time as in 12h, 30d or 8w"),
        (("--expires", "2020-01-01"), "--expires: give a time that is still to come"),
        (("--budget-usd", "five"), "--budget-usd: give US dollars"),
        (("--budget-usd", "-1"), "--budget-usd: give US dollars"),
        (("--budget-usd", "nan"), "--budget-usd: give US dollars"),
        (("--budget-usd", "1e999999999"), "--budget-usd: give US dollars"),
        (("--budget-usd", "1e99"), "--budget-usd: give US dollars"),
        (("--budget-usd", "0.0000000000001"), "--budget-usd: give US dollars"),
        (("--budget-usd", "1", "--budget-tokens", "1"), "give one of them"),
        (("--per", "week"), "--per"),
    ],
)
def test_terms_that_cannot_be_meant_are_misuse(
    run: Run, folder: Path, words: tuple[str, ...], said: str
) -> None:
    """Exit code 2, a sentence, and no key made."""
    result = run("keys", "create", *words)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert not keys_path(folder).exists()


def test_a_tier_that_is_not_there_is_told_and_taken(run: Run) -> None:
    """Tiers may come after the keys that name them; a misspelt one is at least told."""
    result = run("keys", "create", "--tier", "gold")
    assert result.code == 0
    assert "warning: no tier of this name is configured" in result.err


def test_trouble_with_the_file_is_told_without_a_traceback(run: Run, folder: Path) -> None:
    """Exit code 1, the file, and what to do."""
    run("keys", "create")
    keys_path(folder).write_text("{}")
    for words in (("list",), ("create",), ("revoke", "x"), ("prune", "--older-than", "1d")):
        result = run("keys", *words)
        assert (result.code, result.out) == (1, "")
        assert re.fullmatch(r"taximeter: \S+keys\.json is damaged, or .*\n", result.err)
    assert keys_path(folder).read_text() == "{}"


def test_an_unknown_id_fails(run: Run) -> None:
    """Nothing is revoked in silence that is not there; what was given is not repeated."""
    run("keys", "create")
    result = run("keys", "revoke", "canary\x1b[2J")
    assert (result.code, result.out) == (1, "")
    assert "there is no key with this id" in result.err
    assert "canary" not in result.err


def test_an_expiry_is_in_so_long_or_at_a_date() -> None:
    """The same words as for times ago, the other way."""
    assert deadline_ns("90s", "--expires", NOW) == NOW + 90 * 10**9
    assert deadline_ns("2w", "--expires", NOW) == NOW + 14 * 86_400 * 10**9
    assert deadline_ns("2100-01-01", "--expires", NOW) == 4_102_444_800 * 10**9
    assert deadline_ns(None, "--expires", NOW) is None
    for never in ("0s", "2020-01-01", "9999-01-01", "999999999w", "soon", ""):
        with pytest.raises(CommandError):
            deadline_ns(never, "--expires", NOW)
