"""The steady state of a stream: an event in, an event out, and nothing in between that can wait.

Nearly all a relay does is this: a read from the upstream holds an event or a few, and they are
written to the client. So once a stream is under way (its head is out, its first token has been
seen, it is neither coded nor ended), its bytes come here instead of going through the
exchange's every case. This does what the exchange would do, in as few steps as it takes. At
anything else - the end marker, the last byte, an event to be taken out - it hands over to the
exchange, which goes on from the same state.

What it keeps of a stream's beginning for counting stands in the tap, as ever.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING

from taximeter.call import Gaps
from taximeter.relay._answer import MalformedAnswer

if TYPE_CHECKING:
    import asyncio

    from taximeter.dialects import StreamReader
    from taximeter.relay._answer import AnswerParser
    from taximeter.relay._answering import Answering
    from taximeter.relay._tap import Tap

_now = time.monotonic_ns
_EDGES = Gaps.EDGES_NS


class Splice:
    """Passes one stream's events on."""

    __slots__ = ("_exchange", "_gaps", "_last_token_ns", "_parser", "_reader", "_tap", "_transport")

    def __init__(
        self,
        exchange: Answering,
        parser: AnswerParser,
        tap: Tap,
        reader: StreamReader,
        transport: asyncio.Transport,
    ) -> None:
        self._exchange = exchange
        self._parser = parser
        self._tap = tap
        self._reader = reader
        self._transport = transport
        self._gaps = tap.gaps_from_now_on()
        self._last_token_ns = tap.last_token_ns

    def take(self, data: bytes) -> None:
        """Take bytes of the upstream's connection."""
        exchange, reader = self._exchange, self._reader
        exchange.last_in_ns = now = _now()
        try:
            body = self._parser.feed(data)
            if not body or self._parser.complete:
                exchange.go_on_from_splice(body, now)
                return
            size = len(body)
            exchange.response_bytes += size
            tap = self._tap
            tap.body_bytes += size
            if tap.keeps:
                tap.keep(body)
            events = reader.events
            body = reader.feed(body)
            if reader.events != events:
                gaps, gap = self._gaps, now - self._last_token_ns
                self._last_token_ns = now
                gaps.count += 1
                gaps.sum_ns += gap
                if gap > gaps.max_ns:
                    gaps.max_ns = gap
                gaps.buckets[bisect_left(_EDGES, gap)] += 1
            if reader.ended:
                exchange.end_from_splice(body, now)
            elif body:
                exchange.last_out_ns = now
                self._transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        except MalformedAnswer:
            exchange.upstream_failed("upstream_malformed")
        except Exception as error:
            exchange.fault(error)
