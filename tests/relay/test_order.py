"""D1: the order of what is written, to the disk and to the sockets, call by call.

Looked at where the bytes leave this process: the journal's `write`, and the transports. That a
record is in the journal when somebody else looks is not enough: a process that is killed may die
between any two writes.
"""

from __future__ import annotations

import asyncio
import json
from asyncio import selector_events
from pathlib import Path

import pytest

from taximeter.call import Closed, Opened
from taximeter.journal import RealDisk
from taximeter.records import decode_record
from tests.journal import reference
from tests.relay.bench import EVENTS, Bench, Line, bench
from tests.relay.test_books import DELTA, DONE, chunk

CHAT, MESSAGES, FILES = "/v1/chat/completions", "/v1/messages", "/v1/files"
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
ANSWERS: dict[str, tuple[str, bool, tuple[bytes, ...], bytes]] = {
    # what is asked, whether for a stream, what the upstream says, read by read, our last bytes
    "sized": (CHAT, False, (JSON + b"Content-Length: 9\r\n\r\n", b'{"a":"z"}'), b'z"}'),
    "chunked": (CHAT, False, (JSON + CHUNKED + b"2\r\n{}\r\n" + END,), END),
    "to its end": (CHAT, False, (JSON + b"Connection: close\r\n\r\n{}",), END),
    "no body": (FILES, False, (b"HTTP/1.1 204 No Content\r\n\r\n",), b"\r\n\r\n"),
    "an error": (CHAT, False, (b"HTTP/1.1 400 No\r\nContent-Length: 3\r\n\r\nno!",), b"no!"),
    "a stream": (CHAT, True, (EVENTS, *[chunk(DELTA)] * 4, chunk(DONE), END), b"[DONE]"),
    "a stream at once": (CHAT, True, (EVENTS + chunk(DELTA + DONE) + END,), b"[DONE]"),
    "no token": (CHAT, True, (EVENTS, chunk(DONE), END), b"[DONE]"),
    "messages": (MESSAGES, True, (EVENTS, chunk(STOP), END), b"message_stop"),
    "a stream unmarked": (CHAT, True, (EVENTS, chunk(DELTA), END), END),
}


class Wire:
    """Notes every write to the journal, to the client and to the upstream, in their order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.notes: list[tuple[str, bytes]] = []
        self._proxy_port = self._upstream_port = 0
        disk, sync = RealDisk.write, RealDisk.synchronise
        send = selector_events._SelectorSocketTransport.write  # type: ignore[attr-defined]

        def to_disk(handle: int, data: bytes) -> int:
            count = disk(handle, data)
            self.notes += [("record", payload) for _, payload in reference.frames(data)]
            return count

        def to_be_safe(disk: RealDisk, handle: int) -> None:
            sync(disk, handle)
            self.notes.append(("safe", b""))

        def to_socket(transport: asyncio.Transport, data: bytes) -> None:
            ours, theirs = (transport.get_extra_info(name) for name in ("sockname", "peername"))
            if ours[1] == self._proxy_port:
                self.notes.append(("client", bytes(data)))
            elif theirs[1] == self._upstream_port:
                self.notes.append(("upstream", bytes(data)))
            send(transport, data)

        monkeypatch.setattr(RealDisk, "write", staticmethod(to_disk))
        monkeypatch.setattr(RealDisk, "synchronise", to_be_safe)
        monkeypatch.setattr(selector_events._SelectorSocketTransport, "write", to_socket)  # type: ignore[attr-defined]

    def watch(self, made: Bench) -> None:
        """Look at this bench's ports."""
        self._proxy_port = made.port
        url = made.worker.settings.upstreams["openai"].url
        self._upstream_port = int(str(url).rstrip("/").rpartition(":")[2])

    def first(self, kind: str, mark: bytes | type = b"") -> int:
        """Give the place of the first note of a kind that has a mark in it, or is of a type."""
        for place, (what, data) in enumerate(self.notes):
            if what != kind:
                continue
            if isinstance(mark, bytes) and mark in data:
                return place
            if isinstance(mark, type) and isinstance(decode_record(data), mark):
                return place
        raise AssertionError(f"nothing of {kind} has {mark!r} in it")


def request(path: str, *, stream: bool) -> bytes:
    """Give a request."""
    body = json.dumps({"model": "m", "stream": stream, "messages": []}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize("sync", ["interval", "always"])
@pytest.mark.parametrize("name", ANSWERS)
async def test_records_are_written_before_the_bytes_they_are_of(
    name: str, sync: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D1: the record is written before the byte is, and with `always` it is safe before, too."""
    path, stream, said, last = ANSWERS[name]

    async def answer(line: Line) -> None:
        await line.request()
        for part in said:
            await line.say(part)
            await asyncio.sleep(0.01)  # so that each is read alone

    wire = Wire(monkeypatch)
    alone = {"dialect": "anthropic"} if path == MESSAGES else {}
    async with bench(tmp_path, answer, upstream=alone, journal={"sync": sync}) as made:
        wire.watch(made)
        client = await made.client()
        await client.say(request(path, stream=stream))
        await client.until(last)
        opened, closed = wire.first("record", Opened), wire.first("record", Closed)
        asked, ended = wire.first("upstream"), wire.first("client", last)
        assert opened < asked, "the upstream had a byte of a call that was not on record"
        assert closed < ended, "the client had the last byte of a call whose end was not on record"
        if sync == "always":
            assert "safe" in [what for what, _ in wire.notes[opened:asked]]
            assert "safe" in [what for what, _ in wire.notes[closed:ended]]
