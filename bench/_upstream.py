"""The upstream of the benchmarks: prepared bytes from one process, cheap and never the bottleneck.

    python -m bench._upstream

prints its port and serves until its standard input ends; with the files of a certificate and its
key behind it, over TLS. The prompt says what is answered, for every way passes that on:

    nothing of the kind                       400 bytes of JSON
    [bench answer_bytes=N]                    N bytes of JSON
    [bench apart=1]                           the 400 bytes, head and body each a write of its own
    [bench deltas=N every_ms=M]               N events of about 200 bytes, each a write of its own
    [bench deltas=N every_ms=M hold=1]        the same, and then silence: an idle stream
"""

from __future__ import annotations

import asyncio
import functools
import json
import ssl
import sys
from typing import cast

import httptools
import uvloop

USAGE = {"prompt_tokens": 120, "completion_tokens": 80, "total_tokens": 200}
COMMON = {"id": "chatcmpl-bench", "created": 1_795_000_000, "model": "gpt-5.4-mini-2026-03-17"}
MARK = b"[bench "
BODY_BYTES = 400
DELTA_BYTES = 200


@functools.cache
def plain(body_bytes: int) -> bytes:
    """Give a plain answer with a body of that length."""
    message = {"role": "assistant", "content": ""}
    said = {
        **COMMON,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": USAGE,
    }
    message["content"] = "x" * (body_bytes - len(json.dumps(said)))
    body = json.dumps(said).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"x-request-id: req_bench\r\n\r\n" + body


def _event(delta: dict[str, str], reason: str | None, width: int = 0) -> bytes:
    said = {
        **COMMON,
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        "usage": None,
    }
    text = json.dumps(said, separators=(",", ":"))
    delta = {**delta, "content": "x" * max(1, width - len(text) - 8)} if width else delta
    said["choices"] = [{"index": 0, "delta": delta, "finish_reason": reason}]
    return _chunk(b"data: " + json.dumps(said, separators=(",", ":")).encode() + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


PLAIN = plain(BODY_BYTES)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nx-request-id: req_bench\r\nTransfer-Encoding: chunked\r\n\r\n"
)
FIRST = _event({"role": "assistant", "content": ""}, None)
DELTA = _event({"content": ""}, None, DELTA_BYTES)
LAST = _event({}, "stop")
USAGE_LAST = _chunk(
    b"data: "
    + json.dumps(
        {**COMMON, "object": "chat.completion.chunk", "choices": [], "usage": USAGE}
    ).encode()
    + b"\n\n"
)
DONE = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Connection(asyncio.Protocol):
    """Answers one request after the other from prepared bytes."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._body = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._deltas = 0
        self._every_seconds = 0.0
        self._holds = False
        self._asked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        begin = self._body.find(MARK)
        if begin < 0:
            self._transport.write(PLAIN)
            self._body.clear()
            return
        words = self._body[begin + len(MARK) : self._body.index(b"]", begin)].decode().split()
        asked = {name: int(value) for name, _, value in (word.partition("=") for word in words)}
        self._asked = b"include_usage" in self._body
        self._body.clear()
        if "apart" in asked:
            self._transport.write(PLAIN[:-BODY_BYTES])
            # In the loop's next turn: what is written in one is sent as one.
            self._loop.call_soon(self._transport.write, PLAIN[-BODY_BYTES:])
            return
        if "deltas" not in asked:
            self._transport.write(plain(asked["answer_bytes"]))
            return
        self._deltas = asked["deltas"]
        self._every_seconds = asked["every_ms"] / 1000
        self._holds = "hold" in asked
        self._transport.write(STREAM_HEAD + FIRST)
        self._timer = self._loop.call_later(self._every_seconds, self._tick)

    def _tick(self) -> None:
        if self._deltas:
            self._deltas -= 1
            self._transport.write(DELTA)
        elif self._holds:
            return
        else:
            usage = USAGE_LAST if self._asked else b""
            self._transport.write(LAST + usage + DONE)
            return
        self._timer = self._loop.call_later(self._every_seconds, self._tick)


async def main() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    context = None
    if len(sys.argv) > 1:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*sys.argv[1:3])
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=4096, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(main())
