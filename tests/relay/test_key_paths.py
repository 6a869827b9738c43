"""Paths and bodies by which a call might slip past its prices, its upstream's base, or its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from taximeter.call import Fact
from taximeter.keys import KeyBook, Terms, keys_path
from tests.relay.bench import bench, raw_upstream, settings_for
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


# -- where a path may lead ---------------------------------------------------------------------

DETOURS = [
    "/openai/../../tenant-b/v1/chat/completions",
    "/v1/../../../admin/keys",
    "/openai/%2e%2e/%2E./tenant-b",
    "/v1/..%2f..%2ftenant-b",
    "/v1/%252e%252e/tenant-b",
    "/v1/x/..",
    "/v1/./chat/completions",
]


@pytest.mark.parametrize("path", DETOURS)
async def test_no_path_leads_out_of_its_upstream_s_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """H5: with a base of its own, or its own key to be sent along, an upstream gets no detour."""
    field, upstream = bearer(tmp_path, Terms(user="u")), Scripted()
    async with bench(tmp_path, upstream, upstream=OURS) as made:
        status, fields, body = await fetch(made, ask(field, path=path))
        assert (status, body["error"]["code"]) == (400, "path_leaves_base")
        assert fields[b"x-should-retry"] == [b"false"]
    below = tmp_path / "below"
    below.mkdir()
    monkeypatch.setattr(
        "tests.relay.bench.settings_for",
        lambda folder, url, *more, **rooms: settings_for(folder, f"{url}/a/v1", *more, **rooms),
    )
    async with bench(below, upstream) as made:
        status, _, body = await fetch(made, ask("Authorization: Bearer theirs", path=path))
        assert (status, body["error"]["code"]) == (400, "path_leaves_base")
    assert not upstream.heads


@pytest.mark.parametrize("path", DETOURS)
async def test_a_path_that_can_leave_nothing_passes_as_it_is(tmp_path: Path, path: str) -> None:
    """C1: without a base and with the client's own key it is between it and the upstream."""
    upstream = Scripted()
    async with bench(tmp_path, upstream) as made:
        assert (await fetch(made, ask("Authorization: Bearer theirs", path=path)))[0] == 200
    passed = path.removeprefix("/openai")
    assert upstream.heads[0].startswith(f"POST {passed} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize("path", ["/v1/a..b/...", "/v1/models/gpt-4.1", "/v1/files/.x/x.;a"])
async def test_dots_within_a_segment_are_no_detour(tmp_path: Path, path: str) -> None:
    """Only a whole segment of dots leads anywhere."""
    upstream = Scripted()
    async with bench(tmp_path, upstream, upstream=OURS) as made:
        assert (await fetch(made, ask(path=path)))[0] == 200
    assert b"sk-real" in upstream.heads[0]


async def test_no_call_falls_back_to_where_its_path_could_leave(tmp_path: Path) -> None:
    """A detour that its own upstream may have is not taken to one that lends its key."""
    busy, other = Scripted(*[answer(503, {})] * 9), Scripted()
    async with raw_upstream(other) as (url, _):
        others = {"spare": {"url": url, "dialect": "openai", **OURS}}
        mine = {"fallback": ["spare"], "retry": {"attempts_max": 1}}
        async with bench(tmp_path, busy, upstream=mine, others=others) as made:
            theirs = "Authorization: Bearer theirs"
            assert (await fetch(made, ask(theirs, path="/v1/chat/completions")))[0] == 200
            assert (await fetch(made, ask(theirs, path="/v1/./chat/completions")))[0] == 503
    assert len(other.heads) == 1
