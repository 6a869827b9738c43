"""Plain calls whose head and body come apart, as most clients send them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from taximeter.relay._exchange import Exchange
from taximeter.relay._plain_call import PlainCall
from taximeter.settings import Settings
from tests.relay.bench import Bench, Client, Line, bench, ended_plainly

HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-x\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)
BODY = b'{"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": "Taxi?"}]}'
SAID = (
    b'{"id":"x","model":"gpt-5.4-mini","choices":[{"index":0,"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}'
)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(SAID),
    SAID,
)


async def answer_well(line: Line) -> None:
    """Answer every request as a model server does."""
    while True:
        await line.request()
        await line.say(ANSWER)


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the ids of calls that went the plain way to their end."""
    return ended_plainly(monkeypatch)


async def known(made: Bench) -> Client:
    """Connect a client whose head is known from a call before."""
    client = await made.client()
    for _ in range(2):
        await client.say(HEAD % len(BODY) + BODY)
        assert (await client.answer())[0] == 200
    return client


async def head_is_here(made: Bench) -> PlainCall:
    """Wait until a call stands with its head alone."""
    await made.until(lambda: len(made.worker.exchanges) == 1)
    (call,) = made.worker.exchanges
    assert isinstance(call, PlainCall)
    return call


async def test_a_body_in_a_read_of_its_own_is_plain(tmp_path: Path, plainly: list[str]) -> None:
    """A call whose body comes behind its head goes the plain way, with the time between in it."""
    async with bench(tmp_path, answer_well) as made:
        client = await known(made)
        before = len(plainly)
        await client.say(HEAD % len(BODY))
        await head_is_here(made)
        await asyncio.sleep(0.02)
        await client.say(BODY)
        assert (await client.answer())[2] == SAID
        assert len(plainly) == before + 1
        await made.at_rest()
    record = made.closed[-1]
    assert record.stages["receive"] >= 20_000_000  # type: ignore[index]
    assert record.usage is not None
    assert made.lines[0].received.endswith(BODY)


@pytest.mark.parametrize("at", range(1, len(BODY), 7))
async def test_a_body_in_pieces_is_taken_as_ever(
    tmp_path: Path, plainly: list[str], at: int
) -> None:
    """C1: a body that comes in pieces behind a known head goes up whole, and is booked once."""
    async with bench(tmp_path, answer_well) as made:
        client = await known(made)
        before = len(plainly)
        await client.say(HEAD % len(BODY))
        await head_is_here(made)
        await client.say(BODY[:at])
        await made.until(lambda: any(isinstance(e, Exchange) for e in made.worker.exchanges))
        await client.say(BODY[at:])
        assert (await client.answer())[2] == SAID
        assert len(plainly) == before
        await made.at_rest()
    assert len(made.closed) == 3
    assert made.lines[0].received.endswith(BODY)


async def test_a_request_behind_the_body_waits_for_its_turn(tmp_path: Path) -> None:
    """What follows the body in the same read is the next request, and gets its own answer."""
    async with bench(tmp_path, answer_well) as made:
        client = await known(made)
        await client.say(HEAD % len(BODY))
        await head_is_here(made)
        await client.say(BODY + HEAD % len(BODY) + BODY)
        assert (await client.answer())[2] == SAID
        assert (await client.answer())[2] == SAID
        await made.at_rest()
    assert len(made.closed) == 4


async def test_a_client_that_leaves_before_its_body_is_booked_so(tmp_path: Path) -> None:
    """A call whose client went away behind its head has a row that says so."""
    async with bench(tmp_path, answer_well) as made:
        client = await known(made)
        await client.say(HEAD % len(BODY))
        await head_is_here(made)
        client.leave()
        await made.until(lambda: len(made.closed) == 3)
        await made.at_rest()
    assert made.closed[-1].outcome == "abandoned"


async def test_a_body_that_is_late_is_given_up_by_its_deadline(tmp_path: Path) -> None:
    """A head alone holds a call no longer than any body that does not come."""
    async with bench(tmp_path, answer_well, relay={"body_idle_seconds_max": 1}) as made:
        client = await known(made)
        await client.say(HEAD % len(BODY))
        call = await head_is_here(made)
        call.tick(time.monotonic_ns())
        (exchange,) = made.worker.exchanges
        assert isinstance(exchange, Exchange)
        exchange.tick(time.monotonic_ns() + 2_000_000_000)
        assert (await client.answer())[0] == 408
        await made.at_rest()
    assert made.closed[-1].error == "body_timeout"


async def test_a_drain_ends_a_call_whose_body_has_not_come(tmp_path: Path) -> None:
    """L1: a call that stands with its head alone when we go down is told so."""
    async with bench(tmp_path, answer_well) as made:
        client = await known(made)
        await client.say(HEAD % len(BODY))
        (await head_is_here(made)).interrupt()
        assert (await client.answer())[0] == 503
        await made.at_rest()
    assert made.closed[-1].outcome == "interrupted"


async def test_a_call_goes_by_the_limits_of_the_moment_it_is_let_in(tmp_path: Path) -> None:
    """O1: limits that change between head and body hold for the call, known though it is."""
    async with bench(tmp_path, answer_well) as made:
        client, worker = await known(made), made.worker
        await client.say(HEAD % len(BODY))
        await head_is_here(made)
        said = worker.settings.model_dump(mode="json", exclude_unset=True)
        none = {"default": {"concurrency": 0}}
        worker.reload(Settings.model_validate({**said, "tiers": none}))
        await client.say(BODY)
        assert (await client.answer())[0] == 429
        await made.at_rest()
    assert made.closed[-1].outcome == "rejected"


async def test_a_call_keeps_the_settings_it_began_under(tmp_path: Path) -> None:
    """Settings that change between head and body hold for the calls after it."""
    async with bench(tmp_path, answer_well) as made:
        client = await known(made)
        await client.say(HEAD % len(BODY))
        call = await head_is_here(made)
        made.worker.reload(made.worker.settings)
        assert call.snapshot is not made.worker.snapshot
        await client.say(BODY[:5])
        await made.until(lambda: any(isinstance(e, Exchange) for e in made.worker.exchanges))
        (exchange,) = made.worker.exchanges
        assert exchange.snapshot is call.snapshot
        await client.say(BODY[5:])
        assert (await client.answer())[2] == SAID
        await made.at_rest()
