"""Paths and bodies by which a call might slip past its prices, its upstream's base, or its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from taximeter.call import Fact
from taximeter.keys import KeyBook, Terms, keys_path
from tests.relay.bench import bench
from tests.relay.test_admission import HASH_KEY, Scripted, answer, ask, fetch

OURS = {"api_key_env": "THE_REAL_KEY"}


@pytest.fixture(autouse=True)
def the_real_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the upstream a key of its own."""
    monkeypatch.setenv("THE_REAL_KEY", "sk-real")


def bearer(folder: Path, terms: Terms) -> str:
    """Make a key, and give the field that it is sent in."""
    key = KeyBook(keys_path(folder), HASH_KEY).create(terms, 0)
    return f"Authorization: Bearer {key.credential}"


# -- what is free ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/chat/completions//", "/v1/models/x:predict", "/v1/files/f"])
async def test_a_suffix_takes_no_call_past_its_key(tmp_path: Path, path: str) -> None:
    """A path that is like a free one is not free: its model must be one of the key's."""
    field, upstream = bearer(tmp_path, Terms(models=("m",))), Scripted()
    async with bench(tmp_path, upstream, upstream=OURS) as made:
        status, _, body = await fetch(made, ask(field, path=path, model="dear"))
        assert (status, body["error"]["code"]) == (403, "key_not_allowed")
    assert not upstream.heads


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions/.", "/v1/chat/completions//", "/v1/models/x", "/v1/moderations"]
)
async def test_what_says_what_it_used_is_not_booked_as_free(tmp_path: Path, path: str) -> None:
    """A POST whose answer states tokens has its price, whatever its path. The path stays."""
    upstream = Scripted()
    async with bench(tmp_path, upstream) as made:
        assert (await fetch(made, ask(path=path)))[0] == 200
    assert upstream.heads[0].startswith(f"POST {path} HTTP/1.1\r\n".encode())
    (closed,) = made.closed
    assert closed.usage is not None
    assert closed.usage.output_tokens == 2
    assert Fact.FREE not in closed.facts


async def test_what_is_free_and_says_nothing_is_booked_as_free(tmp_path: Path) -> None:
    """A moderation costs nothing where its answer states no tokens."""
    async with bench(tmp_path, Scripted(answer(200, {"id": "x", "results": []}))) as made:
        assert (await fetch(made, ask(path="/v1/moderations")))[0] == 200
    (closed,) = made.closed
    assert Fact.FREE in closed.facts
