"""H1, C7: raw bytes of a client. Each is answered 4xx and the connection ends, or the upstream
receives exactly one well-formed request, framed by us.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.relay.bench import OK, Line, answer_all, bench, fields_of

POST = b"POST /v1/echo HTTP/1.1\r\nHost: a\r\n"
NEXT = b"GET /v1/next HTTP/1.1\r\nHost: a\r\n\r\n"
INNER = b"GET /v1/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

REFUSED: dict[str, bytes] = {
    "CL and TE": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + INNER,
    "TE and CL": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + INNER,
    "TE gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + INNER,
    "TE chunked, gzip": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n" + INNER,
    "TE identity": POST + b"Transfer-Encoding: identity\r\n\r\n" + INNER,
    "TE twice": POST
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + INNER,
    "TE chunked then identity": POST
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"
    + INNER,
    "TE xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + INNER,
    "TE chunked;q": POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n" + INNER,
    "TE vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + INNER,
    "TE quoted": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n' + INNER,
    "TE empty": POST + b"Transfer-Encoding: \r\n\r\n0\r\n\r\n" + INNER,
    "TE in HTTP/1.0": b"POST /v1/echo HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + INNER,
    "TE space before colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + INNER,
    "CL twice": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "CL twice the same": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "CL list": POST + b"Content-Length: 5, 5\r\n\r\nhello",
    "CL plus": POST + b"Content-Length: +5\r\n\r\nhello",
    "CL minus": POST + b"Content-Length: -5\r\n\r\nhello",
    "CL hexadecimal": POST + b"Content-Length: 0x5\r\n\r\nhello",
    "CL huge": POST + b"Content-Length: 99999999999999999999\r\n\r\nhello",
    "CL words": POST + b"Content-Length: five\r\n\r\nhello",
    "CL underscore": POST + b"Content-Length: 1_0\r\n\r\nhellohello",
    "CL unicode digit": POST + "Content-Length: \u0665\r\n\r\nhello".encode(),
    "CL empty": POST + b"Content-Length: \r\n\r\n",
    "CL inner space": POST + b"Content-Length: 1 0\r\n\r\nhello",
    "bare LF": b"GET /v1/echo HTTP/1.1\nHost: a\n\n",
    "bare LF in fields": POST + b"X: a\nContent-Length: 5\r\n\r\nhello",
    "bare CR": POST + b"X: a\rb\r\nContent-Length: 0\r\n\r\n",
    "folded": POST + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "space before colon": POST + b"X : a\r\nContent-Length: 0\r\n\r\n",
    "space first": b"POST /v1/echo HTTP/1.1\r\n Host: a\r\nContent-Length: 0\r\n\r\n",
    "NUL in a value": POST + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "control in a value": POST + b"X: a\x01b\r\nContent-Length: 0\r\n\r\n",
    "NUL in a name": POST + b"X\0Y: a\r\nContent-Length: 0\r\n\r\n",
    "no colon": POST + b"nonsense\r\nContent-Length: 0\r\n\r\n",
    "no name": POST + b": a\r\nContent-Length: 0\r\n\r\n",
    "chunk size overflow": POST
    + b"Transfer-Encoding: chunked\r\n\r\n10000000000000001\r\na\r\n0\r\n\r\n",
    "chunk size minus": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\na\r\n0\r\n\r\n",
    "chunk size 0x": POST + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
    "chunk size space": POST + b"Transfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n",
    "chunk size empty": POST + b"Transfer-Encoding: chunked\r\n\r\n\r\na\r\n0\r\n\r\n",
    "chunk longer than said": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    "chunk with bare LF": POST + b"Transfer-Encoding: chunked\r\n\r\n1\na\n0\n\n",
    "chunk extension with LF": POST + b"Transfer-Encoding: chunked\r\n\r\n1;a\nb\r\na\r\n0\r\n\r\n",
    "trailer malformed": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX : a\r\n\r\n",
    "no Host": b"GET /v1/echo HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /v1/echo HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "two Hosts in HTTP/1.0": b"GET /v1/echo HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    "CONNECT": b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n" + INNER,
    "TRACE": b"TRACE /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/2.0": b"GET /v1/echo HTTP/2.0\r\nHost: a\r\n\r\n" + INNER,
    "HTTP/0.9": b"GET /v1/echo\r\n\r\n",
    "HTTP/1.2": b"GET /v1/echo HTTP/1.2\r\nHost: a\r\n\r\n",
    "HTTP/11": b"GET /v1/echo HTTP/11\r\nHost: a\r\n\r\n",
    "h2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "space in target": b"GET /v1/e cho HTTP/1.1\r\nHost: a\r\n\r\n",
    "NUL in target": b"GET /v1/e\0cho HTTP/1.1\r\nHost: a\r\n\r\n",
    "tab in target": b"GET /v1/e\tcho HTTP/1.1\r\nHost: a\r\n\r\n",
    "unknown method": b"FETCH /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "lower-case method": b"get /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "websocket upgrade with a body": b"GET /v1/realtime HTTP/1.1\r\nHost: a\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc" + INNER,
    "tab for space": b"GET\t/v1/echo\tHTTP/1.1\r\nHost: a\r\n\r\n",
    "target without a slash": b"GET v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "upgrade with CL and TE": POST
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + INNER,
}
"""What must never reach the upstream, not even in part, nor what comes behind it."""


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("pace", ["whole", "byte by byte"])
async def test_what_is_not_plain_http_reaches_no_upstream(
    tmp_path: Path, name: str, pace: str
) -> None:
    """H1: a request that could be read in two ways is answered 4xx, and its connection ends."""
    async with bench(tmp_path) as made:
        client = await made.client()
        said = REFUSED[name]
        if pace == "whole":
            await client.say(said)
        else:
            for place in range(len(said)):
                await client.say(said[place : place + 1])
                await asyncio.sleep(0)
        heard = await client.rest()
        assert heard[:12] in {b"HTTP/1.1 %d" % status for status in (400, 405, 417, 431, 505)}
        assert heard.count(b"x-taximeter-error") == 1, "more than one answer"
        assert fields_of(heard.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")[b"connection"] == [b"close"]
        sent = b"".join(bytes(line.received) for line in made.lines)
        assert b"smuggled" not in sent
        # The head of a request whose body breaks later may have gone; its end may not.
        assert not sent or not sent.endswith(b"0\r\n\r\n")


PASSED: dict[str, tuple[bytes, bytes, bytes]] = {
    "sized": (POST + b"Content-Length: 5\r\n\r\nhello", b"POST /v1/echo", b"hello"),
    "chunked": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        b"POST /v1/echo",
        b"hello",
    ),
    "chunked in capitals": (
        POST + b"transfer-ENCODING: ChunKed\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"POST /v1/echo",
        b"hello",
    ),
    "chunk extension": (
        POST + b'Transfer-Encoding: chunked\r\n\r\n5;a=b;c="d"\r\nhello\r\n0;x\r\n\r\n',
        b"POST /v1/echo",
        b"hello",
    ),
    "leading zeros": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n00005\r\nhello\r\n000\r\n\r\n",
        b"POST /v1/echo",
        b"hello",
    ),
    "trailers": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Api-Key: no\r\n\r\n",
        b"POST /v1/echo",
        b"hello",
    ),
    "absolute form": (
        b"GET http://elsewhere.example/v1/echo?a=b HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n",
        b"GET /v1/echo?a=b",
        b"",
    ),
    "empty lines first": (
        b"\r\nGET /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/echo",
        b"",
    ),
    "GET with a body": (
        b"GET /v1/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
        b"GET /v1/echo",
        b"{}",
    ),
    "OPTIONS": (b"OPTIONS /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS /v1/echo", b""),
    "DELETE": (b"DELETE /v1/files/1 HTTP/1.1\r\nHost: a\r\n\r\n", b"DELETE /v1/files/1", b""),
    "odd bytes in target": (
        b"GET /v1/%2e%2E/a%2Fb//c/./d?&&=%zz HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/%2e%2E/a%2Fb//c/./d?&&=%zz",
        b"",
    ),
    "question mark alone": (
        b"GET /v1/echo? HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/echo?",
        b"",
    ),
    "h2c upgrade": (
        b"GET /v1/echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        b"GET /v1/echo",
        b"",
    ),
    "h2c upgrade with a body": (
        POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /v1/echo",
        b"hello",
    ),
    "h2c upgrade with chunks": (
        POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"%x\r\n" % len(INNER) + INNER + b"\r\n0\r\n\r\n",
        b"POST /v1/echo",
        INNER,
    ),
    "two spaces": (b"GET  /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /v1/echo", b""),
    "bytes above ASCII in a value": (
        b"GET /v1/echo HTTP/1.1\r\nHost: a\r\nX-Odd: \xff\xfe\xe9\r\n\r\n",
        b"GET /v1/echo",
        b"",
    ),
}


@pytest.mark.parametrize("name", PASSED)
@pytest.mark.parametrize("pace", ["whole", "byte by byte"])
async def test_plain_http_goes_upstream_once_framed_by_us(
    tmp_path: Path, name: str, pace: str
) -> None:
    """H1: the upstream gets exactly one well-formed request, and then the one that follows."""
    got: list[tuple[bytes, bytes]] = []

    async def note(line: Line) -> None:
        while True:
            got.append(await line.request())
            await line.say(OK)

    said, start, body = PASSED[name]
    async with bench(tmp_path, note) as made:
        client = await made.client()
        said += NEXT
        if pace == "whole":
            await client.say(said)
        else:
            for place in range(len(said)):
                await client.say(said[place : place + 1])
                await asyncio.sleep(0)
        assert (await client.answer())[0] == 200
        assert (await client.answer())[0] == 200
        assert len(got) == 2
        head, received = got[0]
        assert head.startswith(start + b" HTTP/1.1\r\n")
        assert received == body
        fields = fields_of(head)
        assert len(fields[b"host"]) == 1
        assert fields[b"host"][0].startswith(b"127.0.0.1:")
        for gone in (b"connection", b"upgrade", b"http2-settings", b"trailer", b"te"):
            assert gone not in fields
        assert b"no" not in fields.get(b"x-api-key", [])
        assert got[1][0].startswith(b"GET /v1/next HTTP/1.1\r\n")


async def test_every_field_that_connection_names_stays_here(tmp_path: Path) -> None:
    """H1: fields of one connection are stripped, whichever `Connection` line names them."""
    async with bench(tmp_path) as made:
        client = await made.client()
        await client.say(
            b"GET /v1/echo HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-One\r\nX-One: 1\r\n"
            b"X-Two: 2\r\nX-Three: 3\r\nConnection: x-two\r\nTE: trailers\r\nProxy-Authorization: p"
            b"\r\nKeep-Alive: timeout=5\r\nX-Taximeter-User: eve\r\n\r\n"
        )
        assert (await client.answer())[0] == 200
        fields = fields_of(bytes(made.lines[0].received))
        assert set(fields) == {b"host", b"x-three"}


async def test_http_1_0_ends_with_its_answer_unless_asked_to_go_on(tmp_path: Path) -> None:
    """C7: an HTTP/1.0 client's connection is closed after one answer, or kept if it says so."""
    async with bench(tmp_path) as made:
        client = await made.client()
        await client.say(b"GET /v1/echo HTTP/1.0\r\n\r\n")
        heard = await client.rest()
        assert heard.endswith(b"\r\n\r\n{}")
        assert b"Transfer-Encoding" not in heard
        client = await made.client()
        for _ in range(2):
            await client.say(b"GET /v1/echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            status, fields, _ = await client.answer()
            assert (status, fields[b"connection"]) == (200, [b"keep-alive"])


async def test_pipelined_requests_are_answered_in_their_order(tmp_path: Path) -> None:
    """C7: requests sent ahead wait for their turn, be it sixty behind a slow answer."""

    async def name_it(line: Line) -> None:
        while True:
            head, _ = await line.request()
            name = head.split(b" ")[1][-2:]
            if name == b"00":
                await asyncio.sleep(0.1)
            await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + name)

    async with bench(tmp_path, name_it) as made:
        client = await made.client()
        names = [b"%02d" % number for number in range(60)]
        await client.say(
            b"".join(b"GET /v1/x/" + name + b" HTTP/1.1\r\nHost: a\r\n\r\n" for name in names)
        )
        assert [(await client.answer())[2] for _ in names] == names
        assert len(made.closed) == 60


async def test_more_requests_ahead_than_the_bound_end_the_connection(tmp_path: Path) -> None:
    """C7: a client that pipelines without end gets what fits the bound, in order, and no more."""
    async with bench(tmp_path) as made:
        client = await made.client()
        await client.say(b"GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n" * 300)
        heard = await client.rest()
        assert heard.count(b"HTTP/1.1 200 OK") == len(made.closed) == 65


async def test_a_broken_request_behind_a_good_one_harms_it_not(tmp_path: Path) -> None:
    """H1: what comes behind a request is no part of it: the answer arrives, then the end."""

    async def slowly(line: Line) -> None:
        await line.request()
        await asyncio.sleep(0.1)
        await line.say(OK)

    async with bench(tmp_path, slowly) as made:
        client = await made.client()
        await client.say(NEXT + POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + INNER)
        heard = await client.rest()
        assert heard.startswith(b"HTTP/1.1 200 OK")
        assert b"smuggled" not in b"".join(bytes(line.received) for line in made.lines)
        assert heard.count(b"HTTP/1.1 200") == 1


async def test_upgrades_that_are_not_ours_may_come_by_the_thousand(tmp_path: Path) -> None:
    """H1: bytes behind an ignored upgrade are the next request, however often that happens."""
    async with bench(tmp_path) as made:
        client = await made.client()
        upgrade = b"GET /no HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
        await client.say(upgrade * 2500)
        for _ in range(2500):
            assert (await client.answer())[0] == 404


async def test_head_and_no_content_have_no_body_and_no_desync(tmp_path: Path) -> None:
    """C7: answers to HEAD, 204 and 304 end with their head, and the next answer follows."""

    async def bodiless(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
        await line.request()
        await line.say(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n")
        await line.request()
        await line.say(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: x\r\n\r\n")
        await line.request()
        await line.say(OK)

    async with bench(tmp_path, bodiless) as made:
        client = await made.client()
        await client.say(b"HEAD /v1/models HTTP/1.1\r\nHost: a\r\n\r\n")
        status, fields, _ = await client.answer(bodiless=True)
        assert (status, fields[b"content-length"]) == (200, [b"500"])
        await client.say(NEXT)
        status, fields, _ = await client.answer()
        assert status == 204
        assert b"content-length" not in fields
        await client.say(NEXT)
        assert (await client.answer())[0] == 304
        await client.say(NEXT)
        assert (await client.answer())[2] == b"{}"


async def test_expect_continue_is_answered_and_goes_no_further(tmp_path: Path) -> None:
    """C7: the client is told to go on by us; the upstream never sees the expectation."""
    async with bench(tmp_path) as made:
        client = await made.client()
        await client.say(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert (await client.answer())[0] == 100
        await client.say(b"hello")
        assert (await client.answer())[0] == 200
        assert b"expect" not in fields_of(bytes(made.lines[0].received).partition(b"hello")[0])


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /no/such HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n", 404),
        (POST + b"Expect: miracles\r\n", 417),
        (b"POST /v1/x HTTP/1.1\r\nHost: a\r\nHost: b\r\nExpect: 100-continue\r\n", 400),
    ],
)
async def test_a_refused_client_that_waits_to_be_told_is_told_at_once(
    tmp_path: Path, head: bytes, status: int
) -> None:
    """C7: who expects 100-continue hears the refusal without having sent its body."""
    async with bench(tmp_path) as made:
        client = await made.client()
        await client.say(head + b"Content-Length: 500000\r\n\r\n")
        assert (await client.answer())[0] == status


async def test_a_refusal_is_heard_while_the_body_still_comes(tmp_path: Path) -> None:
    """C7: a client that sends a long body to nowhere hears why, and no reset swallows it."""
    async with bench(tmp_path) as made:
        client = await made.client()
        size = 3_000_000
        sending = asyncio.create_task(
            client.say(
                b"POST /no/such HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
                + bytes(size)
            )
        )
        status, fields, _ = await client.answer()
        assert (status, fields[b"connection"]) == (404, [b"close"])
        await sending


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 431)])
async def test_a_head_may_be_as_long_as_the_bound(tmp_path: Path, more: int, status: int) -> None:
    """H4: the longest allowed head passes, one byte more is refused with 431."""
    async with bench(tmp_path, relay={"head_bytes_max": 2048}) as made:
        client = await made.client()
        fixed = len(b"/v1/echo") + len(b"Hosta") + 4 + len(b"X") + 4
        await client.say(
            b"GET /v1/echo HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (2048 - fixed + more) + b"\r\n\r\n"
        )
        assert (await client.answer())[0] == status


async def test_too_many_fields_are_refused(tmp_path: Path) -> None:
    """H4: three hundred fields are 431, however short they are."""
    async with bench(tmp_path) as made:
        client = await made.client()
        await client.say(b"GET /v1/echo HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 300 + b"\r\n")
        assert (await client.answer())[0] == 431


@pytest.mark.parametrize(
    "start",
    [
        b"GET /v1/",
        b"GET /v1/echo HTTP/1.1\r\nX: ",
        b"GET /v1/echo HTTP/1.1\r\nHost: a\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ",
        POST + b"Transfer-Encoding: chunked\r\n\r\n5;",
    ],
)
async def test_what_never_ends_is_given_up_at_the_bound(tmp_path: Path, start: bytes) -> None:
    """H4: an endless target, field, trailer or chunk extension is refused long before 10 MB."""
    async with bench(tmp_path) as made:
        client = await made.client()
        await client.say(start)
        filler = b"x" * 65536 if not start.endswith(b"a\r\n") else b"X: y\r\n" * 10000
        heard = asyncio.create_task(client.answer())
        taken = 0
        while taken < 4_000_000 and not heard.done():
            taken += len(filler)
            await client.say(filler)
            await asyncio.sleep(0)
        assert (await heard)[0] in (400, 431)


async def test_a_slow_head_is_given_up(tmp_path: Path) -> None:
    """H3: a client that does not finish its head in time loses its connection."""
    async with bench(tmp_path, relay={"head_seconds_max": 0.2}) as made:
        silent, slow = await made.client(), await made.client()
        await slow.say(b"GET /v1/echo HTTP/1.1\r\nHo")
        assert await silent.rest() == b""
        assert await slow.rest() == b""
        assert not made.closed


async def test_half_a_head_behind_a_call_does_not_end_that_call(tmp_path: Path) -> None:
    """H3: the deadline of the next request's head does not run while a call is under way."""

    async def slowly(line: Line) -> None:
        await line.request()
        await asyncio.sleep(2.5)
        await line.say(OK)

    async with bench(tmp_path, slowly, relay={"head_seconds_max": 0.2}) as made:
        client = await made.client()
        await client.say(NEXT + b"GET /v1/echo HTTP/1.1\r\nHost: a\r\nX-Half")
        assert (await client.answer())[0] == 200
        assert await client.rest() == b""


@pytest.mark.parametrize("sent", [b"", b"x" * 100_000])
async def test_a_slow_body_is_408(tmp_path: Path, sent: bytes) -> None:
    """H3: a body that stops coming is refused with 408, read ahead or already on its way."""

    async def swallow(line: Line) -> None:
        while await line.take():
            pass

    async with bench(tmp_path, swallow, relay={"body_idle_seconds_max": 0.2}) as made:
        client = await made.client()
        await client.say(POST + b"Content-Type: audio/wav\r\nContent-Length: 500000\r\n\r\n" + sent)
        status, fields, _ = await client.answer()
        assert (status, fields[b"connection"]) == (408, [b"close"])
        (row,) = made.closed
        assert row.error == "body_timeout"
        assert row.outcome == ("abandoned" if sent else "rejected")


async def test_a_request_whose_body_breaks_while_it_waits_is_refused_in_its_turn(
    tmp_path: Path,
) -> None:
    """H1: a pipelined request with a broken body is not waited for until its deadline."""

    async def slowly(line: Line) -> None:
        await line.request()
        await asyncio.sleep(0.05)
        await line.say(OK)

    async with bench(tmp_path, slowly) as made:
        client = await made.client()
        await client.say(NEXT + POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n")
        assert (await client.answer())[0] == 200
        assert (await client.answer())[0] == 400
        assert await client.rest() == b""


async def test_the_body_of_a_call_that_breaks_after_its_answer_began_ends_the_connection(
    tmp_path: Path,
) -> None:
    """C2: no second head ever stands in the middle of an answer."""

    async def talk_early(line: Line) -> None:
        await line.head()
        await line.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        while await line.take():
            pass

    async with bench(tmp_path, talk_early) as made:
        client = await made.client()
        await client.say(
            POST
            + b"Content-Type: audio/wav\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"20000\r\n"
            + bytes(0x20000)
            + b"\r\n"
        )
        await client.until(b"3\r\nabc\r\n")
        await client.say(b"zz\r\n")
        assert await client.rest() == b""
        await made.until(lambda: bool(made.closed))
        assert made.closed[0].outcome == "cancelled"


async def test_the_asterisk_form_is_refused(tmp_path: Path) -> None:
    """C7: `OPTIONS *` asks something of a server, and belongs to no upstream."""
    async with bench(tmp_path) as made:
        client = await made.client()
        await client.say(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.answer())[0] == 400
        assert not made.lines


async def test_answers_to_all_is_the_default(tmp_path: Path) -> None:
    """The bench itself: a plain call is completed, opened before and closed once."""
    async with bench(tmp_path, answer_all) as made:
        client = await made.client()
        await client.say(NEXT)
        assert (await client.answer())[2] == b"{}"
        assert [type(record).__name__ for record in made.records] == ["Opened", "Closed"]
