"""What the scripted upstream saw and did: one exchange for each request."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any

from tests.rig._figures import Figures
from tests.rig._script import Script

RAW_BYTES_MAX = 1_048_576
"""Kept of a request as it came; the rest is only counted."""
BODY_BYTES_MAX = 33_554_432
"""Kept of a request's body once taken out of its framing."""
EXCHANGES_MAX = 100_000
"""Kept in the log; older ones go, and `Log.dropped` counts them."""


@dataclass(slots=True)
class Exchange:
    """One request and its answer. Times are the monotonic clock's, seconds."""

    number: int
    connection: int
    """Counts connections from 1; like numbers shared a connection."""
    method: str = ""
    target: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    """As sent, order and case kept (Latin-1)."""
    raw: bytearray = field(default_factory=bytearray)
    """The bytes as they came, from the end of the request before. Reads are not divided:
    requests pipelined in one read share its bytes."""
    body: bytearray = field(default_factory=bytearray)
    body_bytes: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    started_at: float = 0.0
    request_ended_at: float | None = None
    answered_at: float | None = None
    """When the answer's last byte had been handed to the socket."""
    client_left_at: float | None = None
    """When the client was seen to have gone before that."""
    malformed: str | None = None
    """Why the parser refused it."""
    id: str = ""
    script: Script | None = None
    figures: Figures | None = None
    billed: bool = False
    """The answer stated the usage of a generation that was made."""
    status: int | None = None
    events_sent: int = 0
    body_sent: int = 0
    """Bytes of the coded body handed to the socket, framing left out."""
    body_sent_digest: Any = field(default_factory=hashlib.sha256)

    @property
    def body_sha256(self) -> str:
        return str(self.digest.hexdigest())

    def header(self, name: str) -> str | None:
        """Give a header's first value by its name in any case; None if it was not sent."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)

    def take_raw(self, data: bytes) -> None:
        """Keep bytes as they came, up to the bound."""
        self.raw += data[: RAW_BYTES_MAX - len(self.raw)]

    def take_body(self, data: bytes) -> None:
        """Keep bytes of the body up to the bound, and count them all."""
        self.body += data[: BODY_BYTES_MAX - len(self.body)]
        self.body_bytes += len(data)
        self.digest.update(data)

    def as_json(self) -> dict[str, Any]:
        """Give the exchange as the control API tells it."""
        figures = None
        if self.figures is not None:
            names = ("input", "cached", "cache_write", "output", "reasoning")
            figures = {name: getattr(self.figures, name) for name in names}
        plain = (
            "number",
            "connection",
            "method",
            "target",
            "headers",
            "body_bytes",
            "body_sha256",
            "started_at",
            "request_ended_at",
            "answered_at",
            "client_left_at",
            "malformed",
            "id",
            "billed",
            "status",
            "events_sent",
            "body_sent",
        )
        return {
            **{name: getattr(self, name) for name in plain},
            "body_sent_sha256": self.body_sent_digest.hexdigest(),
            "figures": figures,
            "raw_base64": base64.b64encode(self.raw).decode(),
        }


class Log:
    """The exchanges, in the order in which their requests began."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.dropped = 0
        self.connections_made = 0
        self.connections_open = 0
        self._number = 0

    def begin(self, connection: int, now: float) -> Exchange:
        """Note a request that begins."""
        self._number += 1
        exchange = Exchange(number=self._number, connection=connection, started_at=now)
        self.exchanges.append(exchange)
        if len(self.exchanges) > EXCHANGES_MAX:
            half = EXCHANGES_MAX // 2
            del self.exchanges[:half]
            self.dropped += half
        return exchange

    def clear(self) -> None:
        """Forget all exchanges; numbers go on."""
        self.exchanges = []
        self.dropped = 0
