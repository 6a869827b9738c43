"""A connection that both sides have agreed to make into something else: bytes, both ways.

After 101 the relay understands nothing of what goes by (a WebSocket's frames), so nothing is
metered but time and bytes, and the call's usage is unknown. Either side's backpressure reaches
the other; the end of one is the end of both.
"""

from __future__ import annotations

from taximeter.relay._aiohttp import ClientSide, UpstreamSide


class Tunnel:
    """Splices a client's connection and an upstream's."""

    def __init__(self, client: ClientSide, upstream: UpstreamSide) -> None:
        self._client = client
        self._upstream = upstream
        self.client_bytes = 0
        self.upstream_bytes = 0

    def open(self, from_client: bytes, from_upstream: bytes) -> None:
        """Begin, with the bytes that either side has sent ahead."""
        self._client.tunnel = self.from_client
        self._upstream.on_writable = self._resume_client
        self._upstream.on_unwritable = self._pause_client
        self.from_client(from_client)
        self.from_upstream(from_upstream)

    def from_client(self, data: bytes) -> None:
        """Pass on what the client says."""
        transport = self._upstream.transport
        if data and transport is not None:
            self.client_bytes += len(data)
            transport.write(data)

    def from_upstream(self, data: bytes) -> None:
        """Pass on what the upstream says."""
        transport = self._client.transport
        if data and transport is not None:
            self.upstream_bytes += len(data)
            transport.write(data)

    def _pause_client(self) -> None:
        if self._client.transport is not None:
            self._client.transport.pause_reading()

    def _resume_client(self) -> None:
        if self._client.transport is not None:
            self._client.transport.resume_reading()
