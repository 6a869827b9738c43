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

_FIRST = 16000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_PARTS = 8


def _numbers() -> itertools.cycle[int]:
    end = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32768
    if end - _FIRST < 1000 * _PARTS:  # this system gives from there itself: have it chosen
        return itertools.cycle([0])
    # Of pytest-xdist: gw0, gw1, ...; nothing where tests run in one process.
    part = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PARTS
    length = (end - _FIRST) // _PARTS
    numbers = range(_FIRST + part * length, _FIRST + (part + 1) * length)
    begin = random.randrange(length)  # two runs at a time are unlikely to meet
    return itertools.cycle((*numbers[begin:], *numbers[:begin]))


_NUMBERS = _numbers()


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
