"""Decompresses the copy of a coded answer that the tap reads. Bounded, and never in the way."""

from __future__ import annotations

import zlib
from typing import Protocol

import brotli

try:
    from compression import zstd  # type: ignore[import-not-found,unused-ignore]
except ImportError:  # Python < 3.14
    from backports import zstd  # type: ignore[no-redef,unused-ignore]

__all__ = ["DECODED_BYTES_MAX", "Decoder", "Unreadable", "decoder_for", "zstd"]

DECODED_BYTES_MAX = 64 * 1024 * 1024
"""Bytes a compressed answer may grow to before the tap gives up on reading it."""


class Decoder(Protocol):
    """Takes a coded body piece by piece."""

    def decode(self, data: bytes) -> bytes:
        """Give what a piece decodes to; may raise anything on rubbish."""


class _Zlib:
    """gzip or deflate; one member, which is what servers send."""

    def __init__(self, window_bits: int) -> None:
        self._inflate = zlib.decompressobj(window_bits)

    def decode(self, data: bytes) -> bytes:
        return self._inflate.decompress(data, DECODED_BYTES_MAX)


class _Brotli:
    def __init__(self) -> None:
        self._brotli = brotli.Decompressor()

    def decode(self, data: bytes) -> bytes:
        return bytes(self._brotli.process(data, output_buffer_limit=DECODED_BYTES_MAX))


class _Zstandard:
    def __init__(self) -> None:
        self._zstandard = zstd.ZstdDecompressor()

    def decode(self, data: bytes) -> bytes:
        return bytes(self._zstandard.decompress(data, DECODED_BYTES_MAX))


class Unreadable:
    """A coding we do not know: nothing can be learned from the body."""

    def decode(self, data: bytes) -> bytes:
        return b""


def decoder_for(encoding: str) -> Decoder | None:
    """Give the decoder of a content coding; None for none, `Unreadable` for one not known."""
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return _Zlib(16 + zlib.MAX_WBITS)
        case "deflate":
            return _Zlib(zlib.MAX_WBITS)
        case "br":
            return _Brotli()
        case "zstd":
            return _Zstandard()
        case _:
            return Unreadable()
