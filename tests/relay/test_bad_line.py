"""C2: an upstream's line goes bad, in every way of the chaos proxy and at every byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from taximeter.call import Outcome
from tests.relay.bench import EVENTS, Bench, Line, bench, raw_upstream
from tests.relay.test_books import DELTA, DONE, chunk
from tests.relay.test_order import request
from tests.rig.chaos import Chaos, chaos
from tests.rig.tally import Tally

SAID = json.dumps({"id": "x", "usage": {"prompt_tokens": 3, "completion_tokens": 2}}).encode()
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
ANSWERS = {
    "sized": JSON + b"Content-Length: %d\r\n\r\n" % len(SAID) + SAID,
    "chunked": JSON + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(SAID) + b"0\r\n\r\n",
    "a stream": EVENTS + chunk(DELTA) + chunk(DELTA) + chunk(DONE) + b"0\r\n\r\n",
}
PLAIN = {"retry": {"attempts_max": 1}, "breaker": {"enabled": False}}


@asynccontextmanager
async def line_to(
    folder: Path, said: bytes, **upstream: object
) -> AsyncIterator[tuple[Bench, Chaos]]:
    """Run a worker before an upstream that always says the same, with a bad line between them."""

    async def answer(line: Line) -> None:
        while True:
            await line.request()
            await line.say(said)

    async with raw_upstream(answer) as (url, _), chaos(int(url.rpartition(":")[2])) as line:
        through = {"url": f"http://127.0.0.1:{line.port}", **PLAIN, **upstream}
        async with bench(folder, upstream=through) as made:
            yield made, line


async def call(made: Bench, *, stream: bool) -> tuple[int, bytes] | None:
    """Make a call; give its status and body, or None if a client would not take it for whole."""
    client = await made.client()
    await client.say(request("/v1/chat/completions", stream=stream))
    try:
        status, _, body = await client.answer()
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    finally:
        client.leave()
    return status, body


@pytest.mark.parametrize("ends", ["limit_data", "reset_peer"])
@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_cut_at_any_byte_is_whole_to_nobody(
    name: str, ends: str, tmp_path: Path, tally: Tally
) -> None:
    """C2: whichever byte it breaks off at, the client gets a 502 or an answer without its end;
    what has all its bytes arrives; and the row says which of these it was.
    """
    said, stream = ANSWERS[name], name == "a stream"
    head = said.index(b"\r\n\r\n") + 4
    # Where all that is missing is what follows the end of a stream, it is whole all the same.
    end = said.index(DONE) + len(DONE) if stream else len(said)
    cuts = [*range(end), len(said)] if ends == "limit_data" else [0]
    async with line_to(tmp_path, said) as (made, line):
        for cut in cuts:
            if ends == "limit_data":
                line.down.limit_data_bytes = cut if cut < len(said) else None
            else:
                line.down.reset_peer_seconds = 0.0
            before = len(made.closed)
            heard = await call(made, stream=stream)
            await made.until(lambda n=before: len(made.closed) > n)  # type: ignore[misc]
            outcome = made.closed[-1].outcome
            if cut < head:
                assert heard is not None, f"cut at {cut}: not even an error"
                assert (heard[0], outcome) == (502, Outcome.UPSTREAM_ERROR), cut
            elif cut < len(said):
                assert heard is None, f"cut at {cut} of {len(said)}, it looks whole: {heard}"
                assert outcome is Outcome.TRUNCATED, cut
            else:
                assert heard is not None
                assert (heard[0], outcome) == (200, Outcome.COMPLETED)
        tally.add("answers cut", len(cuts))


@pytest.mark.parametrize(
    ("fault", "value"),
    [
        ("latency_seconds", 0.1),
        ("bandwidth_bytes_per_second", 2000),
        ("slicer_bytes", 1),
        ("slicer_bytes", 7),
        ("slow_close_seconds", 0.3),
    ],
)
async def test_an_answer_over_a_slow_line_is_whole(
    fault: str, value: float, tmp_path: Path
) -> None:
    """C2: a line that is slow, or hands out bytes one by one, changes no byte of an answer."""
    for name, said in ANSWERS.items():
        async with line_to(tmp_path / name, said) as (made, line):
            setattr(line.down, fault, value)
            heard = await call(made, stream=name == "a stream")
            assert heard == (200, DELTA + DELTA + DONE if name == "a stream" else SAID)


async def test_a_line_that_falls_silent_is_given_up(tmp_path: Path) -> None:
    """C2: before the head it is a 502 or 504 in its time; within the answer it is cut."""
    seconds = {"timeouts": {"first_byte_seconds": 0.5, "idle_seconds": 0.5}}
    async with line_to(tmp_path, ANSWERS["sized"], **seconds) as (made, line):
        line.down.timeout_seconds = 0.0
        heard = await call(made, stream=False)
        assert heard is not None
        assert heard[0] in (502, 504)
        line.mend()
        assert await call(made, stream=False) == (200, SAID)
