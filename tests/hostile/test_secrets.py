"""H9, H10: what stands in hostile bytes is written nowhere, whichever of them was refused."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.hostile._answers import BAD, GOOD
from tests.hostile._passed import PASSED, TURNED_AWAY
from tests.hostile._refused import REFUSED
from tests.rig import Script, checkers, write_script
from tests.rig.length import pick
from tests.rig.taximeter import PLAIN, Taximeter
from tests.rig.upstream import Upstream
from tests.signals._run import wait_for
from tests.signals.test_canary import CANARY, HEADERS, QUERY, secret, written
from tests.traces.collector import HttpCollector

FIELDS = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items()).encode()
ASK = b"POST /v1/chat/completions%b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%b" % (
    QUERY.encode(),
    FIELDS,
)
BODY = b'{"messages": [{"content": "%b"}]}' % secret("prompt").encode()
SAID = secret("answer").encode()


def with_secrets(said: bytes) -> bytes:
    """Put secrets into a client's bytes: its target, its fields, its body, and behind them."""
    told = said.replace(b" HTTP/1.1\r\n", b"%b HTTP/1.1\r\n%b" % (QUERY.encode(), FIELDS), 1)
    return told.replace(b"hello", secret("body").encode()) + secret("behind").encode()


def answered(said: bytes) -> bytes:
    """Write a request that an upstream answers with these bytes and secrets of its own."""
    told = said.replace(b"hello", SAID).replace(b"\r\n", b"\r\nX-Its: %b\r\n" % SAID, 1)
    script = write_script(Script(raw=(told + SAID).decode("latin-1"), idle_close=True))
    head = b"x-rig: %b\r\nContent-Length: %d\r\n\r\n" % (script.encode(), len(BODY))
    return ASK + head + BODY


def send(port: int, data: bytes) -> None:
    """Say something, hear what there is to be heard, and go."""
    with (
        socket.create_connection(("127.0.0.1", port), 5) as client,
        contextlib.suppress(OSError),
    ):
        client.settimeout(1.0)
        client.sendall(data)
        while client.recv(65536):
            pass


def is_ready(meter: Taximeter) -> bool:
    """Tell whether a Taximeter says that it is ready."""
    try:
        urllib.request.urlopen(f"{meter.console_url}/readyz", timeout=5).close()
    except OSError:
        return False
    return True


def test_no_secret_in_hostile_bytes_is_written_anywhere(tmp_path: Path) -> None:
    """H9, H10: of the hostile requests and answers that we know of, with secrets in all places:
    nothing in log, journal, ledger, metrics, spans, commands or arguments; and a relay killed
    amid them leaves nothing either. The console, told some of it, tells nobody.
    """
    requests = [*REFUSED.values(), *(case.said for case in PASSED.values()), *TURNED_AWAY.values()]
    answers = [*BAD.values(), *(case.said for case in GOOD.values())]
    sent = [with_secrets(said) for said in requests]
    sent += [answered(said) for said in answers if len(said) < 8000]
    assert all(CANARY.encode() in said for said in sent)
    with (
        Upstream() as upstream,
        HttpCollector() as collector,
        ThreadPoolExecutor(32) as clients,
        Taximeter(
            tmp_path,
            {"openai": {"url": upstream.url, "dialect": "openai", **PLAIN}},
            log={"level": "debug", "format": "json"},
            otlp={"endpoint": collector.url},
        ) as meter,
    ):
        list(clients.map(lambda said: send(meter.port, said), sent[:: pick(2, 1)]))
        list(clients.map(lambda said: send(meter.console_port, said), sent[::12]))
        journals = {str(path): path.read_bytes() for path in tmp_path.rglob("*.journal")}
        killed = meter.children()["relay"]
        os.kill(killed, signal.SIGKILL)
        rows = checkers.at_rest(meter, 100)
        collector.wait_for(5)
        wait_for(lambda: meter.children().get("relay", killed) != killed and is_ready(meter))
        found = {**written(meter, collector), **journals}
    found["the log, to its end"] = meter.log_text().encode()
    assert "SIGKILL" in meter.log_text()
    assert {row["outcome"] for row in rows} >= {"rejected", "upstream_error", "completed"}
    checkers.no_secret_bytes(found, [CANARY.encode()])
