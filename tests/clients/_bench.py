"""An upstream, Taximeter before it, and plain sockets: where the bytes are what counts."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from typing import Any

from tests.rig.taximeter import Taximeter
from tests.rig.upstream import Upstream

CHAT = {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": "How far?"}]}
STREAM = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}


class Bench:
    """An upstream, Taximeter before it, and the rows of one test."""

    def __init__(self, upstream: Upstream, meter: Taximeter) -> None:
        self.upstream = upstream
        self.meter = meter
        self.began_ns = time.time_ns()

    def send(self, said: dict[str, Any], path: str = "/v1/chat/completions") -> socket.socket:
        """Send a request on a connection of its own."""
        body = json.dumps(said).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        connection = socket.create_connection(("127.0.0.1", self.meter.port), timeout=10)
        connection.sendall(head.encode() + body)
        return connection

    def fetch(self, said: dict[str, Any], path: str = "/v1/chat/completions") -> tuple[int, bytes]:
        """Make a call; give status and body.

        Raises:
            http.client.IncompleteRead: if the answer breaks off; it has what had come.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.meter.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(said))
            answer = connection.getresponse()
            return answer.status, answer.read()

    def rows(self, count: int) -> list[dict[str, Any]]:
        """Wait for the test's rows."""
        return self.meter.booked(count, since_ns=self.began_ns)

    def row(self) -> dict[str, Any]:
        """Wait for the test's only row."""
        return self.rows(1)[0]
