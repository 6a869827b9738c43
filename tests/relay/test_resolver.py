"""H5: what the name of an upstream may lead to, though its owner may say anything."""

from __future__ import annotations

import asyncio
import socket

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from taximeter.relay._aiohttp import UpstreamConnector


class Names(AbstractResolver):
    """Gives one list of addresses after the other."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.closed = False

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self.answers.pop(0)
        ]

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "169.254.170.2", "fd00:ec2::254", "::ffff:169.254.169.254"],
)
async def test_no_name_leads_to_a_metadata_service(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H5: a name that is made to lead there (DNS rebinding) is one that leads nowhere; where it
    leads elsewhere, too, there alone a connection is made.
    """
    tried: list[str] = []

    async def note(_: object, __: object, target: tuple[str, int]) -> None:
        tried.append(target[0])
        raise OSError("nobody is there")

    monkeypatch.setattr(type(asyncio.get_running_loop()), "sock_connect", note)
    names = Names([address], ["127.0.0.1", address])
    connector = UpstreamConnector(
        "http://upstream.test:1", connections_max=1, connect_seconds=2, names=names
    )
    try:
        with pytest.raises(aiohttp.ClientConnectorDNSError):
            await connector.connect()
        assert tried == []
        with pytest.raises(aiohttp.ClientConnectorError):
            await connector.connect()
        assert tried == ["127.0.0.1"]
        assert names.answers == []
    finally:
        await connector.close()
    assert names.closed
