"""The steady state of a stream: an event in, an event out, and nothing in between that can wait.

Nearly all a relay does is this: a read from the upstream holds one event in one chunk, of no
interest but for the time it came, and is written to the client. So once a stream is under way
(its head is out, its first token has been seen, it is neither coded nor ended), its bytes come
here instead of going through the exchange's every case. A chunk that is framed as we would frame
it, around an event that its reader finds dull at a glance, is passed on as the very object that
was read. For anything else this does what the exchange would do, in as few steps as it takes; and
at the end marker, the last byte, an event to be taken out, it hands over to the exchange, which
goes on from the same state.

What it keeps of a stream's beginning for counting stands in the tap, as ever.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from taximeter.relay._chunks import MalformedAnswer

if TYPE_CHECKING:
    import asyncio

    from taximeter.dialects import StreamReader
    from taximeter.relay._answer import AnswerParser
    from taximeter.relay._answering import Answering
    from taximeter.relay._chunks import ChunkedBody
    from taximeter.relay._stream_tap import StreamTap

_now = time.monotonic_ns


class Splice:
    """Passes one stream's events on."""

    __slots__ = ("_chunks", "_exchange", "_parser", "_reader", "_tap", "_transport")

    def __init__(
        self,
        exchange: Answering,
        parser: AnswerParser,
        chunks: ChunkedBody,
        tap: StreamTap,
        reader: StreamReader,
        transport: asyncio.Transport,
    ) -> None:
        self._exchange = exchange
        self._parser = parser
        self._chunks = chunks
        self._tap = tap
        self._reader = reader
        self._transport = transport

    def take(self, data: bytes) -> None:
        """Take bytes of the upstream's connection."""
        exchange, reader = self._exchange, self._reader
        exchange.last_in_ns = now = _now()
        try:
            begin = self._chunks.whole_chunk(data)
            try:
                passes = begin and reader.is_steady and reader.is_dull(body := data[begin:-2])
                if passes and self._tap.note_token(body, now):
                    self._tap.tally()
            except Exception as fault:
                exchange.go_blind_from_splice(fault)
                passes = False
            if passes:
                reader.events += 1
                exchange.last_out_ns = now
                exchange.response_bytes += len(body)
                self._transport.write(data)
            else:
                self._take_with_care(data, now)
        except MalformedAnswer:
            exchange.upstream_failed("upstream_malformed")
        except Exception as error:
            exchange.fault(error)

    def _take_with_care(self, data: bytes, now: int) -> None:
        """Take bytes that may be anything."""
        exchange, reader = self._exchange, self._reader
        body = self._parser.feed(data)
        if not body or self._parser.complete:
            exchange.go_on_from_splice(body, now)
            return
        exchange.response_bytes += len(body)
        body = self._tap.feed(body, now)
        if reader.ended:
            exchange.end_from_splice(body, now)
        elif body:
            exchange.last_out_ns = now
            self._transport.write(b"%x\r\n%b\r\n" % (len(body), body))
