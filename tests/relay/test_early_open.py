"""A stream that waits is opened, kept waiting, and told honestly what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from taximeter.call import Fact, Outcome
from taximeter.relay._exchange import Exchange
from tests.relay.bench import Bench, Client, Line, bench, fields_of, raw_upstream
from tests.relay.test_admission import Scripted, answer, ask, error
from tests.relay.test_replay import ALICE, KEY, STREAMED

EARLY = {
    "limits": {"concurrency": 1},
    "queue": {"early_open_seconds": 0.05, "wait_seconds_max": 3},
    "retry": {"backoff_seconds_first": 0.01, "backoff_seconds_max": 0.02},
}
PING = b"7\r\n: ping\n\r\n"


class Busy:
    """An upstream whose first call holds the only place until it is told to end."""

    def __init__(self, *answers: bytes) -> None:
        self.after = Scripted(*answers)
        self.may_end = asyncio.Event()
        self.begun = asyncio.Event()

    async def __call__(self, line: Line) -> None:
        if not self.begun.is_set():
            self.begun.set()
            await line.request()
            await self.may_end.wait()
            await line.say(answer())
        await self.after(line)


@contextlib.asynccontextmanager
async def opened(
    folder: Path, busy: Busy, request: bytes | None = None, **settings: Any
) -> AsyncIterator[tuple[Bench, Client, dict[bytes, list[bytes]]]]:
    """Have a stream wait until it has been opened; give its client and the head it got."""
    settings.setdefault("upstream", EARLY)
    async with bench(folder, busy, **settings) as made:
        first = await made.client()
        await first.say(ask())
        await busy.begun.wait()
        client = await made.client()
        await client.say(request or ask(stream=True))
        head = await client.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert await client.until(b": ping\n\r\n") == PING
        yield made, client, fields_of(head)


def said_by(events: bytes) -> dict[str, Any]:
    """Give the error that the last event of a chunked stream tells."""
    assert not events.endswith(b"0\r\n\r\n"), "a refusal must not look like a whole stream"
    (data,) = (line for line in events.split(b"\n") if line.startswith(b"data: "))
    said: dict[str, Any] = json.loads(data[6:])
    return said


async def test_a_stream_that_waits_is_opened_and_then_goes_on(tmp_path: Path) -> None:
    """200 and a comment; then the answer's own bytes, and its end: one stream to its client."""
    upstream = Busy(STREAMED)
    async with opened(tmp_path, upstream) as (made, client, fields):
        assert fields[b"content-type"] == [b"text/event-stream; charset=utf-8"]
        assert fields[b"x-taximeter-opened-early"] == [b"true"]
        assert fields[b"x-taximeter-call-id"]
        upstream.may_end.set()
        rest = await client.until(b"0\r\n\r\n")
        assert b'"content":"Hi"' in rest
        assert b'"usage"' not in rest, "what was asked for on its behalf stays out"
        assert rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert b"HTTP/1.1" not in rest
        assert b"accept-encoding: identity" in upstream.after.heads[0].lower()
        closed = made.closed[-1]
        assert (closed.outcome, closed.status) == (Outcome.COMPLETED, 200)
        assert Fact.OPENED_EARLY in closed.facts
        assert closed.usage is not None
        await client.say(ask())
        assert (await client.answer())[0] == 200, "the connection is good for another call"


async def test_a_stream_that_is_quick_is_not_opened_early(tmp_path: Path) -> None:
    """A call that need not wait for so long gets the upstream's head, as ever."""
    long = {**EARLY, "queue": {"early_open_seconds": 2, "wait_seconds_max": 3}}
    upstream = Busy(STREAMED)
    async with bench(tmp_path, upstream, upstream=long) as made:
        first, second = await made.client(), await made.client()
        await first.say(ask())
        await upstream.begun.wait()
        await second.say(ask(stream=True))
        await made.until(lambda: made.worker.admission.waiting == 1)
        upstream.may_end.set()
        head = await second.until(b"\r\n\r\n")
        assert b"x-taximeter-opened-early" not in head
        assert b"Server-Timing" in head
        await second.until(b"0\r\n\r\n")
        assert Fact.OPENED_EARLY not in made.closed[-1].facts


@pytest.mark.parametrize(
    "request_",
    [
        ask(),
        ask(stream=True, path="/v1/audio/speech"),
        ask(stream=True).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    ],
    ids=["no stream", "no text", "HTTP/1.0"],
)
async def test_what_cannot_be_opened_waits_for_its_head(tmp_path: Path, request_: bytes) -> None:
    """No comment is put where it could do harm, or could not be told from the answer."""
    upstream = Busy()
    async with bench(tmp_path, upstream, upstream=EARLY) as made:
        first, second = await made.client(), await made.client()
        await first.say(ask())
        await upstream.begun.wait()
        await second.say(request_)
        await made.until(lambda: made.worker.admission.waiting == 1)
        await asyncio.sleep(0.15)
        upstream.may_end.set()
        head = await second.until(b"\r\n\r\n")
        assert b"content-type: application/json" in head.lower()
        assert b"x-taximeter-opened-early" not in head


async def test_it_is_kept_waiting_by_comments(tmp_path: Path) -> None:
    """As long as nothing comes a comment is sent at the pace of pings, also before the head."""
    upstream = Busy(STREAMED)
    relay = {"ping_seconds": 0.2}
    async with opened(tmp_path, upstream, relay=relay) as (_, client, _):
        assert await client.until(b": ping\n\r\n") == PING
        upstream.may_end.set()
        assert b": ping" not in await client.until(b"0\r\n\r\n")


async def test_a_wait_in_vain_is_said_in_the_stream(tmp_path: Path) -> None:
    """The error's own code, and no end: the row has the status that it would have had."""
    short = {**EARLY, "queue": {"early_open_seconds": 0.05, "wait_seconds_max": 0.3}}
    upstream = Busy()
    async with opened(tmp_path, upstream, upstream=short) as (made, client, _):
        said = said_by(await client.rest())
        assert said["error"]["code"] == "queue_timeout"
        closed = made.closed[-1]
        assert (closed.outcome, closed.status, closed.error) == (
            Outcome.REJECTED,
            503,
            "queue_timeout",
        )
        assert Fact.OPENED_EARLY in closed.facts
        upstream.may_end.set()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_an_upstream_s_error_is_passed_on_in_the_stream(tmp_path: Path, path: str) -> None:
    """C2: in the upstream's own words, as the event that the packages raise on; and no end."""
    upstream = Busy(answer(400, error("context_length_exceeded")))
    request = ask(path=path, stream=True)
    async with opened(tmp_path, upstream, request) as (made, client, _):
        upstream.may_end.set()
        said = said_by(await client.rest())
        assert said == error("context_length_exceeded")
        closed = made.closed[-1]
        assert (closed.outcome, closed.status, closed.error) == (
            Outcome.UPSTREAM_ERROR,
            400,
            "context_length_exceeded",
        )


async def test_an_error_in_other_words_is_said_in_ours(tmp_path: Path) -> None:
    """A page of a load balancer's is no event: its status is told."""
    page = b"<html>" + b"x" * 100_000
    html = b"HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n%b" % (len(page), page)
    upstream = Busy(html)
    async with opened(tmp_path, upstream) as (made, client, _):
        upstream.may_end.set()
        said = said_by(await client.rest())
        assert said["error"]["code"] == "upstream_error"
        assert "403" in said["error"]["message"]
        assert made.closed[-1].status == 403


async def test_an_error_that_breaks_off_is_an_error_too(tmp_path: Path) -> None:
    """C2: of what came of it nothing looks whole."""
    cut = answer(400, error("context_length_exceeded"))[:-10]
    upstream = Busy()

    async def handler(line: Line) -> None:
        if upstream.begun.is_set():
            await line.request()
            await line.say(cut)
            return
        upstream.begun.set()
        await line.request()
        await upstream.may_end.wait()
        await line.say(answer(200, None, "Connection: close"))

    async with bench(tmp_path, handler, upstream=EARLY) as made:
        first, client = await made.client(), await made.client()
        await first.say(ask())
        await upstream.begun.wait()
        await client.say(ask(stream=True))
        await client.until(b": ping\n\r\n")
        upstream.may_end.set()
        assert said_by(await client.rest())["error"]["code"] == "upstream_error"
        assert made.closed[-1].status == 400
        assert made.closed[-1].outcome is Outcome.TRUNCATED


async def test_a_failure_of_the_upstream_s_is_said_in_the_stream(tmp_path: Path) -> None:
    """No answer at all: the code that would have been the answer's."""
    upstream = Busy(b"")

    async def handler(line: Line) -> None:
        if upstream.begun.is_set():
            await line.request()
            return
        await upstream(line)

    async with bench(tmp_path, handler, upstream=EARLY) as made:
        first, client = await made.client(), await made.client()
        await first.say(ask())
        await upstream.begun.wait()
        await client.say(ask(stream=True))
        await client.until(b": ping\n\r\n")
        first.leave()
        assert said_by(await client.rest())["error"]["code"] == "upstream_disconnected"
        assert made.closed[-1].status == 502
        assert made.closed[-1].outcome is Outcome.UPSTREAM_ERROR


@pytest.mark.parametrize(
    "given",
    [
        answer(200),
        STREAMED.replace(b"event-stream\r\n", b"event-stream\r\nContent-Encoding: gzip\r\n"),
    ],
    ids=["not a stream", "compressed"],
)
async def test_an_answer_that_does_not_fit_the_stream_is_an_error(
    tmp_path: Path, given: bytes
) -> None:
    """JSON, or a coding that the head did not tell of, never gets into a stream of events."""
    upstream = Busy(given)
    async with opened(tmp_path, upstream) as (made, client, _):
        upstream.may_end.set()
        said = said_by(await client.rest())
        assert said["error"]["code"] == "upstream_not_streaming"
        assert made.closed[-1].outcome is Outcome.UPSTREAM_ERROR
        assert made.closed[-1].status == 502


async def test_it_may_still_be_tried_again(tmp_path: Path) -> None:
    """O3: a comment of ours is no byte of an answer; a failure that mends is never seen."""
    upstream = Busy(answer(503, error("busy"), "retry-after: 0"), STREAMED)
    async with opened(tmp_path, upstream) as (made, client, _):
        upstream.may_end.set()
        rest = await client.until(b"0\r\n\r\n")
        assert b'"content":"Hi"' in rest
        assert b"busy" not in rest
        assert [each.status for each in made.closed[-1].attempts] == [503, 200]


async def test_it_may_still_fall_back(tmp_path: Path) -> None:
    """Another upstream's stream comes into the one that is open."""
    upstream = Busy(answer(500, error("broken")))
    async with raw_upstream(Scripted(STREAMED)) as (url, _):
        first = {**EARLY, "fallback": ["standby"], "retry": {"attempts_max": 1}}
        settings: dict[str, Any] = {
            "upstream": first,
            "others": {"standby": {"url": url, "dialect": "openai"}},
        }
        async with opened(tmp_path, upstream, **settings) as (made, client, _):
            upstream.may_end.set()
            assert b'"content":"Hi"' in await client.until(b"0\r\n\r\n")
            assert made.closed[-1].opened.upstream == "standby"


async def test_a_stream_that_breaks_off_later_is_told_as_ever(tmp_path: Path) -> None:
    """C2: between two events, one event that says so; no end."""
    upstream = Busy()

    async def handler(line: Line) -> None:
        if upstream.begun.is_set():
            await line.request()
            await line.say(STREAMED[: STREAMED.index(b"\n\n") + 4])
            return
        upstream.begun.set()
        await line.request()
        await upstream.may_end.wait()
        await line.say(answer(200, None, "Connection: close"))

    async with bench(tmp_path, handler, upstream=EARLY) as made:
        first, client = await made.client(), await made.client()
        await first.say(ask())
        await upstream.begun.wait()
        await client.say(ask(stream=True))
        await client.until(b": ping\n\r\n")
        upstream.may_end.set()
        rest = await client.rest()
        assert b'"partial":true' in rest
        assert not rest.endswith(b"0\r\n\r\n")
        assert made.closed[-1].outcome is Outcome.TRUNCATED


async def test_a_client_that_leaves_an_opened_stream_leaves_nothing(tmp_path: Path) -> None:
    """C4: it is out of the queue, nothing was sent for it, and it is booked as abandoned."""
    upstream = Busy()
    async with opened(tmp_path, upstream) as (made, client, _):
        client.leave()
        await made.until(lambda: made.worker.admission.waiting == 0)
        assert made.closed[-1].outcome is Outcome.ABANDONED
        assert made.closed[-1].attempts == []
        upstream.may_end.set()


async def test_a_drain_is_said_in_the_stream(tmp_path: Path) -> None:
    """L1: what waits when we go down is told so."""
    upstream = Busy()
    async with opened(tmp_path, upstream) as (made, client, _):
        waiting = next(
            each
            for each in made.worker.exchanges
            if isinstance(each, Exchange) and each.is_between_attempts
        )
        waiting.interrupt()
        assert said_by(await client.rest())["error"]["code"] == "draining"
        assert made.closed[-1].outcome is Outcome.INTERRUPTED
        upstream.may_end.set()


async def test_what_came_into_an_opened_stream_is_kept_for_its_key(tmp_path: Path) -> None:
    """The answer that is given again has the upstream's own head, and no comment."""
    upstream = Busy(STREAMED)
    request = ask(KEY, ALICE, stream=True)
    async with opened(tmp_path, upstream, request, replay={"enabled": True}) as (_, client, _):
        upstream.may_end.set()
        first = await client.until(b"0\r\n\r\n")
        await client.say(request)
        status, fields, body = await client.answer()
        assert (status, fields[b"idempotent-replayed"]) == (200, [b"true"])
        assert fields[b"content-type"] == [b"text/event-stream"]
        assert b": ping" not in body
        assert body.count(b"data: ") == first.count(b"data: ") == 3
        assert len(upstream.after.heads) == 1


async def test_a_record_that_cannot_be_written_ends_an_opened_stream(tmp_path: Path) -> None:
    """D6: with `fail_closed` nothing goes upstream that is not on record, and no end is told."""
    upstream = Busy(STREAMED)
    journal = {"when_full": "fail_closed"}
    async with opened(tmp_path, upstream, journal=journal) as (made, client, _):
        from taximeter.relay._bookkeeper import Unrecorded

        write = made.worker.books.write

        def refuse(record: Any, *written: bytes) -> None:
            if getattr(record, "attempts", None):
                write(record, *written)
                return
            raise Unrecorded

        made.worker.books.write = refuse  # type: ignore[method-assign, assignment]
        upstream.may_end.set()
        rest = await client.rest()
        assert not rest.endswith(b"0\r\n\r\n")
        assert upstream.after.heads == []
        made.worker.books.write = write  # type: ignore[method-assign]


async def test_cut_anywhere_it_never_looks_whole(tmp_path: Path) -> None:
    """C2: of every beginning of an answer, stream or error, that the upstream breaks off after."""
    refusal = answer(400, error("context_length_exceeded"))
    given = [STREAMED[:at] for at in range(0, len(STREAMED), 13)]
    given += [refusal[:at] for at in range(0, len(refusal), 13)] + [STREAMED]
    rounds = len(given)
    holder = asyncio.Event()
    began = asyncio.Event()

    async def handler(line: Line) -> None:
        _, body = await line.request()
        if b"stream" in body:
            await line.say(given[0])
            return
        began.set()
        await holder.wait()
        await line.say(answer(200, None, "Connection: close"))

    soon = {**EARLY, "queue": {"early_open_seconds": 0.001, "wait_seconds_max": 3}}
    soon |= {"retry": {"attempts_max": 1}, "breaker": {"enabled": False}}
    async with bench(tmp_path, handler, upstream=soon) as made:
        while given:
            holder.clear()
            began.clear()
            first, client = await made.client(), await made.client()
            await first.say(ask())
            await began.wait()
            await client.say(ask(stream=True))
            await client.until(b": ping\n\r\n")
            holder.set()
            is_whole = len(given) == 1
            rest = await (client.until(b"0\r\n\r\n") if is_whole else client.rest())
            assert rest.endswith(b"0\r\n\r\n") == is_whole, given[0]
            row = [each for each in made.closed if each.opened.stream][-1]
            # Cut behind its end marker it was all there, for the books; not for its client.
            assert (row.outcome is Outcome.COMPLETED) == (b"[DONE]\n\n" in given[0]), given[0]
            if b"{" not in given[0]:
                assert b'"error"' in rest, given[0]
            given.pop(0)
        assert len([each for each in made.closed if each.opened.stream]) == rounds
