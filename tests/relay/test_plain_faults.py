"""L5: a bug of ours in each step of the plain way, once: what becomes of the call."""

from __future__ import annotations

import asyncio
import functools
import importlib
from asyncio import selector_events
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taximeter.call import Outcome
from taximeter.relay import _plain_call
from taximeter.relay._plain_call import PlainCall
from tests.relay.bench import Bench, Client, bench
from tests.relay.test_every_step import STEPS_MAX, Breaking
from tests.relay.two_ways import Upstream, ask, at_once, connections, exchanges_of, good

PLACES = (
    "dialects._openai:OpenAi.read_request",
    "admission._admission:Admission.plan",
    "call:CallIds.make",
    "relay._plain_call:opened_of",
    "relay._plain_call:encode_record",
    "admission._straight:StraightWay.enter",
    "relay._upstream:Upstream.take_idle",
    OPENING := "relay._bookkeeper:Bookkeeper.write",
    "relay._intake:Intake.start",
    "relay._usual_head:UsualHead.read",
    "relay._headroom:HeadroomBook.is_due",
    "dialects._openai:OpenAi.read_answer",
    "relay._plain_call:Answered",
    CLOSING := "relay._bookkeeper:Bookkeeper.write, the second time",
    "relay._upstream:Upstream.keep",
    "relay._budget:ByteBudget.give_back",
    "admission._straight:StraightWay.leave",
    "admission._breaker:CircuitBreaker.succeeded",
    "admission._adaptive:AdaptiveLimit.answered",
    "admission._guess:OutputGuess.learn",
    "relay._turns:Turns.exchange_ended",
)
"""What raises, once, in the order in which a plain call comes by."""


class Fault(Exception):
    """A fault of ours, made for this test."""


class Once:
    """Raises at the n-th call of what it stands in for, and is that in all others."""

    def __init__(self, real: Callable[..., Any], number: int) -> None:
        self._real = real
        self._left = number
        self.has_raised = False

    def __call__(self, *given: Any, **named: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            self.has_raised = True
            raise Fault
        return self._real(*given, **named)

    def __get__(self, owner: object, kind: type | None = None) -> Callable[..., Any]:
        return functools.partial(self, owner) if owner is not None else self


def break_place(monkeypatch: pytest.MonkeyPatch, place: str, made: Bench) -> Once:
    """Have a place raise once; give what tells whether it has."""
    where, _, later = place.partition(", ")
    module, _, path = where.partition(":")
    *classes, name = path.split(".")
    found = importlib.import_module(f"taximeter.{module}")
    owner: object = functools.reduce(getattr, classes, found)
    if path == "Admission.plan":
        owner = admission = made.worker.admission.admission
        admission.apply(replace(admission.policy))  # or the plan of the last call holds
    elif path == "Bookkeeper.write":
        owner = made.worker.books  # where the bench listens
    once = Once(getattr(owner, name), 2 if later else 1)
    monkeypatch.setattr(owner, name, once)
    return once


async def heard_by(client: Client) -> bytes:
    """Give all that a client gets of one answer, or until its connection ends."""
    try:
        async with asyncio.timeout(1):
            head = await client.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            return head + await client.reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        return error.partial
    except ConnectionError:
        return b""


async def nothing_is_held(made: Bench) -> None:
    """Hold the worker to it that nothing is left of any call, and that each is closed once."""
    worker = made.worker
    await made.until(lambda: not exchanges_of(made))
    assert worker.snapshot.body_budget.bytes_taken == 0
    assert worker.tap_budget.bytes_taken == 0
    admission = worker.admission.admission
    for route in admission._routes.routes.values():
        gate = route.door.gate
        counts = (route.door.in_flight, gate.in_flight, gate.awaiting, gate.away)
        assert counts == (0, 0, 0, 0)
    assert admission.store._in_use == {}  # type: ignore[attr-defined]
    assert connections(made)[0] == 0, "a connection is neither used nor kept nor closed"


async def known(made: Bench) -> Client:
    """Give a client whose next call is a plain one."""
    client = await made.client()
    at_once(client.writer)
    for _ in range(2):
        await client.say(ask())
        assert (await client.answer())[0] == 200
    return client


async def serves_on(made: Bench) -> None:
    """See that calls are served as before."""
    client = await known(made)
    client.leave()
    await nothing_is_held(made)
    made.worker.faults = 0  # it was ours to make


async def say(client: Client, *, apart: bool) -> None:
    """Send a request, its body in the same read as its head or in one of its own."""
    head, brace, body = ask().partition(b"{")
    if apart:
        await client.say(head)
        await asyncio.sleep(0.01)
        await client.say(brace + body)
    else:
        await client.say(head + brace + body)


@pytest.mark.parametrize("apart", [False, True], ids=["at once", "apart"])
@pytest.mark.parametrize("place", PLACES)
async def test_a_bug_in_a_step_costs_no_more_than_its_call(
    place: str, apart: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L5, D1, C8: wherever a plain call meets a fault of ours, its client has one honest answer or
    a broken connection; it has one close record; nothing of it is held; the next call is served.
    """
    tiers = {"default": {"concurrency": 9}}
    async with bench(tmp_path, Upstream(), tiers=tiers) as made:
        client = await known(made)
        with monkeypatch.context() as patches:
            once = break_place(patches, place, made)
            await say(client, apart=apart)
            heard = await heard_by(client)
            assert once.has_raised
            await nothing_is_held(made)
        assert made.worker.faults > 0, "it was swallowed"
        status = int(heard[9:12]) if heard else None
        closed = made.closed[2:]
        if place == CLOSING:
            assert (closed, status) == ([], None), "it is unbooked, and so unanswered"
            made.records.clear()
        else:
            (record,) = closed
            is_good = record.outcome is Outcome.COMPLETED
            assert status in ((200, None) if is_good else (500, None))
            assert (record.usage is not None) == is_good
        await asyncio.sleep(0.01)
        behind = bytes(client.reader._buffer)  # type: ignore[attr-defined]
        assert behind == b"", "there is a second answer"
        await serves_on(made)


@pytest.mark.parametrize("side", ["upstream", "client"])
async def test_a_transport_that_raises_costs_no_more_than_its_call(
    side: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L5, C8: the same, where it is a write to either side that raises."""
    begun: list[PlainCall] = []
    begin = PlainCall.begin

    def noted(call: PlainCall, body: bytes) -> bool:
        begun.append(call)
        return begin(call, body)

    async with bench(tmp_path, Upstream()) as made:
        client = await known(made)
        which, port = "sockname", made.port
        if side == "upstream":
            which, port = "peername", made.lines[0].writer.get_extra_info("sockname")[1]
        write = selector_events._SelectorSocketTransport.write  # type: ignore[attr-defined]
        left = [1]

        def to_socket(transport: asyncio.Transport, data: bytes) -> None:
            if left[0] and transport.get_extra_info(which)[1] == port:
                left[0] = 0
                raise Fault
            write(transport, data)

        with monkeypatch.context() as patches:
            patches.setattr(PlainCall, "begin", noted)
            patches.setattr(selector_events._SelectorSocketTransport, "write", to_socket)  # type: ignore[attr-defined]
            await client.say(ask())
            heard = await heard_by(client)
        assert left == [0]
        assert len(begun) == 1
        assert heard[:12] == (b"" if side == "client" else b"HTTP/1.1 500")
        await nothing_is_held(made)
        assert len(made.closed) == 3
        await serves_on(made)


@pytest.mark.parametrize("who", ["client", "upstream"])
@pytest.mark.parametrize("gone", ["cancel", "drain"])
@pytest.mark.parametrize(
    ("parts", "rest_seconds"), [(1, 0.0), (2, 0.0), (2, 9.0)], ids=["whole", "cut", "kept"]
)
@pytest.mark.parametrize("apart", [False, True], ids=["at once", "apart"])
async def test_a_plain_call_may_be_broken_at_every_write(
    who: str,
    gone: str,
    parts: int,
    rest_seconds: float,
    apart: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """C8, C4: at the n-th write of a call that began as a plain one, for every n there is: it is
    closed once, nothing of it is held, and the next call goes.
    """
    monkeypatch.setattr(_plain_call, "REST_SECONDS_MAX", rest_seconds)
    wire = Breaking(monkeypatch)
    cut = [(good()[:100], good()[100:]) if parts == 2 else (good(),)] * 200
    setting = {"client_gone": gone, "retry": {"attempts_max": 1}, "breaker": {"enabled": False}}
    tiers = {"default": {"concurrency": 1}}
    begun: list[PlainCall] = []
    begin = PlainCall.begin

    def noted(call: PlainCall, body: bytes) -> bool:
        begun.append(call)
        return begin(call, body)

    monkeypatch.setattr(PlainCall, "begin", noted)
    async with bench(tmp_path, Upstream(*cut), upstream=setting, tiers=tiers) as made:
        wire.watch(made)
        wire.made, wire.who = made, who
        steps = 0
        while steps < STEPS_MAX:
            steps += 1
            wire.left = 0
            client = await known(made)
            before, calls = len(made.closed), len(begun)
            wire.left = steps
            await say(client, apart=apart)
            await made.until(lambda n=before: len(made.closed) > n)  # type: ignore[misc]
            await asyncio.sleep(0.005)
            is_over, wire.left = wire.left > 0, 0
            client.leave()
            await nothing_is_held(made)
            assert len(begun) > calls
            assert len(made.closed) == before + 1
            if is_over:
                break  # it came to its end before its n-th write: there are no more
    # The journal's being made safe may fall in.
    assert (5 if rest_seconds else 4 + parts) <= steps < STEPS_MAX


@pytest.mark.parametrize("how", ["cut", "left", "nothing idle"])
@pytest.mark.parametrize("step", ["take_head", "take", "read_body"])
async def test_a_bug_in_becoming_an_exchange_costs_no_more_than_its_call(
    step: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L5, C8: the same, where it strikes while a call that is plain no more becomes another."""
    monkeypatch.setattr(_plain_call, "REST_SECONDS_MAX", 0.0)
    upstream = Upstream((good(),), (good(),), (good()[:100], good()[100:]))
    tiers = {"default": {"concurrency": 9}}
    async with bench(tmp_path, upstream, tiers=tiers) as made:
        client = await known(made)
        if how == "nothing idle":
            made.worker.snapshot.upstreams["openai"].drop_idle(float("inf"))
        with monkeypatch.context() as patches:
            once = break_place(patches, f"relay._request:Request.{step}", made)
            await client.say(ask())
            if how == "left":
                client.leave()
                await made.until(lambda: len(made.closed) == 3)
            else:
                assert (await heard_by(client))[:12] in (b"", b"HTTP/1.1 500")
            assert once.has_raised
            await nothing_is_held(made)
        assert len(made.closed) == 3
        assert made.closed[2].outcome is not Outcome.COMPLETED
        await serves_on(made)
