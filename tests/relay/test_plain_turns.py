"""A plain call and what happens around it: its client, its worker, its settings, its limits."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from taximeter.relay._client import ClientSide
from taximeter.relay._plain_call import PlainCall
from tests.relay.bench import bench
from tests.relay.two_ways import (
    HANG_UP,
    PAUSE,
    RESET,
    SAID,
    Play,
    Scene,
    Stage,
    Upstream,
    ask,
    ask_bytes,
    connections,
    good,
    in_turn,
    same_both_ways,
)

Step = Callable[[Stage], Awaitable[None] | None]
TRACE = "traceparent: 00-{:032x}-00f067aa0ba902b7-01"
LONG = good({**SAID, "filler": "a" * 60_000})


def the_client(stage: Stage) -> ClientSide:
    """Give the worker's side of the one client there is."""
    (side,) = stage.made.worker.clients
    return side


async def known(stage: Stage) -> None:
    """Have the scene's request known, and an idle connection upstream."""
    client = await stage.client()
    await client.say(ask())
    await client.answer()


async def split_everywhere(stage: Stage) -> None:
    """Ask as often as an answer has places to be cut at."""
    client = await stage.client()
    for _ in range(len(good()) + 2):
        await client.say(ask())
        await client.answer()


async def leaves_before(stage: Stage) -> None:
    """The client leaves before the answer."""
    await known(stage)
    await stage.clients[0].say(ask())
    await stage.asked(2)
    stage.clients[0].leave()
    await asyncio.sleep(0.02)
    stage.upstream.go_on.set()
    await stage.closed(2)
    await in_turn(ask())(stage)


async def leaves_in_the_middle(stage: Stage) -> None:
    """The client leaves when it has a part of the answer."""
    await known(stage)
    await stage.clients[0].say(ask())
    await stage.clients[0].until(b"\r\n\r\n{")
    stage.clients[0].leave()
    await asyncio.sleep(0.02)
    stage.upstream.go_on.set()
    await stage.closed(2)


async def asks_ahead(stage: Stage) -> None:
    """The client sends two further requests while one is under way, in pieces."""
    await known(stage)
    client = stage.clients[0]
    await client.say(ask("second"))
    await stage.asked(2)
    await client.say(ask("third") + ask("fourth")[:20])
    await asyncio.sleep(0.01)
    stage.upstream.go_on.set()
    await client.say(ask("fourth")[20:])
    for _ in range(3):
        await client.answer()
    await in_turn(ask("fifth"))(stage)


async def three_in_one_read(stage: Stage) -> None:
    """The client sends three requests at once, and one when all are answered."""
    await known(stage)
    client = stage.clients[0]
    await client.say(ask("a") + ask("bb") + ask("ccc"))
    for _ in range(3):
        await client.answer()
    await client.say(ask("dddd"))
    await client.answer()


async def nonsense_behind(stage: Stage) -> None:
    """What the client sends behind its request is no HTTP."""
    await known(stage)
    client = stage.clients[0]
    await client.say(ask("second"))
    await stage.asked(2)
    await client.say(b"\0\1\2 nonsense\r\n\r\n")
    await asyncio.sleep(0.01)
    stage.upstream.go_on.set()
    await client.rest()


async def in_pieces(stage: Stage) -> None:
    """A known head whose body comes in several reads."""
    await known(stage)
    client = stage.clients[0]
    whole = ask("a text of some length")
    for place in (10, len(whole) - 30, len(whole) - 1):
        await client.say(whole[:place])
        await asyncio.sleep(0.01)
        await client.say(whole[place:])
        await client.answer()
    await client.say(whole)
    await client.answer()


def apart(*steps: Step, body: bytes | None = None, calls: int = 2) -> Play:
    """Give a script: calls whose body comes behind their head, in a read of its own.

    Between the two of the first of them something happens. With the call before, from which the
    head is known, there are `calls`.
    """
    head, brace, rest = (ask() if body is None else ask_bytes(body)).partition(b"{")

    async def play(stage: Stage) -> None:
        await known(stage)
        client = stage.clients[0]
        for number in range(1, calls):
            await client.say(head)
            await stage.made.until(lambda: len(stage.made.worker.exchanges) == 1)
            for step in steps if number == 1 else ():
                done = step(stage)
                if done is not None:
                    await done
            await client.say(brace + rest)
            await (client.answer() if the_clients(stage) else client.rest())

    return play


def the_clients(stage: Stage) -> bool:
    """Tell whether a client is connected, and will be."""
    return any(side._closing_since is None for side in stage.made.worker.clients)


def tick(stage: Stage) -> None:
    """Have the worker look after deadlines."""
    for exchange in tuple(stage.made.worker.exchanges):
        exchange.tick(time.monotonic_ns())


async def leave(stage: Stage) -> None:
    """Have the client go."""
    stage.clients[0].leave()
    await stage.made.until(lambda: not stage.made.worker.clients)


def interrupt(stage: Stage) -> None:
    """Have the time be over that calls have to finish in."""
    for exchange in tuple(stage.made.worker.exchanges):
        exchange.interrupt()


def drain(stage: Stage) -> None:
    """Begin to drain."""
    stage.made.worker.draining = True


def read_again(stage: Stage) -> None:
    """Read the settings again, and let go of those before."""
    worker = stage.made.worker
    worker.reload(worker.settings)
    worker._let_go_of_retired()


async def in_halves(stage: Stage) -> None:
    """A body that comes behind its head, in two reads; then one that comes in one."""
    await known(stage)
    client = stage.clients[0]
    head, brace, body = ask().partition(b"{")
    for pieces in ((head, brace, body), (head, brace + body)):
        for piece in pieces:
            await client.say(piece)
            await asyncio.sleep(0.01)
        await client.answer()


async def body_and_more(stage: Stage) -> None:
    """A body that comes in one read with the next request, and with one more's beginning."""
    await known(stage)
    client = stage.clients[0]
    head, brace, body = ask().partition(b"{")
    await client.say(head)
    await asyncio.sleep(0.01)
    await client.say(brace + body + ask("next") + head)
    await client.answer()
    await client.answer()
    await client.say(brace + body)
    await client.answer()


async def other_heads(stage: Stage) -> None:
    """One connection whose requests come with several heads in turn."""
    client = await stage.client()
    for number in range(12):
        user = f"x-taximeter-user: u{number % 3}"
        await client.say(ask("x" * number * 97, user, user="in the body" if number % 2 else None))
        await client.answer()


async def traced(stage: Stage) -> None:
    """One connection whose requests come with a trace of their own, or none."""
    client = await stage.client()
    for number in range(1, 9):
        await client.say(ask("hi", *([TRACE.format(number)] if number % 3 else [])))
        await client.answer()


async def does_not_read(stage: Stage) -> None:
    """A client that takes no answer for a while: our buffer for it comes to its bound."""
    client = await stage.made.client(receive_bytes_max=4096)
    stage.clients.append(client)
    await client.say(ask())
    await client.answer()
    transport = the_client(stage).transport
    assert transport is not None
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    for number in (2, 3):
        await client.say(ask())
        await stage.asked(number)
        await stage.made.until(lambda n=number: len(stage.made.closed) == n)  # type: ignore[misc]
    await stage.made.until(lambda: the_client(stage)._full_since is not None)
    # A connection is not kept where reading was paused on it: a plain call's never is.
    stage.made.worker.snapshot.upstreams["openai"].drop_idle(float("inf"))
    await client.say(ask())
    await asyncio.sleep(0.02)
    for _ in range(3):
        await client.answer()
    await client.say(ask())
    await client.answer()


async def upstream_takes_little(stage: Stage) -> None:
    """An upstream whose connection takes little of a request at once."""
    client = await stage.client()
    await client.say(ask())
    await client.answer()
    ((_, side, _),) = stage.made.worker.snapshot.upstreams["openai"]._idle
    theirs = stage.made.lines[0].writer.transport
    assert side.transport is not None
    for transport, option in ((side.transport, socket.SO_SNDBUF), (theirs, socket.SO_RCVBUF)):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, 1)
    side.transport.set_write_buffer_limits(high=0)
    theirs.pause_reading()  # type: ignore[attr-defined]
    await client.say(ask("a" * 60_000))
    await asyncio.sleep(0.02)
    assert side.transport.get_write_buffer_size()
    theirs.resume_reading()  # type: ignore[attr-defined]
    await client.answer()
    await client.say(ask())
    await client.answer()


async def goes_down(stage: Stage) -> None:
    """We begin to drain while a call is under way."""
    await known(stage)
    client = stage.clients[0]
    await client.say(ask())
    await stage.asked(2)
    stage.made.worker.draining = True
    stage.upstream.go_on.set()
    await client.rest()


async def is_interrupted(stage: Stage) -> None:
    """The time that a call has to finish in is over."""
    await known(stage)
    client = stage.clients[0]
    await client.say(ask())
    await stage.asked(2)
    (exchange,) = stage.made.worker.exchanges
    exchange.interrupt()
    await client.rest()


async def waits_too_long(stage: Stage) -> None:
    """No answer comes: a tick notices that the time is over."""
    await known(stage)
    client = stage.clients[0]
    await client.say(ask())
    await client.answer()


async def is_stale(stage: Stage) -> None:
    """The connection that was kept is closed by the upstream as soon as it is used."""
    await known(stage)
    await stage.clients[0].say(ask())
    await stage.clients[0].answer()


async def reloaded(stage: Stage) -> None:
    """The settings are read again while a call is under way, and what was before is let go."""
    await known(stage)
    client, worker = stage.clients[0], stage.made.worker
    await client.say(ask())
    await stage.asked(2)
    worker.reload(worker.settings)
    worker._let_go_of_retired()
    stage.upstream.go_on.set()
    await stage.made.until(lambda: stage.upstream.asked == 2)
    await asyncio.sleep(0.01)
    worker._let_go_of_retired()
    await asyncio.sleep(0.02)
    stage.upstream.go_on.set()
    await client.answer()
    worker._let_go_of_retired()
    for _ in range(2):
        await client.say(ask())
        await client.answer()


HALVES = (good()[:100], PAUSE, good()[100:])
SCENES: dict[str, Scene] = {
    "cut at each byte": Scene(
        answers=[(good(),), *[(good()[:k], good()[k:]) for k in range(1, len(good()))]],
        play=split_everywhere,
        plain=2,
        begun=len(good()) + 1,
    ),
    "left before": Scene([(good(),), (PAUSE, good())], leaves_before, begun=2, calls=3),
    "left before, drained": Scene(
        [(good(),), (PAUSE, good())],
        leaves_before,
        plain=1,
        begun=2,
        upstream={"client_gone": "drain"},
    ),
    "left in the middle": Scene([(good(),), HALVES], leaves_in_the_middle, begun=1, calls=2),
    "left in the middle, drained": Scene(
        [(good(),), HALVES], leaves_in_the_middle, begun=1, upstream={"client_gone": "drain"}
    ),
    "asked ahead": Scene([(good(),), (PAUSE, good())], asks_ahead, plain=2, calls=5),
    "three at once": Scene((), three_in_one_read, plain=1, calls=5),
    "nonsense behind": Scene([(good(),), (PAUSE, good())], nonsense_behind, plain=1, calls=2),
    "in pieces": Scene((), in_pieces, plain=1, calls=5),
    "body apart": Scene((), apart(calls=4), plain=3, calls=4),
    "body apart, cut answer": Scene(
        [(good(),), (good()[:90], good()[90:])], apart(calls=3), plain=1, begun=2, calls=3
    ),
    "body apart, in pieces": Scene((), in_halves, calls=3, plain=1),
    "body apart, and more": Scene((), body_and_more, plain=1, calls=4),
    "body apart, a stream": Scene((), apart(body=b'{"model":"m","stream":true}', calls=3), calls=3),
    "body apart, after a tick": Scene((), apart(tick, calls=3), plain=1, calls=3),
    "body apart, settings read": Scene((), apart(read_again), plain=1, calls=2),
    "body apart, cut, settings read": Scene(
        [(good(),), (good()[:90], good()[90:])], apart(read_again), begun=1, calls=2
    ),
    "body apart, left": Scene((), apart(leave), calls=2),
    "body apart, interrupted": Scene((), apart(interrupt), calls=2),
    "body apart, going down": Scene((), apart(drain), begun=1, calls=2),
    "body apart, too late": Scene(
        (),
        apart(lambda _: asyncio.sleep(1.5)),
        calls=2,
        rooms={"relay": {"body_idle_seconds_max": 0.1}},
    ),
    "body apart, a limit": Scene(
        (),
        apart(calls=4),
        plain=1,
        upstream={"queue": {"size": 0}},
        rooms={"tiers": {"default": {"requests_per_minute": 2}}},
        calls=4,
    ),
    "body apart, always safe": Scene(
        (), apart(calls=3), rooms={"journal": {"sync": "always"}}, calls=3
    ),
    "other heads": Scene((), other_heads, plain=9, calls=12),
    "traced": Scene((), traced, plain=6, calls=8),
    "goes down": Scene([(good(),), (PAUSE, good())], goes_down, begun=1, calls=2),
    "is interrupted": Scene([(good(),), (PAUSE,)], is_interrupted, begun=1, calls=2),
    "waits too long": Scene(
        [(good(),), (PAUSE,)],
        waits_too_long,
        begun=1,
        upstream={"timeouts": {"first_byte_seconds": 0.3}, "retry": {"attempts_max": 1}},
    ),
    "stale": Scene([(good(),), (HANG_UP,)], is_stale, begun=1, calls=2),
    "stale, dropped": Scene([(good(),), (RESET,)], is_stale, begun=1, calls=2),
    "reloaded": Scene([(good(),), (PAUSE, *HALVES)], reloaded, plain=1, begun=2, calls=4),
    "not read": Scene(
        [(good(),), (LONG,), (LONG,)], does_not_read, plain=3, calls=5, rest_seconds=9.0
    ),
    "upstream takes little": Scene((), upstream_takes_little, plain=1, begun=2, calls=3),
}


@pytest.mark.parametrize("name", SCENES)
async def test_what_happens_around_a_call_comes_out_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C1, C4, C8: whatever the client and the worker do meanwhile, bytes, records, their order and
    all counts are the same, be it that a call went the plain way or not.
    """
    await same_both_ways(SCENES[name], tmp_path, monkeypatch)


async def test_a_plain_call_under_way_is_shown_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks at calls under way sees a plain one as it sees the others."""
    seen = []
    for plainly in (False, True):
        upstream = Upstream((good(),), (PAUSE, good()))
        tiers = {"small": {"concurrency": 9}}
        async with bench(
            tmp_path / str(plainly), upstream, tiers=tiers, default_tier="small"
        ) as made:
            client = await made.client()
            await client.say(ask())
            await client.answer()
            with monkeypatch.context() as patches:
                if not plainly:
                    patches.setattr(PlainCall, "begin", lambda *_: False)
                await client.say(ask())
                await made.until(lambda: upstream.asked == 2)  # noqa: B023
            (call,) = made.worker.exchanges
            assert isinstance(call, PlainCall) == plainly
            gates = made.worker.admission.admission.gates().values()
            counts = [(gate.in_flight, gate.awaiting) for gate in gates]
            assert 0 < call.age_ns < 10**10
            assert call.snapshot is made.worker.snapshot
            seen.append((call.upstream_name, call.tier_in_use, counts, connections(made)))
            upstream.go_on.set()
            assert (await client.answer())[0] == 200
    assert seen[0] == seen[1] == ("openai", "small", [(1, 1)], (1, 0))


@pytest.mark.parametrize("plainly", [False, True])
async def test_settings_that_are_read_again_after_the_keys_break_no_call(
    plainly: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call keeps the connections it began with, also where keys were read before the settings."""
    upstream = Upstream((good(),), (PAUSE, good()))
    async with bench(tmp_path, upstream, upstream={"retry": {"attempts_max": 1}}) as made:
        client, worker = await made.client(), made.worker
        await client.say(ask())
        await client.answer()
        if not plainly:
            monkeypatch.setattr(PlainCall, "begin", lambda *_: False)
        await client.say(ask())
        await made.until(lambda: upstream.asked == 2)
        worker._take_keys()
        worker.reload(worker.settings)
        worker._let_go_of_retired()
        await asyncio.sleep(0.02)
        upstream.go_on.set()
        assert (await client.answer())[0] == 200
