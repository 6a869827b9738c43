"""How the supervisor speaks to its children: whole messages over a pipe.

A child gets its configuration over the pipe that is its standard input, and a new one on
each reload, so that all processes share one checked snapshot and no secret ever stands in an
argument or a file. The end of that pipe means that the supervisor is gone.
"""

from __future__ import annotations

import pickle
import struct
from io import FileIO

from taximeter.settings import Settings

_LENGTH = struct.Struct("<I")
MESSAGE_BYTES_MAX = 16 * 1024 * 1024


def encode(settings: Settings) -> bytes:
    """Give the message that carries a configuration."""
    # Both ends are this program, started by itself: pickle's usual danger has no way in.
    body = pickle.dumps(settings)
    return _LENGTH.pack(len(body)) + body


def receive(source: FileIO) -> Settings | None:
    """Read one message; None at the end of the pipe."""
    head = _read(source, _LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > MESSAGE_BYTES_MAX:
        return None
    body = _read(source, length)
    if len(body) < length:
        return None
    settings = pickle.loads(body)  # noqa: S301 - see above
    return settings if isinstance(settings, Settings) else None


def _read(source: FileIO, size: int) -> bytes:
    """Read so many bytes, fewer only at the end of the pipe."""
    data = b""
    while len(data) < size and (piece := source.read(size - len(data))):
        data += piece
    return data
