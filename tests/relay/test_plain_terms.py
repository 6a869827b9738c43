"""A plain call under settings, keys, limits and a journal of every kind."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from taximeter.admission import Level
from taximeter.admission._breaker import Event
from taximeter.call import Closed, Opened
from taximeter.journal import JournalError, JournalWriter, RealDisk, SyncPolicy, root_of
from taximeter.keys import KeyBook, KeyBudget, Terms, keys_path
from taximeter.records import decode_record
from taximeter.settings import Settings
from taximeter.trace_ids import span_id_of
from tests.relay.bench import Line, bench, ended_plainly, fields_of
from tests.relay.two_ways import (
    PAUSE,
    Scene,
    Stage,
    Upstream,
    ask,
    good,
    in_turn,
    same_both_ways,
)

HASH_KEY = b"k" * 32
OURS = {"api_key_env": "THE_REAL_KEY"}
NO_QUEUE = {"queue": {"size": 0}}
Step = Callable[[Stage], Awaitable[None] | None]


def thrice(**scene: Any) -> Scene:
    """Give a scene of three equal calls."""
    return Scene(play=in_turn(*[ask()] * 3), **scene)


def limited(tier: dict[str, Any], plain: int, **said: Any) -> Scene:
    """Give a scene of four equal calls under a tier's limits."""
    return Scene(
        play=in_turn(*[ask(**said)] * 4),
        plain=plain,
        upstream=NO_QUEUE,
        rooms={"tiers": {"default": tier}},
        calls=4,
    )


def between(*steps: Step) -> Callable[[Stage], Awaitable[None]]:
    """Give a script: two calls, and one more after each step, all on one connection."""

    async def play(stage: Stage) -> None:
        client = await stage.client()
        bearer = credential(stage)
        for step in (None, None, *steps):
            if step is not None:
                done = step(stage)
                if done is not None:
                    await done
            await client.say(ask("hi", *bearer))
            await client.answer()

    return play


def credential(stage: Stage) -> list[str]:
    """Give the field of the key that was made for a scene, if there is one."""
    found = Path(stage.made.worker.settings.data_dir) / "credential"
    return [f"Authorization: Bearer {found.read_text()}"] if found.exists() else []


def with_key(**terms: Any) -> Callable[[Path], None]:
    """Give what makes a virtual key in a scene's folder."""

    def prepare(folder: Path) -> None:
        given = dict(terms)
        if "seconds" in given:
            given["expires_ns"] = time.time_ns() + int(given.pop("seconds") * 1e9)
        made = KeyBook(keys_path(folder), HASH_KEY).create(Terms(**given), 0)
        (folder / "credential").write_text(made.credential)
        (folder / "key id").write_text(made.key.id)

    return prepare


async def revoke(stage: Stage) -> None:
    """Revoke the only key there is, and have the worker read it."""
    worker = stage.made.worker
    book = KeyBook(worker.keys.path, HASH_KEY)
    book.revoke((Path(worker.settings.data_dir) / "key id").read_text(), 1)
    await worker._read_keys()


def forget(stage: Stage) -> None:
    """Forget every head."""
    stage.made.worker.snapshot.heads.forget()


def age(stage: Stage) -> None:
    """Begin another generation of heads."""
    stage.made.worker.snapshot.heads._age()


def reload(**rooms: Any) -> Step:
    """Give what reads the settings again, with some of them changed."""

    def step(stage: Stage) -> None:
        worker = stage.made.worker
        said = worker.settings.model_dump(mode="json", exclude_unset=True)
        worker.reload(Settings.model_validate({**said, **rooms}))

    return step


def trip(stage: Stage) -> None:
    """Open every breaker."""
    for breaker in stage.made.worker.admission.admission.breakers().values():
        breaker._move(Event.TRIPPED, time.monotonic_ns())


def press(stage: Stage) -> None:
    """Have the process be short of all it needs."""
    stage.made.worker.admission.admission.pressure.level = Level.CLOSED


def refuse_records(kind: type) -> Step:
    """Give what has the journal refuse all records of a kind from now on."""

    def step(stage: Stage) -> None:
        writer = stage.made.worker.books._writer
        append = writer.append

        def refuse(data: bytes) -> int:
            if isinstance(decode_record(data), kind):
                raise JournalError("the disk is full")
            return append(data)

        writer.append = refuse  # type: ignore[method-assign, assignment]

    return step


async def one_at_once(stage: Stage) -> None:
    """Three clients where one call may be under way: two of them wait."""
    first = await stage.client()
    await first.say(ask("hi", "x-taximeter-user: a"))
    await first.answer()
    await first.say(ask("hi", "x-taximeter-user: a"))
    await stage.asked(2)
    others = [await stage.client() for _ in range(2)]
    for number, other in enumerate(others):
        await other.say(ask(f"other {number}", "x-taximeter-user: a"))
        await asyncio.sleep(0.02)
    assert stage.made.worker.admission.waiting == 2
    stage.upstream.go_on.set()
    for client in (first, *others):
        await client.answer()
    await first.say(ask("hi", "x-taximeter-user: a"))
    await first.answer()


ONE = {"tiers": {"default": {"concurrency": 1}}}
HELD = [(good(),), (PAUSE, good())]
SCENES: dict[str, Scene] = {
    # heads that are known
    "heads forgotten": Scene((), between(forget), plain=1, calls=3),
    "heads aged": Scene((), between(age, age), plain=3, calls=4),
    "settings read again": Scene((), between(reload()), plain=1, calls=3),
    "another upstream's": Scene(
        (), between(reload(default_tier="small", tiers={"small": {}})), plain=1, calls=3
    ),
    # keys
    "a key": Scene((), between(age), plain=2, upstream=OURS, prepare=with_key(user="alice")),
    "a key revoked": Scene((), between(revoke), plain=1, upstream=OURS, prepare=with_key()),
    "a key expired": Scene(
        (),
        between(lambda _: asyncio.sleep(1.1)),
        plain=1,
        upstream=OURS,
        prepare=with_key(seconds=1),
    ),
    "a key for another model": Scene(
        (), between(age), upstream=OURS, prepare=with_key(models=("other",))
    ),
    "a key whose tier goes": Scene(
        (),
        between(reload(tiers={}), age),
        plain=1,
        upstream=OURS,
        rooms={"tiers": {"small": {}}},
        prepare=with_key(tier="small"),
    ),
    "a key with a budget": Scene(
        (), between(age), upstream=OURS, prepare=with_key(budget=KeyBudget(pico=10**12))
    ),
    # who asks
    "a user in the head": Scene(
        play=in_turn(*[ask("hi", "x-taximeter-user: u", "x-taximeter-tags: a=b")] * 3), plain=2
    ),
    "a user in the body": Scene(play=in_turn(*[ask(user=name) for name in "aabb"]), plain=3),
    "users of their own": Scene(
        play=in_turn(*[ask(user=name) for name in "aaabb"]),
        plain=3,
        upstream=NO_QUEUE,
        rooms={"tiers": {"t": {"requests_per_minute": 2}}, "users": {"a": {"tier": "t"}}},
    ),
    "a model with limits": Scene(
        play=in_turn(*[ask(model=name) for name in ("m", "m", "n", "m", "n", "n")]),
        plain=3,
        upstream={**NO_QUEUE, "limits": {"models": {"n": {"requests_per_minute": 2}}}},
        calls=6,
    ),
    # limits
    "no limit reached": limited(
        {"concurrency": 9, "requests_per_minute": 60, "tokens_per_minute": 60}, 3, max_tokens=5
    ),
    "requests a minute": limited({"requests_per_minute": 2}, 1),
    "tokens a minute": limited({"tokens_per_minute": 20}, 1, max_tokens=2),
    "more than one answer": limited({"tokens_per_minute": 60}, 3, max_tokens=5, n=3),
    "nothing passes": limited({"concurrency": 0}, 0),
    "one at once": Scene(HELD, one_at_once, plain=2, rooms=ONE, calls=5),
    "one at once upstream": Scene(
        HELD, one_at_once, plain=2, upstream={"limits": {"concurrency": 1}}, calls=5
    ),
    "input held short": limited({"input_tokens_max": 100}, 0),
    "output held short": limited({"output_tokens_max": 100}, 0),
    "a budget": limited({"budget": {"usd": 100}}, 0),
    "no breaker": thrice(plain=2, upstream={"breaker": {"enabled": False}}),
    "no limit to find": thrice(plain=2, upstream={"limits": {"adaptive": False}}),
    "a breaker open": Scene((), between(trip), plain=1, calls=3),
    "short of all": Scene((), between(press), plain=1, calls=3),
    # the journal
    "always safe": thrice(rooms={"journal": {"sync": "always"}}),
    "never safe": thrice(plain=2, rooms={"journal": {"sync": "none"}}),
    "fail closed": thrice(rooms={"journal": {"when_full": "fail_closed"}}),
    "no open records": Scene((), between(refuse_records(Opened)), plain=2, calls=3),
    "no close records": Scene((), between(refuse_records(Closed)), plain=2, calls=3),
    # what else a call may say
    "traces of our own": thrice(
        plain=2,
        upstream={"forward_trace": True},
        rooms={"otlp": {"endpoint": "http://127.0.0.1:9"}},
    ),
    "a summary": Scene(play=in_turn(*[ask("hi", "x-taximeter-summary: 1")] * 3)),
    "an idempotency key": Scene(play=in_turn(*[ask("hi", "Idempotency-Key: a")] * 3)),
    "made again": Scene(play=in_turn(*[ask("hi", "x-stainless-retry-count: 1")] * 3)),
    "made for the first time": Scene(
        [(good(),), (good({"error": {"code": "c"}}, status="400 No"),)],
        in_turn(
            *[ask("hi", "x-stainless-retry-count: 0")] * 2, ask("hi", "x-stainless-retry-count: 1")
        ),
        begun=1,
    ),
    "a stream": Scene(play=in_turn(*[ask(stream=True)] * 3)),
    "no stream": Scene(play=in_turn(*[ask(stream=False)] * 3), plain=2),
    "a long body": Scene(play=in_turn(ask(), ask("a" * 70_000), ask()), plain=1),
    "a long answer": Scene(
        [(good(),), (good({"filler": "a" * 70_000, "usage": {"prompt_tokens": 1}}),)],
        in_turn(*[ask()] * 3),
        plain=1,
        begun=2,
    ),
    "little room": thrice(rooms={"relay": {"body_buffer_bytes_max": 20}}),
}


@pytest.mark.parametrize("name", SCENES)
async def test_a_call_under_all_sorts_of_terms_comes_out_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C1, H6, O1: whatever stands over a call, bytes, records, their order and all counts are the
    same, be it that it went the plain way or not; and where anything is to be decided it does not.
    """
    monkeypatch.setenv("THE_REAL_KEY", "sk-real")
    await same_both_ways(SCENES[name], tmp_path, monkeypatch)


async def test_every_attempt_of_a_plain_call_is_a_span_of_its_own(tmp_path: Path) -> None:
    """With `forward_trace` and traces on, `traceparent` names the call's own first attempt."""
    told: list[bytes] = []

    async def answer(line: Line) -> None:
        while True:
            head, _ = await line.request()
            told.extend(fields_of(head)[b"traceparent"])
            await line.say(good())

    otlp = {"endpoint": "http://127.0.0.1:9"}
    async with bench(tmp_path, answer, upstream={"forward_trace": True}, otlp=otlp) as made:
        client = await made.client()
        for _ in range(3):
            await client.say(ask())
            await client.answer()
        assert told == [
            f"00-{opened.trace_id}-{span_id_of(opened.call_id, 'attempt 1')}-01".encode()
            for opened in made.opened
        ]


@pytest.mark.parametrize("record", [1, 2])
async def test_a_disk_that_takes_no_record_costs_no_plain_call(
    record: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D6: with `fail_open` a call is answered and counted as lost if its end is not on record, and
    it goes on as any other if its beginning is not.
    """
    async with bench(tmp_path, Upstream()) as made:
        client = await made.client()
        await client.say(ask())
        await client.answer()
        write, left = RealDisk.write, [record]

        def full(handle: int, data: bytes) -> int:
            left[0] -= 1
            if left[0] == 0:
                raise OSError(errno.ENOSPC, "no space left")
            return write(handle, data)

        monkeypatch.setattr(RealDisk, "write", staticmethod(full))
        for _ in range(2):
            await client.say(ask())
            assert (await client.answer())[0] == 200
        assert left[0] < 0
        lost = made.worker.books._writer.lost
        assert lost is not None
        assert lost.calls == record - 1
        assert made.worker.books.refused == 1


async def test_a_journal_that_begins_meanwhile_has_its_say(tmp_path: Path) -> None:
    """D1: where the journal is begun while a plain call is under way, and is to be safe before an
    answer's last byte, it is.
    """
    upstream = Upstream((good(),), (PAUSE, good()))
    async with bench(tmp_path, upstream) as made:
        client = await made.client()
        await client.say(ask())
        await client.answer()
        await client.say(ask())
        await made.until(lambda: upstream.asked == 2)
        books, before = made.worker.books, made.worker.books._writer
        books.begin(JournalWriter.begin(root_of(tmp_path / "other"), 7, sync=SyncPolicy.ALWAYS))
        upstream.go_on.set()
        assert (await client.answer())[0] == 200
        assert books._writer.synced == books._writer.sequence == 1
        assert isinstance(before, JournalWriter)
        before.close()


async def test_the_official_client_goes_the_plain_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its second on, calls of the official client are plain ones, and booked as they were."""
    ended = ended_plainly(monkeypatch)
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}
    said = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    reply = good({**said, "choices": [choice], "usage": usage})
    async with (
        bench(tmp_path, Upstream(*[(reply,)] * 6)) as made,
        openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{made.port}/v1", api_key="sk-rig", max_retries=0
        ) as client,
    ):
        for number in range(6):
            found = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "x" * 30 * number}], user="ann"
            )
            assert found.choices[0].message.content == "x"
        assert len(ended) == 5
        assert [record.opened.call_id for record in made.closed][1:] == ended
        assert {record.opened.user for record in made.closed} == {"ann"}
