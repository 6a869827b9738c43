"""What a call's turn and its attempts must bear with: odd requests, odd upstreams, odd moments."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from taximeter.admission import State
from taximeter.call import Outcome, Stage
from taximeter.keys import KeyBook, Terms, keys_path
from tests.relay.bench import Line, bench, raw_upstream
from tests.relay.test_admission import (
    HASH_KEY,
    SOON,
    Scripted,
    answer,
    ask,
    error,
    fetch,
    only,
    with_standby,
)

SHUT = {"retry": {"attempts_max": 1}, "breaker": {"calls_min": 3, "open_seconds": 30}}


# -- credentials -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["key", "%6bey", "%6B%65%79", "k%65y"])
async def test_a_virtual_key_in_the_query_goes_nowhere_however_it_is_spelt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """H9: a parameter's name may be percent-encoded, and may come twice."""
    monkeypatch.setenv("THE_REAL_KEY", "sk-real")
    secret = KeyBook(keys_path(tmp_path), HASH_KEY).create(Terms(user="alice"), 0).credential
    upstream = Scripted()
    async with bench(tmp_path, upstream, upstream={"api_key_env": "THE_REAL_KEY"}) as made:
        path = f"/v1/chat/completions?{name}={secret}&a=b&key={secret}"
        status, _, _ = await fetch(made, ask(path=path))
        assert status == 200
        assert secret.encode() not in upstream.heads[0]
        assert b"?a=b HTTP/1.1" in upstream.heads[0]
        assert b"Bearer sk-real" in upstream.heads[0]


@pytest.mark.parametrize(
    ("other", "place"),
    [
        ("Authorization: Bearer sk-own", "x-api-key: {}"),
        ("Authorization: Basic c2s6b3du", "api-key: {}"),
        ("x-api-key: sk-own", "x-goog-api-key: {}"),
    ],
)
async def test_a_virtual_key_beside_another_credential_is_still_a_virtual_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str, place: str
) -> None:
    """H9: it holds wherever it stands, and neither it nor what came beside it goes upstream."""
    monkeypatch.setenv("THE_REAL_KEY", "sk-real")
    secret = KeyBook(keys_path(tmp_path), HASH_KEY).create(Terms(user="alice"), 0).credential
    upstream = Scripted()
    async with bench(tmp_path, upstream, upstream={"api_key_env": "THE_REAL_KEY"}) as made:
        status, _, _ = await fetch(made, ask(other, place.format(secret)))
        assert status == 200
        head = upstream.heads[0]
        assert secret.encode() not in head
        assert b"sk-own" not in head
        assert b"Basic" not in head
        assert made.opened[0].user == "alice"


# -- attempts --------------------------------------------------------------------------------


async def test_a_call_asked_anew_without_an_option_of_ours_still_has_its_retries(
    tmp_path: Path,
) -> None:
    """O3: an upstream that refuses `stream_options` and is busy the next moment is asked again."""
    refusal = {"error": {"message": "Unknown parameter: stream_options", "type": "t"}}
    upstream = Scripted(
        answer(400, refusal), answer(503, error("busy"), "retry-after: 0"), answer()
    )
    async with bench(tmp_path, upstream, upstream=SOON) as made:
        status, _, _ = await fetch(made, ask(stream=True))
        assert status == 200
        assert [each.status for each in only(made).attempts] == [400, 503, 200]


async def test_only_a_refusal_that_another_attempt_bears_out_is_remembered(
    tmp_path: Path,
) -> None:
    """A client whose request is wrong in other ways costs nobody else the figures of a stream."""
    wrong = {"error": {"message": "The model `include_usage` does not exist", "type": "t"}}
    refusal = {"error": {"message": "Unknown parameter: stream_options", "type": "t"}}
    upstream = Scripted(
        *[answer(400, wrong)] * 2, answer(), answer(400, refusal), answer(), answer()
    )
    async with bench(tmp_path, upstream) as made:
        status, _, _ = await fetch(made, ask("Authorization: Bearer mallory", stream=True))
        assert status == 400
        for _ in range(3):
            assert (await fetch(made, ask("Authorization: Bearer alice", stream=True)))[0] == 200
        asked = [b"include_usage" in body for body in upstream.bodies]
        assert asked == [True, False, True, True, False, False]


async def test_what_one_upstream_refuses_is_not_remembered_of_another(tmp_path: Path) -> None:
    """That the call went well elsewhere says nothing of why the first answered with an error."""
    refusal = {"error": {"message": "Unknown parameter: stream_options", "type": "t"}}
    first, standby = Scripted(answer(400, refusal), answer(503, error("busy"))), Scripted()
    async with raw_upstream(standby) as (url, _):
        async with bench(tmp_path, first, **with_standby(url)) as made:
            for _ in range(2):
                assert (await fetch(made, ask(stream=True)))[0] == 200
        assert [b"include_usage" in body for body in first.bodies] == [True, False, True]


async def test_errors_too_long_to_be_held_open_the_breaker_too(tmp_path: Path) -> None:
    """O4: a page of HTML in place of an answer is a failure like any other."""
    page = b"x" * 70_000
    long_error = (
        b"HTTP/1.1 500 E\r\nContent-Type: text/html\r\nContent-Length: 70000\r\n\r\n" + page
    )
    upstream = Scripted(*(long_error for _ in range(20)))
    async with bench(tmp_path, upstream, upstream=SHUT) as made:
        statuses = []
        for _ in range(5):
            client = await made.client()
            await client.say(ask())
            status, _, body = await client.answer()
            statuses.append(status)
            assert status != 500 or body == page
        assert statuses[-1] == 503
        assert len(upstream.heads) == 3


async def test_an_error_cut_short_opens_the_breaker_too(tmp_path: Path) -> None:
    """O4: so is one that breaks off in the middle."""

    async def cut(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 503 S\r\nContent-Length: 90\r\n\r\n{")

    async with bench(tmp_path, cut, upstream=SHUT) as made:
        for _ in range(3):
            client = await made.client()
            await client.say(ask())
            await client.rest()
        states = [each.state for each in made.worker.admission.admission.breakers().values()]
        assert states == [State.OPEN]


async def test_an_empty_account_is_known_through_a_coding(tmp_path: Path) -> None:
    """O3: `insufficient_quota` under gzip is no busy minute either, and passes as it came."""
    body = gzip.compress(json.dumps(error("insufficient_quota")).encode())
    said = (
        b"HTTP/1.1 429 Q\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
        b"Retry-After: 0\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    upstream = Scripted(said)
    async with bench(tmp_path, upstream, upstream=SOON) as made:
        client = await made.client()
        await client.say(ask("Accept-Encoding: gzip"))
        status, _, got = await client.answer()
        assert (status, got) == (429, body)
        assert len(only(made).attempts) == 1


async def test_a_head_request_is_tried_again_without_a_body_to_wait_for(tmp_path: Path) -> None:
    """O3: the answer to HEAD has no body, whatever its length says."""
    busy = b"HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 12\r\n\r\n"
    upstream = Scripted(busy, b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
    async with bench(tmp_path, upstream, upstream=SOON) as made:
        client = await made.client()
        await client.say(b"HEAD /v1/models HTTP/1.1\r\nHost: a\r\n\r\n")
        status, _, _ = await client.answer(bodiless=True)
        assert status == 200
        assert [each.status for each in only(made).attempts] == [503, 200]


async def test_interim_answers_before_a_failure_do_no_harm(tmp_path: Path) -> None:
    """O3: a 103 before a 503 is passed on, and the call is still tried again."""
    upstream = Scripted(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        + answer(503, error("busy"), "retry-after: 0"),
        answer(),
    )
    async with bench(tmp_path, upstream, upstream=SOON) as made:
        client = await made.client()
        await client.say(ask())
        status, _, _ = await client.answer()
        assert status == 103
        status, _, _ = await client.answer()
        assert status == 200


async def test_a_retry_after_that_is_a_date_is_waited_for(tmp_path: Path) -> None:
    """O3: `Retry-After` may be a date of HTTP; a second from now is a second's wait."""
    when = formatdate(time.time() + 2, usegmt=True)
    upstream = Scripted(answer(503, error("busy"), f"retry-after: {when}"), answer())
    async with bench(tmp_path, upstream, upstream=SOON) as made:
        began = time.monotonic()
        status, _, _ = await fetch(made, ask())
        assert status == 200
        assert time.monotonic() - began > 0.5


async def test_a_full_upstream_of_the_first_attempt_is_forgotten_at_the_second(
    tmp_path: Path,
) -> None:
    """O3: an upstream that answers 503 and reads no further is not held against the next one."""
    connections = 0

    async def handler(line: Line) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            await line.head()
            await line.say(answer(503, error("busy"), "retry-after: 0"))
            await asyncio.sleep(30)
        else:
            await line.request()
            await asyncio.sleep(2.5)
            await line.say(answer())

    setting = {**SOON, "timeouts": {"send_seconds": 1}, "retry": {"body_bytes_max": 32_000_000}}
    room = {"body_buffer_bytes_max": 32_000_000}
    async with bench(tmp_path, handler, upstream=setting, relay=room) as made:
        got, _, _ = await fetch(made, ask(padding="x" * 12_000_000))
        assert got == 200
        assert connections == 2


async def test_nothing_is_tried_again_for_a_client_that_has_left(tmp_path: Path) -> None:
    """O3: with `client_gone: drain` an answer under way is read to its end; a failed one is not
    asked for a second time, for there is nobody to have it.
    """
    asked = 0
    gone = asyncio.Event()

    async def handler(line: Line) -> None:
        nonlocal asked
        while True:
            await line.request()
            asked += 1
            await gone.wait()
            await line.say(answer(503, error("busy"), "retry-after: 0"))

    async with bench(tmp_path, handler, upstream={**SOON, "client_gone": "drain"}) as made:
        client = await made.client()
        await client.say(ask())
        await made.until(lambda: asked == 1)
        client.leave()
        await asyncio.sleep(0.05)
        gone.set()
        await made.until(lambda: len(made.closed) == 1)
        await asyncio.sleep(0.1)
        assert asked == 1


# -- tunnels ---------------------------------------------------------------------------------


async def test_a_tunnel_is_an_answer_to_the_breaker(tmp_path: Path) -> None:
    """O4: a WebSocket that opens as the breaker's probe closes the breaker, and does not hold the
    one place of a probe for as long as it lives.
    """
    opened: list[Line] = []

    async def handler(line: Line) -> None:
        while True:
            head = await line.head()
            if b"pgrade" in head:
                opened.append(line)
                await line.say(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                    b"Connection: Upgrade\r\n\r\n"
                )
                await line.take()
                return
            await line.exactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            await line.say(answer(500, error("broken")))

    setting = {
        "retry": {"attempts_max": 1},
        "breaker": {"calls_min": 2, "open_seconds": 0.05, "probes": 1, "window_seconds": 5},
    }
    async with bench(tmp_path, handler, upstream=setting) as made:
        for _ in range(2):
            await fetch(made, ask(model="gpt-realtime"))
        (breaker,) = made.worker.admission.admission.breakers().values()
        assert breaker.state is State.OPEN
        await asyncio.sleep(0.1)
        client = await made.client()
        await client.say(
            b"GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        status, _, _ = await client.answer()
        assert status == 101
        (breaker,) = made.worker.admission.admission.breakers().values()
        assert breaker.state is State.CLOSED
        client.leave()
        await made.until(lambda: made.closed[-1].outcome is Outcome.COMPLETED)


# -- requests that wait ------------------------------------------------------------------------


async def test_a_client_that_expects_100_sends_its_body_before_its_turn(tmp_path: Path) -> None:
    """C7: it is told to go on at once, and its body waits with us, not with it."""
    free = asyncio.Event()
    bodies: list[bytes] = []

    async def handler(line: Line) -> None:
        while True:
            bodies.append((await line.request())[1])
            await free.wait()
            await line.say(answer())

    async with bench(tmp_path, handler, upstream={"limits": {"concurrency": 1}}) as made:
        first, second = await made.client(), await made.client()
        await first.say(ask())
        await made.until(lambda: len(bodies) == 1)
        head, _, body = ask("Expect: 100-continue").partition(b"\r\n\r\n")
        await second.say(head + b"\r\n\r\n")
        status, _, _ = await second.answer()
        assert status == 100
        await second.say(body)
        await made.until(lambda: made.worker.admission.waiting == 1)
        free.set()
        assert [(await each.answer())[0] for each in (first, second)] == [200, 200]
        assert bodies[1] == body


async def test_an_upload_that_waits_for_its_turn_is_not_read_on(tmp_path: Path) -> None:
    """H4: of a long body no more is kept than is looked at, while its call waits."""
    free = asyncio.Event()
    sizes: list[int] = []

    async def handler(line: Line) -> None:
        while True:
            sizes.append(len((await line.request())[1]))
            await free.wait()
            await line.say(answer())

    total = 24_000_000
    async with bench(tmp_path, handler, upstream={"limits": {"concurrency": 1}}) as made:
        first, second = await made.client(), await made.client()
        await first.say(ask())
        await made.until(lambda: len(sizes) == 1)
        head = (
            "POST /v1/files HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n"
            f"Content-Length: {total}\r\n\r\n"
        ).encode()
        sending = asyncio.create_task(second.say(head + b"x" * total))
        await made.until(lambda: made.worker.admission.waiting == 1)
        await asyncio.sleep(0.2)
        assert made.worker.snapshot.body_budget.bytes_taken < 1_000_000
        assert not sending.done()
        free.set()
        assert [(await each.answer())[0] for each in (first, second)] == [200, 200]
        await sending
        assert sizes[1] == total


async def test_requests_pipelined_on_one_connection_take_their_turns(tmp_path: Path) -> None:
    """C7: the second is not admitted before the first is answered, and each gives back its own."""
    upstream = Scripted(answer(503, error("busy"), "retry-after: 0"))
    setting = {**SOON, "limits": {"concurrency": 1}}
    async with bench(tmp_path, upstream, upstream=setting) as made:
        client = await made.client()
        await client.say(ask() * 5)
        assert [(await client.answer())[0] for _ in range(5)] == [200] * 5
        assert len(made.closed) == 5


async def test_a_reload_while_calls_wait_takes_none_of_them(tmp_path: Path) -> None:
    """H11: who waits goes on waiting, and goes in turn, under the settings it came with."""
    free = asyncio.Event()

    async def handler(line: Line) -> None:
        while True:
            await line.request()
            await free.wait()
            await line.say(answer())

    async with bench(tmp_path, handler, upstream={"limits": {"concurrency": 1}}) as made:
        clients = [await made.client() for _ in range(4)]
        for client in clients:
            await client.say(ask())
        await made.until(lambda: made.worker.admission.waiting == 3)
        made.worker.reload(made.worker.settings)
        assert made.worker.admission.waiting == 3
        free.set()
        assert [(await each.answer())[0] for each in clients] == [200] * 4


async def test_many_that_wait_and_fail_at_once_do_not_grow_the_stack(tmp_path: Path) -> None:
    """C8: each is refused because the one before it could not be connected, and so on."""
    setting = {
        "url": "http://127.0.0.1:9",
        "limits": {"concurrency": 1},
        "retry": {"attempts_max": 1},
        "breaker": {"enabled": False},
        "queue": {"size": 500, "wait_seconds_max": 20},
    }
    async with bench(tmp_path, upstream=setting) as made:
        client_count = 200
        clients = [await made.client() for _ in range(client_count)]
        for number, client in enumerate(clients):
            await client.say(ask(f"x-taximeter-user: u{number % 7}"))
        statuses = [(await client.answer())[0] for client in clients]
        assert statuses == [502] * client_count
        assert made.worker.faults == 0


# -- waits that end in nothing -----------------------------------------------------------------

OUR_OWN_NS = 50_000_000
"""What a busy machine may take for what is in no stage: from a decision to its attempt."""


async def test_a_wait_that_a_client_gave_up_is_on_record(tmp_path: Path) -> None:
    """C4: where the time of a call went is told of one that left the queue, too."""

    async def hang(line: Line) -> None:
        await line.request()
        await asyncio.sleep(10)

    async with bench(tmp_path, hang, upstream={"limits": {"concurrency": 1}}) as made:
        first, second = await made.client(), await made.client()
        await first.say(ask())
        await made.until(lambda: len(made.opened) == 1)
        await second.say(ask())
        await made.until(lambda: made.worker.admission.waiting == 1)
        await asyncio.sleep(0.2)
        second.leave()
        await made.until(lambda: len(made.closed) == 1)
        closed = only(made)
        assert closed.outcome is Outcome.ABANDONED
        assert 0.2e9 <= closed.stages[Stage.QUEUE] < 1e9
        assert Stage.CONNECT not in closed.stages


async def test_a_wait_between_attempts_that_a_client_gave_up_is_on_record(tmp_path: Path) -> None:
    """C4: attempts that failed, and the waits after them, are in `connect`."""
    upstream = Scripted(answer(503, error("busy"), "retry-after: 5"))
    async with bench(tmp_path, upstream, upstream=SOON) as made:
        client = await made.client()
        await client.say(ask())
        await made.until(lambda: len(upstream.heads) == 1)
        await asyncio.sleep(0.2)
        client.leave()
        await made.until(lambda: len(made.closed) == 1)
        closed = only(made)
        assert closed.outcome is Outcome.ABANDONED
        assert 0.15e9 <= closed.stages[Stage.CONNECT] < 1e9
        assert Stage.FIRST_BYTE not in closed.stages


async def test_time_spent_on_what_cannot_be_reached_is_on_record(tmp_path: Path) -> None:
    """C4: a call without an answer says where its time went: into attempts, and waits between."""
    slow = {"retry": {"backoff_seconds_first": 0.2, "backoff_seconds_max": 0.2}}
    async with bench(tmp_path, upstream={**slow, "url": "http://127.0.0.1:9"}) as made:
        await fetch(made, ask())
        closed = only(made)
        last = closed.attempts[-1]
        assert len(closed.attempts) == 3
        assert last.ended_ns is not None
        assert closed.stages[Stage.CONNECT] >= last.ended_ns - closed.attempts[0].started_ns
        assert abs(sum(closed.stages.values()) - last.ended_ns) < OUR_OWN_NS
        assert Stage.FIRST_BYTE not in closed.stages


@pytest.mark.parametrize("is_silent", [True, False])
async def test_time_spent_waiting_for_an_answer_is_on_record(
    tmp_path: Path, is_silent: bool
) -> None:
    """C4: an upstream that takes a call and never answers is told by `first_byte`."""

    async def upstream(line: Line) -> None:
        await line.request()
        await asyncio.sleep(10 if is_silent else 0.3)
        line.writer.close()

    timeouts = {"timeouts": {"first_byte_seconds": 0.1}}
    async with bench(tmp_path, upstream, upstream=timeouts) as made:
        status, _, said = await fetch(made, ask())
        closed = only(made)
        assert status in (502, 504), said
        (attempt,) = closed.attempts
        assert attempt.sent_ns is not None
        assert attempt.ended_ns is not None
        assert closed.stages[Stage.FIRST_BYTE] >= 0.1e9
        assert abs(sum(closed.stages.values()) - attempt.ended_ns) < OUR_OWN_NS


async def test_time_spent_on_a_failed_last_attempt_is_not_told_twice(tmp_path: Path) -> None:
    """C4: an answer to one attempt leaves no `first_byte` behind when the last finds nobody."""

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.close()
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.1)
        writer.write(answer(503, error("busy"), "Connection: close"))
        writer.close()

    server = await asyncio.start_server(answer_once, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with bench(tmp_path, upstream={**SOON, "url": url}) as made:
        await fetch(made, ask())
        closed = only(made)
        last = closed.attempts[-1]
        assert [each.status for each in closed.attempts] == [503, None, None]
        assert last.ended_ns is not None
        assert abs(sum(closed.stages.values()) - last.ended_ns) < OUR_OWN_NS
        assert Stage.FIRST_BYTE not in closed.stages


@pytest.mark.parametrize("how", ["tells when it is asked", "tells by the clock"])
async def test_who_leaves_the_queue_with_a_body_half_read_is_noticed(
    tmp_path: Path, how: str
) -> None:
    """C4: a client whose long body waits, unread, with its call is missed all the same when it has
    left: its call is taken out of the queue, and no upstream is asked.
    """
    asked = 0
    go_on = asyncio.Event()

    async def upstream(line: Line) -> None:
        nonlocal asked
        while True:
            await line.request()
            asked += 1
            await go_on.wait()
            await line.say(answer())

    head = b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: a\r\n"
    long = head + b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000\r\n\r\n"
    async with bench(tmp_path, upstream, upstream={"limits": {"concurrency": 1}}) as made:
        first, other = await made.client(), await made.client()
        await first.say(ask())
        await made.until(lambda: asked == 1)
        other.writer.write(long + bytes(100_000))
        await made.until(lambda: made.worker.admission.waiting == 1)
        other.leave()
        if how == "tells by the clock":
            await made.until(lambda: made.worker.admission.waiting == 0)
        go_on.set()
        assert (await first.answer())[0] == 200
        await made.until(lambda: len(made.closed) == 2)
        assert {closed.outcome for closed in made.closed} == {
            Outcome.COMPLETED,
            Outcome.ABANDONED,
        }
        assert asked == 1


@pytest.mark.parametrize("gone", ["cancel", "drain"])
async def test_who_leaves_between_attempts_and_unheard_is_waited_for_by_nobody(
    tmp_path: Path, gone: str
) -> None:
    """C4, C8: a client that has sent a request ahead, and so is not read, leaves before its call is
    tried again: the call ends, and nothing is drained of an attempt that was not made.
    """
    upstream = Scripted(answer(503, error("down"), "retry-after: 0"))
    setting = {
        "client_gone": gone,
        "retry": {"backoff_seconds_first": 0.1, "backoff_seconds_max": 0.1},
    }
    async with bench(tmp_path, upstream, upstream=setting) as made:
        client = await made.client()
        await client.say(ask() * 2)
        await made.until(lambda: bool(upstream.heads))
        client.leave()
        await made.until(lambda: len(made.closed) == 1)
        await made.at_rest()
        assert made.closed[0].outcome is Outcome.ABANDONED
        assert len(upstream.heads) == 1
