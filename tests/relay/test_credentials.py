"""Whose credential goes where: what crosses to another upstream, and what is hidden in a head."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from taximeter.keys import KeyBook, Terms, keys_path
from tests.relay.bench import Bench, bench, raw_upstream
from tests.relay.test_admission import HASH_KEY, Scripted, answer, ask, error, fetch, with_standby

UPGRADE = (
    b"GET /v1/realtime?model=m HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture(autouse=True)
def _own_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIN_KEY", "sk-main")
    monkeypatch.setenv("STANDBY_KEY", "sk-standby")


@asynccontextmanager
async def failing(folder: Path, standby: Scripted, **main: Any) -> AsyncIterator[Bench]:
    """Give a worker whose upstream is always busy, and falls back to one with a key of its own."""
    busy = Scripted(*[answer(503, error("busy"))] * 9)
    async with raw_upstream(standby) as (url, _):
        settings = with_standby(url, api_key_env="MAIN_KEY", **main)
        settings["others"]["standby"]["api_key_env"] = "STANDBY_KEY"
        async with bench(folder, busy, **settings) as made:
            yield made


# -- fallbacks -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields", [(), ("Authorization: Bearer rubbish",), ("x-api-key: sk-of-the-first",)]
)
async def test_a_stranger_gets_no_key_of_ours_by_a_fallback(
    tmp_path: Path, fields: tuple[str, ...]
) -> None:
    """H9: with virtual keys in use who has none gets the first upstream's error, as it is."""
    holder = KeyBook(keys_path(tmp_path), HASH_KEY).create(Terms(user="alice"), 0).credential
    standby = Scripted()
    async with failing(tmp_path, standby) as made:
        status, _, said = await fetch(made, ask(*fields))
        assert (status, said) == (503, error("busy"))
        assert standby.heads == []
        status, _, _ = await fetch(made, ask(f"Authorization: Bearer {holder}"))
        assert status == 200
        assert b"Authorization: Bearer sk-standby" in standby.heads[0]
        assert holder.encode() not in standby.heads[0]


@pytest.mark.parametrize("request_", [ask(), UPGRADE])
async def test_a_stranger_gets_none_where_nothing_answers_either(
    tmp_path: Path, request_: bytes
) -> None:
    """H9: no connection, and calls for another protocol: nothing is lent on these ways."""
    KeyBook(keys_path(tmp_path), HASH_KEY).create(Terms(user="alice"), 0)
    standby = Scripted()
    async with failing(tmp_path, standby, url="http://127.0.0.1:9") as made:
        status, _, _ = await fetch(made, request_)
        assert status == 502
        assert standby.heads == []


async def test_a_key_of_ours_is_lent_while_there_are_no_virtual_keys(tmp_path: Path) -> None:
    """Without any, a call that brings no credential has the standby's, as it has the first's."""
    standby = Scripted()
    async with failing(tmp_path, standby) as made:
        assert (await fetch(made, ask()))[0] == 200
        assert b"Authorization: Bearer sk-standby" in standby.heads[0]


SECRETS = (
    "Authorization: Bearer sk-own",
    "Cookie: session=sk-own",
    "ocp-apim-subscription-key: sk-own",
    "X-Auth-Request-Email: sk-own",
    "X-Amz-Security-Token: sk-own",
    "CF-Access-Client-Secret: sk-own",
    "x-apikey: sk-own",
    "Sec-WebSocket-Protocol: openai-insecure-api-key.sk-own",
)
HARMLESS = (
    "Accept: application/json",
    "Idempotency-Key: 5f2a",
    "OpenAI-Beta: assistants=v2",
    "anthropic-version: 2023-06-01",
    "User-Agent: a program",
)


async def test_no_credential_crosses_whatever_it_is_called(tmp_path: Path) -> None:
    """H9: what is named like a secret is for the first upstream alone; all else goes along."""
    standby = Scripted()
    query = "api-key=sk-own&a=b&%61pi_key=sk-own&access_token=sk-own&sig=sk-own&pageToken=next"
    async with failing(tmp_path, standby) as made:
        request = ask(*SECRETS, *HARMLESS, path=f"/v1/chat/completions?{query}")
        assert (await fetch(made, request))[0] == 200
        (head,) = standby.heads
        assert b"sk-own" not in head
        assert head.startswith(b"POST /v1/chat/completions?a=b&pageToken=next HTTP/1.1\r\n")
        assert head.count(b"Authorization: ") == 1
        for line in (*HARMLESS, "Content-Type: application/json"):
            assert f"\r\n{line}\r\n".encode() in head


async def test_a_handshake_crosses_without_its_credential(tmp_path: Path) -> None:
    """The key by which two sides know a handshake is no secret: without it there is none."""
    standby = Scripted()
    async with failing(tmp_path, standby, url="http://127.0.0.1:9") as made:
        await fetch(made, UPGRADE.replace(b"\r\n\r\n", b"\r\napi-key: sk-own\r\n\r\n"))
        (head,) = standby.heads
        assert b"Sec-WebSocket-Key: x\r\n" in head
        assert b"sk-own" not in head


# -- virtual keys in odd places --------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        ("Authorization:", "Authorization: Bearer {}"),
        ("Authorization: Bearer\t{}",),
        ("Authorization: bearer \t {}",),
        (
            "Sec-WebSocket-Protocol: realtime",
            "Sec-WebSocket-Protocol: openai-insecure-api-key.{}",
        ),
    ],
)
async def test_a_virtual_key_is_known_in_every_line_and_spelling(
    tmp_path: Path, fields: tuple[str, ...]
) -> None:
    """H9: an empty line in front, a tab, a second line: it is still the key, and ends here."""
    key = KeyBook(keys_path(tmp_path), HASH_KEY).create(Terms(user="alice"), 0).credential
    upstream = Scripted()
    async with bench(tmp_path, upstream, upstream={"api_key_env": "MAIN_KEY"}) as made:
        status, _, _ = await fetch(made, ask(*(each.format(key) for each in fields)))
        assert status == 200
        assert key.encode() not in upstream.heads[0]
        assert b"Bearer sk-main" in upstream.heads[0]
        assert made.opened[0].user == "alice"


@pytest.mark.parametrize(
    ("fields", "query"),
    [
        (("Authorization: Basic Og==, Bearer {}",), ""),
        (("x-api-key: , {}",), ""),
        (("Cookie: a={}",), ""),
        (("Cookie: a={}", "Authorization: Bearer {}"), ""),
        (("ocp-apim-subscription-key: x{}", "api-key: {}"), ""),
        ((), "?api-key={}"),
        (("Authorization: Bearer {}",), "?api-key={}"),
        ((), "?a=%74m-{}"),
    ],
)
async def test_a_virtual_key_that_would_go_upstream_is_refused(
    tmp_path: Path, fields: tuple[str, ...], query: str
) -> None:
    """H9: where none is looked for it is not taken out; so the request does not go at all."""
    key = KeyBook(keys_path(tmp_path), HASH_KEY).create(Terms(user="alice"), 0).credential
    if "%74m-" in query:
        query = query.format(key.removeprefix("tm-"))
    upstream = Scripted()
    async with bench(tmp_path, upstream, upstream={"api_key_env": "MAIN_KEY"}) as made:
        lines = [each.format(key) for each in fields]
        path = f"/v1/chat/completions{query.format(key)}"
        client = await made.client()
        for _ in range(2):  # a head that has been seen before is refused again
            await client.say(ask(*lines, path=path))
            status, told, body = await client.answer()
            assert (status, told[b"x-should-retry"]) == (400, [b"false"])
            assert b'"key_misplaced"' in body
            assert key.encode() not in body
        assert upstream.heads == []


async def test_words_like_a_key_s_are_none(tmp_path: Path) -> None:
    """The mark alone is no key, and without virtual keys nothing is looked for at all."""
    like = "tm-k7f3m9q2xw" + "9" * 38
    upstream = Scripted()
    async with bench(tmp_path / "none", upstream) as made:
        assert (await fetch(made, ask(f"Cookie: a={like}")))[0] == 200
    KeyBook(keys_path(tmp_path), HASH_KEY).create(Terms(user="alice"), 0)
    async with bench(tmp_path, upstream) as made:
        assert (await fetch(made, ask("User-Agent: atm-9000", "Cookie: a=tm-k7f3m9q2xw")))[0] == 200
        assert (await fetch(made, ask(f"Cookie: a={like}")))[0] == 400
