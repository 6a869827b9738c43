"""How the supervisor and its children speak: whole messages over pipes, each of a kind.

A child gets its configuration over the pipe that is its standard input, and a new one on
each reload, so that all processes share one checked snapshot and no secret ever stands in an
argument or a file. The end of that pipe means that the supervisor is gone. The same pipe carries
the wish for the recorder's metrics.

The other way, over a pipe of its own, a child says that it does its work, then how it stands:
a relay once a second, the recorder when it is asked.

A frame is four bytes of length (little-endian), one of kind, and the body. The length counts
neither of the two. A child that was started from newer files than the supervisor may speak of
more than this version knows: a kind unknown to the reader is left out.
"""

from __future__ import annotations

import asyncio
import pickle
import struct
from enum import IntEnum
from io import FileIO
from typing import NamedTuple

from taximeter.settings import Settings

_HEAD = struct.Struct("<IB")
MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""The longest there is, the recorder's metrics, has some hundred bytes for each of its series."""


class ToChild(IntEnum):
    """What the supervisor says."""

    SETTINGS = 1
    """Body: a pickled `Settings`."""
    METRICS = 2
    """Wants the recorder's metrics. Body: one byte, 1 for OpenMetrics, 0 for plain text."""


class FromChild(IntEnum):
    """What a child says."""

    READY = 1
    """It does its work from now on. No body."""
    STATE = 2
    """How a relay stands. Body: a `RelayState` as MessagePack."""
    METRICS = 3
    """The recorder's metrics. Body: the byte it was asked with, then the text."""


class Frame(NamedTuple):
    """One message."""

    kind: int
    body: bytes


def frame(kind: ToChild | FromChild, body: bytes = b"") -> bytes:
    """Give a message as it goes over the pipe."""
    return _HEAD.pack(len(body), kind) + body


def settings_frame(settings: Settings) -> bytes:
    """Give the message that carries a configuration."""
    # Both ends are this program, started by itself: pickle's usual danger has no way in.
    return frame(ToChild.SETTINGS, pickle.dumps(settings))


def settings_of(body: bytes) -> Settings | None:
    """Read the configuration from a message's body; None if that is none."""
    settings = pickle.loads(body)  # noqa: S301 - see above
    return settings if isinstance(settings, Settings) else None


def receive(source: FileIO) -> Frame | None:
    """Read one message; None at the end of the pipe."""
    head = _read(source, _HEAD.size)
    if len(head) < _HEAD.size:
        return None
    length, kind = _HEAD.unpack(head)
    if length > MESSAGE_BYTES_MAX:
        return None
    body = _read(source, length)
    return Frame(kind, body) if len(body) == length else None


def _read(source: FileIO, size: int) -> bytes:
    """Read so many bytes, fewer only at the end of the pipe."""
    data = b""
    while len(data) < size and (piece := source.read(size - len(data))):
        data += piece
    return data


async def receive_async(source: asyncio.StreamReader) -> Frame | None:
    """Read one message; None at the end of the pipe."""
    try:
        length, kind = _HEAD.unpack(await source.readexactly(_HEAD.size))
        if length > MESSAGE_BYTES_MAX:
            return None
        return Frame(kind, await source.readexactly(length))
    except asyncio.IncompleteReadError:
        return None
