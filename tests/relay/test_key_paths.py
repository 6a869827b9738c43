"""Paths and bodies by which a call might slip past its prices, its upstream's base, or its key."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from taximeter.call import Fact
from taximeter.dialects import dialect_for, models_named
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
        refused = (400, "model_unclear") if "//" in path else (403, "key_not_allowed")
        assert (status, body["error"]["code"]) == refused
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


# -- which model a restricted key's call is for ------------------------------------------------

JSON = "application/json"
CHAT = "/v1/chat/completions"


def post(field: str, path: str, body: bytes, content_type: str = JSON, *more: str) -> bytes:
    """Give a request with any body."""
    lines = [f"POST {path} HTTP/1.1", "Host: a", field, f"Content-Type: {content_type}", *more]
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
    return head.encode() + body


def form(*models: str, name: str = 'name="model"', sound: int = 10) -> bytes:
    """Give a form with a file and fields that name models."""
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="model.wav"\r\n\r\n'
        + b"\xff" * sound,
        *(
            f"--b\r\nContent-Disposition: form-data; {name}\r\n\r\n{model}".encode()
            for model in models
        ),
    ]
    return b"\r\n".join(parts) + b"\r\n--b--\r\n"


FORM = "multipart/form-data; boundary=b"
SOUND = "/v1/audio/transcriptions"
LONG = b'{"model":"m","messages":["' + b"a" * 70_000 + b'"]'


@pytest.mark.parametrize(
    ("dialect", "path", "body", "content_type", "more"),
    [
        ("openai", CHAT, b'{"model":"m","messages":[]}', JSON, ()),
        ("openai", CHAT, LONG + b"}", "image/png", ()),
        ("openai", "/openai/deployments/m/chat/completions", b'{"model":"m"}', JSON, ()),
        ("openai", "/openai/deployments/m/chat/completions", b"{}", JSON, ()),
        ("openai", "/v1/projects/p/endpoints/openapi/chat/completions", b'{"model":"m"}', JSON, ()),
        ("openai", SOUND, form("m"), FORM, ()),
        ("openai", SOUND, form("m", sound=200_000), FORM, ()),
        ("openai", "/v1/responses", b'{"model":"m","models":["m"]}', JSON, ()),
        ("gemini", "/v1beta/models/m:generateContent", b'{"contents":[]}', JSON, ()),
        ("gemini", "/v1beta/models/m:embedContent", b'{"model":"models/m"}', JSON, ()),
        ("ollama", "/api/chat", b'{"model":"m","stream":false}', JSON, ()),
    ],
)
async def test_a_key_for_a_model_is_good_for_it(
    tmp_path: Path, dialect: str, path: str, body: bytes, content_type: str, more: tuple[str, ...]
) -> None:
    """What names the key's model and no other goes upstream, and every byte of it."""
    field, upstream = bearer(tmp_path, Terms(models=("m",))), Scripted()
    async with bench(tmp_path, upstream, upstream={**OURS, "dialect": dialect}) as made:
        status, _, said = await fetch(
            made, post(field, f"/openai{path}", body, content_type, *more)
        )
        assert status == 200, said
    assert upstream.bodies == [body]


@pytest.mark.parametrize(
    ("dialect", "path", "body", "content_type", "more"),
    [
        ("openai", "/openai/deployments/dear/chat/completions", b'{"model":"m"}', JSON, ()),
        ("openai", "/openai/Deployments/dear/chat/completions", b'{"model":"m"}', JSON, ()),
        ("openai", "/openai/deployment%73/dear/chat/completions", b'{"model":"m"}', JSON, ()),
        ("openai", "/openai/deployments/m/chat/completions", b'{"model":"dear"}', JSON, ()),
        (
            "anthropic",
            "/v1/publishers/anthropic/models/dear:rawPredict",
            b'{"model":"m"}',
            JSON,
            (),
        ),
        ("gemini", "/v1beta/models/dear:generateContent", b'{"model":"m"}', JSON, ()),
        ("openai", "/v1/responses", b'{"model":"m","models":["dear"]}', JSON, ()),
        ("openai", f"{CHAT}?model=m", b'{"messages":[]}', JSON, ()),
        ("openai", "/v1/batches", b'{"model":"m"}', JSON, ()),
    ],
)
async def test_every_model_that_is_named_must_be_the_key_s(
    tmp_path: Path, dialect: str, path: str, body: bytes, content_type: str, more: tuple[str, ...]
) -> None:
    """It is not for us to guess whether the upstream goes by the path or by the body."""
    field, upstream = bearer(tmp_path, Terms(models=("m",))), Scripted()
    async with bench(tmp_path, upstream, upstream={**OURS, "dialect": dialect}) as made:
        status, _, said = await fetch(
            made, post(field, f"/openai{path}", body, content_type, *more)
        )
        assert status == 403
        assert "not good for this model" in str(said)
    assert not upstream.heads


@pytest.mark.parametrize(
    ("dialect", "path", "body", "content_type", "more"),
    [
        ("openai", CHAT, b'{"model":"m","model":"dear"}', JSON, ()),
        ("openai", CHAT, b'{"model":"m","Model":"dear"}', JSON, ()),
        ("openai", CHAT, b'{"Model":"m"}', JSON, ()),
        ("ollama", "/api/chat", b'{"model":"m","MODEL":"dear","stream":false}', JSON, ()),
        ("openai", CHAT, LONG + b',"model":"dear"}', "image/png", ()),
        ("openai", CHAT, b'{"model":"m"}{"model":"dear"}', JSON, ()),
        ("openai", CHAT, b'{"model":7}', JSON, ()),
        ("openai", "/v1/responses", b'{"model":"m","models":"dear"}', JSON, ()),
        ("openai", f"{CHAT}?model=m", '{"model":"dear"}'.encode("utf-16"), JSON, ()),
        ("openai", f"{CHAT}?model=m", b'{"model":"dear"}', FORM, ("Content-Encoding: gzip",)),
        ("openai", f"{CHAT}?model=m", form("m"), FORM, ()),
        ("openai", f"{SOUND}?model=m", b"\xff", "audio/wav", ()),
        ("openai", SOUND, form("m", "dear"), FORM, ()),
        ("openai", SOUND, form("dear", name='name="Model"'), FORM, ()),
        ("openai", SOUND, form("dear", name="name*=utf-8''mode%6c"), FORM, ()),
        ("openai", SOUND, form("dear", name='name="mode\\l"'), FORM, ()),
        ("openai", "/v1//chat/completions", b'{"model":"m"}', JSON, ()),
        ("gemini", "/v1beta/models/m//models/dear:generateContent", b"{}", JSON, ()),
    ],
)
async def test_what_may_name_another_model_is_refused_to_a_restricted_key(
    tmp_path: Path, dialect: str, path: str, body: bytes, content_type: str, more: tuple[str, ...]
) -> None:
    """Two readers might take different models from it: what cannot be checked is not allowed."""
    field, upstream = bearer(tmp_path, Terms(models=("m",))), Scripted()
    async with bench(tmp_path, upstream, upstream={**OURS, "dialect": dialect}) as made:
        status, fields, said = await fetch(
            made, post(field, f"/openai{path}", body, content_type, *more)
        )
        assert status == 400
        assert "some models only" in str(said)
        assert fields[b"x-should-retry"] == [b"false"]
    assert not upstream.heads


async def test_a_body_that_cannot_be_kept_whole_is_refused_to_a_restricted_key(
    tmp_path: Path,
) -> None:
    """Its beginning names the key's model, and its end might name another."""
    field, upstream = bearer(tmp_path, Terms(models=("m",))), Scripted()
    relay = {"body_buffer_bytes_max": 50_000}
    async with bench(tmp_path, upstream, upstream=OURS, relay=relay) as made:
        client = await made.client()
        await client.say(post(field, CHAT, LONG + b"}"))
        assert (await client.answer())[0] == 400
        client.leave()
    assert not upstream.heads


async def test_a_key_for_every_model_is_asked_for_none(tmp_path: Path) -> None:
    """C1: what its body is like matters to no key that is not restricted to models."""
    field, upstream = bearer(tmp_path, Terms(user="u")), Scripted()
    async with bench(tmp_path, upstream, upstream=OURS) as made:
        for body in (b'{"model":"m","Model":"dear"}', b"\xff", LONG + b"}"):
            assert (await fetch(made, post(field, CHAT, body, "image/png")))[0] == 200
    assert len(upstream.bodies) == 3


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("/v1/realtime?model=m", {"m"}),
        ("/v1/realtime?model=m&model=dear", {"m", "dear"}),
        ("/openai/realtime?api-version=1&deployment=m%31", {"m1"}),
        ("/v1/responses?model=m", set()),
        ("/v1/models/m/operations/o?model=dear", {"m"}),
    ],
)
def test_a_query_names_a_model_to_realtime_calls_alone(target: str, named: set[str]) -> None:
    """Other endpoints do not go by it: a socket for responses has the model in its messages."""
    path, _, query = target.partition("?")
    operation = dialect_for("openai", path).operation("GET", path)
    assert models_named(operation, path, query, "", b"") == frozenset(named)


def test_a_form_is_looked_at_within_bounds() -> None:
    """A form made to take long is given up at once."""
    operation = dialect_for("openai", SOUND).operation("POST", SOUND)
    body = form("m").replace(b"\xff", b"name=" * 1_000_000)
    began = time.perf_counter()
    assert models_named(operation, SOUND, "", FORM, body) is None
    assert time.perf_counter() - began < 1
