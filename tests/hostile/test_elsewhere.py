"""H5: whatever a request or an answer says, the relay connects to the configured upstream alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.relay.bench import OK, Line, bench, fields_of

POST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n"
)
WAYS = {
    "absolute form": b"GET http://{}/v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "Host": b"GET /v1/echo HTTP/1.1\r\nHost: {}\r\n\r\n",
    "Host of HTTP/1.0": b"GET /v1/echo HTTP/1.0\r\nHost: {}\r\n\r\n",
    "the query": b"GET /v1/echo?url=http://{}&api_base={}&host={} HTTP/1.1\r\nHost: a\r\n\r\n",
    "the path": b"GET /v1/http://{}/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "a user in the path": b"GET /v1/@{}/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "a fragment": b"GET /v1/echo#@{} HTTP/1.1\r\nHost: a\r\n\r\n",
    "a backslash": b"GET /v1/\\\\{}\\echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "a host for a path": b"GET //{}/v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT": b"CONNECT {} HTTP/1.1\r\nHost: {}\r\n\r\n",
    **{
        name: b"GET /v1/echo HTTP/1.1\r\nHost: a\r\n%b: {}\r\n\r\n" % name.encode()
        for name in (
            "X-Forwarded-Host",
            "X-Forwarded-Server",
            "X-Host",
            "X-Original-Host",
            "X-Original-URL",
            "X-Rewrite-URL",
            "Destination",
            "Referer",
            "Origin",
        )
    },
    **{
        name: b"GET /v1/echo HTTP/1.1\r\nHost: a\r\n%b: http://{}/v1\r\n\r\n" % name.encode()
        for name in (
            "x-portkey-custom-host",
            "x-prefiller-url",
            "x-base-url",
            "x-api-base",
            "api-base",
            "x-upstream-url",
            "x-target-url",
            "helicone-target-url",
            "cf-aig-custom-host",
            "x-taximeter-upstream",
            "x-taximeter-url",
            "Forwarded",
            "Link",
        )
    },
    **{
        f"{name} in the body": b'{"model": "http://{}/m", "%b": "http://{}/v1"}' % name.encode()
        for name in ("api_base", "base_url", "url", "host", "endpoint", "proxy")
    },
}
"""Ways in which others' proxies are told where to go."""


@pytest.mark.parametrize("name", WAYS)
async def test_no_request_says_where_it_goes(tmp_path: Path, name: str) -> None:
    """H5: by target, `Host`, field, path, query or body: nobody but the upstream is connected to,
    and it is told its own name.
    """
    visited: list[Line] = []

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visited.append(Line(reader, writer))
        writer.close()

    elsewhere = await asyncio.start_server(visit, "127.0.0.1", 0)
    async with elsewhere, bench(tmp_path) as made:
        address = b"127.0.0.1:%d" % elsewhere.sockets[0].getsockname()[1]
        said = WAYS[name].replace(b"{}", address)
        if said.startswith(b"{"):
            said = POST % len(said) + said
        client = await made.client()
        await client.say(said)
        status, _, _ = await client.answer()
        assert status in (200, 400, 404, 405)
        assert (status == 200) == bool(made.lines)
        for line in made.lines:
            (host,) = fields_of(bytes(line.received).partition(b"\r\n\r\n")[0] + b"\r\n\r\n")[
                b"host"
            ]
            assert host == made.worker.snapshot.upstreams["openai"].host
        client.leave()
        await asyncio.sleep(0)
    assert visited == []


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308, 200, 201, 401, 407])
async def test_no_answer_says_where_to_go_next(tmp_path: Path, status: int) -> None:
    """H5: a way elsewhere is the client's to go, whatever the answer calls it."""
    visited: list[Line] = []

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visited.append(Line(reader, writer))
        writer.close()

    elsewhere = await asyncio.start_server(visit, "127.0.0.1", 0)
    there = b"http://127.0.0.1:%d/v1" % elsewhere.sockets[0].getsockname()[1]

    async def point(line: Line) -> None:
        await line.request()
        body = b'{"url": "%b", "location": "%b"}' % (there, there)
        await line.say(
            b"HTTP/1.1 %d Go\r\nLocation: %b\r\nContent-Location: %b\r\nRefresh: 0; url=%b\r\n"
            b"Alt-Svc: h2=%b\r\nLink: <%b>; rel=preload\r\nProxy-Authenticate: Basic\r\n"
            b"WWW-Authenticate: Basic\r\nContent-Length: %d\r\n\r\n%b"
            % (status, there, there, there, there, there, len(body), body)
        )
        await line.request()
        await line.say(OK)

    async with elsewhere, bench(tmp_path, point) as made:
        client = await made.client()
        await client.say(b"GET /v1/echo HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sk-a\r\n\r\n")
        answered, fields, _ = await client.answer()
        assert (answered, fields[b"location"]) == (status, [there])
        await client.say(b"GET /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.answer())[0] == 200
        assert len(made.lines) == 1
    assert visited == []
