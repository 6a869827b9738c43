"""Looks up upstreams' names, and takes no cloud's metadata service for an upstream.

An upstream's host comes from the configuration alone, but where its name leads is said by whoever
answers for that name. Were it to lead to the address at which a cloud gives out a machine's
credentials, every call would be sent there, and what comes back be passed on. So those addresses
are no answer to a name. Who means one of them writes the address itself: that is not looked up.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

METADATA_ADDRESSES = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",  # most clouds
            "169.254.170.2",  # containers of AWS
            "169.254.170.23",  # pods of AWS
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",  # Google Cloud, over IPv6
            "100.100.100.200",  # Alibaba Cloud
            "192.0.0.192",  # Oracle Cloud, of old
        ),
    )
)


class UpstreamResolver(AbstractResolver):
    """Looks names up as aiohttp does, and leaves out what no name may lead to."""

    def __init__(self, names: AbstractResolver | None = None) -> None:
        self._names = names if names is not None else DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Give a name's addresses.

        Raises:
            OSError: if there are none, or none that a name may lead to.
        """
        found = await self._names.resolve(host, port, family)
        allowed = [each for each in found if not _is_metadata(each["host"])]
        if not allowed:
            raise OSError("the upstream's name leads to a metadata service, and nowhere else")
        return allowed

    async def close(self) -> None:
        """Look up no more."""
        await self._names.close()


def _is_metadata(host: str) -> bool:
    address = ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address) in METADATA_ADDRESSES
