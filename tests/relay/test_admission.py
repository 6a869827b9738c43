"""A call's turn, its attempts and what it gives back, as the relay carries them out."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from taximeter.call import Closed, Outcome, Stage
from taximeter.keys import KeyBook, Terms, keys_path
from taximeter.trace_ids import span_id_of
from tests.relay.bench import EVENTS, Bench, Client, Line, bench, fields_of, raw_upstream

HASH_KEY = b"k" * 32
SOON = {"retry": {"backoff_seconds_first": 0.01, "backoff_seconds_max": 0.02}}


def ask(*fields: str, path: str = "/v1/chat/completions", **said: Any) -> bytes:
    """Give a request for a chat completion."""
    body = json.dumps({"model": "m", "messages": [], **said}).encode()
    lines = "".join(f"{field}\r\n" for field in fields)
    return (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{lines}"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def answer(status: int = 200, said: object = None, *fields: str) -> bytes:
    """Give an upstream's answer."""
    if said is None:
        said = {"id": "x", "model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    body = json.dumps(said).encode()
    lines = "".join(f"{field}\r\n" for field in fields)
    return (
        f"HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\n{lines}"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def error(code: str) -> dict[str, object]:
    """Give an error in OpenAI's shape."""
    return {"error": {"message": "no", "type": "t", "code": code}}


class Scripted:
    """An upstream that answers one request after the other, on whatever connection."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.bodies: list[bytes] = []
        self.heads: list[bytes] = []

    async def __call__(self, line: Line) -> None:
        while True:
            head, body = await line.request()
            self.heads.append(head)
            self.bodies.append(body)
            await line.say(self.answers.pop(0) if self.answers else answer())


async def fetch(made: Bench, request: bytes) -> tuple[int, dict[bytes, list[bytes]], Any]:
    """Ask on a connection of its own; give the answer's status, fields and JSON."""
    client = await made.client()
    await client.say(request)
    status, fields, body = await client.answer()
    return status, fields, json.loads(body)


def only(made: Bench) -> Closed:
    """Give the one call that was booked."""
    (closed,) = made.closed
    return closed


# -- retries ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
async def test_a_failure_that_may_mend_is_tried_again_unseen(tmp_path: Path, status: int) -> None:
    """O3: the client gets the second attempt's answer, and both attempts are on record."""
    upstream = Scripted(answer(status, error("busy"), "retry-after: 0"))
    async with bench(tmp_path, upstream, upstream=SOON) as made:
        got, _, said = await fetch(made, ask())
        assert (got, said["id"]) == (200, "x")
        assert len(set(upstream.bodies)) == 1
        closed = only(made)
        assert closed.outcome is Outcome.COMPLETED
        assert [(each.number, each.status) for each in closed.attempts] == [(1, status), (2, 200)]


@pytest.mark.parametrize("status", [400, 401, 404, 422])
async def test_a_failure_that_cannot_mend_is_passed_on_at_once(tmp_path: Path, status: int) -> None:
    """O3: an error of the client's own costs one attempt and passes as it came."""
    upstream = Scripted(answer(status, error("bad")))
    async with bench(tmp_path, upstream, upstream=SOON) as made:
        got, fields, said = await fetch(made, ask())
        assert (got, said) == (status, error("bad"))
        assert b"x-should-retry" not in fields
        assert len(only(made).attempts) == 1


async def test_an_account_without_money_is_not_asked_again(tmp_path: Path) -> None:
    """O3: `insufficient_quota` comes as a 429, and no wait mends it."""
    upstream = Scripted(answer(429, error("insufficient_quota"), "retry-after: 0"))
    async with bench(tmp_path, upstream, upstream=SOON) as made:
        got, _, said = await fetch(made, ask())
        assert (got, said) == (429, error("insufficient_quota"))
        assert len(only(made).attempts) == 1


async def test_the_last_failure_passes_and_stops_the_clients_own_retries(tmp_path: Path) -> None:
    """O3: an answer says when our attempts are spent: ours and theirs must not multiply."""
    upstream = Scripted(*(answer(503, error("down")) for _ in range(3)))
    async with bench(tmp_path, upstream, upstream=SOON) as made:
        got, fields, said = await fetch(made, ask())
        assert (got, said) == (503, error("down"))
        assert fields[b"x-should-retry"] == [b"false"]
        assert [each.status for each in only(made).attempts] == [503, 503, 503]
        assert only(made).outcome is Outcome.UPSTREAM_ERROR


async def test_an_upstream_that_cannot_be_reached_is_tried_again(tmp_path: Path) -> None:
    """O3: no connection, nothing sent: three attempts, then 502, and nothing was spent."""
    async with bench(tmp_path, upstream={**SOON, "url": "http://127.0.0.1:9"}) as made:
        got, fields, said = await fetch(made, ask())
        assert (got, said["error"]["code"]) == (502, "upstream_unreachable")
        assert fields[b"x-should-retry"] == [b"false"]
        assert [each.sent_ns for each in only(made).attempts] == [None, None, None]


async def test_a_connection_that_went_stale_costs_nobody_an_answer(tmp_path: Path) -> None:
    """An idle connection that the upstream closes as it is taken is replaced by a new one."""
    told: list[Line] = []

    async def once(line: Line) -> None:
        told.append(line)
        await line.request()
        await line.say(answer())
        if len(told) == 1:
            await line.request()  # and closes without an answer

    async with bench(tmp_path, once, upstream=SOON) as made:
        client = await made.client()
        for _ in range(2):
            await client.say(ask())
            status, _, _ = await client.answer()
            assert status == 200
        assert [len(closed.attempts) for closed in made.closed] == [1, 2]


async def test_a_client_that_leaves_between_attempts_ends_them(tmp_path: Path) -> None:
    """C4: nothing is tried again on behalf of nobody."""
    upstream = Scripted(answer(503, error("down"), "retry-after: 2"))
    async with bench(tmp_path, upstream) as made:
        client = await made.client()
        await client.say(ask())
        await made.until(lambda: bool(upstream.heads))
        await asyncio.sleep(0.05)
        client.leave()
        await made.until(lambda: bool(made.closed))
        assert only(made).outcome is Outcome.ABANDONED
        assert len(upstream.heads) == 1


async def test_a_stream_under_way_is_never_begun_again(tmp_path: Path) -> None:
    """O3: what has reached the client stands; a stream that breaks off is truncated, once."""
    begun = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\ndata:\r\n"
    )

    async def cut(line: Line) -> None:
        await line.request()
        await line.say(begun)

    async with bench(tmp_path, cut, upstream=SOON) as made:
        client = await made.client()
        await client.say(ask(stream=True))
        await client.rest()
        await made.until(lambda: bool(made.closed))
        assert only(made).outcome is Outcome.TRUNCATED
        assert len(only(made).attempts) == 1


# -- the queue -------------------------------------------------------------------------------


class Held:
    """An upstream that answers when it is told to."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.heads: list[bytes] = []

    async def __call__(self, line: Line) -> None:
        while True:
            head, _ = await line.request()
            self.heads.append(head)
            await self.open.wait()
            await line.say(answer())


async def test_a_call_beyond_the_limit_waits_for_the_one_before(tmp_path: Path) -> None:
    """O7: a slot is held to the last byte; the wait is a stage of its own, told and booked."""
    upstream = Held()
    async with bench(tmp_path, upstream, upstream={"limits": {"concurrency": 1}}) as made:
        clients = [await made.client() for _ in range(2)]
        for client in clients:
            await client.say(ask())
            await made.until(lambda: bool(upstream.heads))
        await made.until(lambda: made.worker.admission.waiting == 1)
        await asyncio.sleep(0.05)
        assert len(upstream.heads) == 1
        upstream.open.set()
        answers = [await client.answer() for client in clients]
        assert [status for status, _, _ in answers] == [200, 200]
        waits = [closed.stages[Stage.QUEUE] for closed in made.closed]
        assert waits[0] == 0
        assert waits[1] > 50_000_000
        assert b"queue;dur=0.000" not in answers[1][1][b"server-timing"][0]


async def test_a_stream_holds_its_slot_while_its_bytes_come(tmp_path: Path) -> None:
    """O7: the next call goes when a stream has ended, not when its head or its first bytes come."""
    heads, more = [], asyncio.Event()

    async def stream(line: Line) -> None:
        while True:
            heads.append(await line.request())
            await line.say(EVENTS + b"4\r\n: a\n\r\n")
            await more.wait()
            await line.say(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    async with bench(tmp_path, stream, upstream={"limits": {"concurrency": 1}}) as made:
        clients = [await made.client() for _ in range(2)]
        for client in clients:
            await client.say(ask(stream=True))
            await made.until(lambda: bool(heads))
        await clients[0].until(b": a\n")
        await made.until(lambda: made.worker.admission.waiting == 1)
        await asyncio.sleep(0.05)
        assert len(heads) == 1
        more.set()
        for client in clients:
            await client.until(b"[DONE]")


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(tmp_path: Path) -> None:
    """O2: 503 in the dialect's shape with `Retry-After`, and no attempt upstream."""
    upstream = Held()
    setting = {"limits": {"concurrency": 1}, "queue": {"size": 0}}
    async with bench(tmp_path, upstream, upstream=setting) as made:
        first = await made.client()
        await first.say(ask())
        await made.until(lambda: bool(upstream.heads))
        got, fields, said = await fetch(made, ask())
        assert (got, said["error"]["code"]) == (503, "queue_full")
        assert int(fields[b"retry-after"][0]) >= 1
        upstream.open.set()
        assert (await first.answer())[0] == 200
        assert {closed.outcome for closed in made.closed} == {"rejected", "completed"}


async def test_a_call_that_waited_in_vain_is_told_within_its_time(tmp_path: Path) -> None:
    """O2: the wait has an end: 503, booked with the time it took."""
    upstream = Held()
    setting = {"limits": {"concurrency": 1}, "queue": {"wait_seconds_max": 0.1}}
    async with bench(tmp_path, upstream, upstream=setting) as made:
        first = await made.client()
        await first.say(ask())
        await made.until(lambda: bool(upstream.heads))
        got, _, said = await fetch(made, ask())
        assert (got, said["error"]["code"]) == (503, "queue_timeout")
        assert made.closed[0].stages[Stage.QUEUE] >= 100_000_000
        upstream.open.set()
        await first.answer()


async def test_a_client_that_leaves_the_queue_makes_no_call(tmp_path: Path) -> None:
    """C4: it is removed, nothing goes upstream for it, and its row says `abandoned`."""
    upstream = Held()
    async with bench(tmp_path, upstream, upstream={"limits": {"concurrency": 1}}) as made:
        first, second = await made.client(), await made.client()
        await first.say(ask())
        await made.until(lambda: bool(upstream.heads))
        await second.say(ask())
        await made.until(lambda: made.worker.admission.waiting == 1)
        second.leave()
        await made.until(lambda: bool(made.closed))
        assert only(made).outcome is Outcome.ABANDONED
        assert made.worker.admission.waiting == 0
        upstream.open.set()
        await first.answer()
        assert len(upstream.heads) == 1


async def test_a_long_queue_does_not_grow_the_stack(tmp_path: Path) -> None:
    """A slot that is freed lets the next one go, a thousand times over, one after the other."""
    setting = {
        "limits": {"concurrency": 1},
        "queue": {"size": 2000},
        "url": "http://127.0.0.1:9",
        "retry": {"attempts_max": 1},
        "breaker": {"enabled": False},
    }
    async with bench(tmp_path, upstream=setting) as made:
        clients: list[Client] = [await made.client() for _ in range(300)]
        for client in clients:
            await client.say(ask())
        for client in clients:
            assert (await client.answer())[0] == 502


async def test_many_long_streams_at_once_wait_for_nothing(tmp_path: Path) -> None:
    """With no limit set, streams that stay open hold up no other: all begin at once."""
    begun = 0

    async def stay(line: Line) -> None:
        nonlocal begun
        while True:
            await line.request()
            await line.say(EVENTS + b"6\r\n: hi\n\n\r\n")
            begun += 1
            await asyncio.sleep(20)

    async with bench(tmp_path, stay) as made:
        clients = [await made.client() for _ in range(200)]
        for client in clients:
            await client.say(ask(stream=True))
        for client in clients:
            await client.until(b": hi\n\n")
        assert begun == 200


# -- tiers and budgets -------------------------------------------------------------------------


async def test_a_tier_s_longest_output_is_put_into_the_request(tmp_path: Path) -> None:
    """The cap goes upstream in the request's own words, and the client is told."""
    upstream = Scripted()
    tiers = {"default": {"output_tokens_max": 7}}
    async with bench(tmp_path, upstream, tiers=tiers) as made:
        status, fields, _ = await fetch(made, ask(max_tokens=100))
        assert status == 200
        assert json.loads(upstream.bodies[0])["max_tokens"] == 7
        assert fields[b"x-taximeter-output-tokens-max"] == [b"7"]
        assert "output_clamped" in only(made).facts
        assert (await fetch(made, ask(max_tokens=5)))[0] == 200
        assert "output_clamped" not in made.closed[-1].facts


async def test_a_soft_budget_that_is_used_up_is_on_record(tmp_path: Path) -> None:
    """The call goes on; its client is told, and its row says so."""
    tiers = {"default": {"budget": {"tokens": 1, "per": "day", "hard": False}}}
    async with bench(tmp_path, Scripted(), tiers=tiers) as made:
        status, fields, _ = await fetch(made, ask())
        assert status == 200
        assert fields[b"x-taximeter-over-budget"] == [b"user.tokens_per_day"]
        assert only(made).facts == ["over_budget"]


async def test_an_input_over_the_tier_s_longest_is_refused(tmp_path: Path) -> None:
    """400 before anything goes upstream; what is long in bytes alone is looked at first."""
    tiers = {"default": {"input_tokens_max": 50}}
    async with bench(tmp_path, tiers=tiers) as made:
        words = [{"role": "user", "content": "word " * 200}]
        got, _, said = await fetch(made, ask(messages=words))
        assert (got, said["error"]["code"]) == (400, "input_tokens_exceeded")
        status, _, _ = await fetch(made, ask(padding="x" * 4000))
        assert status == 200


async def test_a_spent_budget_refuses_and_is_not_retried(tmp_path: Path) -> None:
    """O5: 402 `budget_exceeded` with `x-should-retry: false`; another user is not concerned."""
    tiers = {"default": {"budget": {"tokens": 30, "per": "month"}}}
    async with bench(tmp_path, Scripted(), tiers=tiers) as made:
        got = [await fetch(made, ask("x-taximeter-user: alice", max_tokens=1)) for _ in range(8)]
        statuses = [status for status, _, _ in got]
        assert statuses[0] == 200
        assert statuses[-1] == 402
        assert got[-1][2]["error"]["code"] == "budget_exceeded"
        assert got[-1][1][b"x-should-retry"] == [b"false"]
        status, _, _ = await fetch(made, ask("x-taximeter-user: bob", max_tokens=1))
        assert status == 200


# -- the breaker -----------------------------------------------------------------------------


async def test_an_open_breaker_answers_in_the_upstream_s_place(tmp_path: Path) -> None:
    """O4: after enough failures nothing goes upstream for a while; 503 with `Retry-After`."""
    upstream = Scripted(*(answer(500, error("broken")) for _ in range(50)))
    setting = {
        "retry": {"attempts_max": 1},
        "breaker": {"calls_min": 3, "open_seconds": 30},
    }
    async with bench(tmp_path, upstream, upstream=setting) as made:
        statuses = [(await fetch(made, ask()))[0] for _ in range(5)]
        assert statuses[:3] == [500, 500, 500]
        assert statuses[-1] == 503
        assert len(upstream.heads) < 5
        assert made.closed[-1].error == "breaker_open"


# -- fallbacks -------------------------------------------------------------------------------


def with_standby(standby_url: str, **main: Any) -> dict[str, Any]:
    """Give the settings of an upstream that falls back to another."""
    first = {"fallback": ["standby"], "retry": {"attempts_max": 1}, **main}
    return {"upstream": first, "others": {"standby": {"url": standby_url, "dialect": "openai"}}}


async def test_another_upstream_answers_for_one_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client gets the other's answer; no credential crosses; both attempts are on record."""
    monkeypatch.setenv("STANDBY_KEY", "sk-standby")
    broken, good = Scripted(answer(500, error("broken"))), Scripted()
    async with raw_upstream(good) as (url, _):
        settings = with_standby(url)
        settings["others"]["standby"]["api_key_env"] = "STANDBY_KEY"
        async with bench(tmp_path, broken, **settings) as made:
            status, fields, said = await fetch(made, ask("Authorization: Bearer sk-of-the-first"))
            assert (status, said["id"]) == (200, "x")
            assert fields[b"x-taximeter-upstream"] == [b"standby"]
            assert b"sk-of-the-first" in broken.heads[0]
            assert b"sk-of-the-first" not in good.heads[0]
            assert b"Authorization: Bearer sk-standby" in good.heads[0]
            assert good.bodies == broken.bodies
            closed = only(made)
            assert [each.upstream for each in closed.attempts] == ["openai", "standby"]
            assert closed.opened.upstream == "standby", "it is the one that is paid"
            assert closed.opened.meant_for == "openai"
            assert "fell_back" in closed.facts


async def test_a_call_is_not_in_its_own_way_to_another_upstream(tmp_path: Path) -> None:
    """The place that it holds of its user's limit is the one that it goes with, and so is what is
    reserved for it of a budget that has room for one such call.
    """
    budget = {"tokens": 110, "per": "month"}
    tiers = {"default": {"concurrency": 1, "shared": {"concurrency": 1}, "budget": budget}}
    async with raw_upstream(Scripted()) as (url, _):
        settings = with_standby(url)
        broken = Scripted(*(answer(500, error("broken")) for _ in range(3)))
        async with bench(tmp_path, broken, tiers=tiers, **settings) as made:
            for _ in range(3):
                status, fields, _ = await fetch(made, ask(max_tokens=60))
                assert (status, fields[b"x-taximeter-upstream"]) == (200, [b"standby"])
            book = made.worker.admission.book
            assert book is not None
            used = {(each.spent, each.reserved) for each in book.snapshot()}
            assert used == {(15, 0)}, "three calls of five tokens, and nothing is reserved"


async def test_a_call_that_looks_for_another_upstream_pushes_nobody_out(tmp_path: Path) -> None:
    """A full upstream is no way out, and its queue is others': they stay where they are."""
    may_end = asyncio.Event()

    async def full(line: Line) -> None:
        while True:
            await line.request()
            await may_end.wait()
            await line.say(answer())

    async with raw_upstream(full) as (url, lines):
        settings = with_standby(url)
        settings["others"]["standby"] |= {"limits": {"concurrency": 1}, "queue": {"size": 1}}
        broken = Scripted(answer(500, error("broken")))
        async with bench(tmp_path, broken, **settings) as made:
            there = ask(path="/standby/v1/chat/completions")
            first = asyncio.create_task(fetch(made, there))
            await made.until(lambda: bool(lines))
            second = asyncio.create_task(fetch(made, there))
            await made.until(lambda: made.worker.admission.waiting == 1)
            status, _, said = await fetch(made, ask("x-taximeter-user: another"))
            assert (status, said) == (500, error("broken"))
            assert made.worker.admission.waiting == 1
            may_end.set()
            assert [(await each)[0] for each in (first, second)] == [200, 200]


async def test_a_wait_before_a_fallback_is_counted_once(tmp_path: Path) -> None:
    """A call's stages add up to its time, also where it waited at an upstream that then failed."""
    first_is_there, first_may_end = asyncio.Event(), asyncio.Event()

    async def slow_then_broken(line: Line) -> None:
        await line.request()
        if not first_is_there.is_set():
            first_is_there.set()
            await first_may_end.wait()
            await line.say(answer())
            await line.request()
        await line.say(answer(500, error("broken")))

    async with raw_upstream(Scripted()) as (url, _):
        settings = with_standby(url, limits={"concurrency": 1})
        async with bench(tmp_path, slow_then_broken, **settings) as made:
            loop = asyncio.get_running_loop()
            first = asyncio.create_task(fetch(made, ask()))
            await first_is_there.wait()
            began = loop.time()
            second = asyncio.create_task(fetch(made, ask()))
            await made.until(lambda: made.worker.admission.waiting == 1)
            await asyncio.sleep(0.3)
            first_may_end.set()
            await first
            status, fields, _ = await second
            took_ns = (loop.time() - began) * 1e9
            assert (status, fields[b"x-taximeter-upstream"]) == (200, [b"standby"])
            stages = made.closed[-1].stages
            assert 0.25e9 < stages[Stage.QUEUE] <= sum(stages.values()) < took_ns


async def test_another_upstream_answers_for_one_that_cannot_be_reached(tmp_path: Path) -> None:
    """No connection, and no key of its own either: the request goes without any."""
    good = Scripted()
    async with raw_upstream(good) as (url, _):
        settings = with_standby(url, url="http://127.0.0.1:9")
        async with bench(tmp_path, **settings) as made:
            status, _, _ = await fetch(made, ask("x-api-key: secret", "api-key: secret"))
            assert status == 200
            assert b"secret" not in good.heads[0]


async def test_an_open_breaker_sends_calls_elsewhere_at_once(tmp_path: Path) -> None:
    """O4: while an upstream is left alone its calls go to the other, and nothing goes to it."""
    broken, good = Scripted(*(answer(500, error("broken")) for _ in range(9))), Scripted()
    async with raw_upstream(good) as (url, _):
        settings = with_standby(url, breaker={"calls_min": 2, "open_seconds": 30})
        async with bench(tmp_path, broken, **settings) as made:
            for _ in range(6):
                assert (await fetch(made, ask()))[0] == 200
            assert len(broken.heads) < 4
            assert len(good.heads) == 6


async def test_the_first_upstream_s_error_passes_when_none_is_better(tmp_path: Path) -> None:
    """A chain that ends in failure gives the last answer there was, once."""
    broken, worse = Scripted(answer(500, error("first"))), Scripted(answer(503, error("second")))
    async with raw_upstream(worse) as (url, _):
        settings = with_standby(url)
        settings["others"]["standby"]["retry"] = {"attempts_max": 1}
        async with bench(tmp_path, broken, **settings) as made:
            status, _, said = await fetch(made, ask())
            assert (status, said) == (503, error("second"))
            assert [each.status for each in only(made).attempts] == [500, 503]
            assert only(made).outcome is Outcome.UPSTREAM_ERROR


# -- virtual keys ----------------------------------------------------------------------------


async def test_a_virtual_key_ends_here_and_the_upstream_s_own_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H9: whatever carries the key is taken out; its owner is whom the call is booked on."""
    monkeypatch.setenv("THE_REAL_KEY", "sk-real")
    made_key = KeyBook(keys_path(tmp_path), HASH_KEY).create(Terms(user="alice", team="red"), 0)
    secret = made_key.credential
    upstream = Scripted()
    async with bench(tmp_path, upstream, upstream={"api_key_env": "THE_REAL_KEY"}) as made:
        fields = (
            f"Authorization: Bearer {secret}",
            f"x-api-key: {secret}",
            "x-taximeter-user: eve",
        )
        path = f"/v1/chat/completions?key={secret}&a=b"
        status, _, _ = await fetch(made, ask(*fields, path=path))
        assert status == 200
        head = upstream.heads[0]
        assert b"Authorization: Bearer sk-real" in head
        assert secret.encode() not in head
        assert b"POST /v1/chat/completions?a=b HTTP/1.1" in head
        opened = made.opened[0]
        assert (opened.user, opened.team, opened.key_hash) == (
            "alice", "red", f"tm-{made_key.key.id}",
        )  # fmt: skip


async def test_a_key_that_is_not_valid_gets_one_answer_for_every_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H6: unknown, revoked and misspelt keys are told the same, and reach no upstream."""
    monkeypatch.setenv("THE_REAL_KEY", "sk-real")
    book = KeyBook(keys_path(tmp_path), HASH_KEY)
    revoked = book.create(Terms(user="alice"), 0)
    book.revoke(revoked.key.id, 1)
    misspelt = revoked.credential[:-1] + ("a" if revoked.credential[-1] != "a" else "b")
    upstream = Scripted()
    async with bench(tmp_path, upstream, upstream={"api_key_env": "THE_REAL_KEY"}) as made:
        said = []
        for secret in (revoked.credential, misspelt, "tm-nothing"):
            status, fields, body = await fetch(made, ask(f"Authorization: Bearer {secret}"))
            said.append((status, fields[b"x-should-retry"], body["error"]["code"]))
        assert set(map(str, said)) == {str((401, [b"false"], "invalid_key"))}
        status, _, _ = await fetch(made, ask())
        assert status == 200
        assert b"sk-real" not in upstream.heads[0], "no key is lent once there are virtual ones"


async def test_a_key_may_do_what_it_may_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a client says of itself never widens what its key may do."""
    monkeypatch.setenv("THE_REAL_KEY", "sk-real")
    book = KeyBook(keys_path(tmp_path), HASH_KEY)
    narrow = book.create(Terms(models=("m",), tier="small"), 0).credential
    tiers = {"small": {"output_tokens_max": 5}, "big": {"output_tokens_max": 500}}
    users = {"boss": {"tier": "big"}}
    upstream = Scripted()
    setting = {"api_key_env": "THE_REAL_KEY"}
    async with bench(tmp_path, upstream, upstream=setting, tiers=tiers, users=users) as made:
        bearer = f"Authorization: Bearer {narrow}"
        status, _, body = await fetch(made, ask(bearer, model="other"))
        assert (status, body["error"]["code"]) == (403, "key_not_allowed")
        status, _, _ = await fetch(made, ask(bearer, "x-taximeter-user: boss", max_tokens=100))
        assert status == 200
        assert json.loads(upstream.bodies[0])["max_tokens"] == 5
        assert made.opened[-1].user == "boss"


async def test_a_key_that_is_revoked_is_good_for_nothing_a_moment_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that has been seen before does not outlive its key."""
    monkeypatch.setenv("THE_REAL_KEY", "sk-real")
    book = KeyBook(keys_path(tmp_path), HASH_KEY)
    key = book.create(Terms(user="alice"), 0)
    async with bench(tmp_path, Scripted(), upstream={"api_key_env": "THE_REAL_KEY"}) as made:
        bearer = f"Authorization: Bearer {key.credential}"
        client = await made.client()
        for _ in range(2):
            await client.say(ask(bearer))
            assert (await client.answer())[0] == 200
        book.revoke(key.key.id, 1)

        async def refused() -> bool:
            await client.say(ask(bearer))
            return (await client.answer())[0] == 401

        async with asyncio.timeout(10):
            while not await refused():
                await asyncio.sleep(0.1)


async def test_every_attempt_is_a_span_of_its_own_to_the_upstream(tmp_path: Path) -> None:
    """With `forward_trace` and traces on, an attempt's `traceparent` names that attempt's span."""
    upstream = Scripted(answer(503, error("busy"), "retry-after: 0"))
    theirs = "traceparent: 00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    otlp = {"endpoint": "http://127.0.0.1:9"}
    setting = {**SOON, "forward_trace": True}
    async with bench(tmp_path, upstream, upstream=setting, otlp=otlp) as made:
        client = await made.client()
        for _ in range(2):
            await client.say(ask(theirs))
            assert (await client.answer())[0] == 200
        ids = [closed.opened.call_id for closed in made.closed]
        told = [fields_of(head)[b"traceparent"] for head in upstream.heads]
        assert told == [
            [f"00-{'a' * 32}-{span_id_of(call_id, f'attempt {number}')}-01".encode()]
            for call_id, number in ((ids[0], 1), (ids[0], 2), (ids[1], 1))
        ]
