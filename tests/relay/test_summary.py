"""A client that asks for it is told what its call came to (`x-taximeter-summary: 1`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from taximeter.call import Closed, Outcome, Usage, UsageSource
from taximeter.relay._summary import HELD_BYTES_MAX
from tests.relay.bench import EVENTS, Bench, Line, bench
from tests.relay.test_admission import Scripted, answer, ask, error

ASKS = "x-taximeter-summary: 1"
PRICES = [
    {"provider": "openai", "model": "m", "input_usd_per_million": 1, "output_usd_per_million": 2}
]
COST = "0.000007"  # 3 tokens in at 1, 2 out at 2 dollars a million
TOLD = {
    b"x-taximeter-usage-source": [b"reported"],
    b"x-taximeter-input-tokens": [b"3"],
    b"x-taximeter-output-tokens": [b"2"],
    b"x-taximeter-cost-usd": [COST.encode()],
}
DELTA = b'data: {"id":"x","model":"m","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
USAGE = (
    b'data: {"id":"x","model":"m","choices":[],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
)
DONE = b"data: [DONE]\n\n"


def chunks(data: bytes, size: int) -> bytes:
    """Give bytes in chunks of a size, without the last."""
    return b"".join(
        b"%x\r\n%b\r\n" % (len(piece), piece)
        for piece in (data[at : at + size] for at in range(0, len(data), size))
    )


def told_of(fields: dict[bytes, list[bytes]]) -> dict[bytes, list[bytes]]:
    """Give what a head tells of a call's figures."""
    return {name: value for name, value in fields.items() if name in TOLD or b"-tokens" in name}


async def asked(made: Bench, request: bytes) -> tuple[int, dict[bytes, list[bytes]], bytes]:
    """Ask, once prices are there: they are read when they are first asked for."""
    made.worker.snapshot.prices_on_demand.ask()
    await made.until(lambda: made.worker.snapshot.prices_found is not None)
    client = await made.client()
    await client.say(request)
    return await client.answer()


def words_of(body: bytes, stream: bytes) -> Any:
    """Give what the comment at a stream's end says; what stands before it is `stream`."""
    before, mark, words = body.rpartition(b": taximeter ")
    assert mark
    assert before == stream
    assert words.endswith(b"}\n")
    assert words.count(b"\n") == 1
    return json.loads(words)


async def test_a_plain_answer_tells_in_its_head(tmp_path: Path) -> None:
    """Tokens and cost are the close record's, the body is whole, the wish stays here."""
    upstream = Scripted()
    async with bench(tmp_path, upstream, prices=PRICES) as made:
        for request in (ask(ASKS), ask(ASKS)):  # the second by a head that is known
            status, fields, body = await asked(made, request)
            assert (status, told_of(fields)) == (200, TOLD)
            assert answer().endswith(body)
            assert json.loads(body)["id"] == "x"
        assert all(b"x-taximeter" not in head for head in upstream.heads)
        first, second = made.closed
        assert first.usage == second.usage == Usage(input_tokens=3, output_tokens=2)


@pytest.mark.parametrize("value", ["0", "", "yes", "11"])
async def test_only_who_asks_is_told(tmp_path: Path, value: str) -> None:
    """Without the header, or with another value, nothing is held and nothing told."""
    async with bench(tmp_path, Scripted(), prices=PRICES) as made:
        for request in (ask(), ask(f"x-taximeter-summary: {value}")):
            _, fields, _ = await asked(made, request)
            assert told_of(fields) == {}


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("asks_usage", [False, True])
async def test_a_stream_tells_behind_its_last_event(
    tmp_path: Path, size: int, asks_usage: bool
) -> None:
    """However its bytes come, the events are as ever, and a comment of one line ends it."""
    whole = DELTA + DELTA + USAGE + DONE
    upstream = Scripted(EVENTS + chunks(whole, size) + b"0\r\n\r\n")
    more: dict[str, Any] = {"stream_options": {"include_usage": True}} if asks_usage else {}
    async with bench(tmp_path, upstream, prices=PRICES) as made:
        _, fields, body = await asked(made, ask(ASKS, stream=True, **more))
        assert told_of(fields) == {}
        (closed,) = made.closed
        assert words_of(body, whole if asks_usage else DELTA + DELTA + DONE) == {
            "id": closed.opened.call_id,
            "outcome": "completed",
            "input_tokens": 3,
            "output_tokens": 2,
            "cached_tokens": None,
            "reasoning_tokens": None,
            "usage_source": "reported",
            "cost_usd": COST,
        }


async def test_a_stream_under_way_tells_too(tmp_path: Path) -> None:
    """Also one whose events came one by one for a while, and whose end came late."""

    async def upstream(line: Line) -> None:
        await line.request()
        await line.say(EVENTS)
        for event in (*[DELTA] * 20, USAGE, DONE):
            await line.say(chunks(event, 10_000))
            await made.until(lambda: True)
        await line.say(b"0\r\n\r\n")
        await line.take()

    async with bench(tmp_path, upstream, prices=PRICES) as made:
        _, _, body = await asked(made, ask(ASKS, stream=True))
        assert words_of(body, DELTA * 20 + DONE)["cost_usd"] == COST


async def test_a_stream_that_breaks_off_tells_what_is_known(tmp_path: Path) -> None:
    """It is told as truncated, and its cost as not known: the recorder has yet to count it."""

    async def upstream(line: Line) -> None:
        await line.request()
        await line.say(EVENTS + chunks(DELTA, 10_000))
        line.writer.close()

    async with bench(tmp_path, upstream, prices=PRICES) as made:
        made.worker.snapshot.prices_on_demand.ask()
        client = await made.client()
        await client.say(ask(ASKS, stream=True))
        rest = await client.rest()
        words = json.loads(rest.rpartition(b": taximeter ")[2].partition(b"\n")[0])
        assert (words["outcome"], words["cost_usd"]) == ("truncated", None)
        assert not rest.endswith(b"0\r\n\r\n"), "it must not look whole"
        assert made.closed[0].outcome is Outcome.TRUNCATED


async def test_what_is_not_known_is_not_told_as_nothing(tmp_path: Path) -> None:
    """No usage: no tokens and an unknown cost; no price: tokens and an unknown cost."""
    silent = answer(200, {"id": "x", "model": "m"})
    unpriced = answer(
        200, {"id": "y", "model": "n-1", "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    )
    async with bench(tmp_path, Scripted(silent, unpriced), prices=PRICES) as made:
        _, fields, _ = await asked(made, ask(ASKS))
        assert told_of(fields) == {
            b"x-taximeter-usage-source": [b"absent"],
            b"x-taximeter-cost-usd": [b"unknown"],
        }
        _, fields, _ = await asked(made, ask(ASKS, model="n-1"))
        assert told_of(fields) == {**TOLD, b"x-taximeter-cost-usd": [b"unknown"]}
        assert made.closed[0].usage_source is UsageSource.ABSENT


@pytest.mark.parametrize("stated", [True, False])
async def test_a_long_answer_is_not_held(tmp_path: Path, stated: bool) -> None:
    """Beyond the bound it goes on as it comes, whole, and tells nothing."""
    body = json.dumps({"id": "x", "filler": "y" * (HELD_BYTES_MAX + 100_000)}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    framed = (
        head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        if stated
        else head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks(body, 65536) + b"0\r\n\r\n"
    )
    async with bench(tmp_path, Scripted(framed), prices=PRICES) as made:
        _, fields, received = await asked(made, ask(ASKS))
        assert received == body
        assert told_of(fields) == {}


async def test_an_error_passes_untouched(tmp_path: Path) -> None:
    """An upstream's error is not held for figures that it does not have."""
    async with bench(tmp_path, Scripted(answer(400, error("bad"))), prices=PRICES) as made:
        status, fields, body = await asked(made, ask(ASKS))
        assert (status, told_of(fields), json.loads(body)) == (400, {}, error("bad"))


async def test_no_word_is_put_where_one_could_do_harm(tmp_path: Path) -> None:
    """A stream of Google's takes a comment for JSON, so it gets none."""
    event = b'data: {"candidates":[{"content":{"parts":[{"text":"Hi"}]}}]}\n\n'
    upstream = Scripted(EVENTS + chunks(event, 10_000) + b"0\r\n\r\n")
    async with bench(tmp_path, upstream, upstream={"dialect": "gemini"}) as made:
        path = "/openai/v1beta/models/g:streamGenerateContent?alt=sse"
        _, _, body = await asked(made, ask(ASKS, path=path))
        assert body == event


async def test_an_answer_given_once_more_cost_nothing(tmp_path: Path) -> None:
    """A replay's cost is 0, which is exact: it was paid with the call before."""
    fields = (ASKS, "Idempotency-Key: 5f2a", "Authorization: Bearer sk-alice")
    async with bench(tmp_path, Scripted(), prices=PRICES, replay={"enabled": True}) as made:
        _, first, _ = await asked(made, ask(*fields))
        _, again, body = await asked(made, ask(*fields))
        assert told_of(first) == TOLD
        assert again[b"idempotent-replayed"] == [b"true"]
        assert again[b"x-taximeter-cost-usd"] == [b"0"]
        assert json.loads(body)["id"] == "x"
        closed: list[Closed] = made.closed
        assert len(closed) == 2
