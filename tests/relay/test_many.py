"""C9: many streams at once, and a process that has no descriptor left."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import Script
from tests.rig.exposition import Exposition
from tests.rig.length import pick
from tests.rig.tally import Tally
from tests.rig.taximeter import Taximeter
from tests.rig.upstream import Upstream
from tests.rig.vitals import vitals

STREAMS = pick(1000, 4000)
STREAM_BYTES_MAX = 32 * 1024
"""Of the relay's memory, for each idle stream: two connections, a tap, and what is
known of it. Some 13 KiB were measured."""
LAG_SECONDS_MAX = 0.5
"""The event loop's, at the worst, on a machine that has other things to do."""
FILES_MAX = 60
ASK = json.dumps(
    {"model": "fake-large", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
).encode()
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n" % len(ASK) + ASK
)
OPEN = {"limits": {"adaptive": False}}


@contextlib.contextmanager
def sockets() -> Iterator[list[socket.socket]]:
    """A list of connections that are closed at the end."""
    made: list[socket.socket] = []
    try:
        yield made
    finally:
        for each in made:
            each.close()


def begin(port: int) -> socket.socket:
    """Send a request for a stream on a connection of its own."""
    client = socket.create_connection(("127.0.0.1", port), 20)
    client.sendall(REQUEST)
    return client


@pytest.mark.alone
@pytest.mark.timeout(120)
def test_a_thousand_idle_streams_cost_a_bounded_memory_each(tmp_path: Path, tally: Tally) -> None:
    """C9: a stream that is silent keeps no more than 32 KiB of the relay, the loop stays quick,
    a call among them is answered at once, and at their end all descriptors are given back.
    """
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < STREAMS * 2 + 200:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    silent = Script(tokens=5, stall_after_events=2, stall_seconds=600)
    with Upstream(silent) as upstream, sockets() as clients:
        upstreams = {"openai": {"url": upstream.url, "dialect": "openai", "connections_max": 5000}}
        upstreams["openai"] |= OPEN
        with Taximeter(tmp_path, upstreams) as meter:
            relay = meter.children()["relay"]
            clients.append(begin(meter.port))
            assert clients[0].recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
            before = vitals(relay)
            clients += [begin(meter.port) for _ in range(STREAMS)]
            for client in clients[1:]:
                assert client.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
            held = vitals(relay)
            assert held.files - before.files >= STREAMS * 2
            assert (held.resident_bytes - before.resident_bytes) / STREAMS < STREAM_BYTES_MAX
            upstream.queue(Script(tokens=3))
            began = time.monotonic()
            with begin(meter.port) as neighbour:
                heard = b""
                while b"[DONE]" not in heard:
                    heard += neighbour.recv(65536)
            assert time.monotonic() - began < LAG_SECONDS_MAX * 2
            quiet = vitals(relay).processor_seconds
            time.sleep(1)
            assert vitals(relay).processor_seconds - quiet < 0.3, "silence costs processor time"
            for client in clients:
                client.close()
            upstream.wait_until(lambda: vitals(relay).files < before.files + 20, 20)
            rows = meter.booked(STREAMS + 2, seconds=40)
            assert {row["outcome"] for row in rows} == {"cancelled", "completed"}
            tally.add("streams held at once", STREAMS)


@pytest.mark.alone
@pytest.mark.timeout(60)
def test_without_a_descriptor_nobody_new_is_taken_and_nothing_spins(tmp_path: Path) -> None:
    """C9, O6: at the limit of open files streams go on, the relay does not spin, and with some
    given back new calls are answered.
    """
    with Upstream(Script(tokens=400, delta_seconds=0.05)) as upstream, sockets() as clients:
        upstreams = {"openai": {"url": upstream.url, "dialect": "openai", **OPEN}}
        with Taximeter(tmp_path, upstreams) as meter:
            relay = meter.children()["relay"]
            stream = begin(meter.port)
            clients.append(stream)
            assert stream.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
            _, most = resource.prlimit(relay, resource.RLIMIT_NOFILE)
            resource.prlimit(relay, resource.RLIMIT_NOFILE, (FILES_MAX, most))
            clients += [
                socket.create_connection(("127.0.0.1", meter.port), 5) for _ in range(FILES_MAX * 2)
            ]
            time.sleep(0.5)
            assert vitals(relay).files <= FILES_MAX
            spent = vitals(relay).processor_seconds
            stream.settimeout(1)
            for _ in range(10):
                assert stream.recv(65536), "a stream under way was ended"
                time.sleep(0.1)
            assert vitals(relay).processor_seconds - spent < 0.6, "it spins"
            for client in clients[1:]:
                client.close()
            stream.close()
            upstream.default = Script(tokens=3)
            upstream.wait_until(lambda: _answers(meter.port), 20)
            assert Exposition.of(meter.console_url).total("taximeter_faults_total") == 0


def _answers(port: int) -> bool:
    """Tell whether a new call is answered whole."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 3) as client:
        client.sendall(REQUEST)
        heard = b""
        while data := client.recv(65536):
            heard += data
            if b"[DONE]" in heard:
                return True
    return False
