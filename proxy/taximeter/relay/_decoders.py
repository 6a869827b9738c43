"""Decompresses the copy of a coded answer that the tap reads. Bounded, and never in the way."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

import brotli

try:
    from compression import zstd  # type: ignore[import-not-found,unused-ignore]
except ImportError:  # Python < 3.14
    from backports import zstd  # type: ignore[no-redef,unused-ignore]

__all__ = [
    "DECODED_BYTES_MAX",
    "STREAM_READ_BYTES_MAX",
    "Decoder",
    "Unreadable",
    "decoded_bytes_max",
    "decoder_for",
    "zstd",
]

DECODED_BYTES_MAX = 64 * 1024 * 1024
"""Bytes a compressed answer may grow to before the tap gives up on reading it."""
DECODED_RATIO_MAX = 100
"""How many times its size: events of a stream that differ in a word come to a third of that, and
what is made to hurt to ten times as much, or to ten thousand."""
DECODED_BYTES_ANYWAY = 1024 * 1024
"""Bytes that may come of however few."""
PIECE_BYTES_MAX = 256 * 1024
"""About how much is unpacked at a time."""
STREAM_READ_BYTES_MAX = 512 * 1024
"""Bytes that may come of one read of a stream, and one piece more. What is unpacked of a stream is
read at once, event by event: that takes some half a microsecond a byte, on the loop's time."""
MEMBERS_MAX = 1024
"""Members of a gzip that may begin in one read: to begin one takes longer than its bytes do."""


def decoded_bytes_max(coded_bytes: int) -> int:
    """Tell how much may come of so many bytes of a coded answer."""
    return min(DECODED_BYTES_MAX, DECODED_BYTES_ANYWAY + DECODED_RATIO_MAX * coded_bytes)


class Decoder(Protocol):
    """Takes a coded body piece by piece."""

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Give what `data` decodes to, bit by bit; may raise anything on rubbish.

        Nothing is unpacked that is not asked for.
        """


class _Gzip:
    """gzip; a member may follow another one, as from servers that code each event by itself."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._is_between = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        members = 0
        while True:
            if self._is_between:
                data = data.lstrip(b"\0")  # what a member may be padded with
                if not data:
                    return
                members += 1
                if members > MEMBERS_MAX:
                    raise ValueError("too many members")
                self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
            inflate = self._inflate
            piece = inflate.decompress(data, PIECE_BYTES_MAX)
            self._is_between = inflate.eof
            data = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
            if piece:
                yield piece
            elif not inflate.eof:
                return


class _Deflate:
    def __init__(self) -> None:
        self._inflate = zlib.decompressobj()

    def decode(self, data: bytes) -> Iterator[bytes]:
        inflate = self._inflate
        while piece := inflate.decompress(data, PIECE_BYTES_MAX):
            yield piece
            data = inflate.unconsumed_tail


class _Brotli:
    def __init__(self) -> None:
        self._brotli = brotli.Decompressor()

    def decode(self, data: bytes) -> Iterator[bytes]:
        unpack = self._brotli
        while piece := unpack.process(data, output_buffer_limit=PIECE_BYTES_MAX):
            yield piece
            data = b""


class _Zstandard:
    def __init__(self) -> None:
        self._zstandard = zstd.ZstdDecompressor()

    def decode(self, data: bytes) -> Iterator[bytes]:
        unpack = self._zstandard
        while piece := unpack.decompress(data, PIECE_BYTES_MAX):
            yield piece
            if unpack.needs_input or unpack.eof:
                return
            data = b""


class Unreadable:
    """A coding we do not know: nothing can be learned from the body."""

    def decode(self, data: bytes) -> Iterator[bytes]:
        return iter(())


def decoder_for(encoding: str) -> Decoder | None:
    """Give the decoder of a content coding; None for none, `Unreadable` for one not known.

    Of a list only one may be a coding at all: one on top of another is not undone.
    """
    codings = [coding.strip() for coding in encoding.lower().split(",")]
    match [coding for coding in codings if coding not in ("", "identity")]:
        case []:
            return None
        case ["gzip" | "x-gzip"]:
            return _Gzip()
        case ["deflate"]:
            return _Deflate()
        case ["br"]:
            return _Brotli()
        case ["zstd"]:
            return _Zstandard()
        case _:
            return Unreadable()
