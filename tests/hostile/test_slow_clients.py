"""H3: clients that hold on to connections, against Taximeter itself as a user runs it."""

from __future__ import annotations

import http.client
import json
import socket
import statistics
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.rig import Script, write_script
from tests.rig.length import pick
from tests.rig.taximeter import PLAIN, Taximeter
from tests.rig.upstream import Upstream
from tests.rig.vitals import vitals

CLIENTS = pick(40, 400)
"""Of each kind."""
HEAD_SECONDS, BODY_SECONDS, WRITE_SECONDS, IDLE_SECONDS = 1.5, 2.5, 3.5, 4.5
"""Deadlines, each another, so that it shows which of them it was."""
LATE_SECONDS = 5.0
"""How much later the end may come: it is looked for once a second, a refusal is left two seconds to
be read, and the machine is busy."""
DRIP_SECONDS = 0.25
LONG_BYTES = 6_000_000
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
LONG = write_script(Script(body_bytes=LONG_BYTES, content_type="text/plain")).encode()


@dataclass
class Kind:
    """A way to hold on."""

    name: str
    said: bytes
    drip: bytes
    deadline_seconds: float
    receive_bytes_max: int | None = None
    clients: list[socket.socket] = field(default_factory=list)
    ended_seconds: list[float] = field(default_factory=list)


def kinds() -> list[Kind]:
    """Give the ways to hold on."""
    asked = HEAD + b"Content-Length: 2\r\n\r\n{}"
    return [
        Kind("says nothing", b"", b"", HEAD_SECONDS),
        Kind("a head in drips", HEAD + b"X: ", b"x", HEAD_SECONDS),
        Kind("a body that stops", HEAD + b"Content-Length: 1000\r\n\r\nx", b"", BODY_SECONDS),
        Kind("a body in drips", HEAD + b"Content-Length: 1000\r\n\r\n", b"x", BODY_SECONDS),
        Kind(
            "chunks in drips",
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
            b"1\r\nx\r\n",
            BODY_SECONDS,
        ),
        Kind(
            "reads nothing",
            HEAD + b"x-rig: %b\r\nContent-Length: 2\r\n\r\n{}" % LONG,
            b"",
            WRITE_SECONDS,
            4096,
        ),
        Kind("kept and idle", asked, b"", IDLE_SECONDS),
        Kind("kept, then a head in drips", asked + HEAD + b"X: ", b"x", HEAD_SECONDS),
    ]


def connect(stack: ExitStack, port: int, receive_bytes_max: int | None) -> socket.socket:
    """Connect a client, with a small window if it is not to read."""
    client = stack.enter_context(closing(socket.socket()))
    if receive_bytes_max is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes_max)
    client.settimeout(10)
    client.connect(("127.0.0.1", port))
    return client


class Held(NamedTuple):
    """A connection as the system tells of it."""

    client_port: int
    by_process: bool
    unread_bytes: int


def connections(port: int) -> list[Held]:
    """Give the connections to this port that are not quite over."""
    listening, waits_out, nobody = "0A", "06", "0"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return [
        Held(int(remote.rpartition(":")[2], 16), inode != nobody, int(queues[:8], 16))
        for _, local, remote, state, queues, _, _, _, _, inode, *_ in map(str.split, lines)
        if local.endswith(f":{port:04X}") and state not in (listening, waits_out)
    ]


def held(port: int) -> set[int]:
    """Give the clients' ports of the connections to this port that a process still holds."""
    return {each.client_port for each in connections(port) if each.by_process}


class Neighbour(threading.Thread):
    """Makes a call a tenth of a second, and notes what each took."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self._enough = threading.Event()
        self.took_seconds: list[float] = []
        self.statuses: set[int] = set()

    def run(self) -> None:
        while not self._enough.wait(0.1):
            self.call()

    def call(self) -> None:
        """Make one."""
        began = time.monotonic()
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)) as line:
            line.request("POST", "/v1/chat/completions", json.dumps({"model": "m", "messages": []}))
            answer = line.getresponse()
            answer.read()
            self.statuses.add(answer.status)
        self.took_seconds.append(time.monotonic() - began)

    def stop(self) -> None:
        """Make no further call."""
        self._enough.set()
        self.join()


def drip(kind: Kind, since: float, still: set[int]) -> None:
    """Have those who are left say a little, and note who has been let go."""
    for client in tuple(kind.clients):
        if client.getsockname()[1] not in still:
            kind.clients.remove(client)
            kind.ended_seconds.append(time.monotonic() - since)
        elif kind.drip:
            try:
                client.send(kind.drip)
            except OSError:
                pass  # it has been let go this moment: the next look will show it


def test_who_holds_on_is_let_go_at_its_deadline_and_costs_nobody_else(tmp_path: Path) -> None:
    """H3: each connection ends by the deadline that is named for it; the others' calls are served
    meanwhile; and every file that was open for them is closed.
    """
    relay = {
        "head_seconds_max": HEAD_SECONDS,
        "body_idle_seconds_max": BODY_SECONDS,
        "write_idle_seconds_max": WRITE_SECONDS,
        "keepalive_seconds": IDLE_SECONDS,
    }
    with Upstream() as upstream, ExitStack() as stack:
        settings = {"url": upstream.url, "dialect": "openai", **PLAIN}
        meter = stack.enter_context(Taximeter(tmp_path, {"openai": settings}, relay=relay))
        pid = meter.children()["relay"]
        neighbour = Neighbour(meter.port)
        for _ in range(10):
            neighbour.call()
        settled = vitals(pid).files
        groups = kinds()
        began = time.monotonic()
        for kind in groups:
            for _ in range(CLIENTS):
                client = connect(stack, meter.port, kind.receive_bytes_max)
                client.sendall(kind.said)
                kind.clients.append(client)
        while len(held(meter.port)) < len(groups) * CLIENTS:  # some are still to be accepted
            time.sleep(0.01)
        opened_seconds = time.monotonic() - began
        peak = vitals(pid).files
        neighbour.start()
        stack.callback(neighbour.stop)
        while any(kind.clients for kind in groups):
            assert time.monotonic() - began < IDLE_SECONDS + opened_seconds + LATE_SECONDS, {
                kind.name: len(kind.clients) for kind in groups if kind.clients
            }
            still = held(meter.port)
            for kind in groups:
                drip(kind, began, still)
            time.sleep(DRIP_SECONDS)
        neighbour.stop()
        for kind in groups:
            first, last = min(kind.ended_seconds), max(kind.ended_seconds)
            assert first > kind.deadline_seconds - 0.5, kind.name
            latest = kind.deadline_seconds + opened_seconds + LATE_SECONDS
            assert last < latest, f"{kind.name}: {last:.1f} s"
        assert peak > settled + 7 * CLIENTS
        assert neighbour.statuses == {200}
        assert statistics.median(neighbour.took_seconds) < 0.5
        deadline = time.monotonic() + 5
        while held(meter.port):
            assert time.monotonic() < deadline, "connections have ended and are still held"
            time.sleep(0.05)
        assert not any(each.unread_bytes for each in connections(meter.port)), "kept for nobody"
        # What is left open beside are connections to the upstream, kept for later calls.
        upstream_port = int(upstream.url.rpartition(":")[2])
        assert vitals(pid).files <= settled + len(held(upstream_port)) + 8
