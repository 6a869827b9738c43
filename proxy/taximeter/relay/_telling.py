"""Telling a client what its call came to, where it asks for that (`_summary` says how).

The close record is written first, as ever; what is told is what stands there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taximeter.call import Closed, Fact
from taximeter.relay._asking import Asking
from taximeter.relay._summary import (
    HELD_BYTES_MAX,
    is_cost_known,
    summary_comment,
    summary_fields,
)

if TYPE_CHECKING:
    from taximeter.relay._answer import Head


class Telling(Asking):
    """Tells what a call came to."""

    __slots__ = ()

    def _is_told_in_head(self, head: Head) -> bool:
        """Whether an answer is held until its head can say what it came to."""
        return (
            head.status < 400
            and not self._request.facts.stream
            and head.content_type.lower().startswith("application/json")
            and (head.length or 0) <= HELD_BYTES_MAX
        )

    def _summarise(self, record: Closed) -> None:
        """Have the client told what its call came to."""
        tap, head, prices = self._tap, self._head, self._request.snapshot.prices_found
        is_replay = Fact.REPLAYED in self._facts
        if head is None or head.status >= 400 or (tap is None and not is_replay):
            return
        pico = 0 if is_replay else None
        if prices is not None and not is_replay and is_cost_known(record):
            pico = prices.cost(record, record.usage)
        if tap is None:
            self._told += summary_fields(record, pico)
        elif not tap.is_stream:
            self._delivery.say(summary_fields(record, pico))
        elif (
            not head.content_encoding
            and self._request.dialect.ping(self._request.operation, head.content_type) is not None
        ):
            self._last_words = summary_comment(record, pico)

    def _say_last_words(self) -> None:
        """Put the comment behind a stream's last event, once that is whole."""
        words, tap = self._last_words, self._tap
        if words is not None and tap is not None and tap.at_boundary:
            self._last_words = None
            if self._delivery.takes_events:
                self._delivery.add(words)
