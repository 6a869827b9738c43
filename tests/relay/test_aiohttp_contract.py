"""What the relay uses of aiohttp's inside. Red here: read `relay/_aiohttp.py` before anything."""

from __future__ import annotations

import asyncio
import inspect

import aiohttp
from aiohttp import TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import BaseConnector

from taximeter.relay._aiohttp import UpstreamConnector, UpstreamSide

FLOOR = (3, 14, 3)


def test_aiohttp_is_not_older_than_its_fixes() -> None:
    """The floor is the first release with every fix that the relay leans on."""
    version = tuple(int(part) for part in aiohttp.__version__.split(".")[:3])
    assert version >= FLOOR, f"aiohttp {aiohttp.__version__} is older than {FLOOR}"


async def test_the_connector_makes_protocols_by_its_factory() -> None:
    """`BaseConnector._factory` is an attribute, called without arguments for a protocol."""
    connector = TCPConnector()
    assert "_factory" in vars(connector), "BaseConnector._factory has moved"
    assert isinstance(connector._factory(), ResponseHandler), "_factory makes something else"
    assert "_factory" in inspect.getsource(BaseConnector) + inspect.getsource(TCPConnector)
    assert isinstance(connector._acquired, set | dict), "BaseConnector._acquired has moved"
    await connector.close()


async def test_a_connection_carries_our_protocol_and_leaves_its_bytes_to_us() -> None:
    """A protocol derived from `ResponseHandler` works though it never parses a response."""
    told: list[object] = []
    left = asyncio.Event()

    class Owner:
        def upstream_bytes(self, data: bytes) -> None:
            told.append(data)

        def upstream_lost(self, clean: bool) -> None:
            told.append(clean)
            left.set()

        def upstream_paused(self) -> None:
            """Not here."""

        def upstream_resumed(self) -> None:
            """Not here."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(4))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    connector = UpstreamConnector(url, connections_max=2, connect_seconds=5)
    connection, side = await connector.connect()
    assert isinstance(side, UpstreamSide)
    assert connector.in_use == 1
    assert side.transport is not None
    side.owner = Owner()
    side.transport.write(b"ping")
    await asyncio.wait_for(left.wait(), 5)
    assert told == [b"ping", True]
    connection.close()
    assert connector.in_use == 0, "a closed connection still counts"
    await connector.close()
    server.close()


async def test_bytes_on_an_idle_connection_end_it() -> None:
    """Nothing that comes while nobody owns the connection is kept for whoever owns it next."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    connector = UpstreamConnector(url, connections_max=2, connect_seconds=5)
    connection, side = await connector.connect()
    async with asyncio.timeout(5):
        while side.transport is not None:
            await asyncio.sleep(0.005)
    connection.close()
    await connector.close()
    server.close()
