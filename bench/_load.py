"""The load of the benchmarks: one process that speaks HTTP/1.1 with as little work as it can.

    python -m bench._load '{"port": 8400, "kind": "calls", ...}'

warms up, prints `ready`, waits for a line, applies the load, and prints what it saw as JSON. With
`"kind": "idle"` it then holds its streams open until another line comes. An answer that is not
whole ends it with an error: a benchmark of wrong answers is none.

What the upstream is to answer stands in the prompt itself (`bench._upstream`): whatever a way does
to a request's path, query or head, it passes that on.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any, Literal, cast

import msgspec
import uvloop

PATH = "/v1/chat/completions"
MODEL = "gpt-5.4-mini"
SECONDS_MAX = 180.0
"""A load that takes longer is given up."""
CONNECTS_AT_ONCE_MAX = 50


class Job(msgspec.Struct, kw_only=True, frozen=True):
    """What load is applied."""

    port: int
    kind: Literal["calls", "streams", "idle", "arrivals"]
    connections: int
    """Calls, or streams, under way at once; each on a connection of its own."""
    calls: int = 0
    """Calls in all (`calls`), or streams in all (`arrivals`)."""
    calls_per_second: float | None = None
    """Pace of the calls; without it, as fast as they are answered. Of `arrivals`, which begin when
    they are due however many are under way, it must be given."""
    deltas: int = 0
    every_ms: int = 10
    """Deltas of a stream, and the time between two of them."""
    asks_usage: bool = True
    """The client itself asks for usage in its streams."""
    warm_up_calls: int = 200
    request_bytes: int = 0
    """Length that a request's body is filled up to."""
    answer_bytes: int = 0
    """Length of a plain answer, if not the usual one."""
    apart: bool = False
    """Both sides write the head and the body of a plain call one by one, as many do."""
    headers: dict[str, str] = {}
    """Further headers of each request."""
    exact: bool = True
    """The way passes every event on as it is; else there may be fewer or more."""


def request(job: Job) -> bytes:
    """The bytes of every request of a job: about what an SDK sends."""
    streams = job.kind != "calls"
    asked: dict[str, int] = {}
    if streams:
        asked |= {"deltas": job.deltas, "every_ms": job.every_ms}
    if job.kind == "idle":
        asked["hold"] = 1
    if job.answer_bytes:
        asked["answer_bytes"] = job.answer_bytes
    if job.apart:
        asked["apart"] = 1
    words = " ".join(f"{name}={value}" for name, value in asked.items())
    prompt = "How far is it from the station to the harbour?" + (
        f" [bench {words}]" if words else ""
    )
    said: dict[str, Any] = {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "You are a taxi driver who knows every street."},
            {"role": "user", "content": prompt},
        ],
        "user": "bench",
    }
    if streams:
        said["stream"] = True
        if job.asks_usage:
            said["stream_options"] = {"include_usage": True}
    missing = job.request_bytes - len(json.dumps(said))
    if missing > 0:
        said["messages"][1]["content"] = prompt + " far" * (missing // 4)
    body = json.dumps(said).encode()
    more = "".join(f"{name}: {value}\r\n" for name, value in job.headers.items())
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{job.port}\r\nAccept: application/json\r\n"
        "Accept-Encoding: gzip, deflate\r\nUser-Agent: OpenAI/Python 3.54.0\r\n"
        "Authorization: Bearer sk-bench\r\nContent-Type: application/json\r\n"
        f"x-stainless-retry-count: 0\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Client(asyncio.Protocol):
    """One connection. `call` sends the request and returns when its answer is whole."""

    def __init__(self, sent: bytes, *, apart: bool = False, holds: bool = False) -> None:
        self._first, self._then = sent, b""
        if apart:
            body = sent.index(b"\r\n\r\n") + 4
            self._first, self._then = sent[:body], sent[body:]
        self._holds = holds
        self._head = b""
        self._left: int | None = None
        self._tail = b""
        self.events = 0
        self.first_at = 0.0
        """When the first bytes of the answer's body had come (`time.perf_counter`)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("connection lost")

    def call(self) -> asyncio.Future[None]:
        """Send the request; the future is done when its answer is whole."""
        self._done = asyncio.get_running_loop().create_future()
        self._head, self._left, self._tail, self.first_at = b"", None, b"", 0.0
        self.transport.write(self._first)
        if self._then:
            # In the loop's next turn: what is written in one is sent as one.
            asyncio.get_running_loop().call_soon(self.transport.write, self._then)
        return self._done

    def data_received(self, data: bytes) -> None:
        if self._left is None:
            head, mark, rest = (self._head + data).partition(b"\r\n\r\n")
            if not mark:
                self._head = head
                return
            if not head.startswith(b"HTTP/1.1 200 "):
                self._fail(head[:200].decode("latin-1"))
                return
            _, stated, length = head.lower().partition(b"\r\ncontent-length:")
            self._left = int(length.partition(b"\r\n")[0]) if stated else -1
            data = rest
        if data and not self.first_at:
            self.first_at = time.perf_counter()
        if self._left >= 0:
            self._left -= len(data)
            whole = self._left == 0
        else:
            seen = self._tail + data
            self.events += seen.count(b"data: ")  # the tail is too short to hold one
            self._tail = seen[-5:]
            whole = self._tail == b"0\r\n\r\n" or (self._holds and self.events > 0)
        if whole and not self._done.done():
            self._done.set_result(None)

    def _fail(self, why: str) -> None:
        if not self._done.done():
            self._done.set_exception(ConnectionError(why))


async def connect(job: Job, sent: bytes) -> list[Client]:
    """Open the job's connections, a few at a time."""
    loop = asyncio.get_running_loop()
    clients: list[Client] = []
    while len(clients) < job.connections:
        count = min(CONNECTS_AT_ONCE_MAX, job.connections - len(clients))
        made = [
            loop.create_connection(
                lambda: Client(sent, apart=job.apart, holds=job.kind == "idle"),
                "127.0.0.1",
                job.port,
            )
            for _ in range(count)
        ]
        clients.extend(client for _, client in await asyncio.gather(*made))
    return clients


async def calls(job: Job, clients: list[Client], count: int) -> list[float]:
    """Make so many calls over the clients; give their latencies in seconds."""
    left = count
    latencies: list[float] = []
    begin = time.perf_counter()

    async def work(client: Client) -> None:
        nonlocal left
        while left > 0:
            if job.calls_per_second is not None:
                due = begin + (count - left) / job.calls_per_second
                left -= 1
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
            else:
                left -= 1
            sent_at = time.perf_counter()
            await client.call()
            latencies.append(time.perf_counter() - sent_at)

    await asyncio.gather(*(work(client) for client in clients))
    return latencies


async def arrivals(job: Job) -> list[float]:
    """Begin streams when they are due, however many are under way: an open loop.

    Give the seconds from the time each was due to its first bytes: what a user waits. A stream that
    begins late because the machine is behind has waited, too.
    """
    assert job.calls_per_second is not None
    loop, sent = asyncio.get_running_loop(), request(job)
    idle: list[Client] = []
    waits: list[float] = []

    async def stream(due: float) -> None:
        if idle:
            client = idle.pop()
        else:
            _, client = await loop.create_connection(lambda: Client(sent), "127.0.0.1", job.port)
        await client.call()
        waits.append(client.first_at - due)
        idle.append(client)

    begin = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(job.calls):
            due = begin + number / job.calls_per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(stream(due))
    for client in idle:
        client.transport.close()
    return waits


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Give the median and the 99th percentile, in microseconds."""
    ordered = sorted(seconds)
    return {
        "p50_us": ordered[len(ordered) // 2] * 1e6,
        "p99_us": ordered[len(ordered) * 99 // 100] * 1e6,
    }


async def wait_line() -> None:
    """Wait for a line on standard input, the orchestrator's word to go on."""
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def warm_up(job: Job) -> list[Client]:
    """Make the way's connections and caches warm; give the clients of a load that needs them."""
    # A stream, idle or not, is warmed up by plain calls: they need the same connections.
    few = msgspec.structs.replace(job, kind="calls", connections=16, calls_per_second=None)
    if job.warm_up_calls:
        warm = await connect(few, request(msgspec.structs.replace(few, request_bytes=0)))
        await calls(few, warm, job.warm_up_calls)
        for client in warm:
            client.transport.close()
    if job.kind in ("idle", "arrivals"):
        return []
    clients = await connect(job, request(job))
    if job.kind == "calls":
        unpaced = msgspec.structs.replace(job, calls_per_second=None)
        await calls(unpaced, clients, len(clients))
    return clients


async def run(job: Job) -> None:
    """Apply the job's load."""
    clients = await warm_up(job)
    print("ready", flush=True)
    await wait_line()
    begin = time.perf_counter()
    said: dict[str, Any] = {}
    if job.kind == "calls":
        latencies = await calls(job, clients, job.calls)
        said = {"calls": len(latencies), **percentiles(latencies)}
    elif job.kind == "arrivals":
        waits = await arrivals(job)
        said = {"streams": len(waits), "first_us": sorted(wait * 1e6 for wait in waits)}
    elif job.kind == "streams":
        await asyncio.gather(*(client.call() for client in clients))
        events = sum(client.events for client in clients)
        # Role, deltas, finish, usage if asked for, and `[DONE]`.
        whole = job.connections * (job.deltas + 3 + job.asks_usage)
        if events != whole and job.exact:
            raise ConnectionError(f"{events} events instead of {whole}")
        said = {"deltas": job.connections * job.deltas, "events": events}
    else:
        clients = await connect(job, request(job))
        await asyncio.gather(*(client.call() for client in clients))
        said = {"streams": len(clients)}
    said["seconds"] = time.perf_counter() - begin
    print(json.dumps(said), flush=True)
    await wait_line()
    for client in clients:
        client.transport.close()
    await asyncio.sleep(0.05)


async def main() -> None:
    """Apply the load that the first argument describes."""
    job = msgspec.json.decode(sys.argv[1], type=Job)
    async with asyncio.timeout(SECONDS_MAX):
        await run(job)


if __name__ == "__main__":
    uvloop.run(main())
