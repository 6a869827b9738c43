"""A plain call whose answer comes in pieces: they are kept for a moment, and go on as one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from taximeter.admission._adaptive import AdaptiveLimit
from taximeter.call import Fact, Outcome
from taximeter.call import Stage as Stages
from taximeter.relay import _plain_call
from taximeter.relay._plain_call import PlainCall
from tests.relay.bench import bench, ended_plainly
from tests.relay.two_ways import (
    HANG_UP,
    PAUSE,
    RESET,
    Part,
    Scene,
    Stage,
    Upstream,
    ask,
    good,
    good_bytes,
    in_turn,
    same_both_ways,
    until_the_end,
)

LONG_SECONDS = 9.0
"""Longer than any answer here takes: that it is over would be seen by the test's own deadline."""
WHOLE = good()
HEAD_BYTES = WHOLE.index(b"\r\n\r\n") + 4


def kept(*parts: Part, plain: int = 0, **more: Any) -> Scene:
    """Give a scene whose second call is answered so, and the third well again."""
    return Scene(
        [(good(),), parts],
        in_turn(*[ask()] * 3),
        plain=plain + 1,
        begun=2,
        rest_seconds=LONG_SECONDS,
        **more,
    )


async def everywhere(stage: Stage) -> None:
    """Ask as often as an answer has places to be cut at."""
    client = await stage.client()
    for _ in range(len(WHOLE) + 1):
        await client.say(ask())
        await client.answer()


def pieces(whole: bytes, size: int) -> list[bytes]:
    """Give an answer, its head first, and then so many bytes at a time."""
    body = whole.index(b"\r\n\r\n") + 4
    return [whole[:body], *(whole[at : at + size] for at in range(body, len(whole), size))]


def broken_off(how: Part) -> Scene:
    """Give a scene in which the rest of an answer never comes."""
    return Scene(
        [(good(),), (WHOLE[:100], how)],
        until_the_end(ask(), ask()),
        begun=1,
        rest_seconds=LONG_SECONDS,
    )


async def interrupted(stage: Stage) -> None:
    """The time that a call has to finish in is over while a part of its answer is kept."""
    client = await stage.client()
    await client.say(ask())
    await client.answer()
    await client.say(ask())
    await stage.asked(2)
    await asyncio.sleep(0.05)
    (call,) = stage.made.worker.exchanges
    call.interrupt()
    await client.rest()


BIG = good({"filler": "a" * 70_000, "usage": {"prompt_tokens": 1}})
SCENES: dict[str, Scene] = {
    "cut at each byte": Scene(
        answers=[(good(),), *[(WHOLE[:at], WHOLE[at:]) for at in range(1, len(WHOLE))]],
        play=everywhere,
        plain=len(WHOLE) - HEAD_BYTES + 1,
        begun=len(WHOLE),
        rest_seconds=LONG_SECONDS,
    ),
    "byte by byte": kept(*pieces(WHOLE, 1), plain=1),
    "in sevens": kept(*pieces(WHOLE, 7), plain=1),
    "no usage": kept(*pieces(good({"id": "x" * 99}), 60)),
    "an error object": kept(*pieces(good({"error": {"message": "no", "code": "c"}}), 20)),
    "not JSON": kept(*pieces(good_bytes(b"<html>" * 9), 20)),
    "more than it said": kept(WHOLE[:HEAD_BYTES], WHOLE[HEAD_BYTES:] + b"more", plain=-1),
    "far more than it said": kept(WHOLE[:HEAD_BYTES], WHOLE[HEAD_BYTES:] + b"}" * 70_000, plain=-1),
    "a long answer": kept(*pieces(BIG, 30_000)),
    "lost": broken_off(HANG_UP),
    "dropped": broken_off(RESET),
    "is interrupted": Scene(
        [(good(),), (WHOLE[:100], PAUSE)], interrupted, begun=1, rest_seconds=LONG_SECONDS
    ),
}


@pytest.mark.parametrize("name", SCENES)
async def test_an_answer_in_pieces_comes_out_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C1, C4, D1: however an answer is cut, all of its bytes, its records and all counts are the
    same, be it that its pieces were kept or passed on as they came.
    """
    await same_both_ways(SCENES[name], tmp_path, monkeypatch)


async def test_a_rest_that_is_late_holds_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C3: the client has what there is of an answer after `REST_SECONDS_MAX`, the rest as it comes,
    and what was kept counts as come when it came.
    """
    monkeypatch.setattr(_plain_call, "REST_SECONDS_MAX", 0.5)
    ended = ended_plainly(monkeypatch)
    upstream = Upstream((good(),), (WHOLE[:100], WHOLE[100:110], PAUSE, WHOLE[110:]))
    async with bench(tmp_path, upstream) as made:
        client = await made.client()
        await client.say(ask())
        await client.answer()
        await client.say(ask())
        await client.until(WHOLE[HEAD_BYTES:110])
        upstream.go_on.set()
        await made.until(lambda: len(made.closed) == 2)
        closed = made.closed[1]
        assert closed.outcome is Outcome.COMPLETED
        assert closed.usage is not None
        assert closed.opened.call_id not in ended
        assert closed.stages[Stages.FIRST_BYTE] < 0.4e9
        assert closed.stages[Stages.STREAM] > 0.4e9


@pytest.mark.parametrize("rest_seconds", [0.0, LONG_SECONDS], ids=["passed on", "kept"])
async def test_a_body_that_is_awaited_makes_no_upstream_slower(
    rest_seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """O3: the limit that is found is told of the time to an answer's head, kept or not."""
    monkeypatch.setattr(_plain_call, "REST_SECONDS_MAX", rest_seconds)
    told_ns: list[int] = []
    answered = AdaptiveLimit.answered

    def noted(limit: AdaptiveLimit, started_ns: int, now_ns: int, *more: int) -> bool:
        told_ns.append(now_ns - started_ns)
        return answered(limit, started_ns, now_ns, *more)

    monkeypatch.setattr(AdaptiveLimit, "answered", noted)
    upstream = Upstream((good(),), (WHOLE[:HEAD_BYTES], PAUSE, WHOLE[HEAD_BYTES:]))
    async with bench(tmp_path, upstream) as made:
        client = await made.client()
        await client.say(ask())
        await client.answer()
        await client.say(ask())
        await made.until(lambda: upstream.asked == 2)
        await asyncio.sleep(0.5)
        upstream.go_on.set()
        assert (await client.answer())[0] == 200
        assert len(told_ns) == 2
        assert told_ns[1] < 0.4e9


@pytest.mark.parametrize("gone", ["cancel", "drain"])
async def test_who_goes_while_an_answer_is_kept_has_had_nothing_of_it(
    gone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C4: the upstream is let go at once, or read to its end, as it was asked for; what was kept is
    a part of what is read then.
    """
    monkeypatch.setattr(_plain_call, "REST_SECONDS_MAX", LONG_SECONDS)
    upstream = Upstream((good(),), (WHOLE[:100], PAUSE, WHOLE[100:]))
    async with bench(tmp_path, upstream, upstream={"client_gone": gone}) as made:
        client = await made.client()
        await client.say(ask())
        await client.answer()
        await client.say(ask())
        await made.until(lambda: upstream.asked == 2)
        (call,) = made.worker.exchanges
        assert isinstance(call, PlainCall)
        await made.until(lambda: call._early is not None)
        client.leave()
        if gone == "drain":
            await made.until(lambda: call not in made.worker.exchanges)
            upstream.go_on.set()
        await made.until(lambda: len(made.closed) == 2 and not made.worker.exchanges)
        closed = made.closed[1]
        assert closed.outcome is (Outcome.CANCELLED if gone == "drain" else Outcome.ABANDONED)
        assert (Fact.DRAINED in closed.facts) == (closed.usage is not None) == (gone == "drain")
        assert made.worker.snapshot.upstreams["openai"].connections_in_use == 0
