"""What a call comes to in its budgets, as the relay tells it, and what it reserves there."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from taximeter.admission import MemoryStore
from taximeter.call import Attempt, Closed, Fact, Opened, Outcome, Usage, UsageSource
from taximeter.relay._admitting import spent_by, usage_so_far
from tests.relay.bench import EVENTS, Bench, Line, bench
from tests.relay.test_admission import Scripted, answer, ask, fetch, only

PRICES = [
    {"provider": "anthropic", "model": "m", "input_usd_per_million": 1, "output_usd_per_million": 2}
]
EVENTS_SAID = 400


def booked(made: Bench) -> list[tuple[int, int]]:
    """Give what is spent and what is reserved in each budget."""
    store = made.worker.admission.admission.store
    assert isinstance(store, MemoryStore)
    return [(each.spent, each.reserved) for each in store.book.snapshot()]


def event(kind: str, **said: Any) -> bytes:
    """Give an event of Anthropic's, in a chunk of its own."""
    text = f"event: {kind}\ndata: {json.dumps({'type': kind, **said})}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(text), text)


# -- an answer that broke off ----------------------------------------------------------------


async def cut_short(line: Line) -> None:
    """Say a stream's first event, with its figures, and much text; never its end."""
    usage = {"input_tokens": 20, "output_tokens": 1}
    await line.request()
    message = {"id": "m1", "role": "assistant", "model": "m", "content": [], "usage": usage}
    said = EVENTS + event("message_start", message=message)
    delta = {"type": "text_delta", "text": "some ten words of text"}
    said += event("content_block_delta", index=0, delta=delta) * EVENTS_SAID
    await line.say(said)
    await line.take()


@pytest.mark.parametrize("counted", ["tokens", "money"])
async def test_o5_a_stream_that_its_client_cut_is_booked_by_what_came(
    tmp_path: Path, counted: str
) -> None:
    """O5: a first event's `output_tokens: 1` settles no call that was delivered much text."""
    budget = {"tokens": 10**6} if counted == "tokens" else {"usd": 1}
    tiers = {"default": {"budget": {**budget, "per": "month"}}}
    upstream = {"dialect": "anthropic", "provider": "anthropic"}
    async with bench(tmp_path, cut_short, upstream=upstream, tiers=tiers, prices=PRICES) as made:
        made.worker.snapshot.prices_on_demand.ask()
        await made.until(lambda: made.worker.snapshot.prices_found is not None)
        client = await made.client()
        await client.say(ask(path="/openai/v1/messages", max_tokens=8000, stream=True))
        got = b""
        while got.count(b"text_delta") < EVENTS_SAID:
            got += await client.reader.read(65536)
        client.leave()
        await made.until(lambda: bool(made.closed))
        await made.at_rest()
        closed = only(made)
        assert closed.usage is not None
        assert (closed.usage_source, closed.usage.output_tokens) == (UsageSource.PARTIAL, 1)
        output = -(-(closed.text_bytes_out or 0) // 4)
        assert output >= EVENTS_SAID
        spent = 20 + output if counted == "tokens" else (20 + 2 * output) * 10**6
        assert booked(made) == [(spent, 0)]


@pytest.mark.parametrize(
    ("stated", "delivered_bytes", "output"),
    [(1, 400, 100), (900, 400, 900), (None, 400, 100), (7, None, 7)],
)
def test_o5_the_larger_of_what_was_stated_and_what_came_is_taken(
    stated: int | None, delivered_bytes: int | None, output: int
) -> None:
    """O5: of an answer that broke off; a figure for the whole answer stands as it is."""
    record = Closed(
        opened=Opened(call_id="c", started_at_ns=0),
        outcome=Outcome.CANCELLED,
        attempts=[Attempt(number=1, upstream="a", started_ns=0, sent_ns=1, status=200)],
        usage=Usage(input_tokens=20, output_tokens=stated),
        usage_source=UsageSource.PARTIAL,
        text_bytes_in=80,
        text_bytes_out=delivered_bytes,
        facts=[Fact.COUNT_PENDING],
    )
    assert usage_so_far(record) == Usage(input_tokens=20, output_tokens=output)
    spent = spent_by(record, None)
    assert (spent.tokens, spent.output_tokens) == (20 + output, output)
    whole = replace(record, usage_source=UsageSource.REPORTED)
    assert usage_so_far(whole) == record.usage


# -- an answer that is fetched ---------------------------------------------------------------


async def test_o5_an_answer_that_is_fetched_spends_nothing_again(tmp_path: Path) -> None:
    """O5: a background run is booked when it is made, by what it reserved, and by no poll."""
    run = {"id": "resp_1", "object": "response", "model": "m"}
    done = {**run, "status": "completed", "usage": {"input_tokens": 100, "output_tokens": 900}}
    upstream = Scripted(
        answer(200, {**run, "status": "queued", "usage": None}), *[answer(200, done)] * 3
    )
    tiers = {"default": {"budget": [{"tokens": 5000, "per": "month"}, {"usd": 1, "per": "month"}]}}
    prices = [{**PRICES[0], "provider": "openai"}]
    async with bench(tmp_path, upstream, tiers=tiers, prices=prices) as made:
        made.worker.snapshot.prices_on_demand.ask()
        await made.until(lambda: made.worker.snapshot.prices_found is not None)
        asked = ask(path="/v1/responses", input="hi", background=True, max_output_tokens=900)
        await fetch(made, asked)
        await made.at_rest()
        booked_at_once = booked(made)
        assert [reserved for _, reserved in booked_at_once] == [0, 0]
        assert booked_at_once[0][0] > 900
        assert booked_at_once[1][0] > 2 * 900 * 10**6
        for _ in range(3):
            poll = b"GET /v1/responses/resp_1 HTTP/1.1\r\nHost: a\r\n\r\n"
            status, _, said = await fetch(made, poll)
            assert (status, said["usage"]["output_tokens"]) == (200, 900)
        await made.at_rest()
        assert [Fact.FETCHED in closed.facts for closed in made.closed] == [False, *[True] * 3]
        assert booked(made) == booked_at_once


# -- an input whose head says that it is no text ---------------------------------------------

TYPES = [
    "Content-Type: application/json",
    "Content-Type: text/plain",
    "Content-Type: text/json",
    "Content-Type: application/octet-stream",
    "Content-Type: image/png",
    "X-Type: none",
]


def said_as(field: str, body: bytes, path: str = "/v1/chat/completions") -> bytes:
    """Give a request whose one field of its own is `field`."""
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\n{field}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def words(count: int) -> bytes:
    """Give a body with so many words in it."""
    messages = [{"role": "user", "content": "word " * count}]
    return json.dumps({"model": "m", "max_tokens": 5, "messages": messages}).encode()


@pytest.mark.parametrize("field", TYPES)
async def test_no_content_type_makes_an_input_unbounded(tmp_path: Path, field: str) -> None:
    """What takes text is read as text: a type that few servers look at switches nothing off."""
    async with bench(tmp_path, tiers={"default": {"input_tokens_max": 800}}) as made:
        got, _, said = await fetch(made, said_as(field, words(4000)))
        assert (got, said["error"]["code"]) == (400, "input_tokens_exceeded")
        assert (await fetch(made, said_as(field, words(40))))[0] == 200


@pytest.mark.parametrize("field", TYPES)
async def test_o5_the_input_is_reserved_whatever_its_type(tmp_path: Path, field: str) -> None:
    """O5: a budget has room for a call's text, or the call is refused."""
    tiers = {"default": {"budget": {"tokens": 900, "per": "month"}}}
    async with bench(tmp_path, tiers=tiers) as made:
        got, _, said = await fetch(made, said_as(field, words(4000)))
        assert (got, said["error"]["code"]) == (402, "budget_exceeded")


async def test_a_coded_body_is_refused_under_a_bound_of_the_input(tmp_path: Path) -> None:
    """Nobody unpacks it to look: its client is told to send it as it is."""
    coded = gzip.compress(words(40_000))
    field = "Content-Type: application/json\r\nContent-Encoding: gzip"
    async with bench(tmp_path, tiers={"default": {"input_tokens_max": 8000}}) as made:
        got, _, said = await fetch(made, said_as(field, coded))
        assert (got, said["error"]["code"]) == (400, "input_tokens_unknown")
        # What is no text, or costs nothing, is under no such bound.
        assert (await fetch(made, said_as(field, coded, "/v1/moderations")))[0] == 200


async def test_o5_a_coded_body_is_reserved_for_by_its_stated_expansion(tmp_path: Path) -> None:
    """O5: it is taken for ten times its size."""
    field = "Content-Type: application/json\r\nContent-Encoding: gzip"
    coded = bytes(400)
    for room, status in ((1000, 402), (20_000, 200)):
        tiers = {"default": {"budget": {"tokens": room, "per": "month"}}}
        async with bench(tmp_path / str(room), tiers=tiers) as made:
            assert (await fetch(made, said_as(field, coded)))[0] == status
