"""L5: a bug of ours in what watches a call and books it, while calls and streams go by."""

from __future__ import annotations

import asyncio
import functools
import importlib
from collections import Counter as Tally
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from taximeter.call import Outcome
from taximeter.relay._stream_tap import StreamTap
from taximeter.relay._tap import Tap
from tests.relay.bench import EVENTS, OK, Line, bench
from tests.relay.test_books import DELTA, DONE, chunk
from tests.relay.test_order import request

PLACES = (
    "taximeter.relay._bookkeeper:encode_record",
    "taximeter.relay._plain_call:encode_record",
    "taximeter.relay._course:close_record",
    "taximeter.relay._ending:find_usage",
    "taximeter.relay._exchange:Exchange._settled",
    "taximeter.relay._worker:RelayWorker.count_later",
    "taximeter.relay._tap:Tap.answer",
    "taximeter.relay._tap:Tap.keep",
    "taximeter.relay._stream_tap:StreamTap.note_token",
    "taximeter.relay._stream_tap:StreamTap.tally",
    "taximeter.relay._stream_tap:StreamTap._watch",
    "taximeter.dialects._openai_stream:OpenAiReader.feed",
    "taximeter.dialects._openai_stream:OpenAiReader.finish",
    "taximeter.dialects._openai_stream:OpenAiReader.is_dull",
)
STEPS = (
    "taximeter.relay._known:KnownHeads.tick",
    "taximeter.relay._kept_answers:KeptAnswers.tick",
    "taximeter.relay._seen_calls:SeenCalls.tick",
    "taximeter.relay._upstream:Upstream.drop_idle",
    "taximeter.relay._worker:RelayWorker._let_go_of_retired",
    "taximeter.relay._worker:look_at_pressure",
    "taximeter.relay._admission:AdmissionDriver.look",
    "taximeter.relay._worker:RelayWorker._look_at_keys",
)
"""What the clock looks after, beside calls and connections."""
UNTOLD = {"taximeter.relay._tap:Tap.answer"}
"""Not in the log, but in the row: `tap_failed`."""
DELTAS = [DELTA] * 6


def fail(*_: Any, **__: Any) -> NoReturn:
    """Be a bug."""
    raise RuntimeError("a fault of ours, made for this test")


async def answer(line: Line) -> None:
    """Answer, with a stream if one is asked for."""
    while True:
        _, body = await line.request()
        if b"true" not in body:
            await line.say(OK)
            continue
        await line.say(EVENTS)
        for delta in DELTAS:
            await line.say(chunk(delta))
            await asyncio.sleep(0.005)  # so that each is read alone, as streams come
        await line.say(chunk(DONE) + b"0\r\n\r\n")


@pytest.mark.parametrize("place", PLACES)
async def test_a_bug_in_what_keeps_the_books_costs_no_call(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """L5: whichever part of it raises, each time, plain answers and streams arrive whole, the next
    call is served on the same connection, each is booked if there is a way, and it is told.
    """
    owner, name = _place(place)
    async with bench(tmp_path, answer, upstream={"usage": "observe"}) as made:
        lost = made.worker.books._writer.lost
        assert lost is not None
        monkeypatch.setattr(owner, name, fail)
        client = await made.client()
        for stream in (False, True, False, True):
            await client.say(request("/v1/chat/completions", stream=stream))
            status, _, body = await client.answer()
            assert (status, body) == (200, b"".join(DELTAS) + DONE if stream else b"{}")
        monkeypatch.undo()
        await made.until(lambda: not made.worker.exchanges)
        assert [record.outcome for record in made.closed] == [Outcome.COMPLETED] * 4
        assert lost.calls == (4 if place.endswith("_bookkeeper:encode_record") else 0)
        told = [record for record in caplog.records if "fault of ours" in record.message]
        assert told or place in UNTOLD
        made.worker.faults = 0  # these were ours to make


async def test_a_stream_that_bytes_are_held_of_is_broken_off_honestly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L5, C2: where an event is to be taken out and a bug strikes, nobody can say which bytes are
    held back: the stream ends without its end, and its row says that it was our doing.
    """
    async with bench(tmp_path, answer) as made:
        monkeypatch.setattr(StreamTap, "_watch", fail)
        client = await made.client()
        await client.say(request("/v1/chat/completions", stream=True))
        heard = await client.rest()
        assert b"[DONE]" not in heard
        assert not heard.endswith(b"0\r\n\r\n")
        await made.until(lambda: len(made.closed) == 1)
        assert made.closed[0].outcome is Outcome.INTERRUPTED
        assert made.closed[0].error == "internal_error"
        made.worker.faults = 0


async def test_a_bug_in_what_reads_an_errors_code_costs_no_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """L5, C8: where the code of an error answer cannot be made out, the next attempt is made as its
    status says, and what the answer was read in is given back.
    """
    said = iter((b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\n{}", OK))

    async def recovering(line: Line) -> None:
        while True:
            await line.request()
            await line.say(next(said))

    retry = {"attempts_max": 2, "backoff_seconds_first": 0.01}
    async with bench(tmp_path, recovering, upstream={"retry": retry}) as made:
        monkeypatch.setattr(Tap, "answer", fail)
        client = await made.client()
        await client.say(request("/v1/chat/completions", stream=False))
        status, _, body = await client.answer()
        assert (status, body) == (200, b"{}")
        assert made.worker.tap_budget.bytes_taken == 0
        assert [each for each in caplog.records if "fault of ours" in each.message]
        made.worker.faults = 0


async def test_a_bug_in_one_connections_deadline_ends_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """L5, H3: where looking after a connection raises, the clock goes on and looks after others."""
    monkeypatch.setattr("taximeter.relay._worker.TICK_SECONDS", 0.05)
    async with bench(tmp_path, answer, relay={"head_seconds_max": 0.2}) as made:
        broken, other = await made.client(), await made.client()
        await made.until(lambda: len(made.worker.clients) == 2)
        (side,) = (
            each
            for each in made.worker.clients
            if each.transport is not None
            and each.transport.get_extra_info("peername")
            == broken.writer.get_extra_info("sockname")
        )
        monkeypatch.setattr(type(side), "tick", _tick_but(side, type(side).tick))
        assert await other.rest() == b""
        assert [each for each in caplog.records if "deadline" in each.message]
        broken.leave()
        made.worker.faults = 0


@pytest.mark.parametrize("step", STEPS)
async def test_a_bug_in_a_step_of_the_clock_stops_neither_it_nor_another_step(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """L5: whichever step of the clock raises, each time, every other is taken and there is a next
    tick; each fault is counted, and told once as long as it goes on.
    """
    monkeypatch.setattr("taximeter.relay._worker.TICK_SECONDS", 0.02)
    taken: Tally[str] = Tally()
    async with bench(tmp_path, answer) as made:
        for each in STEPS:
            owner, name = _place(each)
            monkeypatch.setattr(owner, name, _tallied(taken, each, each == step))
        await made.until(lambda: all(taken[each] >= 3 for each in STEPS))
        monkeypatch.undo()
        told = [each for each in caplog.records if "looked after" in each.message]
        assert len(told) == 1
        assert made.worker.faults == taken[step]
        made.worker.faults = 0


def _place(place: str) -> tuple[Any, str]:
    """Give the owner of what stands there, and its name."""
    module, _, path = place.partition(":")
    *classes, name = path.split(".")
    return functools.reduce(getattr, classes, importlib.import_module(module)), name


def _tallied(taken: Tally[str], step: str, fails: bool) -> Callable[..., None]:
    def tallied(*_: object) -> None:
        taken[step] += 1
        if fails:
            fail()

    return tallied


def _tick_but(broken: object, tick: Callable[..., None]) -> Callable[..., None]:
    def raising(side: object, *rest: float) -> None:
        if side is broken:
            raise RuntimeError("a bug")
        tick(side, *rest)

    return raising
