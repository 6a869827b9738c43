"""The shorter ways of a stream and the usual one: nobody can tell one from the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from taximeter.admission._straight import StraightWay
from taximeter.relay import _usual_head
from taximeter.relay._usual_head import UsualStreamHead
from tests.relay.two_ways import (
    HANG_UP,
    PAUSE,
    RESET,
    Part,
    Scene,
    Stage,
    ask,
    good,
    in_turn,
    same_both_ways,
    until_the_end,
)

MISSED_FIRST = 2
"""Heads that have come before the first pattern is made: fewer than it takes else."""
MANY = MISSED_FIRST + 3
"""Streams after which the head of the last is told by those before it."""
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nx-request-id: r\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def event(content: str | None = None, **said: Any) -> bytes:
    """Give an event of a stream, in a chunk."""
    if content is not None:
        said["choices"] = [{"index": 0, "delta": {"content": content}, "finish_reason": None}]
    data = b"data: %b\n\n" % json.dumps({"id": "x", "model": "m", **said}).encode()
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
END = event(choices=[], usage=USAGE) + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
STREAM: tuple[Part, ...] = (HEAD + event("a"), event("b"), event("c"), event("d"), LAST + END)


@pytest.fixture(autouse=True)
def _soon_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_usual_head, "MISSED_FIRST", MISSED_FIRST)


def stream(**said: Any) -> bytes:
    """Give a request for a stream."""
    return ask(stream=True, **said)


def streams(*asked: bytes, **more: Any) -> Scene:
    """Give a scene of streams, one after the other."""
    return Scene([STREAM] * len(asked), in_turn(*asked), calls=len(asked), **more)


def odd(*parts: Part, play: Any = in_turn, **more: Any) -> Scene:
    """Give a scene whose last stream but one is answered oddly."""
    asked = [stream()] * (MANY + 1 if play is in_turn else MANY)
    return Scene([*[STREAM] * (MANY - 1), parts, STREAM], play(*asked), **more)


async def leave(stage: Stage) -> None:
    """The client of the last stream leaves in the middle of it."""
    client = await stage.client()
    for _ in range(MANY - 1):
        await client.say(stream())
        await client.answer()
    await client.say(stream())
    await client.until(b'"c"')
    client.leave()
    await stage.closed(MANY)


async def two_at_once(stage: Stage) -> None:
    """A second stream comes while one is under way, where one may be."""
    first, second = await stage.client(), await stage.client()
    await first.say(stream())
    await first.until(b'"a"')
    await second.say(stream())
    stage.upstream.go_on.set()
    await first.until(b"\r\n0\r\n\r\n")
    await second.answer()
    await stage.closed(2)


TWO = (stream(user="a"), stream(user="b"))
SCENES: dict[str, Scene] = {
    "streams": streams(*[stream()] * MANY),
    "streams and calls": Scene(
        [(good(),), STREAM, (good(),), STREAM, (good(),)],
        in_turn(ask(), stream(), ask(), stream(), ask()),
        plain=2,
        calls=5,
    ),
    "users by turns": streams(*TWO, *TWO, *TWO),
    "models by turns": streams(*[stream(model=name) for name in "mnmnnm"]),
    "answers and a bound": streams(*[stream(n=2, max_tokens=5)] * 3),
    "limits": streams(
        *TWO, *TWO,
        rooms={"tiers": {"default": {"requests_per_minute": 3, "tokens_per_minute": 9000}}},
    ),
    "a budget": streams(*TWO, *TWO, rooms={"tiers": {"default": {"budget": {"usd": 9}}}}),
    "a bound on the output": streams(
        *TWO, rooms={"tiers": {"default": {"output_tokens_max": 100}}}
    ),
    "bytes left as they are": streams(*[stream()] * MANY, upstream={"usage": "observe"}),
    "another head": odd(HEAD.replace(b"x-request-id", b"x-other") + event("a"), *STREAM[1:]),
    "a head that closes": odd(
        HEAD.replace(b"x-request-id: r", b"Connection: close") + event("a"), *STREAM[1:], HANG_UP
    ),
    "a head of limits": odd(
        HEAD.replace(b"x-request-id: r", b"x-ratelimit-remaining-requests: 0") + event("a"),
        *STREAM[1:],
    ),
    "no chunks": odd(good()),
    "a stream in a call's frame": odd(good().replace(b"application/json", b"text/event-stream")),
    "a head in two reads": odd(HEAD[:40], HEAD[40:] + event("a"), *STREAM[1:]),
    "a head alone": odd(HEAD, event("a"), *STREAM[1:]),
    "a NUL in it": odd(HEAD.replace(b": r", b": \0") + event("a"), HANG_UP),
    "no chunk behind it": odd(HEAD + b"zz\r\n", HANG_UP),
    "nothing in it": odd(HEAD + b"0\r\n\r\n"),
    "an error in it": odd(HEAD + event(error={"message": "no", "code": "c"}), END),
    "an early hint before it": odd(b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD + event("a"), END),
    "an error": odd(good({"error": {"message": "no"}}, status="400 No")),
    "an error, then well": odd(good({"error": {}}, "Retry-After: 0", status="503 No")),
    "lost at once": odd(HANG_UP),
    "lost in the middle": odd(*STREAM[:3], RESET, play=until_the_end),
    "a client that leaves": Scene([STREAM] * (MANY - 1) + [(*STREAM[:3], PAUSE)], leave),
    "one at once": Scene(
        [(STREAM[0], PAUSE, *STREAM[1:]), STREAM],
        two_at_once,
        upstream={"limits": {"concurrency": 1}},
        calls=2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SCENES)
async def test_both_ways_are_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C1, D1, O5: whatever the answer, bytes, records, their order and all counts are the same, be
    it that a stream went the shorter ways or not.
    """
    await same_both_ways(SCENES[name], tmp_path, monkeypatch)


async def test_streams_do_go_the_shorter_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is held against the usual way here is taken: nearly every stream goes straight."""
    taken = {"enter": 0, "hear": 0, "end": 0, "read": 0}

    def counted(kind: type, name: str) -> None:
        usual = getattr(kind, name)

        def step(*args: Any) -> Any:
            found = usual(*args)
            taken[name] += bool(found)
            return found

        monkeypatch.setattr(kind, name, step)

    for name in ("enter", "hear", "end"):
        counted(StraightWay, name)
    counted(UsualStreamHead, "read")
    await same_both_ways(SCENES["streams"], tmp_path, monkeypatch)
    # The first makes the route, and has its limits' fields looked at.
    assert taken == {"enter": MANY - 1, "hear": MANY - 1, "end": MANY, "read": MANY - MISSED_FIRST}
