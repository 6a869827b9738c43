"""A connection that both sides have agreed to make into something else: bytes, both ways.

After 101 the relay understands nothing of what goes by (a WebSocket's frames), so nothing is
metered but time and bytes, and the call's usage is unknown. Either side's backpressure reaches
the other; the end of one is the end of both.
"""

from __future__ import annotations

import asyncio


class Tunnel:
    """Splices a client's connection and an upstream's."""

    __slots__ = ("_client", "_upstream", "client_bytes", "upstream_bytes")

    def __init__(self, client: asyncio.Transport, upstream: asyncio.Transport) -> None:
        self._client = client
        self._upstream = upstream
        self.client_bytes = 0
        self.upstream_bytes = 0

    def from_client(self, data: bytes) -> None:
        """Pass on what the client says."""
        if data and not self._upstream.is_closing():
            self.client_bytes += len(data)
            self._upstream.write(data)

    def from_upstream(self, data: bytes) -> None:
        """Pass on what the upstream says."""
        if data and not self._client.is_closing():
            self.upstream_bytes += len(data)
            self._client.write(data)
