"""The steady state of a stream: an event in, an event out, and nothing in between that can wait.

Nearly all a relay does is this: a read from the upstream holds one event in one chunk, of no
interest but for the time it came, and is written to the client. So once a stream is under way
(its head is out, its first token has been seen, it is neither coded nor ended), its bytes come
here instead of going through the exchange's every case. There are three ways, each for what the
one before it leaves:

- `take`: a chunk framed as we would frame it, around an event that has the form of those found
  dull before (`dialects.Form`). Frame and form are cut off, and if as much is gone as they are
  long, and what is left is plain text, the very object that was read is passed on. This is the
  way of nearly every token, and between two wake-ups the processor has forgotten it: so it calls
  no function of ours, and does nothing that is not needed for each event.
- `_take_unusual`: such a chunk around an event that its reader finds dull at a glance.
- `_take_with_care`: anything. This does what the exchange would do, in as few steps as it takes;
  and at the end marker, the last byte, an event to be taken out, it hands over to the exchange,
  which goes on from the same state.

What it keeps of a stream's beginning for counting stands in the tap, as ever.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from taximeter.relay._chunks import FRAMES, PREPARED_BYTES_MAX, MalformedAnswer

if TYPE_CHECKING:
    import asyncio

    from taximeter.dialects import Form, StreamReader
    from taximeter.relay._answer import AnswerParser
    from taximeter.relay._answering import Answering
    from taximeter.relay._chunks import ChunkedBody
    from taximeter.relay._stream_tap import StreamTap

_now = time.monotonic_ns


class Splice(msgspec.Struct):
    """Passes one stream's events on."""

    _exchange: Answering
    _parser: AnswerParser
    _chunks: ChunkedBody
    _tap: StreamTap
    _reader: StreamReader
    _transport: asyncio.Transport
    _form: Form | None = None
    """The form that a chunk's event may have; None where there is none, or where llhttp or the
    reader stands within something."""

    def take(self, data: bytes) -> None:
        """Take bytes of the upstream's connection."""
        exchange, form = self._exchange, self._form
        exchange.last_in_ns = now = _now()
        size = len(data)
        try:
            if form is not None and size < PREPARED_BYTES_MAX:
                line, length = FRAMES[size]
                event = data.removeprefix(line).removesuffix(b"\r\n")
                text = event.removeprefix(form.before).removesuffix(form.after)
                if form.middle:
                    text = text.replace(form.middle, b"", 1)
                # What is not there is not cut off: only if all of it was is the length right.
                if len(text) == length - form.around_bytes and text.translate(form.plain) == text:
                    tap = self._tap
                    seen = tap.body_bytes + length
                    if seen <= tap.taken_bytes:
                        tap.body_bytes = seen
                        tap.pieces.append(event)
                        tap.arrivals.append(now)
                    else:
                        self._note(event, now)
                    exchange.response_bytes += length
                    exchange.last_out_ns = now
                    self._transport.write(data)
                    return
            self._take_unusual(data, now)
        except MalformedAnswer:
            exchange.upstream_failed("upstream_malformed")
        except Exception as error:
            exchange.fault(error)

    def _note(self, event: bytes, now: int) -> None:
        """Have the tap take note of a dull event."""
        try:
            self._tap.note_token(event, now)
        except Exception as fault:
            self._exchange.go_blind_from_splice(fault)

    def _take_unusual(self, data: bytes, now: int) -> None:
        """Take bytes that are not known at once for an event like those before."""
        exchange, reader, chunks = self._exchange, self._reader, self._chunks
        begin = chunks.whole_chunk(data)
        try:
            dull = begin and reader.is_steady and reader.is_dull(data[begin:-2])
        except Exception as fault:
            exchange.go_blind_from_splice(fault)
            dull = False
        if dull:
            event = data[begin:-2]
            self._note(event, now)
            exchange.response_bytes += len(event)
            exchange.last_out_ns = now
            self._transport.write(data)
        else:
            self._take_with_care(data, now)
        self._form = reader.form if chunks.between and reader.is_steady else None

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
