"""How an answer's bytes leave: paced, coded, framed, split and cut as its script says."""

from __future__ import annotations

import http
import itertools
import sys
import zlib
from collections.abc import Iterator
from typing import Protocol

import brotli

from tests.rig._log import Exchange
from tests.rig._script import Script
from tests.rig._talk import Answer

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

WRITES_A_SECOND = 10
"""Of a body that is slow on purpose."""


class Line(Protocol):
    """The connection as a writer sees it. Both raise `ClientLeftError` once the client has gone."""

    async def send(self, data: bytes) -> None:
        """Write, and wait while the socket takes no more."""

    async def pause(self, seconds: float) -> None:
        """Wait, and yield even for 0 seconds."""


class ClientLeftError(Exception):
    """The client closed the connection while it was being answered."""


class CutError(Exception):
    """The script ends the connection here."""


class Coder:
    """Codes a body piece by piece, each piece readable as soon as it is had."""

    def __init__(self, encoding: str | None) -> None:
        self._encoding = encoding
        if encoding in ("gzip", "deflate"):
            self._zlib = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
        elif encoding == "br":
            self._brotli = brotli.Compressor(quality=4)
        elif encoding == "zstd":
            self._zstd = zstd.ZstdCompressor()

    def feed(self, data: bytes) -> bytes:
        if self._encoding in ("gzip", "deflate"):
            return self._zlib.compress(data) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
        if self._encoding == "br":
            return bytes(self._brotli.process(data) + self._brotli.flush())
        if self._encoding == "zstd":
            return self._zstd.compress(data, mode=zstd.ZstdCompressor.FLUSH_BLOCK)
        return data

    def finish(self) -> bytes:
        if self._encoding in ("gzip", "deflate"):
            return self._zlib.flush()
        if self._encoding == "br":
            return bytes(self._brotli.finish())
        if self._encoding == "zstd":
            return self._zstd.flush()
        return b""


class Writer:
    """Writes one answer to one line."""

    def __init__(self, line: Line, script: Script, exchange: Exchange) -> None:
        self._line = line
        self._script = script
        self._exchange = exchange
        self._wire_at = 0
        self._held = b""
        self._body_left = script.cut_after_bytes

    async def write(self, answer: Answer, *, accepts: str, http10: bool, bodiless: bool) -> bool:
        """Write the answer whole.

        Args:
            answer: what is said.
            accepts: the request's `Accept-Encoding`, in lower case.
            http10: the request spoke HTTP/1.0, which knows no chunks.
            bodiless: the answer has a head only (HEAD, 204, 304).

        Returns:
            Whether the connection may be kept for another request.

        Raises:
            CutError: where the script ends the connection.
            ClientLeftError: if the client goes before the end.
        """
        script = self._script
        if script.cut_before_head:
            raise CutError
        await self._line.pause(script.first_byte_seconds)
        if script.raw is not None:
            await self._send(script.raw.encode("latin-1"))
            return False
        await self._send_interim()
        encoding = script.encoding
        if encoding is not None and not (script.encoding_forced or encoding in accepts):
            encoding = None
        framing = script.framing
        if framing == "auto":
            framing = "chunked" if answer.streams or script.trailers else "length"
        if framing == "chunked" and http10:
            framing = "close"
        coder = Coder(encoding)
        pieces = [coder.feed(event) for event in answer.events]
        pieces_end = coder.finish()
        fields = [("content-type", answer.content_type)] if answer.events else []
        if encoding is not None:
            fields.append(("content-encoding", encoding))
        fields.extend(answer.headers)
        if framing == "chunked" and not bodiless:
            fields.append(("transfer-encoding", "chunked"))
            if script.trailers:
                fields.append(("trailer", ", ".join(name for name, _ in script.trailers)))
        elif framing == "length" and answer.status not in (204, 304):
            stated = sum(map(len, pieces)) + len(pieces_end) + script.length_delta
            fields.append(("content-length", str(stated)))
        closes = script.close or (framing == "close" and not bodiless)
        if closes:
            fields.append(("connection", "close"))
        elif http10:
            fields.append(("connection", "keep-alive"))
        head = _head(answer.status, script.reason, fields)
        if bodiless:
            await self._send(head)
            return not closes
        if script.head_waits:
            self._held = head
        else:
            await self._send(head)
        await self._send_body(pieces, pieces_end, chunked=framing == "chunked")
        if self._held:  # there was no body to go with
            await self._send(b"")
        return not closes and not script.length_delta

    async def _send_interim(self) -> None:
        script = self._script
        padding = [("x-padding", "p" * script.interim_bytes)] if script.interim_bytes else []
        for _ in range(script.interim_count):
            fields = [("link", "</style.css>; rel=preload"), *padding]
            await self._send(_head(script.interim_status, None, fields))

    async def _send_body(self, pieces: list[bytes], end: bytes, *, chunked: bool) -> None:
        script = self._script
        for number, piece in enumerate([*pieces, end] if end else pieces):
            if script.cut_after_events == number:
                raise CutError
            if script.stall_after_events == number:
                await self._line.pause(script.stall_seconds)
            if number:
                await self._line.pause(script.delta_seconds)
            await self._send_piece(piece, chunked=chunked)
            if number < len(pieces):
                self._exchange.events_sent += 1
        if script.cut_after_events is not None and script.cut_after_events >= len(pieces):
            raise CutError
        if self._body_left == 0:
            raise CutError
        if chunked:
            trailers = "".join(f"{name}: {value}\r\n" for name, value in script.trailers)
            await self._send(b"0\r\n" + trailers.encode("latin-1") + b"\r\n")

    async def _send_piece(self, piece: bytes, *, chunked: bool) -> None:
        """Write one piece of the body, in as many chunks and as slowly as is asked."""
        script = self._script
        step = script.chunk_bytes or len(piece)
        if script.bytes_per_second is not None:
            step = min(step, max(1, script.bytes_per_second // WRITES_A_SECOND))
        for chunk in _steps(piece, step):
            if not chunk:
                continue
            sent = chunk if self._body_left is None else chunk[: self._body_left]
            if chunked:
                # A chunk that is cut still states its whole length.
                whole = len(sent) == len(chunk)
                frame = f"{len(chunk):x}\r\n".encode() + sent + (b"\r\n" if whole else b"")
            else:
                frame = sent
            await self._send(frame)
            self._exchange.body_sent += len(sent)
            self._exchange.body_sent_digest.update(sent)
            if self._body_left is not None:
                self._body_left -= len(sent)
                if len(sent) < len(chunk):
                    raise CutError
            if script.bytes_per_second is not None:
                await self._line.pause(1 / WRITES_A_SECOND)

    async def _send(self, data: bytes) -> None:
        """Write bytes, in writes that end where the script says."""
        script = self._script
        data, self._held = self._held + data, b""
        if script.split is not None:
            parts = list(_steps(data, script.split))
        else:
            begin = self._wire_at
            inside = [at - begin for at in sorted(script.split_at) if 0 < at - begin < len(data)]
            edges = [0, *inside, len(data)]
            parts = [data[low:high] for low, high in itertools.pairwise(edges)]
        self._wire_at += len(data)
        for place, part in enumerate(parts):
            await self._line.send(part)
            if place + 1 < len(parts) or script.split is not None:
                await self._line.pause(script.split_seconds)


def _steps(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), max(size, 1)):
        yield data[at : at + max(size, 1)]


def _head(status: int, reason: str | None, fields: list[tuple[str, str]]) -> bytes:
    if reason is None:
        known = {member.value: member.phrase for member in http.HTTPStatus}
        reason = known.get(status, "Overloaded" if status == 529 else "Rig")
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in fields)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
