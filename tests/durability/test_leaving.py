"""C4: clients that leave in the middle of their streams."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from tests.rig import Script
from tests.rig.tally import Tally
from tests.rig.taximeter import Taximeter
from tests.rig.upstream import Upstream

CLIENTS = 40
EVENTS_READ = 5
LET_GO_SECONDS_MAX = 0.2
PRICE = {"provider": "openai", "model": "fake-*"}


async def _leave_mid_stream(port: int, number: int) -> tuple[float, int]:
    """Begin a stream, read some of it, and go; give when, and how many deltas had come."""
    body = {
        "model": "fake-large",
        "messages": [{"role": "user", "content": f"Tell me about {number}"}],
        "stream": True,
    }
    said = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(said)}\r\n"
    writer.write(head.encode() + f"x-taximeter-tags: n={number}\r\n\r\n".encode() + said)
    deltas = 0
    while deltas < EVENTS_READ:
        line = await reader.readline()
        assert line, "the stream ended early"
        deltas += b'"content":"' in line and b'"content":""' not in line
    left_at = time.monotonic()
    writer.transport.abort()
    return left_at, deltas


@pytest.mark.alone
@pytest.mark.timeout(60)
def test_forty_clients_that_leave_are_let_go_upstream_and_booked_as_cancelled(
    tmp_path: Path, tally: Tally
) -> None:
    """C4: upstream is let go within 0.2 s each; rows have the delivered tokens and a cost."""
    script = Script(tokens=500, delta_seconds=0.05)
    with Upstream(script) as upstream:
        upstreams = {"openai": {"url": upstream.url, "dialect": "openai"}}
        prices = [{**PRICE, "input_usd_per_million": 1, "output_usd_per_million": 2}]
        with Taximeter(tmp_path, upstreams, prices=prices) as meter:

            async def everyone() -> list[tuple[float, int]]:
                return await asyncio.gather(
                    *(_leave_mid_stream(meter.port, number) for number in range(CLIENTS))
                )

            left = asyncio.run(everyone())
            upstream.wait_until(
                lambda: all(each.client_left_at is not None for each in upstream.log), 10
            )
            rows = meter.booked(CLIENTS, seconds=30)
            waits = []
            for exchange in upstream.log:
                number = int(json.loads(bytes(exchange.body))["messages"][0]["content"].split()[-1])
                assert exchange.client_left_at is not None
                waits.append(exchange.client_left_at - left[number][0])
            tally.tell(f"left: {CLIENTS} clients; upstream let go within {max(waits):.3f} s")
            assert len(waits) == CLIENTS
            assert max(waits) < LET_GO_SECONDS_MAX
            for row in rows:
                assert row["outcome"] == "cancelled"
                assert row["usage_source"] == "estimated"
                # What was delivered is what the client read, and what was on its way to it.
                assert EVENTS_READ - 1 <= row["output_tokens"] <= EVENTS_READ * 6
                assert row["input_tokens"] > 0
                million = row["input_tokens"] + 2 * row["output_tokens"]
                assert row["cost_pico"] == million * 10**6
