"""A client that asks again with its `Idempotency-Key` gets the same answer, and pays once."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from taximeter.call import Closed, Fact, Outcome
from taximeter.keys import KeyBook, Terms, keys_path
from tests.relay.bench import EVENTS, Bench, Client, Line, bench, raw_upstream, settings_for
from tests.relay.test_admission import HASH_KEY, SOON, Scripted, answer, ask, error, fetch

ON = {"enabled": True}
KEY = "Idempotency-Key: 5f2a"
ALICE = "Authorization: Bearer sk-alice"
BOB = "Authorization: Bearer sk-bob"
STREAMED = EVENTS + b"".join(
    b"%x\r\n%b\r\n" % (len(event), event)
    for event in (
        b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n',
        b'data: {"id":"x","choices":[{"index":0,"delta":{"content":" you"}}]}\n\n',
        b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n',
        b"data: [DONE]\n\n",
    )
) + b"0\r\n\r\n"  # fmt: skip


async def twice(made: Bench, first: bytes, second: bytes | None = None) -> list[Any]:
    """Ask twice on connections of their own; give both answers: status, fields and bytes."""
    answers = []
    for request in (first, second or first):
        client = await made.client()
        await client.say(request)
        answers.append(await client.answer())
    return answers


def last(made: Bench) -> Closed:
    """Give the call that was booked last."""
    return made.closed[-1]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_same_key_and_request_get_the_same_answer(tmp_path: Path, stream: bool) -> None:
    """Byte for byte, with its own head, marked, and nothing goes upstream the second time."""
    given = STREAMED if stream else answer(200, None, "x-request-id: req-1", "set-cookie: a=b")
    upstream = Scripted(given)
    async with bench(tmp_path, upstream, replay=ON) as made:
        first, second = await twice(made, ask(KEY, ALICE, stream=stream))
        assert len(upstream.heads) == 1
        assert (first[0], first[2]) == (second[0], second[2])
        if stream:
            assert b'"usage"' not in second[2], "what was asked for on its behalf stays out"
            assert second[2].endswith(b"data: [DONE]\n\n")
        new = {b"idempotent-replayed", b"x-taximeter-replay-of"}
        own = {b"x-taximeter-call-id", b"server-timing"}
        assert set(second[1]) - set(first[1]) == new
        assert {name: first[1][name] for name in set(first[1]) - own} == {
            name: second[1][name] for name in set(first[1]) - own
        }
        original, again = made.closed
        assert second[1][b"idempotent-replayed"] == [b"true"]
        assert second[1][b"x-taximeter-replay-of"] == [original.opened.call_id.encode()]
        assert second[1][b"x-taximeter-call-id"] == [again.opened.call_id.encode()]
        assert (again.outcome, again.status, again.attempts) == (Outcome.COMPLETED, 200, [])
        assert again.facts == [Fact.REPLAYED]
        assert again.opened.retry_of == original.opened.call_id
        assert original.opened.retry_of is None
        assert made.worker.kept.events == {"kept": 1, "replayed": 1}


async def test_many_askings_cost_one_call(tmp_path: Path) -> None:
    """On one connection and with others between: each is linked to the call that was paid."""
    upstream = Scripted()
    async with bench(tmp_path, upstream, replay=ON) as made:
        client = await made.client()
        for _ in range(3):
            await client.say(ask(KEY, ALICE))
            assert (await client.answer())[0] == 200
            await client.say(ask(ALICE))
            assert (await client.answer())[0] == 200
        assert len(upstream.heads) == 4
        paid = made.closed[0].opened.call_id
        replayed = [each for each in made.closed if Fact.REPLAYED in each.facts]
        assert [each.opened.retry_of for each in replayed] == [paid, paid]


async def test_another_request_under_the_same_key_is_refused(tmp_path: Path) -> None:
    """422 in the dialect's shape, not to be tried again, and the answer kept is still there."""
    upstream = Scripted()
    async with bench(tmp_path, upstream, replay=ON) as made:
        first, second = await twice(made, ask(KEY, ALICE), ask(KEY, ALICE, seed=2))
        assert (first[0], second[0]) == (200, 422)
        assert json.loads(second[2])["error"]["code"] == "idempotency_key_reused"
        assert second[1][b"x-should-retry"] == [b"false"]
        assert last(made).outcome is Outcome.REJECTED
        assert last(made).opened.retry_of == made.closed[0].opened.call_id
        elsewhere, again = await twice(
            made, ask(KEY, ALICE, path="/v1/completions"), ask(KEY, ALICE)
        )
        assert (elsewhere[0], again[0], len(upstream.heads)) == (422, 200, 1)


async def test_a_key_whose_call_is_under_way_is_not_to_be_had(tmp_path: Path) -> None:
    """409 with `Retry-After`; the packages try that again, and then there is the answer."""
    may_answer = asyncio.Event()

    async def slow(line: Line) -> None:
        await line.request()
        await may_answer.wait()
        await line.say(answer())

    async with bench(tmp_path, slow, replay=ON) as made:
        first = asyncio.create_task(fetch(made, ask(KEY, ALICE)))
        await made.until(lambda: len(made.opened) == 1)
        status, fields, said = await fetch(made, ask(KEY, ALICE))
        assert (status, said["error"]["code"]) == (409, "idempotency_key_in_use")
        assert fields[b"retry-after"] == [b"1"]
        assert b"x-should-retry" not in fields
        assert last(made).opened.retry_of == made.opened[0].call_id
        may_answer.set()
        assert (await first)[0] == 200
        status, fields, _ = await fetch(made, ask(KEY, ALICE))
        assert (status, fields[b"idempotent-replayed"]) == (200, [b"true"])


@pytest.mark.parametrize("other", [BOB, "Authorization: Bearer", "x-taximeter-user: alice"])
async def test_nobody_gets_another_s_answer(tmp_path: Path, other: str) -> None:
    """H10: the same key from another credential, or from none, is another key."""
    upstream = Scripted(answer(200, {"id": "of alice"}), answer(200, {"id": "of the other"}))
    async with bench(tmp_path, upstream, replay=ON) as made:
        first, second = await twice(made, ask(KEY, ALICE), ask(KEY, other))
        assert json.loads(first[2])["id"] == "of alice"
        assert json.loads(second[2])["id"] == "of the other"
        assert last(made).opened.retry_of is None
        assert len(upstream.heads) == 2


@pytest.mark.parametrize(
    "kind", ["api-key", "x-api-key", "ocp-apim-subscription-key", "Cookie", "?api-key"]
)
async def test_a_credential_behind_another_tells_holders_apart(tmp_path: Path, kind: str) -> None:
    """H10: of several the relay cannot know which one counts upstream, so all of them do."""
    upstream = Scripted(answer(200, {"id": "of alice"}), answer(200, {"id": "of bob"}))

    def by(name: str) -> bytes:
        if kind.startswith("?"):
            return ask(KEY, ALICE, path=f"/v1/chat/completions{kind}={name}")
        return ask(KEY, ALICE, f"{kind}: {name}")

    async with bench(tmp_path, upstream, replay=ON) as made:
        first, second = await twice(made, by("alice"), by("bob"))
        assert json.loads(first[2])["id"] == "of alice"
        assert (second[0], json.loads(second[2])["id"]) == (200, "of bob")
        assert last(made).opened.retry_of is None
        again, _ = await twice(made, by("alice"))
        assert json.loads(again[2])["id"] == "of alice"
        assert len(upstream.heads) == 2


@pytest.mark.parametrize(
    ("field", "is_another"),
    [
        ("OpenAI-Project", True),
        ("OpenAI-Organization", True),
        ("anthropic-beta", True),
        ("Accept", True),
        ("traceparent", False),
        ("X-Request-ID", False),
        ("x-client-request-id", False),
        ("x-stainless-retry-count", False),
        ("x-stainless-read-timeout", False),
        ("X-Forwarded-For", False),
        ("x-taximeter-tags", False),
    ],
)
async def test_all_that_an_upstream_hears_is_what_is_asked(
    tmp_path: Path, field: str, is_another: bool
) -> None:
    """But for what tells one try from another: that the package counts is no other request."""
    upstream = Scripted()
    async with bench(tmp_path, upstream, upstream={"forward_trace": True}, replay=ON) as made:
        one, other = (ask(KEY, ALICE, f"{field}: {value}") for value in (1, 2))
        first, second = await twice(made, one, other)
        assert (first[0], second[0], len(upstream.heads)) == (200, 422 if is_another else 200, 1)


async def test_the_order_of_fields_is_no_other_request(tmp_path: Path) -> None:
    """But that of two with one name is: which of them counts is the upstream's to say."""
    upstream = Scripted()
    a, b, other = "OpenAI-Beta: a", "OpenAI-Beta: b", "Accept: application/json"
    async with bench(tmp_path, upstream, replay=ON) as made:
        await twice(made, ask(KEY, ALICE, a, b, other))
        same, swapped = await twice(
            made, ask(KEY, other, a, b, ALICE), ask(KEY, ALICE, b, a, other)
        )
        assert (same[0], swapped[0], len(upstream.heads)) == (200, 422, 1)


async def test_a_key_does_not_move_with_an_upstream_s_name(tmp_path: Path) -> None:
    """Once the settings point the name elsewhere, the answer of before is not that one's."""
    before, after = Scripted(answer(200, {"id": "before"})), Scripted(answer(200, {"id": "after"}))
    async with raw_upstream(after) as (url, _), bench(tmp_path, before, replay=ON) as made:
        first, _ = await twice(made, ask(KEY, ALICE))
        made.worker.reload(settings_for(tmp_path, url, {}, replay=ON))
        second, third = await twice(made, ask(KEY, ALICE))
        said = [json.loads(each[2])["id"] for each in (first, second, third)]
        assert said == ["before", "after", "after"]
        assert len(after.heads) == 1


async def test_calls_without_a_credential_share_nothing(tmp_path: Path) -> None:
    """Nobody can tell two of them apart: both go upstream, linked and nothing more."""
    upstream = Scripted()
    async with bench(tmp_path, upstream, replay=ON) as made:
        await twice(made, ask(KEY))
        assert len(upstream.heads) == 2
        assert last(made).opened.retry_of == made.closed[0].opened.call_id


async def test_a_virtual_key_that_is_good_no_longer_gets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it may have is asked first, what it was given before comes after."""
    monkeypatch.setenv("THE_REAL_KEY", "sk-real")
    book = KeyBook(keys_path(tmp_path), HASH_KEY)
    made_key = book.create(Terms(user="alice"), 0)
    upstream = Scripted()
    own = {"api_key_env": "THE_REAL_KEY"}
    async with bench(tmp_path, upstream, upstream=own, replay=ON) as made:
        request = ask(KEY, f"Authorization: Bearer {made_key.credential}")
        first, second = await twice(made, request)
        assert (first[0], second[0], len(upstream.heads)) == (200, 200, 1)
        book.revoke(made_key.key.id, 1)
        assert made.worker.keys.reload()
        made.worker._take_keys()
        (third, _) = await twice(made, request)
        assert (third[0], len(upstream.heads)) == (401, 1)


@pytest.mark.parametrize("failure", [answer(500, error("broken")), answer(400, error("bad"))])
async def test_a_failure_is_not_kept(tmp_path: Path, failure: bytes) -> None:
    """An error frees the key: the next call with it goes upstream, linked to the one before."""
    upstream = Scripted(failure, answer())
    once = {"retry": {"attempts_max": 1}}
    async with bench(tmp_path, upstream, upstream=once, replay=ON) as made:
        first, second = await twice(made, ask(KEY, ALICE))
        assert (first[0] >= 400, second[0], len(upstream.heads)) == (True, 200, 2)
        assert b"idempotent-replayed" not in second[1]
        assert last(made).opened.retry_of == made.closed[0].opened.call_id


async def test_a_stream_that_breaks_off_or_ends_in_an_error_is_not_kept(tmp_path: Path) -> None:
    """C2: what never was whole is never given as such."""
    head, body = STREAMED.split(b"\r\n\r\n", 1)
    bad = b'data: {"error":{"message":"no","code":"overloaded"}}\n\n'
    ends_badly = head + b"\r\n\r\n" + b"%x\r\n%b\r\n0\r\n\r\n" % (len(bad), bad)
    given = [head + b"\r\n\r\n" + body[:60], ends_badly, STREAMED]

    async def upstream(line: Line) -> None:
        await line.request()
        await line.say(given.pop(0))

    closing = {"keepalive_seconds": 0.1}
    async with bench(tmp_path, upstream, replay=ON, relay=closing) as made:
        for _ in range(2):
            client = await made.client()
            await client.say(ask(KEY, ALICE, stream=True))
            await client.until(b"data: ")
            await client.rest()
        assert made.worker.kept.events == {}
        third, fourth = await twice(made, ask(KEY, ALICE, stream=True))
        assert third[2] == fourth[2]
        assert not given
        assert made.worker.kept.events == {"kept": 1, "replayed": 1}


async def test_an_answer_that_was_drained_is_had_by_asking_again(tmp_path: Path) -> None:
    """The client lost patience, the answer was read on for its money: it is there the next time."""
    may_end = asyncio.Event()

    async def slow(line: Line) -> None:
        await line.request()
        await line.say(STREAMED[: len(EVENTS) + 80])
        await may_end.wait()
        await line.say(STREAMED[len(EVENTS) + 80 :])

    async with bench(tmp_path, slow, upstream={"client_gone": "drain"}, replay=ON) as made:
        client = await made.client()
        await client.say(ask(KEY, ALICE, stream=True))
        await client.until(b"Hi")
        client.leave()
        await made.until(lambda: not made.worker.clients)
        may_end.set()
        await made.until(lambda: bool(made.closed))
        assert made.closed[0].outcome is Outcome.CANCELLED
        client = await made.client()
        await client.say(ask(KEY, ALICE, stream=True))
        status, fields, body = await client.answer()
        assert (status, fields[b"idempotent-replayed"]) == (200, [b"true"])
        assert body.count(b"data: ") == 3
        assert b" you" in body


async def test_pings_are_not_part_of_the_answer(tmp_path: Path) -> None:
    """What we put in to keep a client waiting is not given again."""
    may_end = asyncio.Event()

    async def slow(line: Line) -> None:
        await line.request()
        await line.say(STREAMED[:-40])
        await may_end.wait()
        await line.say(STREAMED[-40:])

    async with bench(tmp_path, slow, replay=ON, relay={"ping_seconds": 0.1}) as made:
        client = await made.client()
        await client.say(ask(KEY, ALICE, stream=True))
        begun = await client.until(b": ping\n")
        may_end.set()
        first = begun + await client.until(b"0\r\n\r\n")
        (second, _) = await twice(made, ask(KEY, ALICE, stream=True))
        assert b": ping" in first
        assert b": ping" not in second[2]
        assert b"Hi" in second[2]
        assert second[2].endswith(b"data: [DONE]\n\n")


async def test_what_does_not_fit_is_passed_on_and_not_kept(tmp_path: Path) -> None:
    """An answer above the bound costs no memory, and is counted."""
    long = answer(200, {"id": "x", "choices": ["y" * 5000]})
    upstream = Scripted(long, long)
    async with bench(tmp_path, upstream, replay={**ON, "answer_bytes_max": 4000}) as made:
        first, second = await twice(made, ask(KEY, ALICE))
        assert (first[2] == second[2], len(upstream.heads)) == (True, 2)
        assert made.worker.kept.events == {"too_long": 2}
        assert made.worker.kept.bytes_taken == 0


async def test_nothing_is_kept_unless_it_is_asked_for(tmp_path: Path) -> None:
    """Off, which it is by default: the key goes on as it came, and the calls are linked."""
    upstream = Scripted()
    async with bench(tmp_path, upstream) as made:
        await twice(made, ask(KEY, ALICE))
        assert [KEY.encode() in head for head in upstream.heads] == [True, True]
        assert made.worker.kept.events == {}
        assert last(made).opened.retry_of == made.closed[0].opened.call_id


async def test_every_attempt_carries_the_client_s_key(tmp_path: Path) -> None:
    """O3: retries of ours are the same request to the upstream, too."""
    upstream = Scripted(answer(503, error("busy"), "retry-after: 0"), answer())
    async with bench(tmp_path, upstream, upstream=SOON, replay=ON) as made:
        status, _, _ = await fetch(made, ask(KEY, ALICE))
        assert (status, len(upstream.heads)) == (200, 2)
        assert all(KEY.encode() in head for head in upstream.heads)


async def test_a_package_s_own_retry_is_linked_to_the_call_before(tmp_path: Path) -> None:
    """Its count says that it is one, and its request which call it was; each names the last."""
    upstream = Scripted(*(answer(500, error("broken")) for _ in range(3)))
    once = {"retry": {"attempts_max": 1}}
    async with bench(tmp_path, upstream, upstream=once) as made:
        for count in range(3):
            await fetch(made, ask(f"x-stainless-retry-count: {count}", ALICE))
        await fetch(made, ask("x-stainless-retry-count: 1", ALICE, seed=7))
        await fetch(made, ask("x-stainless-retry-count: 1", BOB))
        await fetch(made, ask("x-stainless-retry-count: 0", ALICE))
        ids = [each.opened.call_id for each in made.closed]
        found = [each.opened.retry_of for each in made.closed]
        assert found == [None, ids[0], ids[1], None, None, None]


async def test_a_retry_after_the_client_lost_patience_is_linked(tmp_path: Path) -> None:
    """The call before was abandoned: the one that follows names it."""
    seen: list[Client] = []

    async def silent(line: Line) -> None:
        await line.request()
        if seen:
            await line.say(answer())

    async with bench(tmp_path, silent, upstream={"timeouts": {"first_byte_seconds": 5}}) as made:
        client = await made.client()
        await client.say(ask("x-stainless-retry-count: 0", ALICE))
        await made.until(lambda: len(made.opened) == 1)
        seen.append(client)
        client.leave()
        await made.until(lambda: len(made.closed) == 1)
        status, _, _ = await fetch(made, ask("x-stainless-retry-count: 1", ALICE))
        assert status == 200
        assert last(made).opened.retry_of == made.closed[0].opened.call_id


async def test_a_replay_that_cannot_be_booked_is_not_given(tmp_path: Path) -> None:
    """D6: with `fail_closed` nothing is delivered that is not on record."""
    upstream = Scripted()
    closed = {"when_full": "fail_closed"}
    async with bench(tmp_path, upstream, replay=ON, journal=closed) as made:
        await fetch(made, ask(KEY, ALICE))
        write = made.worker.books.write

        def refuse(record: object, *written: bytes) -> None:
            from taximeter.relay._bookkeeper import Unrecorded

            raise Unrecorded

        made.worker.books.write = refuse  # type: ignore[method-assign, assignment]
        status, fields, said = await fetch(made, ask(KEY, ALICE))
        made.worker.books.write = write  # type: ignore[method-assign]
        assert (status, said["error"]["code"]) == (503, "journal_unwritable")
        assert b"idempotent-replayed" not in fields


async def test_pipelined_askings_and_old_clients_get_it_too(tmp_path: Path) -> None:
    """One after the other on a connection; and HTTP/1.0 gets a stream to the connection's end."""
    upstream = Scripted(STREAMED)
    async with bench(tmp_path, upstream, replay=ON) as made:
        client = await made.client()
        request = ask(KEY, ALICE, stream=True)
        await client.say(request * 3)
        bodies = {(await client.answer())[2] for _ in range(3)}
        assert len(bodies) == 1
        await client.say(request.replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        status, fields, body = await client.answer()
        assert (status, {body}) == (200, bodies)
        assert b"transfer-encoding" not in fields
        assert len(upstream.heads) == 1


async def test_however_a_body_comes_it_is_the_same_request(tmp_path: Path) -> None:
    """Chunked or with a length, at once or in pieces: what counts is what is asked."""
    upstream = Scripted()
    async with bench(tmp_path, upstream, replay=ON) as made:
        whole = ask(KEY, ALICE)
        head, body = whole.split(b"\r\n\r\n", 1)
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
        halves = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (5, body[:5], len(body) - 5, body[5:])
        chunked = b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", halves])
        first, second = await twice(made, whole, chunked)
        assert (first[2], second[1][b"idempotent-replayed"]) == (second[2], [b"true"])
        client = await made.client()
        for at in range(0, len(whole), 7):
            await client.say(whole[at : at + 7])
            await asyncio.sleep(0)
        assert (await client.answer())[1][b"idempotent-replayed"] == [b"true"]


async def test_a_body_that_streams_through_is_not_covered(tmp_path: Path) -> None:
    """What is not here as a whole cannot be compared: it goes upstream, with its key."""
    upstream = Scripted()
    small = {"body_buffer_bytes_max": 100}
    async with bench(tmp_path, upstream, replay=ON, relay=small) as made:
        first, second = await twice(made, ask(KEY, ALICE, user="u" * 500))
        assert (first[0], second[0], len(upstream.heads)) == (200, 200, 2)
        assert all(KEY.encode() in head for head in upstream.heads)
        assert made.worker.kept.events == {}


@pytest.mark.parametrize("seed", range(4))
async def test_it_keeps_step_with_a_simple_model(tmp_path: Path, seed: int) -> None:
    """Whatever is asked in whatever order: one success for a key and its holder, given to nobody
    else, for no other request; and each row of a replay names the call that was paid.
    """
    drawn = random.Random(seed)
    upstream = Numbered(drawn)
    kept: dict[tuple[str, int], tuple[int, str, str]] = {}
    async with bench(
        tmp_path,
        upstream,
        upstream={"retry": {"attempts_max": 1}, "breaker": {"enabled": False}},
        replay=ON,
    ) as made:
        client = await made.client()
        for _ in range(120):
            holder, key, what = drawn.choice([ALICE, BOB]), drawn.randrange(4), drawn.randrange(2)
            await client.say(ask(f"Idempotency-Key: {key}", holder, seed=what))
            status, _, body = await client.answer()
            row = last(made)
            before = kept.get((holder, key))
            if before is None:
                assert Fact.REPLAYED not in row.facts, f"seed {seed}"
                if status == 200:
                    said = json.loads(body)["id"]
                    kept[holder, key] = (what, said, row.opened.call_id)
            elif before[0] != what:
                assert status == 422, f"seed {seed}"
            else:
                assert (status, json.loads(body)["id"]) == (200, before[1]), f"seed {seed}"
                assert row.opened.retry_of == before[2]
                assert row.attempts == []
        assert upstream.good == len(kept)
        assert made.worker.kept.events["kept"] == len(kept)


class Numbered:
    """An upstream that fails now and then, and gives each answer an id of its own."""

    def __init__(self, drawn: random.Random) -> None:
        self.good = 0
        self._drawn = drawn

    async def __call__(self, line: Line) -> None:
        while True:
            await line.request()
            if self._drawn.random() < 0.5:
                await line.say(answer(self._drawn.choice([400, 429, 500]), error("bad")))
            else:
                self.good += 1
                await line.say(answer(200, {"id": f"made {self.good}"}))


@pytest.mark.parametrize("workers", [1, 2])
async def test_workers_that_keep_answers_apart_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    """A second worker has not what the first one kept: the start says what that comes to."""
    async with bench(tmp_path, replay=ON, workers=workers):
        pass
    assert ("keeps answers for itself" in caplog.text) == (workers > 1)
