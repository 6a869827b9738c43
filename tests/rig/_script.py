"""What an upstream is told to do with one call: the script.

A script says what is answered, when its bytes leave, how they are framed and how the
connection ends. Every field has a default under which the upstream behaves well, so a
scenario names only what is odd about it.

A script reaches the upstream in one of three ways, first found wins: the request header
`x-rig` (JSON), the queue filled by `Upstream.queue` or `POST /_rig/script`, or the
upstream's default.
"""

from __future__ import annotations

import json
from typing import Literal

import msgspec


class Script(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """How one call is answered. Seconds are seconds, offsets are bytes of the body."""

    # What is said
    tokens: int | None = None
    """Words of the answer; by default a number from 4 to 15 derived from the request."""
    id: str | None = None
    """The answer's id, where two calls must answer alike; by default unique."""
    status: int = 200
    """From 400 on, the answer is an error in the family's own shape."""
    reason: str | None = None
    """The reason phrase; by default the usual one."""
    body: str | None = None
    """Body, said verbatim instead of the family's own (UTF-8)."""
    events: list[str] | None = None
    """Events of the body, said verbatim and one by one."""
    body_bytes: int | None = None
    """Body of that many bytes of filler in pieces of 64 KiB."""
    content_type: str | None = None
    headers: list[tuple[str, str]] = []
    """Further header fields, in this order, repeated names and all."""
    refuse_stream_options: bool = False
    """A request with `stream_options` is answered 400, as some servers do."""
    usage_without_asking: bool = False
    """The extra usage event of a chat stream comes although it was not asked for."""
    usage_missing: bool = False
    """No usage anywhere in the answer."""
    done_missing: bool = False
    """A chat stream ends cleanly without its `[DONE]`."""
    error_after_events: int | None = None
    """After so many events the stream says an error, in its family's shape, and ends."""
    polls_until_done: int = 1
    """Times a background run is found unfinished before it is found done."""

    # When its bytes leave
    first_byte_seconds: float = 0.0
    delta_seconds: float = 0.0
    """Wait between two events of the body."""
    stall_after_events: int | None = None
    """After so many events, nothing for `stall_seconds`; then the rest. 0 is after the head."""
    stall_seconds: float = 3600.0
    bytes_per_second: int | None = None
    """Slow body: so many bytes a second, in ten writes a second."""

    # How they are framed and written
    framing: Literal["auto", "chunked", "length", "close"] = "auto"
    """`auto` is `chunked` for streams and `length` for the rest."""
    chunk_bytes: int | None = None
    """With `chunked`: size of a chunk; by default one event is one chunk."""
    length_delta: int = 0
    """With `length`: the stated length is wrong by that much."""
    encoding: Literal["gzip", "deflate", "br", "zstd"] | None = None
    """Coding of the body, flushed after each event, if the request accepts it."""
    encoding_forced: bool = False
    """Coded also if the request does not accept it."""
    head_waits: bool = False
    """The head leaves with the first bytes of the body, in one write with them."""
    split: int | None = None
    """Bytes of one write, head and framing counted in; 1 is byte by byte."""
    split_at: list[int] = []
    """Offsets in head, framing and body taken as one run of bytes, where writes end."""
    split_seconds: float = 0.0
    """Wait between two such writes."""
    interim_count: int = 0
    interim_status: int = 103
    interim_bytes: int = 0
    """Interim answers before the head, each with a field of so many bytes."""
    trailers: list[tuple[str, str]] = []
    close: bool = False
    """`Connection: close` is said, and done."""
    raw: str | None = None
    """The whole answer, head and all, verbatim: each character is one byte (Latin-1)."""

    # How it ends
    cut_after_bytes: int | None = None
    """The connection ends after so many bytes of the coded body."""
    cut_after_events: int | None = None
    """The connection ends after so many whole events; 0 is after the head."""
    cut_before_head: bool = False
    """The connection ends when the request has been read."""
    cut: Literal["fin", "rst"] = "fin"
    idle_bytes: str | None = None
    """Bytes sent on the connection once the answer is over (Latin-1)."""
    idle_seconds: float = 0.0
    """Wait before `idle_bytes`, or before the end of a connection to be closed."""
    idle_close: bool = False
    """The kept-alive connection is closed, without notice, once the answer is over."""


def read_script(data: bytes | str) -> Script:
    """Read a script's JSON.

    Raises:
        msgspec.MsgspecError: if it names what no script has, or has another type.
    """
    return msgspec.json.decode(data, type=Script)


def write_script(script: Script) -> str:
    """Give a script's JSON, fit for the header `x-rig` (ASCII, one line)."""
    whole = msgspec.to_builtins(script)
    default = msgspec.to_builtins(Script())
    return json.dumps({name: value for name, value in whole.items() if value != default[name]})
