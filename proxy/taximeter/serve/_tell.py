"""How the children tell their supervisor things.

A relay tells once a second how it stands, and never waits for that. What the pipe does not take at
once is kept, one message at most; while it is, further ones are dropped and counted. The recorder
answers in a thread of its own, which may wait.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

import msgspec

from taximeter.live import ProcessState, RelayState
from taximeter.serve._channel import FromChild, frame
from taximeter.serve._process import read_process

log = logging.getLogger("taximeter.serve")

STATE_SECONDS = 1.0

_encoder = msgspec.msgpack.Encoder()


def say(handle: int, message: bytes) -> None:
    """Write a message whole, waiting for the supervisor to take it: not for a relay.

    Raises:
        OSError: if the supervisor is gone.
    """
    left = memoryview(message)
    while left:
        left = left[os.write(handle, left) :]


async def tell(handle: int, state: Callable[[ProcessState], RelayState]) -> None:
    """Say how things stand, then "ready", and go on until cancelled or nobody listens.

    Args:
        handle: the pipe's writing end; it is closed at the end.
        state: makes the state from what the system says of this process.
    """
    loop = asyncio.get_running_loop()
    pipe = os.fdopen(handle, "wb", 0)
    transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, pipe)
    told, dropped = False, 0
    try:
        while not transport.is_closing():
            if transport.get_write_buffer_size():
                dropped += 1
            else:
                said = _state_frame(state, dropped)
                transport.write(said if told else said + frame(FromChild.READY))
                told = True
            await asyncio.sleep(STATE_SECONDS)
    finally:
        transport.close()


def _state_frame(state: Callable[[ProcessState], RelayState], dropped: int) -> bytes:
    process = read_process(os.getpid())
    if process is None:
        return b""  # a system without /proc: there is no state that could be told
    try:
        said = state(process)
    except Exception:
        log.exception("How this relay stands could not be told; calls go on.")
        return b""
    said.states_dropped = dropped
    return frame(FromChild.STATE, _encoder.encode(said))
