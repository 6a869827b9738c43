"""Ports of loopback, for what is told on which one to listen.

A port that the system gives for the asking may be given to another before it is listened on: to
the other half of the tests, or to any connection that is being opened. So those that are handed
out here are taken from below the range that the system gives from, where each process that runs
tests has a part of its own.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
from pathlib import Path

FIRST = 16000
PARTS = 8
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_SYSTEM_FIRST = 32768
"""Where most systems begin to give from, if they do not say."""


def numbers(system_first: int, part: int) -> itertools.cycle[int]:
    """Give one part's ports over and over, below those that the system gives of itself.

    0, for any that the system gives, where that leaves too few.
    """
    length = (system_first - FIRST) // PARTS
    if length < 1000:
        return itertools.cycle([0])
    own = range(FIRST + part % PARTS * length, FIRST + (part % PARTS + 1) * length)
    begin = random.randrange(length)  # two runs at a time are unlikely to meet
    return itertools.cycle((*own[begin:], *own[:begin]))


_NUMBERS = numbers(
    int(_RANGE.read_text().split()[0]) if _RANGE.exists() else _SYSTEM_FIRST,
    # Of pytest-xdist: gw0, gw1, ...; nothing where all tests run in one process.
    int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")),
)


def free_port() -> int:
    """Give a port that nobody listens on now, and that nobody else is given for long."""
    for number in itertools.islice(_NUMBERS, 1000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", number))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise RuntimeError("no port of loopback is free")
