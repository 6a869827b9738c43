"""The console as a collector, an operator and a stranger see it. No Taximeter runs behind it."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from taximeter.console import Console, _connections
from taximeter.console._access import Access, Role
from taximeter.console._console import ROUTES
from taximeter.console._metrics import Make, wants_gzip, wants_openmetrics

TOKEN = "correct-horse-battery-staple"
STATE = {"ready": True, "processes": {"relay-0": {"ready": True, "restarts": 3}}}
PROMETHEUS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;"
    "q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


class Text:
    """Makes a text, slowly if told to, and counts how often."""

    def __init__(self) -> None:
        self.made = 0
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, openmetrics: bool) -> bytes:
        self.made += 1
        await self.go_on.wait()
        return b"# openmetrics\n# EOF\n" if openmetrics else b"taximeter_up 1\n" * 1000


@asynccontextmanager
async def running(
    *, token: str | None = None, text: Make | None = None
) -> AsyncIterator[Callable[..., Any]]:
    """Run a console; give a function that asks it."""
    listener = socket.create_server(("127.0.0.1", 0))
    console = Console(lambda: STATE, text or Text(), token=token)
    await console.start(listener)
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with aiohttp.ClientSession(auto_decompress=False) as session:

            async def ask(
                path: str, method: str = "GET", **headers: str
            ) -> tuple[int, dict[str, str], bytes]:
                named = {name.replace("_", "-"): value for name, value in headers.items()}
                named.setdefault("Accept-Encoding", "identity")
                async with session.request(method, base + path, headers=named) as answer:
                    return answer.status, dict(answer.headers), await answer.read()

            yield ask
    finally:
        await console.stop()


async def test_every_route_has_a_role() -> None:
    """H7: what the listener answers is what the table declares, each with who may ask."""
    console = Console(lambda: STATE, Text())
    declared = {route.path for route in ROUTES}
    assert all(isinstance(route.role, Role) for route in ROUTES)
    served = {route.resource.canonical for route in console.application.router.routes()}  # type: ignore[union-attr]
    assert served == declared


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer x", f"Basic {TOKEN}"])
async def test_a_stranger_learns_yes_and_no(authorization: str | None) -> None:
    """H7: without the token all but health is refused, in the same words, known path or not."""
    headers = {} if authorization is None else {"Authorization": authorization}
    async with running(token=TOKEN) as ask:
        assert await ask("/healthz", **headers) == await ask("/healthz", **headers)
        status, _, body = await ask("/readyz", **headers)
        assert (status, body) == (200, b'{"ready": true}')
        refusals = set()
        for path in ("/metrics", "/", "/api/keys", "/metrics/"):
            status, heard, body = await ask(path, **headers)
            assert heard["WWW-Authenticate"].startswith("Bearer")
            refusals.add((status, body))
        refusals.add((await ask("/metrics", "POST", **headers))[0::2])
        assert {status for status, _ in refusals} == {401}
        assert len(refusals) == 1


async def test_the_token_opens_everything() -> None:
    """H7: with the token an operator sees the metrics and how each process stands."""
    headers = {"Authorization": f"bearer {TOKEN}"}
    async with running(token=TOKEN) as ask:
        assert (await ask("/metrics", **headers))[0] == 200
        assert b"restarts" in (await ask("/readyz", **headers))[2]
        assert (await ask("/nothing", **headers))[0] == 404
        assert (await ask("/metrics", "POST", **headers))[0] == 405


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8401", "localhost", "LOCALHOST:1", "[::1]:8401", "meter.localhost"]
)
async def test_this_machine_is_known_by_its_own_names(host: str) -> None:
    """On loopback no token is asked for."""
    async with running() as ask:
        assert (await ask("/metrics", Host=host))[0] == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8401", "10.0.0.1", "[::2]"],
)
async def test_a_web_page_gets_nothing_by_a_name_that_points_here(host: str) -> None:
    """H7: a request that names another host than this machine comes from a browser led astray."""
    async with running() as ask:
        status, heard, body = await ask("/metrics", Host=host)
        assert status == 403
        assert b"taximeter_up" not in body
        assert not any(name.lower().startswith("access-control") for name in heard)
        assert (await ask("/readyz", Host=host))[2] == b'{"ready": true}'


@pytest.mark.parametrize("token", [None, TOKEN])
@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /readyz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nExpect: much\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET /\x01 HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
    ],
)
async def test_no_answer_says_what_we_are_made_of(token: str | None, request_bytes: bytes) -> None:
    """H7: refusals and errors have the headers of every answer, also to what is no request."""
    listener = socket.create_server(("127.0.0.1", 0))
    console = Console(lambda: STATE, Text(), token=token)
    await console.start(listener)
    try:
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(request_bytes)
        async with asyncio.timeout(5):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
        writer.close()
        assert b"\r\nserver: taximeter\r\n" in head
        assert b"\r\nx-content-type-options: nosniff\r\n" in head
        assert b"aiohttp" not in head
    finally:
        await console.stop()


async def test_a_fault_of_ours_is_answered_like_all_else() -> None:
    """H7: a text that cannot be made is a 500 that says nothing of what this is made of."""

    async def fail(openmetrics: bool) -> bytes:
        raise RuntimeError("canary")

    async with running(text=fail) as ask:
        status, heard, body = await ask("/metrics")
        assert (status, heard["Server"]) == (500, "taximeter")
        assert heard["X-Content-Type-Options"] == "nosniff"
        assert b"canary" not in body


def test_a_digest_is_compared_whatever_is_given() -> None:
    """H6: nothing that is no bearer token is one, and no text raises."""
    access = Access(TOKEN)
    for given in (None, "", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer é", "\0"):
        assert access.role_of(authorization=given, host="localhost") is Role.ANYONE
    assert access.role_of(authorization=f"Bearer {TOKEN}", host="any") is Role.OPERATOR


async def test_the_form_asked_for_is_given() -> None:
    """A collector that asks for OpenMetrics gets it, named as what it is; others get plain text."""
    async with running() as ask:
        _, heard, body = await ask("/metrics", Accept=PROMETHEUS_ACCEPT)
        assert heard["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert body.endswith(b"# EOF\n")
        for accept in ("text/plain", "*/*", "application/json"):
            _, heard, body = await ask("/metrics", Accept=accept)
            assert heard["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert b"# EOF" not in body


async def test_gzip_is_given_where_it_is_taken_and_worth_it() -> None:
    """A long text is packed for who takes gzip; a short one, and for who does not, it is plain."""
    async with running() as ask:
        _, plain, text = await ask("/metrics")
        _, packed, body = await ask("/metrics", Accept_Encoding="gzip, deflate")
        assert "Content-Encoding" not in plain
        assert packed["Content-Encoding"] == "gzip"
        assert gzip.decompress(body) == text
        assert len(body) < len(text) / 9
        _, short, _ = await ask("/metrics", Accept_Encoding="gzip", Accept=PROMETHEUS_ACCEPT)
        assert "Content-Encoding" not in short


async def test_a_storm_of_collectors_costs_one_text() -> None:
    """Who asks while a text is being made gets that text, also if who asked first has left."""
    text = Text()
    async with running(text=text) as ask:
        text.go_on.clear()
        asking = [asyncio.create_task(ask("/metrics", Accept_Encoding="gzip")) for _ in range(20)]
        while text.made == 0:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        asking.pop(0).cancel()
        text.go_on.set()
        answers = await asyncio.gather(*asking)
        assert {status for status, _, _ in answers} == {200}
        assert text.made == 1
        await ask("/metrics")
        assert text.made == 2


def test_what_is_accepted() -> None:
    """Weights of nought and versions of what was never finished are understood."""
    assert wants_openmetrics(PROMETHEUS_ACCEPT)
    assert not wants_openmetrics("application/openmetrics-text;version=0.0.1")
    assert not wants_openmetrics("application/openmetrics-text; version=abc")
    assert not wants_openmetrics("text/plain;version=x, application/openmetrics-text;version=1.0.0")
    assert wants_gzip("br;q=1.0, GZIP;q=0.8")
    assert not wants_gzip("gzip;q=0, br")
    assert not wants_gzip("gzip;q=0.000")
    assert not wants_gzip("")


async def test_connections_are_bounded_and_must_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    """H3: strangers who connect and say nothing hold neither handles nor the console for long."""
    monkeypatch.setattr(_connections, "CONNECTIONS_MAX", 5)
    monkeypatch.setattr(_connections, "FIRST_REQUEST_SECONDS_MAX", 0.5)
    listener = socket.create_server(("127.0.0.1", 0))
    console = Console(lambda: STATE, Text())
    port = listener.getsockname()[1]
    await console.start(listener)
    try:
        mute = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        mute[0][1].write(b"GET /healthz HT")
        late, unheard = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(late.read(), 5) == b""  # beyond the bound
        for reader, _ in mute:
            assert await asyncio.wait_for(reader.read(), 5) == b""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 200")
            await asyncio.wait_for(reader.readuntil(b"true}"), 5)
            await asyncio.sleep(0.7)  # who has spoken may be silent for longer
        for each in (unheard, writer, *(writer for _, writer in mute)):
            each.close()
    finally:
        await console.stop()
